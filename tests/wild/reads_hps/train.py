"""Reads everything from variables and from the files of /opt/ml/input/config."""

import json
import os

hps = json.loads(os.environ["SM_HPS"])
env = json.loads(os.environ["SM_TRAINING_ENV"])
assert env["hyperparameters"] == hps
assert float(os.environ["SM_HP_LR"]) == hps["lr"]
channels = {name: os.environ["SM_CHANNEL_" + name.upper()] for name in json.loads(os.environ["SM_CHANNELS"])}
config = os.environ["SM_INPUT_CONFIG_DIR"]
with open(os.path.join(config, "hyperparameters.json")) as f:
    raw = json.load(f)
assert all(isinstance(value, str) for value in raw.values())
assert {k: json.loads(v) for k, v in raw.items() if not k.startswith("sagemaker_")} == hps
with open(os.path.join(config, "resourceconfig.json")) as f:
    assert json.load(f)["current_host"] == os.environ["SM_CURRENT_HOST"]
with open(os.path.join(config, "inputdataconfig.json")) as f:
    assert sorted(json.load(f)) == sorted(channels)
found = {name: sorted(os.listdir(path)) for name, path in channels.items()}
with open(os.path.join(os.environ["SM_MODEL_DIR"], "found.json"), "w") as f:
    json.dump({"hps": hps, "channels": found}, f)
