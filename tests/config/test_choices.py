"""`algorithm=./file.py:Class`: a class that isn't installed is chosen, set, checked and explained like a built-in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.plugin_packages import CODE
from trainer.cli.command import main
from trainer.config.compose import compose
from trainer.config.schema import check


@pytest.fixture(autouse=True)
def _own_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(name: str, code: str = CODE) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return path


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize("form", ["algorithm=./sub/by_{}.py:Net", "algorithm=sub/by_{}.py:Net"])
def test_a_class_in_a_file_is_set_with_or_without_a_plus(plus: str, form: str) -> None:
    write("sub/by_a.py")
    config = check(compose([form.format("a"), f"{plus}algorithm.lr=0.5"]))
    assert config["algorithm"] == {"_target_": "by_a.Net", "lr": 0.5, "bias": True}


def test_an_absolute_path_will_do() -> None:
    path = write("far/absolutely.py").absolute()
    assert compose([f"algorithm={path}:Net"])["algorithm"]["_target_"] == "absolutely.Net"


def test_a_class_that_can_be_imported_has_its_defaults_in_the_config() -> None:
    write("importable.py")
    sys.path.append(str(Path.cwd()))
    config = compose(["algorithm._target_=importable.Net", "algorithm.bias=false"])
    assert config["algorithm"] == {"_target_": "importable.Net", "lr": 0.1, "bias": False}


def test_a_module_of_a_package_is_found_from_the_packages_folder() -> None:
    write("parent_pack/__init__.py", "")
    write("parent_pack/child.py")
    assert compose(["algorithm=parent_pack/child.py:Net"])["algorithm"]["_target_"] == "parent_pack.child.Net"


def test_two_files_can_be_swept(capsys: pytest.CaptureFixture[str]) -> None:
    write("first_of_two.py")
    write("second_of_two.py")
    swept = "algorithm=./first_of_two.py:Net,./second_of_two.py:Net"
    assert main(["train", "-m", swept, "algorithm.bias=false", "job.dry_run=true"]) == 0
    out = capsys.readouterr().out
    assert "_target_: first_of_two.Net" in out
    assert "_target_: second_of_two.Net" in out
    assert out.count("bias: false") == 2


MISTAKES = {
    "no such file": (["algorithm=./mine_to.py:Net"], ["mine_to.py", "did you mean 'mine_too.py'"]),
    "no such class": (["algorithm=./mine_too.py:Nett"], ["'Nett'", "did you mean 'Net'"]),
    "no class": (["algorithm=./mine_too.py"], ["algorithm=./mine_too.py:Net"]),
    "a setting that it hasn't": (["algorithm=./mine_too.py:Net", "algorithm.lrr=1"], ["algorithm.lrr", "'lr'"]),
    "a wrong type": (["algorithm=./mine_too.py:Net", "algorithm.lr=fast"], ["algorithm.lr", "'fast'", "number"]),
    "out of range": (["algorithm=./mine_too.py:Net", "algorithm.lr=-1"], ["algorithm.lr", "-1"]),
    "a needed setting": (["algorithm=./needing.py:Needing"], ["algorithm.width"]),
    "no algorithm": (["algorithm=./none_such.py:Plain"], ["Plain is not an algorithm", "trainer.Module"]),
    "a network": (["algorithm=./none_such.py:Network"], ["Network is not an algorithm"]),
    "no Python": (["algorithm=./not_python.py:A"], ["not_python.py, line 2", "not valid Python"]),
    "an import that isn't there": (["algorithm=./importing.py:A"], ["importing.py:2", "'nowhere_at_all'"]),
    "an import of its own import": (["algorithm=./imports_that.py:A"], ["importing.py:2", "'nowhere_at_all'"]),
    "a name that trainer hasn't": (["algorithm=./misspelt.py:A"], ["misspelt.py:1", "did you mean 'Module'"]),
    "a name that another file hasn't": (["algorithm=./wants.py:A"], ["wants.py:1", "did you mean 'Net'"]),
    "a name that is no module's": (["algorithm=./my-algorithm.py:Net"], ["'my-algorithm'", "rename"]),
    "a name that is taken": (["algorithm=./json.py:Net"], ["another module 'json'", "another name"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_before_there_is_a_job(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine_too.py", "my-algorithm.py", "json.py"):
        write(name)
    write("needing.py", "from trainer import Module\nclass Needing(Module):\n    def __init__(self, width: int): ...\n")
    write("none_such.py", "from torch import nn\nclass Plain:\n    pass\nclass Network(nn.Module):\n    pass\n")
    write("not_python.py", "import os\nclass A(:\n")
    write("importing.py", "import os\nimport nowhere_at_all\nfrom trainer import Module\nclass A(Module): ...\n")
    write("imports_that.py", "from importing import A as B\nclass A(B): ...\n")
    write("misspelt.py", "from trainer import Modul\nclass A(Modul): ...\n")
    write("wants.py", "from mine_too import Nat\nclass A(Nat): ...\n")
    arguments, words = MISTAKES[case]
    assert main(["train", *arguments]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert all(word in err for word in words), err
    assert not Path("runs").exists()


def test_what_may_be_missing_is_not_missed() -> None:
    code = "try:\n    import nowhere_at_all\nexcept ImportError:\n    pass\n" + CODE
    write("tolerant.py", code)
    assert check(compose(["algorithm=./tolerant.py:Net"]))["algorithm"]["_target_"] == "tolerant.Net"


def test_help_has_the_settings_of_a_class_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    write("explained.py")
    assert main(["train", "algorithm=./explained.py:Net", "--help"]) == 0
    out = capsys.readouterr().out
    assert "algorithm.lr=0.1  a number, above 0 up to 1" in out
    assert "whether it has one" in out


def test_tab_completes_the_settings_of_a_class_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("completed.py")
    monkeypatch.setenv("COMP_LINE", "headway train algorithm=./completed.py:Net algorithm.l")
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == ["algorithm.lr="]
