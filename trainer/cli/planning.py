"""`headway plan`: what a training would need, under each strategy, without training. A process beside this one measures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import ExitCode, HeadwayError, UserError
from trainer.process.interpreter import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
WIDE = 100  # columns of a terminal from which the headings are written out


@dataclass(frozen=True)
class Asked:
    """What a plan was asked for; `overrides` are Hydra's. None stands for what the launcher and this machine have."""

    overrides: list[str]
    devices: int | None
    memory: int | None
    as_json: bool


def plan(arguments: Sequence[str]) -> int:
    """Runs the verb. Returns the exit code."""
    if "--help" in arguments or "-h" in arguments:
        from trainer.cli.help import fitted

        print(fitted(page()))
        return 0
    from trainer.config.compose import run_hydra
    from trainer.config.conf_files import added
    from trainer.job import code_path

    asked = parse(arguments)
    code_path.last(*added(asked.overrides))

    def task(config: dict[str, Any]) -> int:
        answer = ask(config, asked.devices, asked.memory)
        if asked.as_json:
            print(json.dumps(answer, indent=2))
        else:
            show(config, answer)
        return 0

    return run_hydra(asked.overrides, "config", task)


def parse(arguments: Sequence[str]) -> Asked:
    """What is ours among the arguments, and Hydra's. Raises UserError."""
    devices, memory, overrides = None, None, []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key == "devices":
            if not value.isdecimal() or int(value) < 1:
                raise UserError(f"devices: {value!r} is not a whole number from 1 up")
            devices = int(value)
        elif equals and key == "memory":
            memory = size_of(value)
        elif argument != "--json":
            overrides.append(argument)
    return Asked(overrides, devices, memory, "--json" in arguments)


def size_of(text: str) -> int:
    """Bytes of 80GB, 24G or 16GiB. Raises UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?I?)B?", text.strip().upper())
    if not match or not float(match[1]) or match[2] not in UNITS:
        raise UserError(f"memory: {text!r} is not an amount of memory; write it as 80GB or 16GiB")
    return round(float(match[1]) * UNITS[match[2]])


def ask(config: Mapping[str, Any], devices: int | None, memory: int | None) -> dict[str, Any]:
    """The worker's answer for a composed config. Raises UserError for what can't be planned."""
    from trainer.config.code.base_classes import kind
    from trainer.config.code.signature import class_constant
    from trainer.config.instantiate import build
    from trainer.config.schema import check
    from trainer.config.unused import refuse as refuse_unused
    from trainer.submission.preflight import check_data

    checked = check(config)
    target = str(checked["algorithm"]["_target_"])
    refuse_unused([checked])
    if kind(target) in ("Estimator", "function"):
        raise UserError(
            f"algorithm: {target} fits by itself, without weights that a strategy could spread: there is nothing to plan"
        )
    text = "text" in (class_constant(target, "takes") or ())
    if not text or checked["data"].get("train") is not None:
        check_data(checked)
    options = checked["launcher"]
    nodes = options.get("nodes") or 1
    if devices is None:
        workers = options.get("workers")
        devices = workers * nodes if isinstance(workers, int) else build(options, "launcher").world_size() or 1
    request = {"config": checked, "devices": devices, "nodes": min(nodes, devices), "memory": memory}
    done = subprocess.run(
        [sys.executable, "-m", "trainer.worker.capacity.plan"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={**os.environ, **safe()},
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise HeadwayError(f"the model could not be measured: {lines[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise (UserError if answer["exit_code"] == ExitCode.MISTAKE else HeadwayError)(answer["error"])
    return answer


def show(config: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """The plan as a person reads it."""
    from trainer.job.view.summary import choice, make_console, pair
    from trainer.process.format import count, plural, size

    console = make_console()
    devices = answer["devices"]
    pair(console, "model", f"{choice(config, 'algorithm')}, {plural(answer['parameters'], 'parameter')}")
    pair(console, "on", f"{devices:,} × {answer['device']} of {size(answer['memory'])}, {answer['precision']}")
    step = plural(answer["samples"], "sample")
    step += f", {plural(answer['tokens'], 'token')}" if answer["tokens"] else ""
    pair(console, "step", f"{step}, {count(answer['flops'])} FLOPs")
    console.print()
    unit = max((row["total"] for row in answer["strategies"]), default=1)
    console.print(table(answer, unit, console))
    console.print()
    pair(console, "auto", f"{answer['auto']}: {answer['reason']}")


def table(answer: Mapping[str, Any], largest: int, console: Console) -> Table:
    """A row a strategy, all in the unit of the largest number."""
    from rich.table import Table
    from rich.text import Text

    power = min(4, max(0, (len(str(largest)) - 1) // 3))
    unit, name = 1000**power, ("B", "KB", "MB", "GB", "TB")[power]
    wide = console.width >= WIDE
    keys = ["weights", "gradients", "optimizer", "activations", "gathered", "total"]
    hosts = any(row["host"] for row in answer["strategies"])
    keys += ["host"] * hosts + ["sent"]
    short = {"gradients": "grads", "optimizer": "optim", "activations": "activ", "gathered": "gath"}
    found = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0), header_style="dim")
    found.add_column(f"{name} a device", no_wrap=True)
    for key in keys:
        found.add_column(key if wide else short.get(key, key), justify="right", no_wrap=True)
    found.add_column("fits", no_wrap=True)
    for row in answer["strategies"]:
        taken = row["name"] == answer["auto"]
        cells = [Text(_number(row[key] / unit)) for key in keys]
        cells[keys.index("total")].stylize("bold")
        fits = row["problem"] or ("yes" if row["fits"] else "no")
        style = "dim" if row["problem"] else "" if row["fits"] else "red"
        found.add_row(row["name"], *cells, Text(fits + (", auto" if taken else ""), style), style="bold" * taken)
    return found


def _number(value: float) -> str:
    if not value:
        return "-"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def page() -> str:
    """What `headway plan --help` prints."""
    return "\n".join(
        [
            "Usage: headway plan [GROUP=CHOICE …] [KEY=VALUE …] [devices=N] [memory=SIZE] [--json]",
            "",
            "Tells what a training would need under each strategy, and which one `strategy=auto` takes, without training:",
            "shapes go through the model, no weight is allocated. GROUP=CHOICE and KEY=VALUE are those of `headway train`;",
            "text need not be there (data=text without data.train).",
            "",
            "Keys",
            "  devices    how many (the launcher's workers)",
            "  memory     of each, such as 80GB: plans for GPUs, wherever they are (this machine's devices)",
            "  --json     print JSON, in bytes",
            "",
            "Columns, in bytes on a device",
            "  weights      with 16 bits: fp32 under single, ddp and fsdp (autocast), 16 bits under deepspeed",
            "  gradients    of all weights that are trained",
            "  optimizer    its state; under deepspeed with the fp32 copy of 16-bit weights",
            "  activations  what the backward needs, and what operations hold for a while",
            "  gathered     weights of blocks and buckets of gradients that a strategy itself holds for a while",
            "  total        the peak of a step: less than the sum where activations go before all gradients are there",
            "  host         main memory for each device (+cpu: deepspeed.offload)",
            "  sent         what a device sends to the others each step",
            "  fits         the total is at most 92 % of the memory: the device's context and communication take the rest",
            "",
            "Examples",
            "  headway plan algorithm=gpt_small data=text",
            "  headway plan algorithm=gpt_7b data=text devices=8 memory=80GB train.batch_size=8",
            "  headway plan data=csv data.train=train.csv data.label=price launcher.workers=4",
        ]
    )
