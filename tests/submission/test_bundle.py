"""What travels with a submission: the user's own code, its commit and what differs from it, the environment."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from tests.projects import commit, edit, project, run
from trainer.config.code import git, own_code
from trainer.errors import UserError
from trainer.job import code_archive, code_path
from trainer.submission import bundle
from trainer.submission.requirements import lock

Submit = Callable[..., list[str]]
LINEAR = {"algorithm": {"_target_": "algorithms.linear.Linear"}, "data": {"_target_": "trainer.data.sources.Digits"}}
MINE: dict[str, Any] = {**LINEAR, "algorithm": {"_target_": "mine.Mine", "lr": 0.1}}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    directory = tmp_path / "runs" / "one"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def submit(job: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Takes what a config's submission from these folders on the path takes. Returns what a person is told."""

    def submit(*path: Path, config: dict[str, Any] = MINE, **options: Any) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [*sys.path, *map(str, path)])
            patch.chdir(path[-1] if path else job.parent)
            importlib.invalidate_caches()
            told = bundle.take(job, [config], **options)
            return [*told, *bundle.complete(job)]

    return submit


def record(job: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job / "submission/submission.json").read_text())
    return found


def copied(job: Path) -> set[str]:
    return {str(path.relative_to(job / "code")) for path in (job / "code").rglob("*") if path.is_file()}


# what is copied


