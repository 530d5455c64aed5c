"""Plugin packages as pip leaves them, made of nothing but files."""

from __future__ import annotations

from pathlib import Path

CODE = '''
"""A net."""

from typing import Annotated

from torch import nn

from trainer import Module, Range


class Net(Module):
    """A net of one layer.

    Args:
        bias: whether it has one
    """

    def __init__(self, lr: Annotated[float, Range(above=0, max=1)] = 0.1, bias: bool = True, betas=(0.9, 0.99)) -> None:
        self.lr = lr

    def build(self, schema):
        return nn.Linear(schema.columns, schema.classes)

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch.x), batch.y)

    def optimizer(self, model):
        import torch

        return torch.optim.SGD(model.parameters(), lr=self.lr)
'''
CONF = """# A net, with a file of its own.
_target_: {package}.Net

# learning rate
lr: 0.2

_space_:
  lr: interval(0.1, 1)
"""


def install(
    site: Path,
    package: str,
    points: str,
    *,
    code: str | None = CODE,
    conf: dict[str, str] | None = None,
    version: str = "1.2",
) -> None:
    """points: of `entry_points.txt`; code: of the package, none where it isn't there; conf: `GROUP/CHOICE` to text."""
    metadata = site / f"{package}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(points)
    if code is None:
        return
    (site / package).mkdir()
    (site / package / "__init__.py").write_text(code)
    for choice, text in (conf or {}).items():
        path = site / package / "conf" / f"{choice}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def algorithm(name: str, target: str) -> str:
    return f"[headway.algorithms]\n{name} = {target}\n"
