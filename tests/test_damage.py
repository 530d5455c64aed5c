"""What a loss of power, a person or another version has made of a job's files: the other jobs are listed, and one line says
which file it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs import end, make_job, progress, start, validate
from trainer.cli.command import main
from trainer.job.directory import Job, State, write_json

FILES = ["config.yaml", "events.jsonl", "metrics.jsonl", "result.json", "logs/progress.json"]
OTHERS = [
    "logs/node-0.json",
    "logs/attempt-0-rank-0.gpu.json",
    "logs/attempt-0-rank-0.error.json",
    "logs/profile/rank-0.json",
    "submission/submission.json",
    "slurm.json",
    "ray.json",
    "order.json",
    "nodes/round.json",
    "model/artifact.json",
    "checkpoints/step-00000100/manifest.json",
]


def replaced(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(text.encode("latin-1"))


def removed(path: Path) -> None:
    path.unlink(missing_ok=True)


def a_folder(path: Path) -> None:
    removed(path)
    path.mkdir()


def a_pipe(path: Path) -> None:
    removed(path)
    os.mkfifo(path)


def a_device(path: Path) -> None:
    """One without an end."""
    removed(path)
    path.symlink_to("/dev/zero")


def a_link_to_nowhere(path: Path) -> None:
    removed(path)
    path.symlink_to("nowhere")


def cut(path: Path) -> None:
    content = path.read_bytes() or b"{}"
    path.write_bytes(content[: len(content) * 2 // 3])


def zeroed(path: Path) -> None:
    path.write_bytes(b"\0" * len(path.read_bytes()))


def zeros_at_its_end(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\0" * (len(content) - len(content) // 2))


def bad_bytes(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\xff\xfe\x80" + content[20:])


def each_value(value: Any) -> Callable[[Path], None]:
    """Every field of every record is this."""

    def change(path: Path) -> None:
        if path.suffix == ".yaml":
            import yaml

            path.write_text(yaml.safe_dump(dict.fromkeys(yaml.safe_load(path.read_text()), value)))
            return
        records = [json.loads(line) for line in lines_of(path)]
        write_lines(path, [dict.fromkeys(record, value) for record in records])

    return change


def without_fields(path: Path) -> None:
    """Every other field is gone."""
    if path.suffix == ".yaml":
        import yaml

        found = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({key: found[key] for key in list(found)[::2]}))
        return
    write_lines(path, [{key: r[key] for key in list(r)[::2]} for r in map(json.loads, lines_of(path))])


def of_a_newer_version(path: Path) -> None:
    """More fields, and a state that this one doesn't know."""
    text = path.read_text()
    for state in State:
        text = text.replace(f'"{state.value}"', '"Hibernating"')
    path.write_text(
        text.replace("{", '{"since_version_9": [{}], ', 1) if path.suffix != ".yaml" else text + "more: {}\n"
    )


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.suffix in (".jsonl", ".journal") else [path.read_text()]


