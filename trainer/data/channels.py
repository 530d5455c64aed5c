"""Folders and files that an algorithm reads by itself, each by a name: what SageMaker calls channels.

Imports nothing heavy: whoever only submits a job imports this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from trainer.data.channel.spec import PIPE, Channel
from trainer.data.source import Source
from trainer.errors import UserError


@dataclass(kw_only=True)
class Channels(Source):
    """channels: a file or folder, local or on S3, for each name."""

    name: ClassVar[str] = "channels"
    typed: ClassVar[bool] = False
    unused: ClassVar[frozenset[str]] = frozenset(
        {"validation", "label", "group", "label_upper_bound", "columns", "drop", "categorical", "missing", "changed"}
    )
    instead: ClassVar[str] = "leave it out: the script reads its channels, +data.channels.NAME=PATH, by itself"

    # each a path, or what SageMaker's TrainingInput says of one
    channels: dict[str, Any] = field(default_factory=dict)

    def check(self, role: str = "train", takes_text: bool = False) -> None:
        for key in ("train", "test"):
            if getattr(self, key):
                raise UserError(f"data.{key}: data=channels has none; write +data.channels.{key}={getattr(self, key)}")
        self.all()

    def all(self) -> dict[str, Channel]:
        """Each by its name. Raises UserError for one that can't be had."""
        found = {name: Channel.of(str(name), given) for name, given in self.channels.items()}
        streams = [name for name, channel in found.items() if channel.input_mode == PIPE]
        for name in found:
            for stream in streams:  # whose FIFOs would be called so
                if name.startswith(f"{stream}_") and name.removeprefix(f"{stream}_").isdigit():
                    raise UserError(
                        f"data.channels.{name}: {stream} is a Pipe and has FIFOs of that name; choose another"
                    )
        return found
