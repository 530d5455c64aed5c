from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config.code.signature import UNKNOWN, check, class_constant, read_signature, short_name
from trainer.errors import UserError

LEARNER = """
raise RuntimeError("this module must not be run to be checked")

import torch
from abc import ABC
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from trainer.algorithm import Module, Range

from .base import Common, Settings as Base

DEFAULT = 0.5
Loss = Literal["squared", "absolute", "huber"]


@dataclass
class Learner(Base, Module):
    takes: ClassVar[frozenset[str]] = frozenset({"text"})
    lr: Annotated[float, Range(above=0)] = 0.1  # step size
    # how far a prediction
    # may be off
    delta: float = DEFAULT
    loss: Loss = "squared"
    depth: int | None = None
    bias: bool = True
    layers: list[int] = field(default_factory=list)
    betas: tuple[float, float] = (0.9, 0.999)
    device: torch.device | None = None
    scratch: dict[str, Any] = field(default_factory=dict, init=False)
    stop: Annotated[float | None, Range(min=0, max=1)] = None
    size: int | Literal["auto"] = "auto"


class Plain(Module):
    def __init__(
        self,
        classes: int,  # how many there are
        *,
        lr: float = 0.1,
        make=torch.zeros(3),
        label: "str | int | None" = None,
    ) -> None: ...

    @classmethod
    def small(cls, lr: float = 0.3): ...


class Child(Plain, ABC):
    def fit(self): ...


class Open(Module):
    def __init__(self, lr: float = 0.1, **kwargs): ...


class Elsewhere(torch.nn.Linear):
    pass


def build(width: int = 3, name: str = "x", mode: "typing.Literal['fast', 'exact']" = "fast"): ...


made = type("Made", (), {})
"""

