#!/usr/bin/env bash
# On a partition whose jobs give way to others: each time the state is saved, and the job waits for its next turn by itself.
# It goes on with fewer nodes as long as MIN_NODES are left. One of its weeks may look so in `headway show`:
#   preempted at step 8,210, went on from 8,210, 0 steps lost, back after 3 h
set -euo pipefail

: "${CORPUS:?a text file on the shared disk}" "${PARTITION:?the partition whose jobs give way}"
# as Hydra reads a value whatever stands in it
quoted() { printf "'%s'" "${1//\'/\\\'}"; }

exec headway train \
    algorithm=gpt_small data=text data.train="$(quoted "$CORPUS")" \
    strategy=fsdp train.max_steps=200000 checkpoint.every=10m \
    launcher=slurm launcher.partition="$(quoted "$PARTITION")" launcher.nodes="${NODES:-4}" \
    launcher.min_nodes="${MIN_NODES:-2}" launcher.gpus="${GPUS:-8}" launcher.time=4h launcher.warning=5m \
    job.name="$(quoted "${NAME:-preemptible}")" job.detach=true "$@"
