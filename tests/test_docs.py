"""What the README and the pages of docs/ say is what there is; the site builds. Their commands: test_docs_commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trainer
from trainer.cli.help import VERBS
from trainer.config import conf_files as pages

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FILES = [README, *sorted((ROOT / "docs" / "pages").rglob("*.md"))]
DOCS = "\n\n".join(path.read_text(encoding="utf-8") for path in FILES)
EXAMPLES = dict(re.findall(r"<!-- scripts/examples/(\w+)\.py -->\n```python\n(.*?)```", DOCS, flags=re.S))


@pytest.mark.parametrize("name", ["mlp", "nearest_mean"])
def test_an_example_is_the_file_it_names(name: str) -> None:
    assert EXAMPLES[name] == (ROOT / "scripts" / "examples" / f"{name}.py").read_text(encoding="utf-8")


def test_an_algorithm_of_ones_own_has_under_30_lines() -> None:
    assert len(EXAMPLES["mlp"].splitlines()) < 30


@pytest.mark.promise
@pytest.mark.parametrize(
    ("name", "settings", "accuracy"),
    [("mlp.MLP", ["+algorithm.hidden=64"], 0.9), ("nearest_mean.NearestMean", [], 0.8)],
)
@pytest.mark.slow
def test_an_algorithm_of_ones_own_trains_and_predicts_as_the_docs_say(
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
    table = DOCS.split(f"| `{group}=` |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(pages.choices(group))


def test_the_table_of_groups_names_every_group() -> None:
    tables = [part.split("\n\n")[0] for part in DOCS.split("| group |")[1:]]
    for table, groups in zip(tables, (pages.groups(), pages.study_groups()), strict=True):
        assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)) == set(groups)


@pytest.mark.parametrize("group", ["search", "scheduler"])
def test_the_table_of_a_studys_groups_names_every_choice(group: str) -> None:
    row = next(line for line in DOCS.splitlines() if line.startswith(f"| `{group}` |"))
    assert set(pages.choices(group)) <= set(re.findall(r"`(\w+)`", row))


def test_every_key_it_names_is_there() -> None:
    groups = "|".join([*pages.groups(), *pages.study_groups()])
    without_mistakes = re.sub(r".*\nerror: .*", "", DOCS)
    named = set(re.findall(rf"(?<![+\w.])((?:{groups})\.\w+(?:\.\w+)?)", without_mistakes))
    files = {
        name
        for name in named
        if name.endswith((".py", ".csv", ".yaml", ".journal", ".sbatch", ".parquet", ".md", ".png"))
    }
    assert named - files - {"algorithm._target_"} <= set(pages.known_keys())


def test_the_readme_is_a_page_of_200_lines() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_line_is_wider_than_120(path: Path) -> None:
    assert [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_link_in_the_checkout_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    made = {"config.md", "cli.md", "python.md"}  # the site's reference, made as it is built
    lost = [link for link in links if not (path.parent / link).exists()]
    assert {Path(link).name for link in lost if "reference/" in link} <= made
    assert [link for link in lost if "reference/" not in link] == []


def test_the_readme_leads_to_every_page() -> None:
    led_to = re.findall(r"\]\((docs/pages/[\w/-]+\.md)\)", README.read_text(encoding="utf-8"))
    assert {ROOT / link for link in led_to} == set(FILES[1:])


def test_what_was_measured_is_what_the_results_say() -> None:
    results = (ROOT / "scripts" / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    table = DOCS.split("## What was measured")[1].split("\n\n")[2]
    rows = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert len(rows) > 5
    for _, ratio, command in rows:
        section = results.split(f"`{command}`")[1].split("\n## ")[0]
        assert re.search(rf"\| {re.escape(ratio)}\d? \(", section), (ratio, command)


@pytest.mark.slow
def test_the_site_builds_without_a_dead_link(tmp_path: Path) -> None:
    command = [
        "-m",
        "mkdocs",
        "--quiet",
        "build",
        "--strict",
        "--config-file",
        "docs/mkdocs.yml",
        "--site-dir",
        tmp_path,
    ]
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    config, cli, python = (
        (tmp_path / "reference" / f"{name}.html").read_text(encoding="utf-8") for name in ("config", "cli", "python")
    )
    assert [key for key in pages.known_keys() if f"<code>{key}</code>" not in config] == []
    assert [verb for verb in VERBS if f'id="headway-{verb}"' not in cli] == []
    assert [name for name in trainer.__all__ if f"headway.{name}" not in python] == []
