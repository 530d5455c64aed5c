"""Needs a package that isn't installed."""

import os

from tabulate import tabulate

import helpers

with open(os.path.join(os.environ["SM_MODEL_DIR"], "table.txt"), "w") as f:
    f.write(tabulate(helpers.rows()))
