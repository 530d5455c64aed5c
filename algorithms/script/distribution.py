"""How a script is spread: `algorithm.distribution` as SageMaker's estimators spell it, or one word of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.errors import UserError, did_you_mean

KEY = "algorithm.distribution"
TORCHRUN, MPI = "torch_distributed", "mpi"
KINDS = {TORCHRUN: TORCHRUN, "pytorchddp": TORCHRUN, MPI: MPI}
OPTIONS = {
    TORCHRUN: ("enabled",),
    "pytorchddp": ("enabled", "custom_mpi_options"),  # which say how AWS's own library is started
    MPI: ("enabled", "processes_per_host", "custom_mpi_options"),
}
ELSEWHERE = {  # what only SageMaker has
    "smdistributed": "AWS's own library; write torch_distributed for data parallelism",
    "parameter_server": "for TensorFlow 1; write mpi",
    "multi_worker_mirrored_strategy": "for TensorFlow; write mpi",
    "pytorchxla": "for Trainium and TPUs; write torch_distributed",
}


@dataclass(frozen=True)
class Distribution:
    """kind: TORCHRUN, a process for each worker; MPI, mpirun over all hosts; None, a process on each host."""

    kind: str | None = None
    processes_per_host: int | None = None  # None: as many as workers
    options: tuple[str, ...] = ()  # of mpirun

    @classmethod
    def of(cls, given: Any) -> Distribution:
        """Raises UserError for one that can't be had."""
        if given is None:
            return cls()
        if not isinstance(given, (str, Mapping)):
            raise UserError(f"{KEY}: {given!r} is no distribution; write torch_distributed or mpi")
        asked = given if isinstance(given, Mapping) else {given: {"enabled": True}}
        found = [cls._one(str(name), options) for name, options in asked.items() if _enabled(str(name), options)]
        if len(found) > 1:
            raise UserError(f"{KEY}: {' and '.join(map(str, asked))} are both enabled; choose one")
        return found[0] if found else cls()

    @classmethod
    def _one(cls, name: str, options: Any) -> Distribution:
        if name in ELSEWHERE:
            raise UserError(f"{KEY}: {name} can't be had here: it is {ELSEWHERE[name]}")
        if name not in KINDS:
            raise UserError(f"{KEY}: {name!r} can't be had here; {did_you_mean(name, KINDS)}")
        options = options if isinstance(options, Mapping) else {}
        for option in options:
            if option not in OPTIONS[name]:
                raise UserError(f"{KEY}.{name}: it has no {option}; {did_you_mean(str(option), OPTIONS[name])}")
        number, text = options.get("processes_per_host"), options.get("custom_mpi_options") or ""
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise UserError(f"{KEY}.{name}.processes_per_host: {number!r} is not a number of processes, 1 or more")
        try:
            words = shlex.split(text) if isinstance(text, str) else [str(word) for word in text]
        except ValueError as error:
            raise UserError(f"{KEY}.{name}.custom_mpi_options: {text!r}: {error}") from None
        return cls(KINDS[name], number, tuple(words) if name == MPI else ())

    def parameters(self, workers: int) -> dict[str, Any]:
        """What the estimator that asks for it tells the container. workers: on each host."""
        if self.kind == TORCHRUN:
            return {"sagemaker_torch_distributed_enabled": True}
        if self.kind == MPI:
            return {
                "sagemaker_mpi_enabled": True,
                "sagemaker_mpi_num_of_processes_per_host": self.processes_per_host or workers,
                "sagemaker_mpi_custom_mpi_options": shlex.join(self.options),
            }
        return {}

    def configured(self, workers: int) -> dict[str, Any]:
        """What ModelTrainer tells its drivers. workers: on each host."""
        if self.kind is None:
            return {}
        count = self.processes_per_host or workers
        if self.kind == MPI:
            return {"process_count_per_node": count, "mpi_additional_options": list(self.options) or None}
        return {"process_count_per_node": count, "smp": None}


def _enabled(name: str, options: Any) -> bool:
    """Whether what is said of a distribution asks for it: `{enabled: true}`, or of a library's parts any."""
    if isinstance(options, bool) or options is None:
        return bool(options)
    if not isinstance(options, Mapping):
        raise UserError(f"{KEY}.{name}: {options!r} says nothing; write {{{name}: {{enabled: true}}}}")
    if name == "smdistributed":
        return any(_enabled(str(part), of_part) for part, of_part in options.items())
    enabled = options.get("enabled", False)
    if not isinstance(enabled, bool):
        raise UserError(f"{KEY}.{name}.enabled: {enabled!r} is neither true nor false")
    return enabled
