"""`headway chaos`: what is asked, and the pages that answer."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from trainer.errors import ExitCode, HeadwayError, UserError

ROOT = Path("chaos")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OURS = {"job.dir": "dir=FOLDER is the drill's own", "job.name": "dir=FOLDER is the drill's own"}
OURS |= {"job.dry_run": "a drill runs the job", "launcher.nodes": "a drill makes the second node itself"}
NOT_HERE = ("-m", "--multirun", "--cfg", "-c", "--info", "-i", "--run", "-r", "--hydra-help", "-sc")


@dataclass(frozen=True)
class Asked:
    """What a drill was asked for; `overrides` are the job's."""

    overrides: list[str]
    faults: int
    seed: int
    kinds: list[str]
    dir: Path
    chosen: bool  # whether the kinds were


def chaos(arguments: Sequence[str]) -> int:
    """Runs the verb. 0 if all was survived and nothing wrong, else 1."""
    if "--help" in arguments or "-h" in arguments:
        from trainer.cli.help import fitted

        print(fitted(page()))
        return 0
    asked = parse(arguments)
    from trainer.job.view.summary import make_console, pair
    from trainer.process.format import short_path
    from trainer.testing.chaos.driver import Drill
    from trainer.testing.chaos.report import Report, show, show_fault
    from trainer.testing.chaos.schedule import plan

    console = make_console()
    report = Report(asked.overrides, asked.seed, asked.faults, str(asked.dir))
    pair(console, "drill", f"{asked.faults:,} faults of {len(asked.kinds)} kinds, seed {asked.seed}")
    pair(console, "in", short_path(asked.dir))
    drill = Drill(
        asked.overrides,
        asked.dir,
        report,
        say=lambda text: pair(console, "job", text),
        on_fault=lambda fault: show_fault(console, fault),
    )
    told: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        """Ends the drill in order: what was started and mounted goes first, whoever else signals meanwhile."""
        told.append(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        drill.run(plan(asked.seed, asked.faults, asked.kinds))
        unmet = [kind for kind in asked.kinds if kind in report.left_out] if asked.chosen else []
        if unmet:
            report.error = f"{', '.join(unmet)} could not be given: {report.left_out[unmet[0]]}"
    except UserError:
        if not report.runs:
            shutil.rmtree(asked.dir, ignore_errors=True)
        raise
    except HeadwayError as error:
        report.error = str(error)
    except KeyboardInterrupt:
        report.error = "ended by hand" if signal.SIGINT in told else f"ended by {signal.Signals(told[0]).name}"
    report.seconds = round(time.time() - report.began, 3)
    path = report.write()
    show(console, [("", report)])
    pair(console, "report", short_path(path))
    if report.ok:
        return ExitCode.COMPLETED
    return 128 + told[0] if told else ExitCode.FAILED


def parse(arguments: Sequence[str]) -> Asked:
    """What is ours among the arguments, and the job's overrides. Raises UserError."""
    from trainer.testing.chaos.schedule import KINDS, check_kinds

    given: dict[str, str] = {}
    overrides: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument.split("=")[0] in NOT_HERE:
            raise UserError(f"{argument} is not for a drill, which is of one job; see `headway chaos --help`")
        if key.lstrip("+") in OURS:
            raise UserError(f"{key}: {OURS[key.lstrip('+')]}; leave it away")
        if equals and key in ("faults", "seed", "kinds", "dir"):
            given[key] = value
        else:
            overrides.append(argument)
    chosen = [name for name in given.get("kinds", "").strip("[]").replace(" ", "").split(",") if name]
    kinds = check_kinds(chosen or list(KINDS))
    faults, seed = _number(given, "faults", 20, 1), _number(given, "seed", 0, 0)
    place = Path(given["dir"]).expanduser() if given.get("dir") else _fresh()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"dir: {place} exists already; choose another")
    return Asked(overrides, faults, seed, kinds, place.absolute(), bool(chosen))


def _number(given: dict[str, str], key: str, default: int, least: int) -> int:
    text = given.get(key, str(default)).replace("_", "").replace(",", "")
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{key}: {given[key]!r} is not a whole number from {least} up")
    return int(text)


def _fresh() -> Path:
    name = time.strftime("%m%d-%H%M%S")
    place, number = ROOT / name, 1
    while place.exists():
        number += 1
        place = ROOT / f"{name}-{number}"
    return place


def page() -> str:
    """What `headway chaos --help` prints."""
    from trainer.testing.chaos.schedule import KINDS

    lines = ["Usage: headway chaos [GROUP=CHOICE …] [KEY=VALUE …] [faults=20] [seed=0] [kinds=a,b] [dir=FOLDER]", ""]
    lines += [
        "Runs a job undisturbed, then under faults, again and again until all are given, and holds against the undisturbed",
        "run where it went on from, what was lost, and the weights and metrics at its end. GROUP=CHOICE and KEY=VALUE are",
        "those of `headway train`. What the job needs for it (checkpoints more often, hangs found sooner, the sources of",
        "notices, no tracker) is set unless you set it.",
        "",
        "Leaves with 0 if all was survived, nothing was lost after a notice, and all weights and metrics are the same; else 1.",
        "",
        "Keys",
        "  faults     how many faults (20)",
        "  seed       decides which, when and how (0); the job's own is job.seed",
        "  kinds      which kinds, separated by commas (all)",
        "  dir        a new folder for the runs and report.json (chaos/TIME)",
        "",
        "Kinds",
    ]
    lines += [
        f"  {name:<13} {kind.text}" + ("" if not kind.notice else ": nothing may be lost")
        for name, kind in KINDS.items()
    ]
    lines += [
        "",
        "Disks are filled and made read-only where small ones may be mounted (as root); clocks and slow disks need a C",
        "compiler (cc); lose-node runs the job on two nodes with train.elastic=exact; s3, s3-killed and lose-machine run it on",
        "a server of our own that speaks S3.",
        "",
        "Examples",
        "  headway chaos algorithm=linear data=digits launcher.workers=2",
        "  headway chaos algorithm._target_=mlp.MLP data=digits train.epochs=100 faults=100 kinds=kill-worker,corrupt,sigterm",
    ]
    return "\n".join(lines)
