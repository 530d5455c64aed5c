#!/bin/bash
# A shell entry: arguments and variables are its own affair.
set -e
echo "args: $*"
echo "host $SM_CURRENT_HOST of $SM_HOSTS in $(pwd)"
while [ $# -gt 0 ]; do
  case "$1" in
    --words) WORDS="$2"; shift 2 ;;
    -n) N="$2"; shift 2 ;;
    *) shift ;;
  esac
done
for i in $(seq 1 "$N"); do echo "step=$i loss=0.$((10 - i))"; done
printf '%s' "$WORDS" > "$SM_MODEL_DIR/words.txt"
ls "$SM_CHANNEL_TRAINING" > "$SM_OUTPUT_DATA_DIR/files.txt"
