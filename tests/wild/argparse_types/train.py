"""Arguments of all the types that people parse, booleans in the ways that work on SageMaker."""

import argparse
import ast
import json
import os


def str2bool(v):
    if v.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if v.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError("Boolean value expected.")


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--learning-rate", type=float)
parser.add_argument("--optimizer", type=str, choices=["adam", "sgd"])
parser.add_argument("--shuffle", type=str2bool)
parser.add_argument("--literal", type=lambda s: ast.literal_eval(s))
parser.add_argument("--layers", type=ast.literal_eval)
parser.add_argument("--title", type=str)
parser.add_argument("--nothing", type=str)
parser.add_argument("--big", type=int)
parser.add_argument("-s", type=str)
args, unknown = parser.parse_known_args()
with open(os.path.join(os.environ["SM_MODEL_DIR"], "args.json"), "w") as f:
    json.dump({**vars(args), "unknown": unknown}, f)
