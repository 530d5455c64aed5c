"""conf/data says what the sources are: every key, with its default and a word about it."""

from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from trainer.data import sources

CONF = Path(__file__).parents[2] / "conf" / "data"
FILES = sorted(CONF.glob("*.yaml"))


def test_there_is_a_file_for_every_source():
    assert [f.stem for f in FILES] == sorted(
        ["none", "channels", "csv", "parquet", "jsonl", "libsvm", "npy", "text", "digits", "breast_cancer"]
    )


@pytest.mark.parametrize("file", [f for f in FILES if f.stem not in ("channels", "none")], ids=lambda f: f.stem)
def test_a_file_shows_every_key_with_its_default(file):
    shown = yaml.safe_load(file.read_text())
    source = getattr(sources, shown.pop("_target_").rpartition(".")[2])
    assert source.name == file.stem
    assert shown == {f.name: f.default for f in fields(source) if f.default is not MISSING}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_key_has_its_comment(file):
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# ")
    for above, line in pairwise(lines):
        if line and not line.startswith(("#", "_target_")):
            assert above.startswith("# "), line
