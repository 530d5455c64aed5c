"""The worker's side of `headway plan`: a config on stdin, what its training needs on stdout, both as JSON.

A process of its own, so that who asks need not import torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from trainer.algorithm import Batch, Module
from trainer.config.instantiate import build, build_algorithm
from trainer.data.opening import open_data
from trainer.data.schema import Schema
from trainer.errors import HeadwayError, UserError
from trainer.process.interpreter import working_folder_last
from trainer.worker.capacity.batch_size import largest
from trainer.worker.capacity.decision import Batches, least, of_samples
from trainer.worker.capacity.estimate import device_memory, measure
from trainer.worker.capacity.footprint import Estimate, choose, footprints


def main() -> int:
    """Answers one request. What the algorithm's code prints goes to stderr."""
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    try:
        answer = plan(request["config"], request["devices"], request["nodes"], request["memory"])
    except HeadwayError as error:
        answer = {"error": str(error), "exit_code": error.exit_code}
    with answer_to:
        json.dump(answer, answer_to)
    return 0


def plan(config: Mapping[str, Any], devices: int, nodes: int, memory: int | None) -> dict[str, Any]:
    """What the training of a config needs on `devices`, and which strategies fit.

    memory: bytes of each device, which then is a GPU of any machine; None takes this machine's devices.
    """
    algorithm = build_algorithm(config["algorithm"])
    if not isinstance(algorithm, Module):
        raise UserError(f"algorithm: {config['algorithm']['_target_']} fits by itself: there is nothing to plan")
    device = "cuda" if memory is not None or torch.cuda.is_available() else "cpu"
    memory = memory or device_memory(device, -(-devices // nodes))
    options = config["train"]
    precision, parts = precision_of(options["precision"], device), options["gradient_accumulation"]
    schema, batches, rows = data(config, algorithm)

    def measured(size: int) -> Estimate:
        return measure(
            algorithm,
            schema,
            batches(size, devices, parts),
            whole=batches(size, 1, parts) if devices > 1 else None,
            device=device,
            precision=precision,
            parts=parts,
            checkpointing=bool(options.get("activation_checkpointing")),
            copies=1 if options.get("ema") else 0,
        )

    size = options["batch_size"]
    if size == "auto":
        name, _ = choose(measured(least(devices, parts)), memory, devices)
        taken = config["strategy"] if config["strategy"]["name"] != "auto" else {"name": name}
        size, _ = largest(
            algorithm,
            schema,
            batches,
            options,
            taken,
            rows=rows,
            world=devices,
            device=device,
            precision=precision,
            memory=memory,
        )
    estimate = measured(size)
    strategy, reason = choose(estimate, memory, devices)
    found = footprints(estimate, devices, offload=device == "cuda")
    return {
        "devices": devices,
        "device": "GPU" if device == "cuda" else "CPU",
        "memory": memory,
        "parameters": estimate.parameters,
        "precision": precision,
        "samples": size,
        "tokens": size * algorithm.sequence_length if schema.text else None,
        "flops": estimate.flops,
        "auto": strategy,
        "reason": reason,
        "strategies": [{**asdict(row), "name": row.name, "fits": row.fits(memory)} for row in found],
    }


def precision_of(name: str, device: str) -> str:
    """`auto` as a worker would take it: bf16 on GPUs that compute in it, as all do that are planned for elsewhere."""
    if name != "auto":
        return name
    here = torch.cuda.is_available()
    return "bf16" if device == "cuda" and (not here or torch.cuda.is_bf16_supported()) else "fp32"


def data(config: Mapping[str, Any], algorithm: Module) -> tuple[Schema, Batches, int | None]:
    """The schema, batches, and how many samples an epoch has.

    Of text only the shape matters, so it is neither read nor needed, and nobody knows how much there is.
    """
    if "text" in algorithm.takes:
        length = algorithm.sequence_length

        def batch(size: int, world: int, parts: int) -> Batch:
            n = -(-size // (world * parts))
            return Batch(torch.zeros(n, length + 1, dtype=torch.int64), None, n, size)

        return Schema(columns=length, text=True), batch, None
    opened = open_data(build(config["data"], "data"), algorithm, seed=config["job"]["seed"])
    return opened.schema, of_samples(opened.train), opened.train.rows


if __name__ == "__main__":
    working_folder_last()
    sys.exit(main())
