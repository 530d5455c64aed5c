"""The file of a model's folder that says what the model is: format, algorithm, schema. Standard library only."""

from __future__ import annotations

from pathlib import Path

DESCRIPTION = "artifact.json"
BESIDE = (
    "headway-artifact.json"  # where what the algorithm itself has written, such as a script, has a file of that name
)


def described(folder: Path) -> Path:
    """Where a folder's description is."""
    return folder / (BESIDE if (folder / BESIDE).is_file() else DESCRIPTION)


def place(folder: Path) -> Path:
    """Where the description of what has been written into a folder is to go."""
    return folder / (BESIDE if (folder / DESCRIPTION).exists() else DESCRIPTION)
