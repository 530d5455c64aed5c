"""Makes the pages that say again what is written elsewhere: the home page of the README, and the reference of the files in
conf/, of the pages of `--help` and of what `headway` exports. MkDocs calls it (`hooks` in mkdocs.yml)."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import trainer  # noqa: E402
from trainer.cli.help import VERBS  # noqa: E402
from trainer.config import conf_files  # noqa: E402

EXTENDED = {  # what is extended, beside the public names
    "What a launcher is": ["launchers.base.Launcher", "launchers.base.Plan"],
    "What a data source is": ["trainer.data.source.Source"],
    "Tests that a plugin inherits": [
        "trainer.testing.algorithms.AlgorithmSuite",
        "trainer.testing.launchers.LauncherSuite",
    ],
}
WHAT_AN_ALGORITHM_IS = ("Algorithm", "Module", "Estimator", "Context", "Batch", "SparseRows", "Range", "Schema")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, lines in (
        ("index.md", home()),
        ("reference/config.md", configuration()),
        ("reference/cli.md", commands()),
        ("reference/python.md", python()),
    ):
        files.append(File.generated(config, name, content="\n".join(lines) + "\n"))
    return files


def home() -> Iterator[str]:
    """The README, whose links lead to pages here."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    yield re.sub(r"\[([^\]]+)\]\((?!https?:|docs/pages/)[^)]+\)", r"\1", text).replace("](docs/pages/", "](")


def configuration() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield "Made of the files in `conf/`: each choice with what its first comment says, each key with its default and"
    yield "comment. `headway train GROUP=CHOICE --help` prints the same."
    for title, groups in (
        ("The groups of a job", conf_files.groups()),
        ("The groups of a study", conf_files.study_groups()),
    ):
        yield from ("", f"## {title}")
        for group in groups:
            yield from ("", f"### {group}")
            for choice in conf_files.own_choices(group):
                yield from _choice(group, choice)
    yield from ("", "## What a prediction has", "")
    yield from _keys("", conf_files.keys_of(conf_files.conf_folder() / "predict.yaml"))


def _choice(group: str, choice: str) -> Iterator[str]:
    yield from ("", f"#### {group}={choice} {{: #{group}-{choice} }}", "")
    yield _text(conf_files.summary(group, choice))
    yield ""
    if group == "experiment":
        yield from ("```yaml", (conf_files.conf_folder() / group / f"{choice}.yaml").read_text().strip(), "```")
        return
    yield from _keys(f"{group}.", conf_files.keys(group, choice))
    if names := conf_files.searched(group, choice):
        yield from ("", f"`headway tune` searches {', '.join(f'`{name}`' for name in names)}.")


def _keys(prefix: str, keys: list[conf_files.Key]) -> Iterator[str]:
    if keys:
        yield from ("| key | default | |", "|---|---|---|")
    for key in keys:
        yield f"| `{prefix}{key.name}` | `{_cell(key.default)}` | {_text(key.comment)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _text(comment: str) -> str:
    """A comment as Markdown: nothing in it is markup but its backticks."""
    parts = comment.split("`")
    plain = [re.sub(r"([\\*_\[\]<>|#~$])", r"\\\1", part) for part in parts[::2]]
    return "".join(
        part + (f"`{_cell(code)}`" if code else "") for part, code in zip(plain, [*parts[1::2], ""], strict=True)
    )


def commands() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "What `headway` and `headway VERB --help` print."
    for verb in ("", *VERBS):
        yield from ("", f"## headway {verb}".rstrip(), "", "```text", _help(verb), "```")


def _help(verb: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *verb.split(), "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def python() -> Iterator[str]:
    yield "# Python"
    yield ""
    yield "What `import headway` has, made of docstrings."
    others = [name for name in trainer.__all__ if name not in WHAT_AN_ALGORITHM_IS]
    verbs = sorted(others, key=lambda name: (name != "train", name[0].isupper()))  # functions first
    for title, names in (("To train, tune and predict", verbs), ("What an algorithm is", WHAT_AN_ALGORITHM_IS)):
        yield from ("", f"## {title}")
        for name in names:
            yield from ("", f"::: {_place(name)}.{name}", "    options:", f"      heading: headway.{name}")
    for title, places in EXTENDED.items():
        yield from ("", f"## {title}")
        for place in places:
            yield from ("", f"::: {place}")


def _place(name: str) -> str:
    """The module in which a public name is defined."""
    lazy: dict[str, str] = vars(trainer)["_LAZY"]
    return lazy.get(name) or importlib.import_module("trainer").__dict__[name].__module__