BASE = """
from dataclasses import dataclass, field

@dataclass
class Common:
    seed: int  #: of the random generator
    l2: float = 0.0

@dataclass(kw_only=True)
class Settings(Common):
    steps: int = 10
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shelf"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("from .learner import Plain\n")
    (folder / "learner.py").write_text(LEARNER)
    (folder / "base.py").write_text(BASE)
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "inner" / "deep.py").write_text("def f(x: int = 1): ...\n")
    monkeypatch.syspath_prepend(tmp_path)


def problem(settings: dict, target: str = "shelf.learner.Learner") -> str:
    with pytest.raises(UserError) as caught:
        check({"_target_": target, "seed": 1, **settings}, target, "algorithm")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dataclass_shows_its_fields_and_those_of_its_bases_in_order():
    signature = read_signature("shelf.learner.Learner")
    names = [p.name for p in signature.parameters]
    assert names[:4] == ["seed", "l2", "steps", "lr"]
    assert "takes" not in names
    assert "scratch" not in names
    assert not signature.open


def test_a_parameter_shows_its_annotation_default_and_comment():
    parameters = {p.name: p for p in read_signature("shelf.learner.Learner").parameters}
    assert parameters["lr"].doc == "step size"
    assert parameters["lr"].default == 0.1
    assert parameters["lr"].annotation == "Annotated[float, Range(above=0)]"
    assert parameters["delta"].doc == "how far a prediction may be off"
    assert parameters["delta"].default == 0.5
    assert parameters["layers"].default == []
    assert parameters["seed"].required
    assert parameters["seed"].doc == "of the random generator"
    assert not parameters["lr"].required


def test_a_constructor_shows_its_arguments():
    parameters = {p.name: p for p in read_signature("shelf.learner.Plain").parameters}
    assert list(parameters) == ["classes", "lr", "make", "label"]
    assert parameters["classes"].doc == "how many there are"
    assert parameters["classes"].required
    assert parameters["make"].default == UNKNOWN


def test_an_inherited_constructor_a_re_export_a_method_and_a_function_are_found():
    assert read_signature("shelf.learner.Child").parameters[0].name == "classes"
    assert read_signature("shelf.Plain").parameters[0].name == "classes"
    assert [p.name for p in read_signature("shelf.learner.Plain.small").parameters] == ["lr"]
    assert [p.name for p in read_signature("shelf.learner.build").parameters] == ["width", "name", "mode"]
    assert [p.name for p in read_signature("shelf.inner.deep.f").parameters] == ["x"]


def test_values_come_back_as_the_types_that_are_asked_for():
    given = {
        "_target_": "shelf.learner.Learner",
        "seed": 3,
        "lr": "1e-3",
        "l2": 1,
        "layers": ["8", 4],
        "depth": None,
    }
    checked = check(given, "shelf.learner.Learner", "algorithm")
    assert checked == {**given, "lr": 0.001, "layers": [8, 4]}
    assert list(checked) == list(given)


def test_an_unknown_setting_names_the_nearest_one():
    assert problem({"lrr": 1}) == "algorithm.lrr: Learner has no such setting; did you mean 'lr'?"


def test_a_missing_setting_says_how_to_give_it():
    target = "shelf.learner.Plain"
    with pytest.raises(UserError, match=r"algorithm\.classes has no value.*how many there are.*algorithm\.classes=…"):
        check({"_target_": target}, target, "algorithm")
    with pytest.raises(UserError, match=r"give one with algorithm\.classes=…"):
        check({"_target_": target, "classes": "???"}, target, "algorithm")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": "abc"}, "algorithm.lr: 'abc' is not a number"),
        ({"lr": True}, "algorithm.lr: true is not a number"),
        ({"lr": float("nan")}, "algorithm.lr: nan is not a number"),
        ({"lr": None}, "algorithm.lr: null is not a number"),
        ({"lr": 0}, "algorithm.lr: 0 must be more than 0"),
        ({"lr": "-1e-3"}, "algorithm.lr: -0.001 must be more than 0"),
        ({"stop": 2}, "algorithm.stop: 2 is more than 1"),
        ({"depth": 1.5}, "algorithm.depth: 1.5 is not a whole number or null"),
        ({"depth": "deep"}, "algorithm.depth: 'deep' is not a whole number or null"),
        ({"bias": "maybe"}, "algorithm.bias: 'maybe' is not true or false"),
        (
            {"loss": "squarred"},
            "algorithm.loss: 'squarred' is not one of its choices; did you mean 'squared'?",
        ),
        ({"loss": "x"}, "algorithm.loss: 'x' is not one of its choices; there is absolute, huber, squared"),
        ({"layers": 3}, "algorithm.layers: 3 is not a list: write [3]"),
        ({"layers": [1, "b"]}, "algorithm.layers: item 1: 'b' is not a whole number"),
        ({"betas": [0.9]}, "algorithm.betas: [0.9] has 1 values where 2 are asked for"),
        ({"size": "outo"}, "algorithm.size: 'outo' is not one of its choices; did you mean 'auto'?"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(settings: dict, message: str):
    assert problem(settings) == message


def test_choices_are_read_through_a_quoted_annotation():
    with pytest.raises(UserError, match="did you mean 'exact'"):
        check({"mode": "exactly"}, "shelf.learner.build", "algorithm")


def test_a_type_that_only_the_worker_knows_takes_anything():
    assert check({"seed": 1, "device": "cuda:0"}, "shelf.learner.Learner", "algorithm")["device"] == "cuda:0"


def test_keys_of_hydra_pass():
    checked = check({"_target_": "shelf.learner.Plain", "_partial_": True}, "shelf.learner.Plain", "algorithm")
    assert checked == {"_target_": "shelf.learner.Plain", "_partial_": True}


def test_a_constructor_with_kwargs_and_an_unreadable_base_take_other_keys():
    for target in ("shelf.learner.Open", "shelf.learner.Elsewhere"):
        assert check({"other": 1}, target, "algorithm") == {"other": 1}


def test_what_is_made_at_run_time_is_not_checked():
    assert read_signature("shelf.learner.made") is None
    assert check({"x": 1}, "shelf.learner.made", "algorithm") == {"x": 1}
    assert read_signature("math.sqrt") is None
    assert read_signature("sys.exit") is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("shelf.learner.Lerner", "there is no 'Lerner' in shelf.learner; did you mean 'Learner'?"),
        ("shelf.lerner.Learner", "there is no module 'lerner' in shelf; did you mean 'learner'?"),
        ("shellf.learner.Learner", "there is no module 'shellf' for 'shellf.learner.Learner'"),
        ("shelf.learner", "'shelf.learner' is a module, not a class in it; there is"),
        ("Learner", "'Learner' is no target: write package.module.Class"),
        ("shelf.broken.f", "line 1: not valid Python"),
    ],
)
def test_a_target_that_is_not_there_names_the_nearest_one(target: str, message: str):
    with pytest.raises(UserError) as caught:
        check({"_target_": target}, target, "algorithm")
    assert str(caught.value).startswith("algorithm._target_: ")
    assert message in str(caught.value)


def test_a_base_that_lies_in_a_missing_package_leaves_the_rest_open(tmp_path: Path):
    (tmp_path / "shelf" / "orphan.py").write_text("from nowhere import Base\nclass Orphan(Base): ...\n")
    assert check({"x": 1}, "shelf.orphan.Orphan", "algorithm") == {"x": 1}


def test_a_changed_file_is_read_again(tmp_path: Path):
    file = tmp_path / "shelf" / "fresh.py"
    file.write_text("def f(a=1): ...\n")
    assert [p.name for p in read_signature("shelf.fresh.f").parameters] == ["a"]
    file.write_text("def f(a=1, b=2, c=3): ...\n")
    assert [p.name for p in read_signature("shelf.fresh.f").parameters] == ["a", "b", "c"]


def test_checking_imports_no_torch():
    code = "import sys, trainer.config.code.signature; assert not {'torch', 'numpy', 'yaml', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_short_names_are_those_of_the_config():
    assert short_name("algorithms.gpt.GPT") == "gpt"
    assert short_name("algorithms.xgboost.XGBoost") == "xgboost"
    assert short_name("trainer.data.sources.BreastCancer") == "breast_cancer"
    assert short_name("trainer.worker.deepspeed.DeepSpeed") == "deepspeed"


def test_a_class_variable_is_read_from_the_class_or_its_bases():
    assert class_constant("shelf.learner.Learner", "takes") == {"text"}
    assert class_constant("shelf.learner.Child", "takes") == {"numeric"}
    assert class_constant("shelf.Plain", "takes") == {"numeric"}
    assert class_constant("shelf.learner.Plain", "nothing") is None
    assert class_constant("shelf.learner.made", "takes") is None
