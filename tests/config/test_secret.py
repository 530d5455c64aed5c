"""Secrets of a config are in no file of a job, and reach its workers by environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from trainer.cli.command import main
from trainer.cli.tune import tune
from trainer.config import secret
from trainer.config.compose import compose
from trainer.config.instantiate import build
from trainer.config.schema import check
from trainer.errors import UserError

VALUE = "hunter2-and-more"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is taken here is forgotten afterwards."""
    monkeypatch.setattr(secret, "_values", {})
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


SECRET = [
    "HF_TOKEN",
    "api_key",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "dbPassword",
    "KEY",
    "sshKey",
    "passwd",
    "auth_token_2",
    "API-KEY",
]
NOT = [
    "monkey",
    "keyword",
    "key_dim",
    "tokenizer",
    "max_tokens",
    "tokens",
    "eos_token",
    "sort_key",
    "kms_key",
    "keys",
    "keyboard",
    "num_key_value_heads",
    "secretary",
]


@pytest.mark.parametrize("name", SECRET)
def test_a_name_tells_a_secret(name: str) -> None:
    assert secret.looks_secret(name)
    assert secret.taken({name: VALUE})[name].startswith("${oc.env:HEADWAY_SECRET_")
    for plain in (3, True, None, 0.5, "", "???", "${oc.env:X}"):
        assert secret.taken({name: plain}) == {name: plain}


@pytest.mark.parametrize("name", NOT)
def test_other_names_do_not(name: str) -> None:
    assert secret.taken({"a": [{name: VALUE}]}) == {"a": [{name: VALUE}]}


def test_what_is_taken_is_filled_in_again() -> None:
    node = {"environment": {"HF_TOKEN": VALUE}, "others": [{"password": "another"}], "lr": 0.1}
    kept = secret.taken(node)
    assert VALUE not in json.dumps(kept)
    assert secret.filled(kept) == node
    assert secret.taken(node) == secret.taken(kept) == kept
    assert secret.environment(kept) == {"HEADWAY_SECRET_HF_TOKEN": VALUE, "HEADWAY_SECRET_PASSWORD": "another"}


def test_a_variable_that_holds_it_already_is_referred_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", VALUE)
    assert secret.taken({"HF_TOKEN": VALUE}) == {"HF_TOKEN": "${oc.env:HF_TOKEN}"}
    assert secret.taken({"HF_TOKEN": "another"}) == {"HF_TOKEN": "${oc.env:HEADWAY_SECRET_HF_TOKEN}"}
    assert os.environ["HF_TOKEN"] == VALUE
    two = secret.taken({"a": {"password": "first"}, "b": {"password": "second"}})
    assert secret.filled(two) == {"a": {"password": "first"}, "b": {"password": "second"}}


def test_one_that_is_not_in_the_environment_is_named() -> None:
    with pytest.raises(UserError, match=r"^algorithm.a.token: it is a secret, .* variable NOT_SET_HERE$"):
        secret.filled({"a": {"token": "${oc.env:NOT_SET_HERE}"}}, "algorithm")


def test_text_and_command_lines_are_masked() -> None:
    secret.taken({"api_key": VALUE})
    assert secret.masked(f"--api_key {VALUE} https://me:word@host/x") == "--api_key *** https://***@host/x"
    given = [
        "headway",
        "train",
        "+algorithm.environment.HF_TOKEN=abc",
        "++data.password='a b'",
        "algorithm.lr=0.1",
        f"x={VALUE}",
    ]
    assert secret.masked_arguments(given) == [
        "headway",
        "train",
        "+algorithm.environment.HF_TOKEN=***",
        "++data.password=***",
        "algorithm.lr=0.1",
        "x=***",
    ]


def test_a_diff_is_masked_where_it_assigns_to_such_a_name() -> None:
    diff = b"+API_KEY = 'abcdefgh'\n+monkey = 'abcdefgh'\n-  \"db_password\": \"hunter22\",\n+lr = 0.1\n+\xff\n"
    assert (
        secret.masked_diff(diff)
        == b"+API_KEY = '***'\n+monkey = 'abcdefgh'\n-  \"db_password\": \"***\",\n+lr = 0.1\n+\xff\n"
    )


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("export HF_TOKEN=VALUE", "export HF_TOKEN=$HEADWAY_SECRET_HF_TOKEN"),
        ("export A=1 HF_TOKEN='VALUE'; run", "export A=1 HF_TOKEN=$HEADWAY_SECRET_HF_TOKEN; run"),
        ('HF_TOKEN="VALUE" login', "HF_TOKEN=$HEADWAY_SECRET_HF_TOKEN login"),
        ("export HF_TOKEN=$(cat token)", "export HF_TOKEN=$(cat token)"),
        ("export HF_TOKEN=$OTHER", "export HF_TOKEN=$OTHER"),
        ("export MAX_TOKENS=VALUE", "export MAX_TOKENS=VALUE"),
        ("run --hf_token=VALUE", "run --hf_token=VALUE"),
    ],
)
def test_lines_of_setup_refer_to_the_secrets_that_they_assign(
    line: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADWAY_SECRET_HF_TOKEN", raising=False)
    made = secret.taken({"launcher": {"setup": [line.replace("VALUE", VALUE)]}})
    assert made == {"launcher": {"setup": [kept.replace("VALUE", VALUE)]}}
    assert secret.taken(made) == made
    assert secret.environment(made) == ({"HEADWAY_SECRET_HF_TOKEN": VALUE} if "SECRET" in kept else {})
    override = f'launcher.setup=["{line.replace("VALUE", VALUE)}"]'
    if '"' not in line:
        assert secret.referring([override]) == [f'launcher.setup=["{kept.replace("VALUE", VALUE)}"]']
    monkeypatch.delenv("HEADWAY_SECRET_HF_TOKEN", raising=False)
    if "SECRET" in kept:
        with pytest.raises(UserError, match=r"launcher\.setup: it is a secret, .* HEADWAY_SECRET_HF_TOKEN"):
            secret.refuse_missing(made)


def test_a_jobs_config_and_plan_hold_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text("")
    given = [
        "algorithm=script",
        "algorithm.source_dir=src",
        "algorithm.entry=train.py",
        f"+algorithm.hyperparameters.api_key={VALUE}",
        f"+algorithm.environment.HF_TOKEN={VALUE}-2",
    ]
    checked = check(compose(given))
    assert VALUE not in yaml.safe_dump(checked)
    assert build(checked["algorithm"], "algorithm").environment == {"HF_TOKEN": f"{VALUE}-2"}
    for backend in ("local", "slurm"):
        assert main(["train", *given, f"launcher={backend}", "job.dry_run=true"]) == 0
        assert VALUE not in capsys.readouterr().out


def test_a_study_holds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.tuning import drive

    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text("")
    seen = {}
    monkeypatch.setattr(drive, "run", lambda directory, facts, recommended: seen.update(facts) or 0)
    given = [
        "algorithm=script",
        "algorithm.source_dir=src",
        "algorithm.entry=train.py",
        f"+algorithm.environment.HF_TOKEN={VALUE}",
        "+algorithm.hyperparameters.lr=tag(log,interval(1e-4,1e-2))",
        "tune.metric=loss",
        "+algorithm.metrics.loss='loss (.*)'",
        "tune.trials=2",
    ]
    assert tune(given) == 0
    assert VALUE not in json.dumps(seen)
    composed = check(compose(seen["overrides"]))
    assert build(composed["algorithm"], "algorithm").environment == {"HF_TOKEN": VALUE}
