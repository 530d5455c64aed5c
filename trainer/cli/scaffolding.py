"""`headway new algorithm NAME`: a small package with an algorithm that learns, its config and its tests."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from string import Template

from trainer.config.conf_files import choices
from trainer.errors import UserError

TEMPLATES = Path(__file__).parent / "templates" / "algorithm"
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "package.txt": "{name}/__init__.py",
    "algorithm.txt": "{name}/algorithm.py",
    "conf.txt": "{name}/conf/algorithm/{name}.yaml",
    "test.txt": "tests/test_{name}.py",
}


def new(arguments: Sequence[str]) -> int:
    """Runs the verb. Returns the exit code."""
    from trainer.cli.arguments import Parser

    parser = Parser("new", "Writes a small package with an algorithm of your own, ready to be installed.")
    parser.add_argument("what", choices=["algorithm"], help="what it is to hold")
    parser.add_argument("name", help="what it is called: `algorithm=NAME`, and the package to import")
    parser.add_argument("--path", type=Path, default=Path(), metavar="DIR", help="where its folder goes (here)")
    args = parser.parse_args(list(arguments))
    folder = write(args.name, args.path)
    print(f"{folder} is written. Next:")
    for command in ("pip install -e .", "pytest", f"headway train algorithm={args.name} data=digits"):
        print(f"  {f'cd {folder} && ' if command.startswith('pip') else ''}{command}")
    return 0


def write(name: str, place: Path) -> Path:
    """Writes the package to `place/name`. Returns that folder. Raises UserError for a name that can't be, or is taken."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        fit = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_0123456789")
        hint = f", such as {fit!r}" if fit and not keyword.iskeyword(fit) else ""
        raise UserError(f"{name!r} can't be a package's name: write small letters, digits and _, a letter first{hint}")
    if name in choices("algorithm"):
        raise UserError(f"there is an algorithm={name} already; choose another name")
    folder = place.expanduser() / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and isn't overwritten; choose another name, or --path")
    spec = find_spec(name)
    if spec is not None and spec.origin is not None:
        raise UserError(f"Python knows a module {name!r} already ({spec.origin}); choose another name")
    words = {
        "name": name,
        "project": name.replace("_", "-"),
        "class_name": "".join(part.capitalize() for part in name.split("_")),
    }
    try:
        for template, target in FILES.items():
            path = folder / target.format(name=name)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (TEMPLATES / template).read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} can't be written: {error.strerror} ({error.filename})") from None
    return folder
