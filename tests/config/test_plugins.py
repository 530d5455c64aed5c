"""Installed packages add algorithms: by name, with their config files, and a broken one disturbs nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.plugin_packages import CONF, algorithm, install
from trainer.cli.command import main
from trainer.config.compose import compose, recommended
from trainer.config.schema import check
from trainer.errors import UserError


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    place = folder / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    return place


def test_a_plugins_config_file_is_its_choice(site: Path) -> None:
    install(
        site, "with_conf", algorithm("wc", "with_conf:Net"), conf={"algorithm/wc": CONF.format(package="with_conf")}
    )
    config = compose(["algorithm=wc"], space=True)
    assert recommended(config) == {"algorithm.lr": "interval(0.1, 1)"}
    assert config["algorithm"] == {"_target_": "with_conf.Net", "lr": 0.2}
    assert check(compose(["algorithm=wc", "algorithm.bias=false"]))["algorithm"]["bias"] is False


def test_a_plugin_without_a_config_file_is_configured_by_its_signature(site: Path) -> None:
    install(site, "without_conf", algorithm("woc", "without_conf:Net"))
    config = compose(["algorithm=woc", "algorithm.lr=0.5"])
    assert config["algorithm"] == {"_target_": "without_conf.Net", "lr": 0.5, "bias": True}
    with pytest.raises(UserError, match=r"algorithm\.lr: 2 is more than 1"):
        check(compose(["algorithm=woc", "algorithm.lr=2"]))


def test_composing_does_not_import_a_plugin(site: Path) -> None:
    install(site, "not_run", algorithm("nr", "not_run:Net"), conf={"algorithm/nr": CONF.format(package="not_run")})
    check(compose(["algorithm=nr"]))
    assert "not_run" not in sys.modules


def test_headways_own_algorithm_wins_a_clash_and_it_is_said_once(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = {"algorithm/xgboost": CONF.format(package="clashing")}
    install(site, "clashing", algorithm("xgboost", "clashing:Net"), conf=conf)
    assert main(["train", "algorithm=xgboost", "--cfg", "job"]) == 0
    assert main(["train", "algorithm=xgboost", "--cfg", "job"]) == 0
    out, err = capsys.readouterr()
    assert "_target_: algorithms.xgboost.XGBoost" in out
    assert err == "note: algorithm=xgboost is Headway's own; that of clashing 1.2 isn't used\n"


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a package that is gone": ({"code": None}, "there is no module 'broken'"),
    "a class that is gone": ({"code": "A = 1\n"}, "there is no 'Net' in broken"),
    "code that is no Python": ({"code": "class Net(:\n"}, "__init__.py, line 1: not valid Python"),
    "an import that is gone": ({"code": "import nowhere_at_all\nclass Net: pass\n"}, "no module 'nowhere_at_all'"),
    "a class that is no algorithm": ({"code": "class Net:\n    pass\n"}, "Net is not an algorithm"),
    "a config that is no YAML": ({"conf": {"algorithm/bad": "lr: [1,\n"}}, "bad.yaml can't be read"),
    "a setting that it hasn't": ({"conf": {"algorithm/bad": "_target_: broken.Net\nlrr: 1\n"}}, "no such setting"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_and_disturbs_nothing_else(
    site: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made, reason = BROKEN[case]
    install(site, "broken", algorithm("bad", "broken:Net"), **made)
    install(site, "sound", algorithm("good", "sound:Net"))
    assert main(["algorithms", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert reason in listed["bad"]["problem"]
    assert listed["bad"]["origin"] == "broken 1.2"
    assert listed["good"]["problem"] is None
    assert main(["train", "algorithm=good", "--cfg", "job"]) == 0
    assert main(["train", "--cfg", "job"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["train", "algorithm=bad"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert not (Path.cwd() / "runs").exists()


def test_the_table_says_where_each_algorithm_comes_from(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "shown", algorithm("sh", "shown:Net"))
    assert main(["algorithms"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "headway" in rows["linear"]
    assert "shown 1.2" in rows["sh"]
    assert "A net of one layer." in rows["sh"]


def test_one_algorithm_is_told_with_types_ranges_defaults_and_docs(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "told", algorithm("to", "told:Net"))
    assert main(["algorithms", "to", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    settings = {setting["name"]: setting for setting in told["settings"]}
    assert (told["kind"], told["from"], told["takes"]) == ("Module", "told 1.2", ["numeric"])
    assert settings["lr"]["range"] == "above 0 up to 1"
    assert settings["lr"]["type"] == "a number"
    assert settings["bias"]["default"] is True
    assert settings["bias"]["doc"] == "whether it has one"


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_help_of_a_plugin_has_its_settings(site: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, f"helped_{verb}", algorithm("he", f"helped_{verb}:Net"))
    assert main([verb, "algorithm=he", "--help"]) == 0
    out = capsys.readouterr().out
    assert "algorithm.lr=0.1  a number, above 0 up to 1" in out
    assert "whether it has one" in out
