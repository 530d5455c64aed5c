"""What a training script meets on SageMaker: the folders, the JSON files, the variables and the arguments of a container.

Written after the open training toolkit (PyPI `sagemaker-training` 5.1.4), against which the tests compare it.

    ROOT/code                 the script's folder, where it runs; under the SDK's third version ROOT/input/data/code
    ROOT/input/config         hyperparameters.json, inputdataconfig.json, resourceconfig.json, checkpointconfig.json
    ROOT/input/data/CHANNEL   what to learn from
    ROOT/checkpoints          what is there again after an interruption
    ROOT/model                becomes model.tar.gz
    ROOT/output/data          becomes output.tar.gz
    ROOT/output/intermediate  goes to S3 as it comes, if asked for
    ROOT/output/success       is there if it has ended well
    ROOT/output/failure       why it failed, in the script's own words
"""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from algorithms.script import sdk3
from algorithms.script.dialect import FRAMEWORK, PLAIN, SDK3
from trainer.config.secret import masked

PREFIX = "sagemaker_"  # hyperparameters of the toolkit, which the script doesn't see as its own
HIDDEN = ("default_user_module_name", "_tuning_objective_metric")
# those of them that say something of the job; the rest are parameters of the framework
OF_JOB = tuple(
    PREFIX + name
    for name in (
        *("program", "submit_directory", "enable_cloudwatch_metrics", "region", "container_log_level", "job_name"),
        "s3_output",
    )
)
# parameters of the framework any of which makes a job a distributed one
DISTRIBUTED = (
    *("mpi", "parameter_server", "distributed_dataparallel", "pytorch_ddp", "pytorch_xla_multi_worker"),
    *("multi_worker_mirrored_strategy", "torch_distributed"),
)
REGION, ACCOUNT = "us-east-1", "000000000000"  # where there is none
GROUP, INSTANCE = "homogeneousCluster", "local"


@dataclass(frozen=True)
class Container:
    """One host of a job. hosts: the names of all, in order. channels: their names; described: what is said of
    them, where it isn't the usual. distribution: what the toolkit is told of
    it; spread: what ModelTrainer's drivers are. region: "" if there is none. given: its arguments, if not its hyperparameters."""

    root: Path
    entry: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    described: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    hosts: tuple[str, ...] = ("algo-1",)
    current_host: str = "algo-1"
    job_name: str = ""
    cpus: int = 1
    gpus: int = 0
    interface: str = "eth0"
    distribution: Mapping[str, Any] = field(default_factory=dict)
    region: str = ""
    checkpoint_path: str = ""
    checkpoint_uri: str = ""
    dialect: str = FRAMEWORK
    spread: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] | None = None

    @property
    def code(self) -> Path:
        return self.data / sdk3.CODE if self.dialect == SDK3 else self.root / "code"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def config(self) -> Path:
        return self.root / "input" / "config"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def failure(self) -> Path:
        return self.output / "failure"

    @property
    def success(self) -> Path:
        return self.output / "success"

    @property
    def data(self) -> Path:
        return self.root / "input" / "data"

    def all_hyperparameters(self) -> dict[str, Any]:
        """With those by which the toolkit itself is told."""
        ours = {
            "sagemaker_program": self.entry,
            "sagemaker_submit_directory": str(self.code),
            "sagemaker_container_log_level": logging.INFO,
            "sagemaker_job_name": self.job_name,
            "sagemaker_region": self.region,
        }
        return {**ours, **self.distribution, **self.hyperparameters}

    def own_hyperparameters(self) -> dict[str, Any]:
        """Those of the script."""
        return {k: v for k, v in self.hyperparameters.items() if not (k.startswith(PREFIX) or k in HIDDEN)}

    def framework_parameters(self) -> dict[str, Any]:
        known = self.all_hyperparameters()
        return {k: v for k, v in known.items() if k.startswith(PREFIX) and k not in OF_JOB}

    def resources(self) -> dict[str, Any]:
        """What resourceconfig.json holds."""
        group = {"instance_group_name": GROUP, "instance_type": INSTANCE, "hosts": list(self.hosts)}
        return {
            "current_host": self.current_host,
            "current_instance_type": INSTANCE,
            "current_group_name": GROUP,
            "hosts": list(self.hosts),
            "instance_groups": [group],
            "network_interface_name": self.interface,
        }

    def inputs(self) -> dict[str, Any]:
        """What inputdataconfig.json holds."""
        one = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        ours = (sdk3.CODE, sdk3.DRIVERS) if self.dialect == SDK3 else ()
        return {name: dict(self.described.get(name, one)) for name in (*self.channels, *ours)}

    def written_hyperparameters(self) -> dict[str, str]:
        """What hyperparameters.json holds."""
        if self.dialect == PLAIN:
            return {key: str(value) for key, value in self.hyperparameters.items()}
        if self.dialect == SDK3:
            return {key: sdk3.text(value) for key, value in self.hyperparameters.items()}
        return {key: json.dumps(value) for key, value in self.all_hyperparameters().items()}

    def write(self) -> None:
        """Makes the folders and the JSON files."""
        for folder in (self.model, self.checkpoints, self.config, self.data, self.output / "data"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.output / "intermediate").mkdir(exist_ok=True)
        contents = {
            "hyperparameters": self.written_hyperparameters(),
            "resourceconfig": self.resources(),
            "inputdataconfig": self.inputs(),
            "checkpointconfig": {
                "LocalPath": self.checkpoint_path or str(self.checkpoints),
                "S3Uri": self.checkpoint_uri,
            },
        }
        for name, content in contents.items():
            path, text = self.config / f"{name}.json", json.dumps(content)
            path.touch(
                0o666 if masked(text) == text else 0o600
            )  # a script reads its secrets here, and nobody else does
            path.write_text(text, encoding="utf-8")
        if self.dialect == SDK3:
            sdk3.write_drivers(self)


def arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """The command line that hyperparameters become: `--key value`, of one letter `-k value`, in order of the keys."""
    pairs = [(_name(key), _argument(hyperparameters[key])) for key in sorted(hyperparameters)]
    return list(itertools.chain.from_iterable(pairs))


def _name(key: str) -> str:
    return f"--{key}" if len(key) > 1 else f"-{key}" if key else ""


def _argument(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{k}={v}" for k, v in sorted(value.items()))
    return "" if value is None else str(value)


def encoded(value: Any) -> str:
    """A value as a variable holds it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def variables(container: Container) -> dict[str, str]:
    """Every variable that the toolkit sets."""
    told = _told(container)
    own = container.own_hyperparameters()
    values = {
        "hosts": told["hosts"],
        "network_interface_name": container.interface,
        "hps": own,
        "user_entry_point": container.entry,
        "framework_params": told["additional_framework_parameters"],
        "resource_config": told["resource_config"],
        "input_data_config": told["input_data_config"],
        "channels": sorted(container.channels),
        "training_env": told,
        "user_args": arguments(own),
        **{name: told[name] for name in _ALIKE},
        **{f"channel_{name}": path for name, path in told["channel_input_dirs"].items()},
        **{f"hp_{name}": value for name, value in own.items()},
    }
    return {**_of_job(container), **_prefixed(values)}


def all_variables(container: Container, address: str, port: int) -> dict[str, str]:
    """Every variable of a script's dialect. address, port: where all processes meet."""
    if container.dialect == SDK3:
        return {**_of_job(container), **sdk3.variables(container, address, port)}
    return driver_variables(container, address, port) | variables(container)


def _of_job(container: Container) -> dict[str, str]:
    region = container.region or REGION
    return {
        "SAGEMAKER_BASE_DIR": str(container.root),
        "SAGEMAKER_JOB_NAME": container.job_name,
        "SAGEMAKER_REGION": container.region,
        "TRAINING_JOB_NAME": container.job_name,
        "TRAINING_JOB_ARN": f"arn:aws:sagemaker:{region}:{ACCOUNT}:training-job/{container.job_name.lower()}",
        "AWS_REGION": region,
        "CURRENT_HOST": container.current_host,
    }


def driver_variables(container: Container, address: str, port: int) -> dict[str, str]:
    """What the driver of the Python SDK's third version sets beyond that. address, port: where all processes meet."""
    distributed = {"distributed_config": dict(container.spread)} if container.spread else {}
    return _prefixed(
        {
            "input_data_dir": str(container.data),
            "source_dir": str(container.code),
            "entry_script": container.entry,
            "output_failure": str(container.failure),
            "host_count": len(container.hosts),
            "current_host_rank": container.hosts.index(container.current_host),
            "master_addr": address,
            "master_port": port,
            **distributed,
            **{f"hp_{k.replace('-', '_')}": v for k, v in container.own_hyperparameters().items() if "-" in k},
        }
    )


def _prefixed(values: Mapping[str, Any]) -> dict[str, str]:
    return {f"SM_{name.upper()}": encoded(value) for name, value in values.items()}


_ALIKE = (  # variables that hold what the training environment says under the same name
    *("output_data_dir", "current_host", "current_instance_type", "current_instance_group"),
    *("current_instance_group_hosts", "instance_groups", "instance_groups_dict", "distribution_instance_groups"),
    *("is_hetero", "module_name", "log_level", "framework_module", "input_dir", "input_config_dir", "output_dir"),
    *("num_cpus", "num_gpus", "num_neurons", "model_dir", "module_dir", "output_intermediate_dir"),
)


def _told(container: Container) -> dict[str, Any]:
    """The training environment, which is a variable of its own too."""
    resources, root = container.resources(), container.root
    group = resources["instance_groups"][0]
    hosts, parameters = list(container.hosts), container.framework_parameters()
    distributed = any(parameters.get(f"{PREFIX}{name}_enabled") for name in DISTRIBUTED)
    return {
        "additional_framework_parameters": parameters,
        "channel_input_dirs": {name: str(container.data / name) for name in container.channels},
        "current_host": container.current_host,
        "current_instance_group": GROUP,
        "current_instance_group_hosts": hosts,
        "current_instance_type": INSTANCE,
        "distribution_hosts": hosts if distributed else [],
        "distribution_instance_groups": [GROUP] if distributed else [],
        "framework_module": None,
        "hosts": hosts,
        "hyperparameters": container.own_hyperparameters(),
        "input_config_dir": str(container.config),
        "input_data_config": container.inputs(),
        "input_dir": str(root / "input"),
        "instance_groups": [GROUP],
        "instance_groups_dict": {GROUP: group},
        "is_hetero": False,
        "is_master": container.current_host == hosts[0],
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": shutil.which("smddpmprun") is not None,
        "is_smddprun_installed": shutil.which("smddprun") is not None,
        "job_name": container.job_name,
        "log_level": container.all_hyperparameters()["sagemaker_container_log_level"],
        "master_hostname": hosts[0],
        "model_dir": str(container.model),
        "module_dir": str(container.code),
        "module_name": container.entry.removesuffix(".py"),
        "network_interface_name": container.interface,
        "num_cpus": container.cpus,
        "num_gpus": container.gpus,
        "num_neurons": 0,
        "output_data_dir": str(container.output / "data"),
        "output_dir": str(container.output),
        "output_intermediate_dir": str(container.output / "intermediate"),
        "resource_config": resources,
        "topology": [],
        "user_entry_point": container.entry,
    }
