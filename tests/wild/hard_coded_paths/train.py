"""A container of one's own, of the kind that knows no variables: everything is below /opt/ml."""

import json
import os

prefix = "/opt/ml/"
with open(os.path.join(prefix, "input/config/hyperparameters.json")) as tc:
    params = json.load(tc)
training_path = os.path.join(prefix, "input/data", "training")
names = sorted(os.listdir(training_path))
assert os.path.realpath("/opt/ml/model")
with open(os.path.join(prefix, "checkpoints", "last.txt"), "w") as f:
    f.write("1")
with open(os.path.join(prefix, "model", "seen.json"), "w") as f:
    json.dump({"depth": int(params["depth"]), "files": names}, f)
