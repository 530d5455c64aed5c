"""The pages of `--help`: the verbs, the config groups with their choices, examples. Without Hydra."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence

from trainer.config.conf_files import (
    choices,
    conf_folder,
    file_of,
    groups,
    join,
    keys,
    keys_of,
    searched,
    study_groups,
    summary,
)
from trainer.config.schema import TARGETS

VERBS = {
    "train": "train a model: Hydra overrides choose algorithm, data, workers; -m sweeps",
    "tune": "search for the best configuration: many jobs, early stopping, Bayesian search",
    "plan": "tell what a training would need under each strategy, without training",
    "check": "try whether an algorithm keeps what built-in ones keep",
    "resume": "go on with a job that was interrupted, stopped or failed",
    "algorithms": "list the algorithms that are installed, or tell all about one",
    "new": "write a small package with an algorithm of your own, ready to be installed",
    "predict": "predict with a trained model, or continue a prompt",
    "ls": "list jobs",
    "show": "show one job: state, metrics, timeline, files",
    "compare": "show jobs side by side: keys that differ, metrics, curves",
    "report": "write a page of a job, or of a study: report.html, with its curves",
    "logs": "print a job's logs; -f follows them",
    "stop": "stop a running job in order, its state saved",
    "chaos": "run a job under faults, and see that nothing is lost",
}

EXAMPLES = [
    ("headway train algorithm=linear data=digits launcher.workers=2", "two workers on this machine"),
    (
        "headway train algorithm=xgboost data=csv data.train=train.csv data.label=price",
        "gradient-boosted trees on a table",
    ),
    (
        "headway train algorithm=gpt data=text data.train=corpus.txt train.max_steps=500",
        "a small language model",
    ),
    (
        "headway train algorithm=script algorithm.source_dir=src algorithm.entry=train.py +data.channels.training=data",
        "a script written for SageMaker",
    ),
    ("headway train -m algorithm.lr=0.1,0.01 algorithm=linear data=digits", "a sweep: one job a value"),
    (
        "headway train -m hydra/sweeper=headway algorithm=linear data=digits 'algorithm.lr=interval(0.01,1)'",
        "a search, as `headway tune` does it; its settings are hydra.sweeper.tune.trials=20 and the like",
    ),
    (
        "headway predict model=runs/JOB/model data=csv data.test=new.csv output=predictions.parquet",
        "use what was trained",
    ),
]

FLAGS = [
    ("-m, --multirun", "a job for every combination of comma-separated values"),
    ("--cfg job", "print the composed config and leave (--resolve fills in references)"),
    ("--info [defaults|searchpath|…]", "how the config came about"),
    ("--config-dir DIR", "a folder of your own config files joins the search path"),
    ("--config-name NAME", "another primary config"),
    ("-sc install=bash", 'tab completion: eval "$(headway train -sc install=bash)"'),
    ("--hydra-help", "the rest of Hydra's own flags"),
]


def main_page() -> str:
    """What `headway` and `headway --help` print."""
    lines = ["Headway trains and tunes models over machines that may be taken away at any moment.", ""]
    lines += ["Usage: headway VERB …", "", "Verbs"]
    lines += [f"  {verb:<10} {text}" for verb, text in VERBS.items()]
    lines += ["", *_groups(), "", *_examples(), "", "More: headway VERB --help, headway --version"]
    return "\n".join(lines)


def train_page(arguments: list[str]) -> str:
    """What `headway train --help` prints; with `GROUP=CHOICE` arguments, the keys of these choices instead."""
    join(arguments)
    if pages := _chosen(arguments):
        return "\n\n".join(pages)
    lines = ["Usage: headway train [FLAGS] [GROUP=CHOICE …] [KEY=VALUE …]", ""]
    lines += ["Trains a model. Everything about the job is in its directory, runs/NAME.", ""]
    lines += [
        *_groups(),
        "  `headway train GROUP=CHOICE --help` tells a choice's keys; `+experiment=NAME` adds an experiment.",
        "",
    ]
    lines += ["Often used keys"]
    for dotted in OFTEN:
        group, _, name = dotted.partition(".")
        key = next(k for c in choices(group) for k in keys(group, c) if k.name == name)
        lines += _entry(f"{dotted}={key.default}", key.comment)
    lines += ["", *_examples(), "", "Flags (Hydra's)"]
    for flag, text in FLAGS:
        lines += _entry(flag, text)
    return "\n".join(lines)


OFTEN = [
    "train.epochs",
    "train.max_steps",
    "train.batch_size",
    "launcher.workers",
    "data.validation",
    "job.name",
    "job.seed",
]


def _entry(name: str, text: str) -> list[str]:
    """A name and what it is, wrapped to a terminal of 100 columns."""
    wrapped = textwrap.wrap(text, 66) or [""]
    return [f"  {name:<31} {wrapped[0]}", *(" " * 34 + more for more in wrapped[1:])]


def _groups() -> list[str]:
    lines = ["Config groups (GROUP=CHOICE)"]
    lines += [f"  {group:<11} {', '.join(choices(group))}" for group in groups()]
    return lines


def _examples() -> list[str]:
    lines = ["Examples"]
    for command, comment in EXAMPLES:
        lines += [f"  # {comment}", f"  {command}"]
    return lines


def _chosen(arguments: list[str]) -> list[str]:
    """A page for each choice among the arguments. Raises UserError for a class of the user's own that isn't there."""
    pages = []
    for argument in arguments:
        group, _, choice = argument.partition("=")
        if file_of(group, choice):
            pages.append(_choice(group, choice))
        elif re.match(rf"({'|'.join(TARGETS)})(\._target_)?=", argument):
            from trainer.cli.choice_page import page
            from trainer.config.choices import target_of

            target = target_of(argument)
            pages += [page(argument, group.partition(".")[0], target)] if target else []
    return pages


def _choice(group: str, choice: str) -> str:
    lines = [f"{group}={choice}: {summary(group, choice)}"]
    for key in keys(group, choice):
        lines.append(f"  {group}.{key.name}={key.default}")
        if key.comment:
            lines.append(f"      {key.comment}")
    if names := searched(group, choice):
        lines.append(f"  headway tune searches {', '.join(names)}")
    return "\n".join(lines)


TUNE_EXAMPLES = [
    (
        "headway tune algorithm=xgboost data=csv data.train=train.csv data.label=price tune.trials=60",
        "what is recommended",
    ),
    ("headway tune algorithm=linear data=digits 'algorithm.lr=tag(log,interval(1e-4,1))'", "a space of one's own"),
    (
        "headway tune algorithm=gpt data=text data.train=corpus.txt scheduler=asha tune.max_time=2h launcher.workers=2",
        "worse trials stop early; each trains on two workers",
    ),
    ("headway tune resume STUDY tune.trials=100", "goes on, after whatever ended it, and further"),
]
RANGES = [
    ("interval(1e-4,1)", "a number between; int(interval(2,8)) a whole one, both bounds included"),
    ("tag(log,interval(1e-4,1))", "evenly over its logarithm; tag(reverse_log,…) for what is near 1, such as a decay"),
    ("range(2,8)", "2 to 7: the end is left out, as everywhere in Hydra; range(0,1,0.1) has steps"),
    ("a,b,c", "one of them; choice(a,b,c) is the same"),
    ("tune.space", "the same in YAML, with conditions: {low: 1, high: 8, when: algorithm.task == 'binary'}"),
]


def tune_page(arguments: list[str]) -> str:
    """What `headway tune --help` prints; with `GROUP=CHOICE` arguments, the keys of these choices instead."""
    join(arguments)
    if pages := _chosen(arguments):
        return "\n\n".join(pages)
    lines = ["Usage: headway tune [FLAGS] [GROUP=CHOICE …] [KEY=VALUE …] [KEY=RANGE …]", ""]
    lines += ["       headway tune resume STUDY [KEY=VALUE …]     goes on, also after a crash of this command"]
    lines += ["       headway tune show STUDY [--json]            its best trials, what mattered, what failed"]
    lines += ["       headway tune report STUDY                   writes report.html and the tables anew", ""]
    lines += ["Searches for the best configuration: every trial is a job, in studies/NAME/trials.", "", "Ranges"]
    for name, text in RANGES:
        lines += _entry(name, text)
    lines += ["", "Groups of a study, beside those of a job (`headway train --help`)"]
    lines += [f"  {group:<11} {', '.join(choices(group))}" for group in study_groups()]
    lines += ["  `headway tune GROUP=CHOICE --help` tells a choice's keys.", "", "Keys"]
    for key in keys("tune", "default"):
        lines += _entry(f"tune.{key.name}={key.default}", key.comment)
    lines += ["", "Examples"]
    for command, comment in TUNE_EXAMPLES:
        lines += [f"  # {comment}", f"  {command}"]
    return "\n".join(lines)


def check_page() -> str:
    """What `headway check --help` prints."""
    lines = ["Usage: headway check algorithm=CHOICE [data=CHOICE] [KEY=VALUE …]", ""]
    lines += ["Trains a few steps, trains again, interrupts and resumes, changes the number of workers, compares the"]
    lines += [
        "weights bit by bit, loads the artifact, predicts, and tunes two trials. Ends with 1 if a point fails.",
        "",
    ]
    lines += ["Examples", "  headway check algorithm=linear data=digits"]
    lines += ["  headway check algorithm._target_=my_module.MyAlgorithm data=csv data.train=train.csv data.label=price"]
    return "\n".join(lines)


def predict_page(arguments: Sequence[str]) -> str:
    """What `headway predict --help` prints."""
    join(arguments)
    lines = ["Usage: headway predict model=FOLDER data=CHOICE data.test=FILE [output=FILE]", ""]
    lines += ["       headway predict model=FOLDER prompt=TEXT [+generate.KEY=VALUE …]", ""]
    lines += [
        "Predicts with a trained model, which refuses rows that don't fit what it was trained on.",
        "",
        "Keys",
    ]
    lines += [f"  {key.name:<17} {key.comment}" for key in keys_of(conf_folder() / "predict.yaml")]
    lines += [f"  {'data':<17} {', '.join(choices('data'))}", "", "Examples"]
    lines += ["  headway predict model=runs/JOB/model data=csv data.test=new.csv output=predictions.parquet"]
    lines += ["  headway predict model=runs/JOB/model prompt='To be' +generate.tokens=100"]
    return "\n".join(lines)


def fitted(page: str, width: int | None = None) -> str:
    """A page of which no line is wider than the terminal; as it is where there is none. Commands to copy go on behind a
    backslash, texts below where they began.

    width: in columns; None asks the terminal, or COLUMNS.
    """
    if width is None:
        if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
            return page
        width = max(40, shutil.get_terminal_size().columns)
    return "\n".join(part for line in page.split("\n") for part in _folded(line, width))


def _folded(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    inner = line.lstrip()
    margin = line[: len(line) - len(inner)]
    if inner.startswith("headway "):
        parts = textwrap.wrap(inner, width - len(margin) - 6, break_long_words=False, break_on_hyphens=False)
        indents = [margin, *[margin + "    "] * (len(parts) - 1)]
        ends = [*[" \\"] * (len(parts) - 1), ""]
        return [f"{indent}{part}{end}" for indent, part, end in zip(indents, parts, ends, strict=True)]
    column = re.match(r"\s*\S+(?: \S+)*  +", line)
    hang = " " * (len(column[0]) if column and len(column[0]) < width - 24 else len(margin) + 4 if margin else 0)
    further = f"{margin}# " if inner.startswith("# ") else hang
    return textwrap.wrap(line, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)
