"""A script for ModelTrainer: its drivers' variables, and arguments as JSON."""

import argparse
import json
import os


def flag(text):
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError("true or false")
    return text == "true"


parser = argparse.ArgumentParser()
parser.add_argument("--shuffle", type=flag)
parser.add_argument("--layers", type=json.loads)
parser.add_argument("--optimizer", type=json.loads)
parser.add_argument("--name", type=str)
parser.add_argument("--learning-rate", type=float, default=float(os.environ["SM_HP_LEARNING_RATE"]))
args = parser.parse_args()

rank = int(os.environ["SM_CURRENT_HOST_RANK"])
config = json.loads(os.environ["SM_DISTRIBUTED_CONFIG"])
source = os.environ["SM_SOURCE_DIR"]
assert os.path.samefile(source, os.getcwd())
assert os.path.samefile(source, os.path.join(os.environ["SM_INPUT_DATA_DIR"], "code"))
assert os.path.isdir(os.environ["SM_DISTRIBUTED_DRIVER_DIR"])
assert {"code", "sm_drivers"} <= set(json.loads(os.environ["SM_CHANNELS"]))
if rank == 0 and os.environ["RANK"] == "0":
    told = {**vars(args), "processes": config["process_count_per_node"], "hosts": int(os.environ["SM_HOST_COUNT"])}
    told["entry"] = os.environ["SM_ENTRY_SCRIPT"]
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "told.json"), "w") as file:
        json.dump(told, file)
