#!/usr/bin/env bash
# XGBoost 3.2.0: a tuple of monotone constraints with fewer entries than the table has columns is taken without a word, and the
# columns behind its end are not constrained. With three columns, "(0,0,1)" keeps the prediction from falling in the third one,
# "(0,1)" and "(1)" don't; one entry too many is an error. So a column that is added to a table loosens what held before it.
# Headway refuses another number of entries than columns, and takes them by name ({monotone_constraints: {price: 1}}).
#
# Seen: what the prediction gains over the third column, which the label falls by 3:
#       none -2.83, (0,0,1) 0.0, (0,1) -2.83, (1) -2.81, (0,0,1,1) refused; warnings: none
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3
"$folder/venv/bin/pip" install -q --no-deps xgboost==3.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import numpy as np
import xgboost

rng = np.random.default_rng(0)
rows = rng.random((400, 3))
table = xgboost.DMatrix(rows, label=rows[:, 0] - 3 * rows[:, 2])
line = np.full((50, 3), 0.5)
line[:, 2] = np.linspace(0, 1, 50)


def gain(constraints):
    settings = {"max_depth": 3} | ({"monotone_constraints": constraints} if constraints else {})
    try:
        found = xgboost.train(settings, table, 20).predict(xgboost.DMatrix(line))
    except xgboost.core.XGBoostError:
        return "refused"
    return round(float(found[-1] - found[0]), 2)


with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    gains = {text or "none": gain(text) for text in ("", "(0,0,1)", "(0,1)", "(1)", "(0,0,1,1)")}
print(gains, "warnings:", [str(one.message) for one in said] or "none")
loose = [gains[text] for text in ("none", "(0,1)", "(1)")]
sys.exit(not (all(one < -2 for one in loose) and gains["(0,0,1)"] >= 0 and gains["(0,0,1,1)"] == "refused" and not said))
PYTHON
