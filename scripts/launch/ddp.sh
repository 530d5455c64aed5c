#!/usr/bin/env bash
# Multi-node DDP on SLURM: copy it, change what follows, run it on a machine of the cluster.
# headway writes the batch script itself, into the job's directory, and submits it; nothing here needs sbatch.
set -euo pipefail

: "${CORPUS:?a text file on the shared disk}"
# as Hydra reads a value whatever stands in it
quoted() { printf "'%s'" "${1//\'/\\\'}"; }

exec headway train \
    algorithm=gpt_small data=text data.train="$(quoted "$CORPUS")" \
    strategy=ddp train.batch_size=512 train.max_steps=20000 \
    launcher=slurm launcher.nodes="${NODES:-4}" launcher.gpus="${GPUS:-8}" launcher.cpus="${CPUS:-64}" \
    launcher.time=24h \
    job.name="$(quoted "${NAME:-ddp}")" job.detach=true "$@"
