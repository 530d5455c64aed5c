"""The arguments of a verb that Hydra doesn't read."""

from __future__ import annotations

import argparse
from typing import NoReturn

from trainer.errors import UserError


class Parser(argparse.ArgumentParser):
    """Of `headway COMMAND`; raises UserError for what it can't read. of: what its first argument names, such as a job."""

    def __init__(self, command: str, description: str, *, of: str = "") -> None:
        super().__init__(prog=f"headway {command}", description=description)
        if of:
            self.add_argument(of, help="its name, or its directory")

    def add_json(self) -> None:
        self.add_argument("--json", action="store_true", help="print JSON")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see `{self.prog} --help`")