def test_of_a_git_tree_all_its_files_travel(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    (tree / "src").mkdir()
    for name in ("mine.py", "layers.py"):
        (tree / name).rename(tree / "src" / name)
    (tree / "notes.md").write_text("tracked")
    (tree / ".gitignore").write_text("secret.txt\n")
    commit(tree)
    (tree / "src/new.json").write_text("{}")
    (tree / "secret.txt").write_text("ignored")
    assert submit(tree / "src") == []
    assert copied(job) == {
        f"proj/{name}" for name in ("src/mine.py", "src/layers.py", "src/new.json", "notes.md", ".gitignore")
    }
    assert code_path.folders(job) == [str(job / "code/proj/src")]


def test_every_folder_of_a_tree_that_python_looks_in_is_on_the_jobs_path(
    submit: Submit, job: Path, tmp_path: Path
) -> None:
    tree = project(tmp_path / "proj")
    (tree / "lib").mkdir()
    (tree / "layers.py").rename(tree / "lib/layers.py")
    submit(tree / "lib", tree)
    assert code_path.folders(job) == [str(job / "code/proj/lib"), str(job / "code/proj")]


def test_without_git_the_modules_and_packages_beside_it_travel(submit: Submit, job: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "proj", git=False)
    for name in ("pack/__init__.py", "pack/inner/words.txt", "pack/__pycache__/a.pyc", "pack/table.csv", "photos/a.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "letter.txt").write_text("Dear")
    submit(folder)
    assert copied(job) == {
        f"proj/{name}" for name in ("mine.py", "layers.py", "pack/__init__.py", "pack/inner/words.txt")
    }
    assert record(job)["code"][0]["git"] is None


def test_a_package_travels_whole(submit: Submit, job: Path, tmp_path: Path) -> None:
    package = project(tmp_path / "proj/mine", git=False)
    (package / "mine.py").rename(package / "__init__.py")
    (package / "words.txt").write_text("a")
    submit(tmp_path / "proj")
    assert copied(job) == {"proj/mine/__init__.py", "proj/mine/layers.py", "proj/mine/words.txt"}


def test_code_that_git_ignores_travels_all_the_same(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    (tree / "scratch").mkdir()
    (tree / "mine.py").rename(tree / "scratch/mine.py")
    (tree / ".gitignore").write_text("scratch/\n")
    submit(tree / "scratch", tree)
    own = [Path(folder) for folder in code_path.folders(job)]
    assert any((folder / "mine.py").is_file() for folder in own)
    assert any((folder / "layers.py").is_file() for folder in own)


def test_data_environments_and_jobs_stay_where_they_are(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    for name in (
        "train.csv",
        "corpus.txt",
        "env3/pyvenv.cfg",
        "env3/lib/a.py",
        "runs/a/config.yaml",
        "runs/a/code/mine.py",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    kept = {"jobs/b/config.yaml", "jobs/b/events.jsonl", "jobs/b/code/proj/mine.py", "studies/s/study.yaml"}
    for name in kept:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    data = {"_target_": "trainer.data.sources.Text", "train": [str(tree / "corpus.txt")]}
    assert submit(tree, config={**MINE, "data": data}) == []
    assert copied(job) == {"proj/mine.py", "proj/layers.py"}


def test_a_large_file_is_left_out_and_told(
    submit: Submit, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_code, "FILE_BYTES", 3000)
    tree = project(tmp_path / "proj")
    (tree / "words.txt").write_text("x" * 4000)
    told = submit(tree)
    assert told == [f"left out of the job's copy of {tree}: words.txt (4 KB, over 3 KB)"]
    assert copied(job) == {"proj/mine.py", "proj/layers.py"}
    assert record(job)["code"][0]["left_out"] == [{"path": "words.txt", "why": "4 KB, over 3 KB"}]


def test_of_a_tree_that_is_too_large_only_the_modules_own_folder_travels(
    submit: Submit, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_code, "TREE_BYTES", 5000)
    tree = project(tmp_path / "proj")
    (tree / "words.txt").write_text("x" * 6000)
    (line,) = submit(tree)
    assert "over 5 KB" in line
    assert copied(job) == {"proj/mine.py", "proj/layers.py"}
    assert record(job)["code"][0]["git"]["commit"] == run(tree, "rev-parse", "HEAD").strip()


def test_too_much_code_stays_where_it_is_and_the_job_finds_it_there(
    submit: Submit, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_code, "TREE_BYTES", 50)
    (line,) = submit(project(tmp_path / "proj"))
    assert "left out of the job's copy" in line
    assert code_path.folders(job) == []


@pytest.mark.parametrize("target", ["algorithms.linear.Linear", "sklearn.linear_model.Ridge", "json.JSONDecoder"])
def test_of_what_is_installed_or_ours_nothing_is_copied_and_git_is_not_asked(
    submit: Submit, job: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (asked.append(a), real(*a, **k))[1])
    with monkeypatch.context() as patch:
        patch.chdir(job.parent)
        assert bundle.take(job, [{**LINEAR, "algorithm": {"_target_": target}}]) == []
    assert not (job / "code").exists()
    assert record(job)["code"] == []
    assert asked == []


def test_a_class_that_a_setting_names_travels_too(submit: Submit, job: Path, tmp_path: Path) -> None:
    project(tmp_path / "proj", git=False)
    inner = {"_target_": "algorithms.linear.Linear", "parts": [{"_target_": "mine.Mine"}]}
    submit(tmp_path / "proj", config={**LINEAR, "algorithm": inner})
    assert "proj/mine.py" in copied(job)


def test_code_of_two_trees_lies_side_by_side(submit: Submit, job: Path, tmp_path: Path) -> None:
    one, two = project(tmp_path / "a/proj"), project(tmp_path / "b/proj")
    (two / "mine.py").rename(two / "other.py")
    for tree in (one, two):
        edit(tree / "layers.py", "0.1", "0.2")
    submit(one, two, config={**MINE, "data": {"_target_": "other.Mine"}})
    assert {"proj/mine.py", "proj-2/other.py"} <= copied(job)
    first, second = record(job)["code"]
    assert (first["git"]["diff"], second["git"]["diff"]) == ("diff.patch", "diff-proj-2.patch")


# what is known of it


def test_a_dirty_tree_is_recorded_so_that_it_can_be_had_again(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    head = run(tree, "rev-parse", "HEAD").strip()
    edit(tree / "layers.py", "SCALE = 1.0", "SCALE = 2.0")
    submit(tree)
    (piece,) = record(job)["code"]
    expected = {"root": str(tree), "commit": head, "branch": "main", "dirty": True, "diff": "diff.patch"}
    assert piece["git"] == expected
    again = tmp_path / "again"
    subprocess.run(["git", "clone", "--quiet", str(tree), str(again)], check=True)
    run(again, "apply", str(job / "submission/diff.patch"))
    assert (again / "layers.py").read_bytes() == (job / "code/proj/layers.py").read_bytes()


def test_a_clean_tree_has_no_diff(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    edit(tree / "layers.py", "0.1", "0.2")
    submit(tree)
    commit(tree)
    (tree / "runs").mkdir()
    (tree / "runs/result.json").write_text("what jobs leave is no change")
    submit(tree)
    assert record(job)["code"][0]["git"]["dirty"] is False
    assert not (job / "submission/diff.patch").exists()


def test_a_tree_before_its_first_commit_has_none(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj", git=False)
    run(tree, "init", "--quiet")
    submit(tree)
    assert copied(job) == {"proj/mine.py", "proj/layers.py"}
    assert record(job)["code"][0]["git"]["commit"] is None


def test_where_git_is_not_installed_code_travels_without_it(
    submit: Submit, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = project(tmp_path / "proj")
    monkeypatch.setenv("PATH", str(tmp_path))
    submit(tree)
    assert copied(job) == {"proj/mine.py", "proj/layers.py"}
    assert record(job)["code"][0]["git"] is None


def test_a_home_folder_under_git_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = project(tmp_path / "home")
    monkeypatch.setenv("HOME", str(home))
    assert git.root_of(home) is None


def test_git_of_the_working_folder_is_known_without_own_code_too(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    submit(tree, config=LINEAR)
    assert record(job)["git"]["commit"] == run(tree, "rev-parse", "HEAD").strip()
    assert record(job)["code"] == []


def test_the_record_says_when_where_and_with_what(submit: Submit, job: Path, tmp_path: Path) -> None:
    submit(project(tmp_path / "proj"))
    told = record(job)
    assert told["folder"] == str(tmp_path / "proj")
    assert told["executable"] == sys.executable
    assert told["command"].startswith(sys.orig_argv[0])
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert abs((job / "submission/submission.json").stat().st_mtime - told["time"]) < 60


def test_the_lock_pins_what_is_installed(submit: Submit, job: Path, tmp_path: Path) -> None:
    submit(project(tmp_path / "proj"))
    head, *lines = (job / "submission/requirements.lock").read_text().splitlines()
    assert head.startswith("# Python 3.")
    installed = {d.metadata["Name"].lower().replace("_", "-").replace(".", "-"): d.version for d in distributions()}
    for name in ("torch", "numpy", "hydra-core"):
        assert f"{name}=={installed[name]}" in lines
    assert len(lines) == len(installed)


def test_the_lock_says_where_else_a_distribution_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origins = {
        "edited": {"url": "file:///home/me/edited", "dir_info": {"editable": True}},
        "cloned": {"url": "https://example.org/cloned.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
        "carried": {"url": "file:///wheels/carried-1.0.whl", "archive_info": {}},
    }
    for name, origin in origins.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {
        "-e /home/me/edited  # edited==1.0",
        "cloned @ git+https://example.org/cloned.git@abc",
        "carried @ file:///wheels/carried-1.0.whl  # carried==1.0",
    } <= set(lock())


# a job that goes on


def test_a_correction_is_taken_and_told(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    submit(tree)
    assert submit(tree) == []
    edit(tree / "layers.py", "SCALE = 1.0", "SCALE = 2.0")
    assert submit(tree) == ["code that has changed since: layers.py"]
    assert "SCALE = 2.0" in (job / "code/proj/layers.py").read_text()
    assert "SCALE = 2.0" in (job / "submission/diff.patch").read_text()


def test_code_that_is_not_there_any_more_stays_what_it_was(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    edit(tree / "layers.py", "SCALE = 1.0", "SCALE = 2.0")
    submit(tree)
    before = record(job)["code"]
    shutil.rmtree(tree)
    with_own = [Path(folder) for folder in code_path.folders(job)]
    assert submit(*with_own) == []
    assert record(job)["code"] == before
    assert copied(job) == {"proj/mine.py", "proj/layers.py"}
    assert (job / "submission/diff.patch").exists()


def test_code_from_another_place_is_told(submit: Submit, job: Path, tmp_path: Path) -> None:
    one, two = project(tmp_path / "a/proj"), project(tmp_path / "b/proj")
    submit(one)
    assert submit(two) == [f"the job's code is now that of {two}, before it was that of {one}"]


def test_a_trial_has_its_studys_code(submit: Submit, job: Path, tmp_path: Path) -> None:
    submit(project(tmp_path / "proj"))
    trial = job / "trials/0000-abc"
    bundle.point(trial, job)
    assert code_path.folders(trial) == code_path.folders(job) == [str(job / "code/proj")]
    assert [path.name for path in trial.rglob("*") if path.is_file()] == ["submission.json"]


def test_jobs_of_one_sweep_share_what_was_taken_and_change_nothing_of_each_other(
    submit: Submit, job: Path, tmp_path: Path
) -> None:
    tree = project(tmp_path / "proj")
    edit(tree / "layers.py", "SCALE = 1.0", "SCALE = 2.0")
    submit(tree, archived=True)
    other = tmp_path / "runs/two"
    other.mkdir()
    bundle.share(job, other)
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    assert {path.name for path in before} == {
        *("mine.py", "layers.py", "submission.json", "code.zip", "diff.patch", "requirements.lock"),
    }
    assert code_path.folders(other) == [str(other / "code/proj")]
    edit(tree / "layers.py", "SCALE = 2.0", "SCALE = 3.0")
    submit(tree, archived=True)
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before


def test_an_archive_brings_the_code_back(submit: Submit, job: Path, tmp_path: Path) -> None:
    submit(project(tmp_path / "proj"), archived=True)
    assert record(job)["archive"] == code_archive.digest(job / "submission/code.zip")
    before = {name: (job / "code" / name).read_bytes() for name in copied(job)}
    shutil.rmtree(job / "code")
    code_archive.unpack(job)
    assert {name: (job / "code" / name).read_bytes() for name in copied(job)} == before


def test_a_directory_that_cannot_be_written_is_the_users_mistake(submit: Submit, job: Path, tmp_path: Path) -> None:
    tree = project(tmp_path / "proj")
    (job / "submission").write_text("a file is in the way")
    with pytest.raises(UserError, match=r"job.dir: the job's code can't be copied"):
        submit(tree)
