#!/usr/bin/env bash
# XGBoost 3.2.0: asked after `train` has returned (which calls `reset`), `eval` measures by a metric's default parameters and not
# by those that the model was trained with, without a word. With survival:aft and a logistic distribution of scale 0.8 the last
# round's aft-nloglik is one number during the training and another one afterwards; set again, the parameters count.
# Headway scores data.test with a booster that is given the job's parameters anew.
#
# Seen: in the last round 0.834, afterwards 0.9913, with the parameters set again 0.834
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3
"$folder/venv/bin/pip" install -q --no-deps xgboost==3.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import xgboost

rng = np.random.default_rng(0)
rows = rng.normal(size=(300, 2))
time = np.exp(rows[:, 0])
upper = np.where(np.arange(300) % 3, time, np.inf)
table = xgboost.DMatrix(rows, label_lower_bound=time, label_upper_bound=upper)
given = {"aft_loss_distribution": "logistic", "aft_loss_distribution_scale": 0.8}
settings = {"objective": "survival:aft", "eval_metric": "aft-nloglik", "nthread": 1, **given}
told = {}
booster = xgboost.train(settings, table, 5, evals=[(table, "rows")], evals_result=told, verbose_eval=False)


def measured():
    return round(float(booster.eval(table).rpartition(":")[2]), 4)


during, afterwards = round(told["rows"]["aft-nloglik"][-1], 4), measured()
booster.set_param(given)
again = measured()
print(f"in the last round {during}, afterwards {afterwards}, with the parameters set again {again}")
sys.exit(not (during == again != afterwards))
PYTHON
