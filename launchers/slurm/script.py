"""The batch script of a SLURM job: it lies in the job's directory, and `sbatch` starts it by hand as well."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config import secret
from trainer.errors import UserError
from trainer.job.directory import Job
from trainer.process.interpreter import safe

SCRIPT = "job.sbatch"
ARRAY = "sweep.sbatch"  # beside the jobs' directories
ANYWHERE = "/tmp"  # a folder that each node has

BODY = """\

job={job}
python={python}
number={number}
{environment}{setup}
# when SLURM ends it; newer ones say so themselves
: "${{SLURM_JOB_END_TIME:=$(date -d "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)" +%s 2>/dev/null)}}"
export SLURM_JOB_END_TIME

# which batch job has it, for those who follow it
{tell}

# one agent a node; they hear SLURM's warnings themselves, and meet in the job's directory
srun {srun} bash -c '
    {task}
' "$python" "$job" {agent}

# queues the job again if it was interrupted
exec "$python" -m launchers.slurm_end "$job" --exit-code $? --number "$number"
"""
TASK = 'exec "$0" -m launchers.agent "$@" --node "$SLURM_NODEID" --towards "${SLURM_LAUNCH_NODE_IPADDR:-127.0.0.1}"'
TELL = """\
printf '{"id": "%s", "time": %s}\\n' "$number" "$(date +%s.%N)" >"$job/.slurm.json.$$" && mv "$job/.slurm.json.$$" "$job/slurm.json"\
"""
TELL_S3 = '"$python" -m launchers.slurm_number "$job" "$number" &'
# where the job outlives nodes it may outlive the one with this script, and then an agent that leaves ends the batch job
SURVIVOR = """\
trap : INT QUIT TERM HUP USR1 USR2
    {agent}
    exec "$0" -m launchers.slurm_end "$1" --exit-code $? --number "{number}" --survivor\
"""
NUMBER = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"


def script(
    job: Job,
    options: Mapping[str, Any],
    setup: Sequence[str],
    srun: Mapping[str, Any],
    python: str,
    env: Mapping[str, str],
    agent: Sequence[str],
) -> str:
    """options, srun: by the names that sbatch and srun have for them; env: variables of the
    agents; agent: their arguments."""
    head = [
        "#!/bin/bash",
        f"# The job {' '.join(job.name.split())}. `sbatch` of this file starts it, or goes on with it from its newest checkpoint.",
        *(asked(key, value) for key, value in {**options, "chdir": ANYWHERE if job.url else os.getcwd()}.items()),
    ]
    steps = {
        "kill-on-bad-exit": 0,
        "no-kill": options.get("no-kill"),
        "cpus-per-task": options.get("cpus-per-task"),  # srun doesn't take it over from sbatch
        "output": f"{ANYWHERE}/headway-%j-node-%n.log" if job.url else pattern(job.logs, "node-%n.log"),
        "open-mode": "append",
        **srun,
    }
    given = " ".join(shlex.quote(option(k, v)) for k, v in steps.items() if v is not None and v is not False)
    body = BODY.format(
        job=shlex.quote(job.url or str(job.dir)),
        tell=TELL_S3 if job.url else TELL,
        python=shlex.quote(python),
        environment="".join(f"export {k}={shlex.quote(v)}\n" for k, v in {**environment(), **env}.items()),
        setup="\n# launcher.setup\n" + "\n".join([*needed(setup), *setup]) + "\n" if setup else "",
        number=NUMBER,
        srun=given,
        task=SURVIVOR.format(agent=TASK.removeprefix("exec "), number=NUMBER) if options.get("no-kill") else TASK,
        agent=shlex.join(agent),
    )
    return "\n".join(head) + "\n" + body


ARRAY_BODY = """\

# one job a line
scripts=(
{scripts}
)
script=${{scripts[$SLURM_ARRAY_TASK_ID]}}
exec bash "$script" >>"$(dirname "$script")/logs/slurm-$SLURM_ARRAY_JOB_ID.log" 2>&1
"""


def asked_of(text: str) -> list[str]:
    """The `#SBATCH` lines of a job's script that don't name the job."""
    own = ("#SBATCH --job-name", "#SBATCH --output")
    return [line for line in text.splitlines() if line.startswith("#SBATCH") and not line.startswith(own)]


def array_script(name: str, scripts: Sequence[tuple[str, str]], parallel: int) -> str:
    """The script of a job array that runs these jobs' scripts, given with their texts, so many at a time."""
    many = f"0-{len(scripts) - 1}" + (f"%{parallel}" if parallel < len(scripts) else "")
    own = [asked("job-name", name), f"#SBATCH --array={many}", "#SBATCH --output=/dev/null"]
    head = [
        "#!/bin/bash",
        "# The jobs of a sweep, each of which has a script of its own.",
        *own,
        *asked_of(scripts[0][1]),
    ]
    return (
        "\n".join(head) + "\n" + ARRAY_BODY.format(scripts="\n".join(f"    {shlex.quote(path)}" for path, _ in scripts))
    )


def option(key: str, value: Any) -> str:
    return f"--{key}" if value is True else f"--{key}={value}"


def asked(key: str, value: Any) -> str:
    """As sbatch reads it from a script: it knows quotes, a backslash before any character, and comments. Raises UserError for
    what it can't read."""
    text = option(key, value)
    if "\n" in text:
        raise UserError(
            f"launcher: sbatch's --{key} can't hold {str(value)!r}, which has a line break; write it in one line"
        )
    if re.fullmatch(r"[\w.,:;/@%+=~^-]*", text, flags=re.ASCII):
        return f"#SBATCH {text}"
    quoted = re.sub(r'(["\\])', r"\\\1", str(value))
    return f'#SBATCH --{key}="{quoted}"'


def pattern(folder: Path, name: str) -> str:
    """The path of an output, in whose name, but not in its folder's, SLURM puts numbers for %j and the like. Raises UserError
    where it would put none."""
    if "\\" in str(folder):
        raise UserError(
            f"job.dir: {str(folder)!r} has a backslash, after which SLURM puts no numbers into a path; choose another"
        )
    return f"{str(folder).replace('%', '%%')}/{name}"


def check_options(key: str, options: Mapping[str, Any]) -> None:
    """Raises UserError for what is no option with its value."""
    for name, value in options.items():
        if not re.fullmatch(r"[A-Za-z][\w-]*", str(name), flags=re.ASCII):
            raise UserError(f"{key}: {name!r} is no option; write its long name without dashes: {{comment: a try}}")
        if not isinstance(value, str | int | float | None):
            raise UserError(f"{key}.{name}: {value!r} is no value of an option; write text, a number, true or null")


def check_setup(lines: Sequence[str]) -> None:
    """Raises UserError for lines that bash can't read, as with a quote that is not closed."""
    bash = shutil.which("bash")
    if not lines or bash is None:
        return
    text = "\n".join(map(str, lines))
    done = subprocess.run([bash, "-n", "-O", "extglob"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        told = re.sub(r"^\S*bash: (line (\d+): )?", r"", done.stderr.strip().splitlines()[0])
        raise UserError(f"launcher.setup: bash can't read it: {told}")


def needed(setup: Sequence[str]) -> list[str]:
    """Lines that end the script where a variable with a secret of the setup is not set, as when it is started by hand."""
    names = dict.fromkeys(name for _, name in secret.references(list(setup)))
    return [f': "${{{name}:?it is a secret, of which the job keeps no copy; set this variable}}"' for name in names]


def environment() -> dict[str, str]:
    """What the agents must find there whatever a site passes on, and on another day: where Python looks for code."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**({"PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths))} if paths else {}), **safe()}
