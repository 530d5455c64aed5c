"""What an error tells a person to do."""

from __future__ import annotations

import re

from trainer.errors import pip_install


def test_what_an_optional_part_needs_is_named_with_its_command() -> None:
    """Headway itself is on no index: what it would bring along is."""
    assert re.fullmatch(r'pip install "xgboost[>=.\d]+"', pip_install("xgboost"))
    assert re.fullmatch(r'pip install "mlflow-skinny[^"]+" "sqlalchemy[^"]+" "alembic[^"]+"', pip_install("mlflow"))