def write_lines(path: Path, records: list[Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def a_null_line(path: Path) -> None:
    with path.open("a") as file:
        file.write("null\n")


HUGE = 10**400
DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": removed,
    "empty": replaced(""),
    "a blank line": replaced("\n"),
    "cut": cut,
    "zeroed": zeroed,
    "zeros at its end": zeros_at_its_end,
    "bad bytes": bad_bytes,
    "null": replaced("null"),
    "a list": replaced("[1, 2]"),
    "a number": replaced("7"),
    "a text": replaced('"text"'),
    "an empty record": replaced("{}"),
    "a deep one": replaced("[" * 200 + "]" * 200 + "\n"),
    "a null line": a_null_line,
    "null values": each_value(None),
    "texts for values": each_value("\x1b[31mx"),
    "lists for values": each_value([1]),
    "records for values": each_value({"a": {}}),
    "NaN for values": each_value(float("nan")),
    "infinity for values": each_value(float("-inf")),
    "huge numbers for values": each_value(HUGE),
    "fields that are missing": without_fields,
    "a newer version's": of_a_newer_version,
    "a folder": a_folder,
    "a link to nowhere": a_link_to_nowhere,
    "a pipe": a_pipe,
    "a device": a_device,
}
FEW = (
    "missing",
    "empty",
    "zeroed",
    "bad bytes",
    "a list",
    "texts for values",
    "records for values",
    "a folder",
    "a pipe",
)


def whole(folder: Path, *, ended: bool) -> Job:
    """A job with all the files that there may be."""
    job = make_job(folder)
    start(job)
    for step in (10, 20):
        validate(job, step, validation_loss=0.5)
    progress(job, 20)
    write_json(job.logs / "node-0.json", {"agent": 1 << 30, "workers": [1 << 30], "attempt": 0})
    write_json(job.gpu_path(0, 0), {"devices": [{"name": "GPU", "joules": 3.0}]})
    failed = {"time": 1.0, "type": "E", "message": "no", "rank": 0, "where": None, "log": str(job.log_path(0, 0))}
    write_json(job.error_path(0, 0), failed)
    seconds = dict.fromkeys(
        ("data", "forward", "backward", "optimizer", "communication", "validation", "checkpoint", "idle"), 0.1
    )
    write_json(job.profile / "rank-0.json", {"steps": 5, "seconds": seconds})
    write_json(job.dir / "submission/submission.json", {"time": 1.0, "command": "x", "code": []})
    for name in ("slurm.json", "ray.json", "order.json", "nodes/round.json"):
        write_json(job.dir / name, {"id": "7", "time": 1.0, "what": "go on", "number": 1, "members": []})
    write_json(job.model / "artifact.json", {"algorithm": {}})
    write_json(job.checkpoints / "step-00000100/manifest.json", {"step": 100, "files": {}})
    job.log_path(0, 0).write_text("hello\n")
    if ended:
        end(job, State.FAILED, {**failed, "log": str(job.log_path(0, 0))})
    else:
        job.result_path.write_text(json.dumps(result_of(folder.parent / "other")))
    return job


def result_of(folder: Path) -> Any:
    other = make_job(folder)
    end(other, State.INTERRUPTED)
    result = json.loads(other.result_path.read_text())
    shutil.rmtree(folder)
    return result


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return {ended: whole(folder / f"runs-{ended}/job", ended=ended).dir for ended in (True, False)}


@pytest.fixture
def damaged(folder: Path, templates: dict[bool, Path], request: pytest.FixtureRequest) -> tuple[str, str]:
    """A job of whose files one is damaged, beside one that is sound."""
    ended, name, how = request.param
    make_job(folder / "runs/sound")
    shutil.copytree(templates[ended], folder / "runs/job")
    DAMAGES[how](folder / "runs/job" / name)
    return name, how


CASES = [
    pytest.param((ended, name, how), id=f"{name}-{how}-{'ended' if ended else 'open'}")
    for name in (*FILES, *OTHERS)
    for how in (DAMAGES if name in FILES else FEW)
    for ended in ((True, False) if name in FILES else (True,))
]


@pytest.mark.parametrize("damaged", CASES, indirect=True)
def test_looking_tells_what_is_damaged_and_shows_the_rest(
    damaged: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    name, how = damaged
    said = {}
    for verb in (
        ["ls"],
        ["ls", "--json"],
        ["show", "job"],
        ["show", "job", "--json"],
        ["logs", "job"],
        ["stop", "job"],
    ):
        code = main(verb)
        out, err = capsys.readouterr()
        said[" ".join(verb)] = out
        assert code in (0, 2), (verb, out, err)
        assert len(err.splitlines()) == (code == 2), (verb, err)
        assert code == 2 or verb[0] != "stop"
    assert [line.split()[0] for line in said["ls"].splitlines()[1:]].count("sound") == 1
    rows = {row["name"]: row for row in json.loads(said["ls --json"])}
    assert rows["sound"]["damaged"] is None
    if name == "config.yaml" and how not in ("a newer version's", "a null line"):
        assert "config" in rows["job"]["damaged"]
    assert ("damaged: " in said["ls"]) == (rows["job"]["damaged"] is not None)


def test_the_sound_job_is_told_as_ever(folder: Path, templates: dict[bool, Path], capsys: Any) -> None:
    shutil.copytree(templates[False], folder / "runs/job")
    main(["ls", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["damaged"], row["state"], row["steps"]) == (None, "Interrupted", 500)
