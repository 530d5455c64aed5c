"""What a docstring says of arguments becomes their help."""

from __future__ import annotations

import pytest

from trainer.config.code.docstring import arguments, summary

GOOGLE = """A thing.

    Args:
        width: how wide it is,
            in cells
        rate (float): how fast

    Returns:
        depth: not of an argument
"""
NUMPY = """A thing.

Parameters
----------
width : int
    how wide it is,
    in cells
rate : float, optional
    how fast
"""
SPHINX = """A thing.

:param width: how wide it is, in cells
:param float rate: how fast
:return: nothing
"""


@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_each_style_explains_its_arguments(doc: str) -> None:
    assert arguments(doc, ["width", "rate"]) == {"width": "how wide it is, in cells", "rate": "how fast"}


def test_words_that_are_no_arguments_explain_nothing() -> None:
    assert arguments("Note: this is slow.", ["width"]) == {}
    assert arguments(None, ["width"]) == {}


@pytest.mark.parametrize(
    ("doc", "first"),
    [
        ("A net. It learns.", "A net."),
        ("A net (Rendle et\n    al., 2010), fast.", "A net (Rendle et al., 2010), fast."),
        ("", ""),
    ],
)
def test_a_summary_is_the_first_sentence(doc: str, first: str) -> None:
    assert summary(doc) == first
