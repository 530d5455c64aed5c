"""What other projects call things, and what they are called here: for whoever comes from Lightning, its Hydra template, Hugging Face
or a script's flags."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainer.errors import UserError

_KEYS = {
    "experiment": "+experiment=NAME, or the whole choice of an algorithm, data and the rest",
    "logger": "tracking=tensorboard, mlflow or none",
    "loggers": "tracking=tensorboard, mlflow or none",
    "callbacks": "train.early_stopping, checkpoint and train.ema, each with keys of its own",
    "ckpt_path": "`headway resume JOB`, or model=runs/JOB/model to predict",
    "resume_from_checkpoint": "`headway resume JOB`",
    "model": "algorithm=NAME",
    "net": "algorithm=NAME",
    "datamodule": "data=NAME",
    "dataset": "data=NAME",
    "optimizer": "the algorithm's own keys, such as algorithm.lr",
    "scheduler": "the algorithm's own keys; `headway tune` has scheduler=asha",
    "lr_scheduler": "the algorithm's own keys",
    "lr": "algorithm.lr",
    "learning_rate": "algorithm.lr",
    "lr0": "algorithm.lr",
    "epoch": "train.epochs",
    "epochs": "train.epochs",
    "max_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "num_boost_round": "algorithm.rounds",
    "n_estimators": "algorithm.rounds",
    "steps": "train.max_steps",
    "max_steps": "train.max_steps",
    "max_iters": "train.max_steps",
    "max_time": "train.max_time",
    "batch": "train.batch_size",
    "batch_size": "train.batch_size",
    "per_device_train_batch_size": "train.batch_size, which is of all workers together",
    "micro_batch_size": "train.batch_size and train.gradient_accumulation",
    "accumulate_grad_batches": "train.gradient_accumulation",
    "gradient_accumulation_steps": "train.gradient_accumulation",
    "gradient_clip_val": "train.gradient_clip",
    "max_grad_norm": "train.gradient_clip",
    "precision": "train.precision",
    "fp16": "train.precision=fp16",
    "bf16": "train.precision=bf16",
    "val_check_interval": "train.validate_every",
    "log_every_n_steps": "train.log_every",
    "devices": "launcher.workers",
    "gpus": "launcher.workers, or launcher.gpus on a cluster",
    "num_workers": "launcher.workers",
    "nproc_per_node": "launcher.workers",
    "nnodes": "launcher.nodes",
    "num_nodes": "launcher.nodes",
    "accelerator": "nothing: a worker takes the GPU that is there",
    "device": "nothing: a worker takes the GPU that is there",
    "strategy_config": "strategy.config_file",
    "deepspeed": "strategy=deepspeed",
    "output_dir": "job.dir",
    "default_root_dir": "job.dir",
    "save_dir": "job.dir",
    "log_dir": "job.dir",
    "run_name": "job.name",
    "name": "job.name",
    "seed_everything": "seed",
    "random_state": "seed",
    "config": "--config-dir FOLDER and +experiment=NAME",
    "config_file": "--config-dir FOLDER and +experiment=NAME",
    "data_path": "data.train",
    "train_file": "data.train",
    "test_file": "data.test",
    "target": "data.label",
    "label_column": "data.label",
    "n_trials": "tune.trials",
    "num_samples": "tune.trials",
}
_GROUPS = ("algorithm", "trainer", "training", "model", "args", "hparams", "params", "optimizer", "optim")
# flags of Hydra's that take a value
_VALUED = {
    "--cfg": "-c",
    "--package": "-p",
    "--config-path": "-cp",
    "--config-name": "-cn",
    "--config-dir": "-cd",
    "--experimental-rerun": "",
}
_BARE = (
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc", "--info", "-i"),
)
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def here(key: str) -> str | None:
    """What a key of another project is called here; None if nobody calls anything so."""
    bare = key.lstrip("+~").replace("-", "_")
    if bare in _KEYS:
        return _KEYS[bare]
    group, _, name = bare.partition(".")
    return _KEYS.get(name) if group in _GROUPS else None


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's flags, wherever they stood, before the overrides, as Hydra wants them.

    Raises UserError for a flag that Hydra hasn't, with the override that it means.
    """
    flags: list[str] = []
    rest: list[str] = []
    given = list(arguments)
    while given:
        word = given.pop(0)
        name, mark, value = word.partition("=")
        if not word.startswith("-") or re.fullmatch(r"-?\d.*", word) or word == "--":
            rest.append(word)
        elif name == "--config-path" or name == "-cp":
            raise UserError(
                f"{word}: Headway's own configs stay where they are; --config-dir FOLDER adds your choices to them"
            )
        elif name in _VALUED or name in _VALUED.values():
            flags.append(word)
            if not mark and given:
                flags.append(given.pop(0))
        elif name in _BARE:
            flags.append(word)
            if name in ("--info", "-i") and given and given[0] in INFO:
                flags.append(given.pop(0))
        elif (known := name.replace("_", "-")) in (*_VALUED, *_BARE):
            raise UserError(f"{word}: the flag is {known}")
        else:
            raise UserError(
                _meant(word, name, value if mark else given[0] if given and "=" not in given[0] else "VALUE")
            )
    return [*flags, *rest]


def _meant(word: str, name: str, value: str) -> str:
    key = name.lstrip("-")
    known = here(key)
    if known is None:
        return f"{word}: settings are overrides without dashes: write {key.replace('-', '_')}={value} with its group before it"
    plain = re.fullmatch(r"[\w.]+", known)
    return f"{word}: settings are overrides without dashes: write {f'{known}={value}' if plain else known}"
