"""The command `headway`: its verbs, by command line."""

from trainer.cli.command import main

__all__ = ["main"]
