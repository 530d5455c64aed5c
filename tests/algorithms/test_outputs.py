"""What several hosts of a script leave becomes one folder and one archive, and no host's own is touched."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from algorithms.script.outputs import Gathered, gather

FOLDER = object()


def left(tmp_path: Path, *hosts: dict[str, Any]) -> list[tuple[str, Path]]:
    """Containers of hosts that have written these files into model/: text, a link (a Path), or a folder."""
    found = []
    for number, files in enumerate(hosts):
        root = tmp_path / f"algo-{number + 1}" / "ml"
        (root / "model").mkdir(parents=True)
        for name, content in files.items():
            path = root / "model" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is FOLDER:
                path.mkdir()
            elif isinstance(content, Path):
                path.symlink_to(content)
            else:
                path.write_text(content, encoding="utf-8")
        found.append((f"algo-{number + 1}", root))
    return found


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def packed(found: Gathered, target: Path) -> dict[str, str]:
    """What is in the archive, each name once."""
    found.pack(target)
    with tarfile.open(target) as archive:
        names = archive.getnames()
        assert len(names) == len(set(names))
        files = {name: archive.extractfile(name) for name in names}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


CASES: dict[str, tuple[list[dict[str, Any]], dict[str, str], list[str]]] = {
    "one name": ([{"m": "one"}, {"m": "two"}, {"m": "three"}], {"m": "one"}, ["m"]),
    "as the first": ([{"m": "one"}, {"m": "one"}], {"m": "one"}, []),
    "names of their own": ([{"m-1": "one"}, {"m-2": "two"}], {"m-1": "one", "m-2": "two"}, []),
    "one folder": ([{"f/a": "1", "f/c": "1"}, {"f/b": "2", "f/c": "2"}], {"f/a": "1", "f/b": "2", "f/c": "1"}, ["f/c"]),
    "a folder over a file": ([{"x": "file"}, {"x/y/z": "2"}], {"x": "file"}, ["x"]),
    "a file over a folder": ([{"x/y": "1"}, {"x": "file"}], {"x/y": "1"}, ["x"]),
    "a case": ([{"Model": "1"}, {"model": "2"}], {"Model": "1", "model": "2"}, []),
    "a link's target": ([{"real": "1", "m": Path("real")}, {"m": "2"}], {"real": "1", "m": "1"}, ["m"]),
    "a link over a file": ([{"m": "1"}, {"real": "2", "m": Path("real")}], {"real": "2", "m": "1"}, ["m"]),
    "a link to a folder": ([{"f/a": "1", "last": Path("f")}, {}], {"f/a": "1", "last/a": "1"}, []),
    "a link by /opt/ml": ([{"a": "1", "b": Path("/opt/ml/model/a")}], {"a": "1", "b": "1"}, []),
    "a link to nowhere": ([{"a": "1", "b": Path("gone")}], {"a": "1"}, []),
    "a link in a circle": ([{"a": "1", "b": Path("b"), "c": Path(".")}], {"a": "1"}, []),
    "nothing of the first": ([{}, {"m": "2"}], {"m": "2"}, []),
}


@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_the_first_hosts_file_of_a_name_counts(tmp_path: Path, case: str) -> None:
    hosts, expected, lost = CASES[case]
    containers = left(tmp_path, *hosts)
    before = [tree(root) for _, root in containers]
    found = gather(containers, "model")
    (tmp_path / "model").mkdir()
    found.copy(tmp_path / "model")
    assert tree(tmp_path / "model") == expected
    assert packed(found, tmp_path / "model.tar.gz") == expected
    assert sorted(found.lost) == lost
    assert bool(found.told("model")) == bool(lost)
    assert [tree(root) for _, root in containers] == before


def test_the_clash_is_told_with_names_and_hosts(tmp_path: Path) -> None:
    many = {f"file-{number}": "x" for number in range(5)}
    found = gather(left(tmp_path, many, dict.fromkeys(many, "y")), "model")
    assert found.told("model") == (
        "several hosts wrote model/file-0, model/file-1, model/file-2 and 2 more: algo-1's counts, not that of algo-2; "
        "SM_CURRENT_HOST in a file's name keeps each host's"
    )


def test_a_file_that_nobody_may_write_and_an_empty_folder_come_out(tmp_path: Path) -> None:
    containers = left(tmp_path, {"m": "1", "empty": FOLDER}, {"m": "2"})
    (containers[0][1] / "model" / "m").chmod(0o400)
    found = gather(containers, "model")
    (tmp_path / "model").mkdir()
    found.copy(tmp_path / "model")
    assert (tmp_path / "model" / "m").read_text() == "1"
    assert (tmp_path / "model" / "empty").is_dir()


def test_a_pipe_that_a_script_has_left_holds_nobody_up(tmp_path: Path) -> None:
    containers = left(tmp_path, {"m": "1"})
    os.mkfifo(containers[0][1] / "model" / "pipe")
    assert packed(gather(containers, "model"), tmp_path / "model.tar.gz") == {"m": "1"}
