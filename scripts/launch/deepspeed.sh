#!/usr/bin/env bash
# DeepSpeed's ZeRO-3 over the nodes of a SLURM cluster, with an environment that has to be set up on each of them.
# A DeepSpeed config of your own goes in by strategy.config_file=FILE; its `auto` values come from the job.
set -euo pipefail

: "${CORPUS:?a text file on the shared disk}"
# as Hydra reads a value whatever stands in it
quoted() { printf "'%s'" "${1//\'/\\\'}"; }

exec headway train \
    algorithm=gpt_7b data=text data.train="$(quoted "$CORPUS")" \
    strategy=deepspeed strategy.stage=3 train.precision=bf16 train.activation_checkpointing=true \
    launcher=slurm launcher.nodes="${NODES:-2}" launcher.gpus="${GPUS:-8}" launcher.cpus="${CPUS:-64}" \
    'launcher.setup=["export NCCL_DEBUG=WARN"]' \
    job.name="$(quoted "${NAME:-zero3}")" job.detach=true "$@"
