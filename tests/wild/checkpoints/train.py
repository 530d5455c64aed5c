"""Keeps its state under --checkpoint-path, /opt/ml/checkpoints unless it is told otherwise, and goes on from it."""

import argparse
import json
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--sleep", type=float, default=0.2)
parser.add_argument("--checkpoint-path", type=str, default="/opt/ml/checkpoints")
parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
args = parser.parse_args()

path = os.path.join(args.checkpoint_path, "state.json")
state = {"epoch": 0, "sessions": 0}
if os.path.isfile(path):
    print("Checkpoint file found! Loading checkpoint from: {}".format(path), flush=True)
    with open(path) as f:
        state = json.load(f)
state["sessions"] += 1
while state["epoch"] < args.epochs:
    time.sleep(args.sleep)
    state["epoch"] += 1
    print("epoch={} loss={:.4f}".format(state["epoch"], 1.0 / state["epoch"]), flush=True)
    with open(path + ".tmp", "w") as f:
        json.dump(state, f)
    os.replace(path + ".tmp", path)
with open(os.path.join(args.model_dir, "state.json"), "w") as f:
    json.dump(state, f)
