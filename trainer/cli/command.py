"""The command `headway`: its verbs. Imports nothing heavy; what a verb needs is imported when it is called."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from trainer.cli.arguments import Parser
from trainer.errors import ExitCode, HeadwayError, UserError, did_you_mean
from trainer.process import first_process, hangup, signals
from trainer.process.escape import visible
from trainer.process.interpreter import working_folder_last

GO_ON = ("train", "resume", "tune")  # verbs that, called again, go on with what they left
LOOKING = {
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--hydra-help",
    "--shell-completion",
    "-sc",
}  # flags with which Hydra runs nothing


def main(argv: list[str] | None = None) -> int:
    """Runs a verb. Returns 0, 1 for a failed job, 2 for the user's mistake, 75 if interrupted, 130 if stopped, 141 if
    nobody reads what it prints, 128 + N if signal N ended what can't go on."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        if argv is None:
            signals.hear()
            first_process.stand_by()
            hangup.outlive(goes_on=_does_something(arguments))
            working_folder_last()
        try:
            return _verb(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # `headway ls | head` ends quietly, as commands do. Not by the signal's default: that would also kill a command
        # whose connection to S3 is closed by the other side
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except HeadwayError as error:
        print(f"error: {visible(str(error), lines=True)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as asked:
        return signals.exit_code(asked, can_go_on=bool({*GO_ON} & {*arguments[:1]}))


def _does_something(arguments: list[str]) -> bool:
    """Whether a command is given for what it does, not for what it prints."""
    verb, asked = arguments[:1], {"-h", "--help", *LOOKING} & {*arguments}
    return bool({*GO_ON, "stop", "chaos"} & {*verb}) and not asked and arguments[1:2] not in (["show"], ["report"])


def _verb(arguments: list[str]) -> int:
    from trainer.cli.help import VERBS, fitted, main_page

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(fitted(main_page()))
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb == "--version":
        from importlib.metadata import version

        print(f"headway {version('headway')}")
        return 0
    if verb in ("-sc", "--shell-completion"):
        return _complete(rest)
    if verb not in VERBS:
        raise UserError(f"{verb!r} is not a verb of headway; {did_you_mean(verb, VERBS)}")
    if {"-m", "--multirun"} & set(rest):
        from trainer.submission.sweeps import sequential

        sequential.register()
    verbs = {"train": _train, "resume": _resume, "predict": _predict, "ls": _ls, "show": _show, "logs": _logs}
    return {
        **verbs,
        "compare": _compare,
        "report": _report,
        "stop": _stop,
        "plan": _plan,
        "check": _check,
        "chaos": _chaos,
        "tune": _tune,
        "algorithms": _algorithms,
        "new": _new,
    }[verb](rest)


def _train(arguments: list[str]) -> int:
    from trainer.cli.help import fitted, train_page

    if "--help" in arguments or "-h" in arguments:
        print(fitted(train_page(arguments)))
        return 0
    from trainer.cli import sagemaker

    container = sagemaker.found()
    if container is None:
        return _train_all(arguments)
    with container.entered():
        if len(container.hosts) > 1:
            container.wait_for_others()
        code = container.join() if container.number else _train_all([*container.overrides(), *arguments])
    container.finish()
    return code


def _train_all(arguments: list[str]) -> int:
    """One job, or those of a sweep."""
    from trainer.config.compose import run_hydra
    from trainer.config.conf_files import added
    from trainer.job import code_path

    code_path.last(*added(arguments))
    finished: list[Any] = []
    begun: list[bool] = []

    def task(config: dict[str, Any]) -> int:
        from trainer.job.view import terminal
        from trainer.submission.run import run

        begun.append(True)
        beside = InTurn.configs if sweeps else ()
        job, code = run(config, begin=terminal.header, follow=terminal.follow, announce=print, beside=beside)
        if not config["job"]["dry_run"] and not config["job"]["detach"]:
            terminal.closing(job)
            finished.append(job)
        if code == ExitCode.STOPPED and not job.out_of_time:  # by hand: the rest of a sweep is not started
            raise KeyboardInterrupt
        return code

    studies: list[int] = []
    if sweeps := bool({"-m", "--multirun"} & set(arguments)):
        from trainer.submission.sweeps import launcher as sweep
        from trainer.submission.sweeps.sequential import InTurn
        from trainer.tuning import sweeper

        sweep.register(studies)
        sweeper.register(studies)
        sweep.refuse_empty(arguments)
    elif any("hydra" in argument for argument in arguments):
        from trainer.submission.sweeps.launcher import refuse_alone

        refuse_alone(arguments)
    try:
        code = max([run_hydra(arguments, "config", task), *studies])
    except KeyboardInterrupt as asked:
        code = signals.exit_code(asked, can_go_on=True)
    else:
        if sweeps and not begun and not studies and not LOOKING & set(arguments):
            raise UserError(sweep.EMPTY)
    if len(finished) > 1:
        from trainer.job.view.listing import table
        from trainer.submission.launcher_of import status_of

        table(finished, status_of)
    return code


def _resume(arguments: list[str]) -> int:
    from trainer.job import code_path
    from trainer.job.view import terminal
    from trainer.job.view.listing import find_job
    from trainer.submission.resume import resumed
    from trainer.submission.run import run

    parser = Parser(
        "resume", "Goes on with a job from its newest checkpoint, as the command that began it would.", of="job"
    )
    parser.add_argument("overrides", nargs="*", help="what is to be different, such as launcher.workers=4")
    args = parser.parse_args(arguments)
    begun = find_job(args.job)
    code_path.last(begun.dir)
    config = resumed(begun, args.overrides)
    job, code = run(config, begin=terminal.header, follow=terminal.follow, announce=print, resumes=True)
    if not config["job"]["detach"]:
        terminal.closing(job)
    return code


def _chaos(arguments: list[str]) -> int:
    from trainer.cli.chaos import chaos

    return chaos(arguments)


def _check(arguments: list[str]) -> int:
    if not arguments or {"--help", "-h"} & set(arguments):
        from trainer.cli.help import check_page, fitted

        print(fitted(check_page()))
        return 0
    from trainer.cli.check import check

    return check(arguments)


def _tune(arguments: list[str]) -> int:
    if arguments[:1] in (["--help"], ["-h"]) or ("--help" in arguments and "=" in arguments[0]):
        from trainer.cli.help import fitted, tune_page

        print(fitted(tune_page(arguments)))
        return 0
    from trainer.cli.tune import tune

    return tune(arguments)


def _plan(arguments: list[str]) -> int:
    from trainer.cli.planning import plan

    return plan(arguments)


def _algorithms(arguments: list[str]) -> int:
    from trainer.cli.catalogue import algorithms

    return algorithms(arguments)


def _new(arguments: list[str]) -> int:
    from trainer.cli.scaffolding import new

    return new(arguments)


def _predict(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        from trainer.cli.help import fitted, predict_page

        print(fitted(predict_page(arguments)))
        return 0
    from trainer.cli.predicting import predict
    from trainer.config.compose import run_hydra
    from trainer.config.conf_files import added
    from trainer.job import code_path

    code_path.last(*added(arguments))
    return run_hydra([re.sub("^model=", "model.path=", argument) for argument in arguments], "predict", predict)


def _ls(arguments: list[str]) -> int:
    from trainer.job.view.listing import list_jobs
    from trainer.job.view.selection import Selection
    from trainer.submission.launcher_of import status_of

    parser = Parser("ls", "Lists the jobs of a folder, newest last.")
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"), help="folder of job directories (runs)")
    parser.add_argument(
        "--where", action="append", default=[], metavar="EXPR", help="those alone, such as 'algorithm.lr<0.1'"
    )
    parser.add_argument("--sort", metavar="KEY", help="by a config key, metric or column; -KEY has the largest first")
    parser.add_argument("--columns", metavar="A,B,…", help="further columns: config keys, metrics")
    parser.add_json()
    # argparse takes a value that begins with a dash for an option
    joined = re.sub(r"(^|\0)--sort\0-", r"\1--sort=-", "\0".join(arguments))
    args = parser.parse_args(joined.split("\0") if arguments else [])
    selection = Selection(args.where, args.sort, [key for key in (args.columns or "").split(",") if key])
    list_jobs(args.root, as_json=args.json, status_of=status_of, selection=selection)
    return 0


def _show(arguments: list[str]) -> int:
    from trainer.job.view.listing import find_job, show
    from trainer.submission.launcher_of import status_of

    parser = Parser("show", "Shows one job: state, metrics, timeline, files.", of="job")
    parser.add_json()
    args = parser.parse_args(arguments)
    show(find_job(args.job), as_json=args.json, status_of=status_of)
    return 0


def _compare(arguments: list[str]) -> int:
    from trainer.job.view.comparing import compare
    from trainer.submission.launcher_of import status_of

    parser = Parser("compare", "Shows jobs side by side: the keys that differ, metrics, the best marked *, curves.")
    parser.add_argument(
        "jobs", nargs="+", help="their names or directories; a sweep's or a study's means all of its jobs"
    )
    parser.add_json()
    args = parser.parse_args(arguments)
    compare(args.jobs, as_json=args.json, status_of=status_of)
    return 0


def _report(arguments: list[str]) -> int:
    from trainer.cli.reporting import report

    return report(arguments)


def _logs(arguments: list[str]) -> int:
    from trainer.job.view.listing import find_job, logs
    from trainer.submission.launcher_of import launcher_of, status_of

    parser = Parser("logs", "Prints the logs of a job's newest attempt.", of="job")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    parser.add_argument("--rank", type=int, help="only this worker's")
    args = parser.parse_args(arguments)
    logs(
        find_job(args.job),
        follow=args.follow,
        rank=args.rank,
        status_of=status_of,
        others=lambda job: launcher_of(job).logs(job),
    )
    return 0


def _stop(arguments: list[str]) -> int:
    from trainer.job import carried, location
    from trainer.job.directory import State
    from trainer.job.view.listing import find_job
    from trainer.process.format import short_path
    from trainer.submission.follow import GOES_ON
    from trainer.submission.launcher_of import launcher_of
    from trainer.submission.settle import settle, settle_left

    parser = Parser("stop", "Stops a running job after its present step, its state saved.", of="job")
    parser.add_argument("--now", action="store_true", help="end it at once; what is not in a checkpoint is lost")
    args = parser.parse_args(arguments)
    job = find_job(args.job)
    launcher = launcher_of(job)
    launcher.stop(job, now=args.now)
    where = location.of(job)
    where.wait(job, launcher, print)
    launcher.wait(job)
    status = launcher.status(job)
    settle_left(job, status, by_hand=1 + args.now)
    settle(job, status)
    print(f"{visible(job.name)}: {launcher.state(job).value}")
    result = job.result() if not args.now else None
    if result and result["status"] == State.STOPPED and result.get("model"):
        print(f"its model after step {result['steps']:,} is in {visible(short_path(result['model']))}")
    if not where.has_all(job):
        print((carried.read(job.dir) or carried.Carried(where.address)).words(job.dir))
        return GOES_ON
    return 0


def _complete(arguments: list[str]) -> int:
    """Answers the shell: verbs first, then Hydra's own completion of the verb's config, or names of jobs."""
    from trainer.cli.help import VERBS

    if any(a.startswith(("install", "uninstall")) for a in arguments):
        return _train(["-sc", *arguments])
    words = os.environ.get("COMP_LINE", "").split()
    typing_verb = len(words) < 2 or (len(words) == 2 and not os.environ["COMP_LINE"].endswith(" "))
    if typing_verb:
        print(" ".join(VERBS))
    elif words[1] in ("train", "plan", "check", "tune", "predict"):
        from trainer.config.compose import run_hydra
        from trainer.config.conf_files import added
        from trainer.job import code_path

        code_path.last(*added(words))
        os.environ["COMP_LINE"] = os.environ["COMP_LINE"].replace(f" {words[1]}", "", 1)
        # a study's own keys apart, `tune` is asked for the same
        return run_hydra(["-sc", *arguments], "predict" if words[1] == "predict" else "config", lambda config: 0)
    elif words[1] == "algorithms":
        from trainer.config.conf_files import choices

        print(" ".join(choices("algorithm")))
    elif words[1] == "new":
        print("algorithm")
    else:
        from trainer.job.view.listing import RUNS, all_jobs, name_under

        names = {
            name for job in all_jobs() for name in (name_under(job, RUNS), name_under(job, RUNS).partition("/")[0])
        }
        print(" ".join(sorted(name for name in names if name.isprintable() and " " not in name)))
    return 0
