"""What a script meets that ModelTrainer of the Python SDK's third version starts: its drivers' variables and arguments.

Written after PyPI `sagemaker-train` 1.27.0, against which the tests compare it. Values are JSON with blanks, in the order given;
the code is a channel as the data is, and what the drivers are told is another one.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algorithms.script.contract import Container

CODE, DRIVERS = "code", "sm_drivers"  # channels


def text(value: Any) -> str:
    """A value as the drivers write it."""
    return value if isinstance(value, str) else json.dumps(value)


def values(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters as the drivers read them again: text that is JSON is what that says."""
    return {key: _read(text(value)) for key, value in hyperparameters.items()}


def _read(written: str) -> Any:
    try:
        return json.loads(written)
    except ValueError:
        return written


def arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """The command line that hyperparameters become: `--key value`, in their order."""
    pairs = [(f"--{key}", text(value)) for key, value in values(hyperparameters).items()]
    return list(itertools.chain.from_iterable(pairs))


def variables(container: Container, address: str, port: int) -> dict[str, str]:
    """Every variable that the drivers set. address, port: where all processes meet."""
    told, inputs = values(container.hyperparameters), container.inputs()
    channels = {name: str(container.data / name) for name in inputs}
    hosts, resources = sorted(container.hosts), container.resources()
    known: dict[str, Any] = {
        "MODEL_DIR": str(container.model),
        "INPUT_DIR": str(container.root / "input"),
        "INPUT_DATA_DIR": str(container.data),
        "INPUT_CONFIG_DIR": str(container.config),
        "OUTPUT_DIR": str(container.output),
        "OUTPUT_FAILURE": str(container.failure),
        "OUTPUT_DATA_DIR": str(container.output / "data"),
        "LOG_LEVEL": logging.INFO,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "SOURCE_DIR": str(container.code),
        "ENTRY_SCRIPT": container.entry,
    }
    if container.spread:
        known["DISTRIBUTED_DRIVER_DIR"] = str(container.data / DRIVERS / "distributed_drivers")
        known["DISTRIBUTED_CONFIG"] = dict(container.spread)
    known |= {f"CHANNEL_{name.upper()}": path for name, path in channels.items()}
    known["CHANNELS"] = list(channels)
    known |= {f"HP_{key.replace('-', '_').upper()}": value for key, value in told.items()}
    known |= {
        "HPS": told,
        "CURRENT_HOST": container.current_host,
        "CURRENT_INSTANCE_TYPE": resources["current_instance_type"],
        "HOSTS": hosts,
        "NETWORK_INTERFACE_NAME": container.interface,
        "HOST_COUNT": len(hosts),
        "CURRENT_HOST_RANK": hosts.index(container.current_host),
        "NUM_CPUS": container.cpus,
        "NUM_GPUS": container.gpus,
        "NUM_NEURONS": 0,
        "RESOURCE_CONFIG": resources,
        "INPUT_DATA_CONFIG": inputs,
    }
    alike = (
        *("CURRENT_HOST", "CURRENT_INSTANCE_TYPE", "HOSTS", "MASTER_ADDR", "MASTER_PORT", "INPUT_CONFIG_DIR"),
        *("INPUT_DATA_CONFIG", "INPUT_DATA_DIR", "INPUT_DIR", "LOG_LEVEL", "MODEL_DIR", "NETWORK_INTERFACE_NAME"),
        *("NUM_CPUS", "NUM_GPUS", "NUM_NEURONS", "OUTPUT_DATA_DIR", "RESOURCE_CONFIG"),
    )
    known["TRAINING_ENV"] = {
        "channel_input_dirs": channels,
        "hyperparameters": told,
        "job_name": container.job_name,
        **{name.lower(): known[name] for name in alike},
    }
    return {f"SM_{name}": text(value) for name, value in known.items()}


def write_drivers(container: Container) -> None:
    """The channel in which the drivers find what they are told."""
    folder = container.data / DRIVERS
    (folder / "distributed_drivers").mkdir(parents=True, exist_ok=True)
    source = {"source_dir": str(container.code), "requirements": None, "entry_script": container.entry, "command": None}
    (folder / "sourcecode.json").write_text(json.dumps(source), encoding="utf-8")
    (folder / "distributed.json").write_text(json.dumps(dict(container.spread)), encoding="utf-8")
