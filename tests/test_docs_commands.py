"""The commands that the README and the pages of docs/ show: they run as they stand, and say what is shown below them.

Each page is a session in a folder of its own with small data. A line `…` stands for any lines; numbers, and the order of a
line's shares of the time, may differ.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", flags=re.M | re.S
)


@dataclass
class Shown:
    """A command as a page shows it, with the lines shown below it."""

    command: str
    output: list[str]
    reason: str | None  # why it isn't run; None if it is


def commands(page: Path) -> Iterator[Shown]:
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["language"] != "console":
            continue
        found: list[Shown] = []
        for line in block["text"].splitlines():
            if found and found[-1].command.endswith("\\"):
                found[-1].command += f"\n{line}"
            elif line.startswith("$ "):
                found.append(Shown(line[2:], [], block["reason"]))
            else:
                found[-1].output.append(line)
        yield from found


def small_data(folder: Path) -> None:
    """What the pages' commands find: tables, a text, the examples, a script for SageMaker."""
    rows = [(i % 7 + 2, 40 + i * 13 % 90, ("Rome", "Oslo", "Lima")[i % 3]) for i in range(300)]
    sold = [f"{rooms},{area},{city},{rooms * 10 + area * 2 + len(city)}" for rooms, area, city in rows]
    (folder / "train.csv").write_text("\n".join(["rooms,area,city,price", *sold]) + "\n")
    (folder / "new.csv").write_text("rooms,area,city\n3,71,Oslo\n5,120,Rome\n")
    (folder / "corpus.txt").write_text((ROOT / "LICENSE").read_text())
    shutil.copytree(ROOT / "scripts" / "examples", folder / "scripts" / "examples")
    (folder / "data" / "train").mkdir(parents=True)
    shutil.copy(folder / "train.csv", folder / "data" / "train")
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text(SCRIPT)


SCRIPT = """
import argparse, csv, os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
lr = parser.parse_args().lr
rows = list(csv.DictReader(open(Path(os.environ["SM_CHANNEL_TRAINING"]) / "train.csv")))
weight = 0.0
for epoch in range(5):
    wrong = [weight * float(row["area"]) - float(row["price"]) for row in rows]
    weight -= lr * sum(w * float(row["area"]) for w, row in zip(wrong, rows)) / len(rows) / 1e4
    print(f"epoch {epoch} loss: {sum(w * w for w in wrong) / len(rows)};", flush=True)
(Path(os.environ["SM_MODEL_DIR"]) / "weight.txt").write_text(str(weight))
"""


def plain(line: str) -> str:
    """What of a line has to be as it is shown."""
    line = re.sub(r"\b(time went to|next) .*", r"\1", line)
    line = re.sub(r"\d[\d,]*(\.\d+)?(e[+-]?\d+)?", "#", line).replace("-#", "#")
    line = re.sub(r"(# (h|min) )?# (h|min|s)\b", "# s", line.replace("# threads", "# thread"))
    return re.sub(r"[ ─-╿]+", " ", re.sub(r" best\b", "", line)).strip()


def is_progress(line: str) -> bool:
    """A line that comes when some seconds have gone by."""
    return re.match(r"(step|round) [\d,]+(/|$)|the workers are |worker \d+ is |\d+ running, ", line) is not None


def agree(shown: list[str], said: list[str]) -> bool:
    wanted = "\n".join(".*" if line.strip() == "…" else re.escape(plain(line)) for line in shown)
    there = "\n".join(plain(line) for line in said if not is_progress(line))
    return re.fullmatch(wanted.replace("\n.*\n", "\n(?:.*\n)?").strip(), there.strip(), flags=re.S) is not None


@pytest.mark.pages
@pytest.mark.timeout(900)  # a page may train a dozen jobs
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(c.reason is None for c in commands(page))], ids=lambda p: p.stem
)
def test_what_a_page_shows_runs_and_says_what_is_shown(page: Path, tmp_path: Path) -> None:
    small_data(tmp_path)
    where = tmp_path / ".where"
    folder = tmp_path
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HEADWAY_CACHE": str(tmp_path / ".cache"),
    }
    environment.pop("COLUMNS", None)
    for shown in commands(page):
        if shown.reason:
            continue
        done = subprocess.run(
            ["bash", "-c", f"{shown.command}\ncode=$?\npwd >{where}\nexit $code"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        folder = Path(where.read_text().strip())
        mistake = any(line.startswith("error: ") for line in shown.output)
        told = f"$ {shown.command}\n{done.stdout}"
        assert (done.returncode != 0) == mistake, told
        assert not shown.output or agree(shown.output, done.stdout.splitlines()), told


def python_of(page: Path) -> str:
    """The Python that a page shows and that isn't a file's of its own, one block after the other."""
    blocks = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return "\n".join(
        b["text"] for b in blocks if b["language"] == "python" and not b["reason"] and "class " not in b["text"]
    )


@pytest.mark.pages
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    small_data(tmp_path)
    (tmp_path / "page.py").write_text(python_of(page))
    environment = {**os.environ, "HEADWAY_CACHE": str(tmp_path / ".cache")}
    command = [sys.executable, "page.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_stand_where_they_are_run(page: Path) -> None:
    languages = {block["language"] for block in BLOCK.finditer(page.read_text(encoding="utf-8"))}
    assert languages <= {"console", "python", "text", "yaml"}
    assert all(shown.command for shown in commands(page))


NOT_RUN = {
    shown.command for page in PAGES for shown in commands(page) if shown.reason and "installs" not in shown.reason
}


@pytest.mark.pages
@pytest.mark.parametrize("command", sorted(c for c in NOT_RUN if re.match(r"headway train [^-…]+$", c)))
def test_what_cannot_run_here_is_at_least_a_config(command: str, tmp_path: Path) -> None:
    small_data(tmp_path)
    headway, _, rest = command.split("  #")[0].partition(" train ")
    program = Path(sys.executable).parent / headway
    done = subprocess.run(
        ["bash", "-c", f"{program} train --cfg job {rest}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_lines_that_may_be_any() -> None:
    assert agree(["a 1", "…", "b 2.5 s"], ["a 3", "x", "y", "b 10 s"])
    assert agree(["a 1", "…", "b"], ["a 3", "b"])
    assert not agree(["a", "…", "b"], ["a", "c"])
    assert not agree(["a"], ["a", "b"])
    assert agree(["a"], ["a", "step 5/10 (50%), loss 1"])
