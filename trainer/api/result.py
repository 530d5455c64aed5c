"""How a job ended, as Python works with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError, did_you_mean, pip_install

if TYPE_CHECKING:
    import pandas

COLUMNS = ("step", "epoch", "time", "samples")  # of a history, before the metrics
SHOWN = 6  # metrics of a repr


@dataclass(frozen=True, repr=False)
class Result:
    """How a job ended; the fields are those of its result.json, and `dir`, its directory."""

    status: str
    metrics: dict[str, dict[str, dict[str, Any]]]
    steps: int
    epochs: float
    samples: int
    world_size: int | None
    seconds: dict[str, float]
    samples_per_second: float | None
    model: str | None
    error: dict[str, Any] | None
    attempts: int
    interruptions: list[dict[str, Any]]
    goodput: float | None
    dir: str
    energy_kwh: float | None = None
    split: dict[str, float] = field(default_factory=dict)  # seconds that the training's parts took, {} if it tells none
    communication_within: bool = False  # whether the workers' talk in a step is counted as part of it
    stragglers: list[dict[str, Any]] = field(default_factory=list)  # ranks that were slow: rank, factor, since, until
    batch_size: int | None = None
    notes: list[str] = field(default_factory=list)  # what whoever looks after the job should read

    def __getitem__(self, metric: str) -> float:
        """The last value of a metric: `result["validation_accuracy"]`. Raises KeyError, with the nearest names."""
        if metric not in self.metrics:
            raise KeyError(f"{metric}: the job reported no such metric; {did_you_mean(metric, self.metrics)}")
        return float(self.metrics[metric]["last"]["value"])

    def history(self) -> pandas.DataFrame:
        """What the job reported, a row a step: `step`, `epoch`, `time` (UTC), `samples` (trained on so far), and a column for
        each metric, `train_loss`, `validation_accuracy`, …, NaN where it wasn't reported.

        Read from the job's directory. Raises UserError if that is gone, or pandas isn't installed.
        """
        from trainer.job.directory import Job

        job = Job(Path(self.dir))
        if not job.exists():
            raise UserError(f"{self.dir}: the job's directory is gone, and its history with it")
        rows: list[dict[str, Any]] = []
        for line in job.metrics():
            values = {f"metrics.{name}" if name in COLUMNS else name: value for name, value in line["values"].items()}
            if not rows or rows[-1]["step"] != line["step"] or rows[-1].keys() & values.keys():
                rows.append({name: line.get(name) for name in COLUMNS})
            rows[-1] |= {**values, "time": line["time"]}
        return frame(rows)

    def __repr__(self) -> str:
        from trainer.job.view.summary import amounts
        from trainer.process.format import duration, figure, prominence, short_path

        lines = [f"{self.status}  {short_path(self.dir)}  in {duration(self.seconds['wall'])}"]
        for name in sorted(self.metrics, key=prominence)[:SHOWN]:
            last, best = self.metrics[name]["last"], self.metrics[name]["best"]
            lines.append(f"  {name}  {figure(last['value'])}  (best {figure(best['value'])} at step {best['step']:,})")
        if len(self.metrics) > SHOWN:
            lines.append(f"  and {len(self.metrics) - SHOWN} more")
        lines += amounts(vars(self))[:1]
        lines += [f"model  {short_path(self.model)}"] if self.model else []
        return "\n".join([*lines, *(f"note   {note}" for note in self.notes)])


def frame(rows: Any) -> pandas.DataFrame:
    """A DataFrame of rows, or of a pyarrow table; times are UTC. Raises UserError where pandas isn't installed."""
    try:
        import pandas
    except ImportError:
        raise UserError(f"a history is a pandas DataFrame: {pip_install('pandas')}") from None
    if hasattr(rows, "to_pandas"):
        return rows.to_pandas()
    made = pandas.DataFrame(rows, columns=None if rows else COLUMNS)
    made["time"] = pandas.to_datetime(made["time"], unit="s", utc=True)
    return made
