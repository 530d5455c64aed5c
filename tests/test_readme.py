"""What the README shows is what there is, and it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer import conf_files as pages

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- scripts/examples/(\w+)\.py -->\n```python\n(.*?)```", README, flags=re.S))


@pytest.mark.parametrize("name", ["mlp", "nearest_mean"])
def test_an_example_is_the_file_it_names(name: str) -> None:
    assert EXAMPLES[name] == (ROOT / "scripts" / "examples" / f"{name}.py").read_text(encoding="utf-8")


def test_an_algorithm_of_ones_own_has_under_30_lines() -> None:
    assert len(EXAMPLES["mlp"].splitlines()) < 30


@pytest.mark.parametrize(
    ("name", "settings", "accuracy"),
    [("mlp.MLP", ["+algorithm.hidden=64"], 0.9), ("nearest_mean.NearestMean", [], 0.8)],
)
@pytest.mark.slow
def test_an_algorithm_of_ones_own_trains_and_predicts_as_the_readme_says(
    name: str, settings: list[str], accuracy: float, tmp_path: Path
) -> None:
    module = name.partition(".")[0]
    (tmp_path / f"{module}.py").write_text(EXAMPLES[module], encoding="utf-8")
    code = (
        "import trainer\n"
        f"result = trainer.train({[f'algorithm._target_={name}', *settings, 'data=digits', 'job.name=mine']})\n"
        "from trainer.data.sources import Digits\n"
        "rows = Digits()\n"
        "predicted = trainer.load(result.model).predict(rows)['prediction']\n"
        "print(result['validation_accuracy'], (predicted == rows.arrays().y).mean())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(float(share) > accuracy for share in done.stdout.split())


@pytest.mark.parametrize("group", ["algorithm", "data"])
def test_the_tables_name_every_choice(group: str) -> None:
    table = README.split(f"| `{group}=` |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(pages.choices(group))


def test_the_table_of_groups_names_every_group() -> None:
    tables = [part.split("\n\n")[0] for part in README.split("| group |")[1:]]
    for table, groups in zip(tables, (pages.groups(), pages.study_groups()), strict=True):
        assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)) == set(groups)


@pytest.mark.parametrize("group", ["search", "scheduler"])
def test_the_table_of_a_studys_groups_names_every_choice(group: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{group}` |"))
    assert set(pages.choices(group)) <= set(re.findall(r"`(\w+)`", row))


def test_every_key_it_names_is_there() -> None:
    groups = "|".join([*pages.groups(), *pages.study_groups()])
    without_mistakes = re.sub(r".*\n +error: .*", "", README)
    named = set(re.findall(rf"(?<![+\w.])((?:{groups})\.\w+(?:\.\w+)?)", without_mistakes))
    files = {name for name in named if name.endswith((".py", ".csv", ".yaml", ".journal", ".sbatch", ".parquet"))}
    assert named - files - {"algorithm._target_"} <= set(pages.known_keys())
