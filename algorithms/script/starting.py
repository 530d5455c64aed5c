"""What a script is started with: its container's folders, its command, its variables."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algorithms.script import installing, keeping, mpi, sdk3
from algorithms.script.contract import Container, all_variables, arguments
from algorithms.script.dialect import FRAMEWORK, SDK3, choose, is_command, is_package
from trainer.algorithm import Context
from trainer.errors import UserError

OPT = "opt"  # of the job's directory: where its containers' folders are
ML, HOSTS, NETWORK = "/opt/ml", "/etc/hosts", "/proc/self/ns/net"
# what the worker's own launcher has set: the script's are others
OURS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OURS_BEGIN = ("TORCHELASTIC_", "GROUP_", "ROLE_", "HEADWAY_SECRET_")


@dataclass(frozen=True)
class Host:
    """Where a worker is: the number of its node, of how many, its place on it, among how many."""

    node: int
    nodes: int
    local_rank: int
    workers: int

    @property
    def leads(self) -> bool:
        """Whether it is the one that acts for its node."""
        return self.local_rank == 0

    @classmethod
    def here(cls) -> Host:
        """As the elastic agent's variables tell."""
        world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        return cls(int(os.environ["GROUP_RANK"]), world // local, int(os.environ["LOCAL_RANK"]), local)


def kept_of(job: Path) -> Path:
    """Where a job's scripts find their checkpoints again, on whatever host."""
    return job / OPT / "ml" / "checkpoints"


def root(job: Path, host: str, hosts: int) -> Path:
    """Where a host's container is, one of so many."""
    return job / OPT / "ml" if hosts == 1 else job / OPT / host / "ml"


def container(script: Any, context: Context, host: Host) -> Container:
    """This node's container. One alone lies in the job's opt/ml; of several each has a folder of its own name."""
    hosts = sorted(f"algo-{number + 1}" for number in range(host.nodes))
    name = hosts[host.node]
    inputs: Any = context.train
    own_root, channels = root(context.job, name, host.nodes), inputs.described()
    dialect, why = choose(script.dialect, script.entry, context.code(Path(script.source_dir)))
    if dialect == SDK3 and (taken := {sdk3.CODE, sdk3.DRIVERS} & channels.keys()):
        if not why:
            raise UserError(f"data.channels.{min(taken)}: ModelTrainer has a channel of that name; choose another")
        dialect, why = FRAMEWORK, ""
    if why:
        print(f"[headway] dialect {dialect}: {why}", flush=True)
    return Container(
        root=own_root,
        entry=script.entry,
        hyperparameters=script.hyperparameters,
        channels=tuple(channels),
        described=channels,
        hosts=tuple(hosts),
        current_host=name,
        job_name=context.job.name,
        cpus=os.cpu_count() or 1,
        gpus=_gpus(),
        interface=_interface(),
        distribution=script.spread.parameters(host.workers),
        region=_region(script.environment),
        checkpoint_path=keeping.shown(own_root, script.checkpoint_local_path),
        checkpoint_uri=script.checkpoint_s3_uri or "",
        dialect=dialect,
        spread=script.spread.configured(host.workers),
        given=None if script.container_arguments is None else tuple(map(str, script.container_arguments)),
    )


def prepare(script: Any, context: Context, one: Container, host: Host, stop: threading.Event) -> None:
    """Makes a node's container anew, except its checkpoints. Raises UserError if what the script requires can't be had,
    and once `stop` is set."""
    kept = kept_of(context.job)
    kept.mkdir(parents=True, exist_ok=True)
    if one.root.is_dir():
        for path in one.root.iterdir():
            if path.name != "checkpoints":
                remove(path)
    one.root.mkdir(parents=True, exist_ok=True)
    if not one.checkpoints.exists():
        one.checkpoints.symlink_to(kept, target_is_directory=True)  # all hosts have the same, as they have on S3
    one.write()
    keeping.link(one, script.checkpoint_local_path, kept)
    shutil.copytree(context.code(Path(script.source_dir)), one.code, symlinks=True)
    name_python(_names(one))
    inputs: Any = context.train
    for name in one.channels:
        with context.busy(f"bringing the channel {name} to this machine"):
            feed, told = inputs.lay(name, one.data, host.node, host.nodes)
        if feed is not None:
            script.feeds.append(feed)
        if told and host.node == 0:
            context.note(told)
    if not is_command(one.entry, one.code, one.dialect):
        with context.busy("installing what the script requires"):
            installing.requirements(one.code, stop)
            if is_package(one.entry, one.code, one.dialect):
                installing.package(one.code, one.root / "lib", stop)


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it, also what a script has made read-only."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)
    shutil.rmtree(path)


def command(one: Container) -> list[str]:
    """What runs the entry: a command, a package or a script, by its name and by what lies beside it."""
    given = _arguments(one)
    if is_command(one.entry, one.code, one.dialect):
        if (one.code / one.entry).is_file():
            mode = (one.code / one.entry).stat().st_mode
            (one.code / one.entry).chmod((mode | 0o700 | (mode & 0o044) >> 2) & 0o7777)
        return ["/bin/sh", "-c", shlex.join([f"./{one.entry}", *given])]
    if is_package(one.entry, one.code, one.dialect):
        return [sys.executable, "-m", one.entry.removesuffix(".py"), *given]
    return [sys.executable, one.entry, *given]


def mpi_hosts(context: Context, one: Container) -> mpi.Hosts:
    """All hosts, as each sees itself. Call it on every worker at once."""
    network = os.readlink(NETWORK) if os.path.islink(NETWORK) else ""
    mine = [one.current_host, socket.gethostname(), network, one.interface]
    told = {name: rest for name, *rest in context.gather(mine)}
    machines, networks, interfaces = zip(*(told[name] for name in one.hosts), strict=True)
    return mpi.Hosts(one.hosts, machines, networks, interfaces, one.cpus)


def _arguments(one: Container) -> list[str]:
    if one.given is not None:
        return list(one.given)
    if one.dialect == SDK3:  # which gives a command none but its own
        return sdk3.arguments(one.hyperparameters) if one.entry.endswith((".py", ".sh")) else []
    return arguments(one.own_hyperparameters())


def surroundings(
    script: Any, context: Context, one: Container, host: Host
) -> tuple[dict[str, str], list[tuple[Path, str]]]:
    """The script's variables, and what it is shown elsewhere than where it lies. Call it on every worker at once."""
    address, port = context.broadcast([os.environ["MASTER_ADDR"], _free_port(os.environ["MASTER_ADDR"])])
    addresses = dict(context.gather([one.current_host, _address_towards(address)]))
    env = {k: v for k, v in os.environ.items() if k not in OURS and not k.startswith(OURS_BEGIN)}
    env |= {name: str(value) for name, value in script.environment.items()}
    env |= all_variables(one, address, port)
    env |= {"MASTER_ADDR": address, "MASTER_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    if script.distributed:
        env |= {name: os.environ[name] for name in os.environ if name in OURS and not name.startswith("MASTER_")}
        env |= {name: v for name, v in os.environ.items() if name.startswith(("GROUP_", "ROLE_"))}
        env |= {"TORCHELASTIC_RUN_ID": context.job.name, "TORCHELASTIC_RESTART_COUNT": "0"}
        env |= {"TORCHELASTIC_MAX_RESTARTS": "0", "TORCHELASTIC_USE_AGENT_STORE": "False"}
        if int(os.environ["LOCAL_WORLD_SIZE"]) > 1:  # as torchrun has it
            env.setdefault("OMP_NUM_THREADS", "1")
    extra = [one.root / "lib"]
    required = None if is_command(one.entry, one.code, one.dialect) else installing.where(one.code)
    extra += [required] if required else []
    paths = [str(one.code), *(str(p) for p in extra if p.is_dir()), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    places = [*(p / "bin" for p in extra if (p / "bin").is_dir()), _names(one), Path(sysconfig.get_path("scripts"))]
    env["PATH"] = os.pathsep.join([*map(str, places), env.get("PATH", os.defpath)])
    mounts = _mounts(one, addresses)
    if not keeping.inside(script.checkpoint_local_path):
        mounts.append((kept_of(context.job), one.checkpoint_path))
    return env, mounts


def _names(one: Container) -> Path:
    """The folder in which a container's commands find Python by its usual names."""
    return one.root.parent / "bin"


def name_python(folder: Path) -> None:
    """`python` and `pip` are this interpreter's for whatever a script calls, activated or not, and whatever its file is called."""
    folder.mkdir(exist_ok=True)
    python = shlex.quote(sys.executable)
    major, minor = sys.version_info[:2]
    commands = dict.fromkeys(("python", f"python{major}", f"python{major}.{minor}"), python)
    commands |= dict.fromkeys(("pip", f"pip{major}", f"pip{major}.{minor}"), f"{python} -m pip")
    for name, command in commands.items():
        beside = folder / f".{name}.{os.getpid()}"
        beside.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        mode = beside.stat().st_mode  # as the umask says
        beside.chmod((mode | (mode & 0o444) >> 2) & 0o7777)
        os.replace(beside, folder / name)


def _mounts(one: Container, addresses: dict[str, str]) -> list[tuple[Path, str]]:
    """The container at /opt/ml, where many scripts look for it by that name, and the hosts by theirs.

    Only root gets them unasked: for others it takes a user namespace, which is worth it where the code names the path.
    """
    if os.geteuid() and not _names_ml(one.code):
        return []
    hosts = one.root / "hosts"
    if host_lines := [f"{address} {name}" for name, address in sorted(addresses.items())]:
        known = Path(HOSTS).read_text(encoding="utf-8") if Path(HOSTS).is_file() else ""
        text = "\n".join([known.rstrip(), *host_lines]) + "\n"
        if not hosts.is_file() or hosts.read_text(encoding="utf-8") != text:
            beside = hosts.with_name(f".hosts.{os.getpid()}")
            beside.write_text(text, encoding="utf-8")
            os.replace(beside, hosts)
    ml = Path(ML)
    if ml.is_dir() and any(ml.iterdir()):
        print(
            f"[headway] this machine has an {ML} of its own: the script finds its folders by its variables", flush=True
        )
        return [(hosts, HOSTS)]
    return [(one.root, ML), (hosts, HOSTS)]


def _names_ml(code: Path) -> bool:
    texts = (path for path in code.rglob("*") if path.suffix in (".py", ".sh") and path.is_file())
    return any(ML in path.read_text("utf-8", "replace") for path in texts)


def _region(own: Mapping[str, Any]) -> str:
    names = ("AWS_REGION", "AWS_DEFAULT_REGION")
    return next((str(known[name]) for known in (own, os.environ) for name in names if known.get(name)), "")


def _gpus() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.device_count()) if torch else 0


def _interface() -> str:
    told = os.environ.get("GLOO_SOCKET_IFNAME")
    names: Sequence[str] = sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else []
    return told or next((name for name in names if name != "lo"), "lo" if names else "eth0")


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _address_towards(address: str) -> str:
    """This machine's address as another one sees it."""
    try:
        found = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
