"""Which faults a drill gives, when and how: a pure function of its seed, its number of faults and their kinds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.errors import UserError, did_you_mean

ONE_NODE, TWO_NODES, REMOTE = "one node", "two nodes", "on S3"

# the moments at which a fault can come
RUNNING = "running"  # once the job is further than it ever was
EARLY = "early"  # right after it went on, while it does again what was lost
STARTING = "starting"  # while its workers start again after they were killed
SAVING = "saving"  # while a checkpoint is being written


@dataclass(frozen=True)
class Kind:
    """A kind of fault. setting: the runs it is given in; share: how often, against the others; notice: nothing may be
    lost; options: what else is drawn for it, each from some values; moments: beside `running`."""

    text: str
    setting: str = ONE_NODE
    share: int = 4
    notice: bool = False
    options: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    moments: tuple[str, ...] = ()


KILLS = (EARLY, STARTING, SAVING)
KINDS = {
    "kill-worker": Kind("SIGKILL of one worker", share=40, moments=KILLS),
    "kill-agent": Kind("SIGKILL of the agent, the workers with it", share=6, moments=KILLS),
    "kill-all": Kind("SIGKILL of command, agent and workers at once", share=6, moments=KILLS),
    "sigterm": Kind(
        "SIGTERM with notice, to the agent or to the command",
        share=6,
        notice=True,
        options={"to": ("agent", "agent", "command")},
        moments=(STARTING, SAVING),
    ),
    "aws": Kind(
        "a spot notice of EC2's metadata",
        notice=True,
        options={"what": ("terminate", "stop"), "seconds": (120, 30)},
        moments=(SAVING,),
    ),
    "gcp": Kind(
        "a preemption or a maintenance of GCP's metadata",
        notice=True,
        options={"what": ("preempted", "preempted", "TERMINATE_ON_HOST_MAINTENANCE")},
        moments=(SAVING,),
    ),
    "azure": Kind(
        "a scheduled event of Azure's metadata",
        notice=True,
        options={"what": ("Preempt", "Preempt", "Terminate", "Redeploy"), "seconds": (30, 60)},
        moments=(SAVING,),
    ),
    "warning": Kind(
        "a notice after which the job saves and goes on",
        share=12,
        notice=True,
        options={"cloud": ("aws", "gcp")},
        moments=(SAVING,),
    ),
    "withdrawn": Kind(
        "the same, and it is withdrawn at once",
        notice=True,
        options={"cloud": ("aws", "gcp"), "seconds": (0.1, 0.2, 0.4)},
        moments=(SAVING,),
    ),
    "storm": Kind(
        "SIGKILL of a worker, more than twenty times in a row, each a little farther",
        share=1,
        options={"times": (21, 25)},
    ),
    "clock": Kind(
        "the wall clock is set, forwards or back",
        share=12,
        notice=True,
        options={"ahead": (-86400, -3600, 3600, 86400, 0)},
        moments=(EARLY, STARTING, SAVING),
    ),
    "hang": Kind("SIGSTOP of one worker or of all", share=6, options={"who": ("one", "one", "all")}),
    "disk-full": Kind(
        "no space left, for a moment", options={"seconds": (0.3, 0.8, 1.5)}, moments=(EARLY, STARTING, SAVING)
    ),
    "disk-slow": Kind(
        "every write and fsync takes long, for a moment",
        notice=True,
        options={"milliseconds": (20, 100), "seconds": (1.0, 2.0)},
        moments=(EARLY, STARTING, SAVING),
    ),
    "io-error": Kind(
        "checkpoints, or anything of the job, can't be written, for a moment",
        share=8,
        options={"how": ("read-only", "too-large", "read-only-job"), "seconds": (0.3, 0.8, 1.5)},
        moments=(EARLY, STARTING, SAVING),
    ),
    "corrupt": Kind(
        "damage to the newest checkpoint, then SIGKILL of the workers",
        share=20,
        options={
            "how": ("flip", "flip", "truncate", "delete", "empty", "no-manifest", "torn-manifest", "flip-manifest"),
            "kill": ("workers", "workers", "workers", "all"),
        },
    ),
    "s3": Kind(
        "requests to S3 that fail, for a moment",
        setting=REMOTE,
        share=6,
        options={"rate": (0.2, 0.5, 1.0), "seconds": (0.5, 1.0, 2.0)},
    ),
    "s3-killed": Kind(
        "the S3 server is killed in mid-upload, and comes back",
        setting=REMOTE,
        share=3,
        notice=True,
        options={"seconds": (0.2, 1.0, 3.0)},
    ),
    "lose-machine": Kind("SIGKILL of all and the local folder gone: back from S3", setting=REMOTE, share=3),
    "lose-node": Kind(
        "one node of two is lost, and comes back",
        setting=TWO_NODES,
        options={"node": (0, 1), "away": (0.0, 0.5, 1.0)},
    ),
}


@dataclass(frozen=True)
class Fault:
    """One fault. wait: seconds after its moment; draw: a number from 0 to 1 for what is chosen when it is given."""

    number: int
    kind: str
    moment: str
    wait: float
    draw: float
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_notice(self) -> bool:
        return KINDS[self.kind].notice

    def pick(self, among: Sequence[Any]) -> Any:
        """One of these, the same one in every run of the schedule."""
        return among[int(self.draw * len(among))]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def check_kinds(names: Sequence[str]) -> list[str]:
    """The names, each once. Raises UserError for one that is none."""
    for name in names:
        if name not in KINDS:
            raise UserError(f"kinds: {name!r} is no kind of fault; {did_you_mean(name, KINDS)}")
    return list(dict.fromkeys(names))


def plan(seed: int, count: int, kinds: Sequence[str]) -> list[Fault]:
    """The faults of a drill, those of one setting after those of the other, each setting's in random order.

    Kinds get their shares, and at least one each where there are enough.
    """
    order = random.Random(f"order {seed}")
    names = [name for name, number in amounts(count, kinds).items() for _ in range(number)]
    order.shuffle(names)
    names.sort(key=lambda name: (ONE_NODE, REMOTE, TWO_NODES).index(KINDS[name].setting))
    faults: list[Fault] = []
    for number, name in enumerate(names, 1):
        rng = random.Random(f"fault {seed} {number}")
        # after one that comes before the job has got further, the next waits until it has: a job that is killed again and
        # again at the same step is right to give up
        soon = bool(faults) and faults[-1].moment in (EARLY, STARTING)
        moments = [m for m in KINDS[name].moments if not (soon and m in (EARLY, STARTING))]
        moment = rng.choice([RUNNING] * 4 + moments)
        wait = round(min(1.0, rng.expovariate(8.0)) if moment != SAVING else rng.uniform(0, 0.01), 4)
        options = {key: rng.choice(values) for key, values in KINDS[name].options.items()}
        faults.append(Fault(number, name, moment, wait, rng.random(), options))
    return faults


def amounts(count: int, kinds: Sequence[str]) -> dict[str, int]:
    """How many faults of each kind: by shares, the largest remainders first, nobody without if there are enough."""
    if not kinds:
        return {}
    least = 1 if count >= len(kinds) else 0
    rest, total = count - least * len(kinds), sum(KINDS[name].share for name in kinds)
    exact = {name: rest * KINDS[name].share / total for name in kinds}
    found = {name: least + int(part) for name, part in exact.items()}
    missing = count - sum(found.values())
    for name in sorted(kinds, key=lambda n: int(exact[n]) - exact[n])[:missing]:
        found[name] += 1
    return found
