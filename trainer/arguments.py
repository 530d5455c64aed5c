"""The arguments of a verb that Hydra doesn't read."""

from __future__ import annotations

import argparse
from typing import NoReturn

from trainer.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see `{self.prog} --help`")


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """A parser for `headway COMMAND` that raises UserError for what it can't read."""
    return _Parser(prog=f"headway {command}", description=description)
