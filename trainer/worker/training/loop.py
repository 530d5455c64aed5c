"""The training loop of a `Module` algorithm.

for epoch in epochs:
    for batch in this worker's part of each step's samples, in the order of (seed, epoch):
        loss and its backward                         gradients averaged over workers by the strategy, or exactly
        stop if the loss is not finite                before the weights are touched
        clip, optimizer.step(), schedule.step()
        every log_every steps:        report the mean training loss
        every validate_every steps:   validate, report, stop early if it no longer improves
        when a checkpoint is due:     copy the state; a thread writes it
        if asked to stop:             agree on a step, save, leave
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.algorithm import Module
from trainer.config.schema import DEFAULT_EPOCHS
from trainer.data.tables.samples import Samples
from trainer.errors import HeadwayError, UserError
from trainer.job import checkpoint
from trainer.job.directory import State
from trainer.worker.checkpointing.cadence import NEVER
from trainer.worker.checkpointing.ema import Averages
from trainer.worker.checkpointing.saver import Saver
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.monitoring.profile import Profile
from trainer.worker.monitoring.timing import CHECKPOINT, COMMUNICATION, DATA, IDLE, OPTIMIZER, VALIDATION
from trainer.worker.strategy.exact import ExactGradient
from trainer.worker.strategy.replicated import Spread
from trainer.worker.training.evaluation import evaluate
from trainer.worker.training.interruption import LEAVE, OUT_OF_TIME, STOP, Verdict
from trainer.worker.training.session import Session
from trainer.worker.training.throughput import Pace


def total_steps(train: dict[str, Any], steps_per_epoch: int) -> int | None:
    """Optimizer steps of a whole training; None if only time bounds it."""
    bounds = []
    epochs = train["epochs"]
    if epochs is None and train["max_steps"] is None and train["max_time"] is None:
        epochs = DEFAULT_EPOCHS
    if epochs is not None:
        bounds.append(max(1, round(epochs * steps_per_epoch)))
    if train["max_steps"] is not None:
        bounds.append(int(train["max_steps"]))
    return min(bounds) if bounds else None


@dataclass
class Loop:
    """One training, from wherever `training.position` stands to its end."""

    algorithm: Module
    training: Training
    spread: Spread
    session: Session
    total: int | None
    exact: ExactGradient | None = None
    averages: Averages | None = None
    verdict: Verdict | None = None  # why it leaves before the end
    prepared: bool = False
    profile: Profile | None = None

    def __post_init__(self) -> None:
        self.pace = Pace(self.session, self.spread)

    def run(self) -> tuple[State, str]:
        """Trains. Returns Completed, or Interrupted with the state saved, and why it ended."""
        position, total = self.training.position, self.total
        reason = ""
        self.session.laps.start()
        if self.profile is not None:
            self.profile.start()
        while not reason and (total is None or position.step < total):
            left = None if total is None else total - position.step
            reason = self._epoch(left)
        verdict = self.verdict
        if verdict is not None and verdict.what != OUT_OF_TIME:
            if verdict.what in (LEAVE, STOP):
                self._save_last()
            return State.INTERRUPTED, verdict.why
        if reason == OUT_OF_TIME:
            self._validate()
        self._finish_reports()
        self._save_last()
        self._test()
        return State.COMPLETED, reason or "trained to the end"

    def _epoch(self, left: int | None) -> str:
        """Trains to the end of the present epoch, for `left` steps at most. Returns why training ends, if it does."""
        training, position, reporter = self.training, self.training.position, self.session.reporter
        model, schedule, averages = training.model, training.schedule, self.averages
        interruption, progress = self.session.interruption, reporter.progress
        compute, update = self.spread.part, self.spread.update
        options, device, rank = self.session.config["train"], self.session.ranks.device, self.session.ranks.rank
        exact, laps = self.exact, self.session.laps
        mark, end_step = laps.mark, laps.end_step
        parts = exact.count if exact else options["gradient_accumulation"]
        log_every, validate_every = options["log_every"], options["validate_every"]
        cadence, saver, beat = self.session.cadence, self.session.saver, self.session.beat
        save_best = self.session.config["checkpoint"]["keep_best"]
        save_validated = self.session.config["checkpoint"]["every"] == "validation"
        timed = options["max_time"] is not None
        on_gpu = device.type != "cpu"
        steps_per_epoch = self.session.opened.train.steps(options["batch_size"])
        stream = self.session.opened.train.stream(
            seed=self.session.config["job"]["seed"],
            epoch=position.epoch,
            batch_size=options["batch_size"],
            rank=rank,
            world=self.session.ranks.world_size,
            accumulate=parts,
            parts=exact.parts if exact else None,
            start=position.epoch_step,
        )
        pending: list[tuple[Tensor, int]] = []  # on a GPU, losses not yet read, and of how many samples
        part = 0
        step_loss = 0.0
        model.train()
        for batch in stream:
            if on_gpu:
                batch = batch.to(device)
            mark(DATA)
            if part == 0 and (interruption.noticed or timed):
                interruption.check_clock()
                if interruption.noticed and (verdict := interruption.before(position.step + 1)):
                    self._check_finite(pending)
                    if verdict.leaves:
                        self.verdict = verdict
                        return verdict.what
                    self._save()
            part += 1
            if exact is not None:
                exact.part(batch, position.step, part - 1)
                if part < parts:
                    continue
                loss, counted = exact.combine(), batch.total if rank == 0 else 0
                mark(COMMUNICATION)
            else:
                loss, counted = compute(batch, part == parts), batch.size
            if on_gpu:
                pending.append((loss.detach(), counted))
            else:
                value = loss.item()
                if not math.isfinite(value):
                    raise self._diverged(value, position.step + 1)
                step_loss += value * counted
            position.loss_count += counted
            if part < parts:
                continue
            part = 0
            update()
            if schedule is not None:
                schedule.step()
            if averages is not None:
                averages.update()
            mark(OPTIMIZER)
            position.loss_sum += step_loss
            step_loss = 0.0
            position.samples += batch.total
            position.epoch_step += 1
            position.step = step = position.step + 1
            progress.step, progress.samples = step, position.samples
            beat[0] = step
            ends_epoch = position.epoch_step == steps_per_epoch
            last = left is not None and (left := left - 1) == 0
            if ends_epoch:
                position.epoch, position.epoch_step = position.epoch + 1, 0
            if step % log_every == 0:
                self._check_finite(pending)
                self._report_loss()
            if last or (step % validate_every == 0 if validate_every else ends_epoch):
                self._check_finite(pending)
                if self._validate():
                    return "no improvement"
                if (save_validated or (save_best and position.improved == step)) and not last:
                    self._save()
            if last:
                break
            if step >= cadence.look_at:
                self._check_finite(pending)
                if cadence.due(step, saver.busy):
                    self._save()
            if not self.prepared:
                self._prepare()
            end_step()
            if self.profile is not None:
                self._profile_step(self.profile)
        self._check_finite(pending)
        return ""

    def _epochs_done(self) -> float:
        position = self.training.position
        return position.epoch + position.epoch_step / self.session.opened.train.steps(
            self.session.config["train"]["batch_size"]
        )

    def _check_finite(self, pending: list[tuple[Tensor, int]]) -> None:
        """Reads the losses that wait on a GPU. Raises HeadwayError at the first that is not finite."""
        if not pending:
            return
        values = torch.stack([loss for loss, _ in pending]).double().cpu().tolist()
        position = self.training.position
        parts = 1 if self.exact else self.session.config["train"]["gradient_accumulation"]
        first = position.step - len(values) // parts + 1
        for i, (value, (_, size)) in enumerate(zip(values, pending, strict=True)):
            if not math.isfinite(value):
                raise self._diverged(value, first + i // parts, weights_are_good=False)
            position.loss_sum += value * size
        pending.clear()

    def _diverged(self, value: float, step: int, *, weights_are_good: bool = True) -> HeadwayError:
        """The error of a loss that is no number; the last good state is saved first."""
        kept = "the newest checkpoint is from before it"
        if weights_are_good and not self.session.saver.spread:  # one worker alone has only parts of it
            kept = f"the state after step {step - 1} is kept in {self._save_alone()}"
        rate = self.training.optimizer.param_groups[0]["lr"]
        size, position = self.session.config["train"]["batch_size"], self.training.position
        return HeadwayError(
            f"the loss became {value} at step {step} (batch {position.epoch_step + 1} of epoch {position.epoch + 1}, "
            f"{size} samples, learning rate {rate:g}); lower algorithm.lr or set train.gradient_clip; {kept}"
        )

    def _report_loss(self) -> None:
        position, laps = self.training.position, self.session.laps
        laps.begin(COMMUNICATION)
        self.spread.compare()
        own = self.pace.own()
        sums = torch.tensor([position.loss_sum, float(position.loss_count), *own], dtype=torch.float64)
        total, count, *paces = self.session.ranks.sum(sums).tolist()
        laps.mark(COMMUNICATION)
        self.pace.hear(position.step, paces)
        position.loss_sum, position.loss_count, position.reported = 0.0, 0, position.step
        if count:
            mean = total / count
            self.session.reporter.progress.loss = mean
            rate = self.training.optimizer.param_groups[0]["lr"]
            self._report({"train_loss": mean, "lr": float(rate)})

    def _report(self, values: dict[str, float]) -> None:
        position = self.training.position
        epoch = self._epochs_done()
        self.session.reporter.progress.epoch = epoch
        self.session.reporter.report(position.step, values, epoch=epoch, samples=position.samples)
        position.best = dict(self.session.reporter.best)

    def _validate(self) -> bool:
        """Validates and reports. True if training should end because the watched metric no longer improves."""
        if self.training.position.step > self.training.position.reported:
            self._report_loss()
        if self.session.opened.validation is None:
            return False
        values = self._score(self.session.opened.validation, "validation")
        position = self.training.position
        position.validated, position.validation = position.step, values
        metric = self.session.saver.retention.metric
        if metric in values and self.session.reporter.best.get(metric) == values[metric]:
            position.improved = position.step
        return self._stops_early(values)

    def _test(self) -> None:
        """Scores what was learned on the test samples, if there are any."""
        if self.session.opened.test is not None:
            self._score(self.session.opened.test, "test")

    def _score(self, samples: Samples, name: str) -> dict[str, float]:
        """The metrics over these samples, reported as `{name}_…`."""
        averages, laps = self.averages, self.session.laps
        laps.begin(VALIDATION)
        if not self.exact:
            self.spread.agree()
        with averages.in_place() if averages else nullcontext():
            metrics = evaluate(
                self.algorithm,
                self.training.model,
                samples,
                self.session.ranks,
                batch_size=self.session.config["train"]["batch_size"],
                figures=self.spread.evaluate,
                parts=self.exact.parts if self.exact else None,
                told=self._told,
            )
        values = {f"{name}_{metric}": float(value) for metric, value in metrics.items()}
        laps.mark(VALIDATION)
        self._report(values)
        return values

    def _told(self) -> None:
        self.session.beat[1] += 1

    def _stops_early(self, values: dict[str, float]) -> bool:
        options, position = self.session.config["train"]["early_stopping"], self.training.position
        if options["patience"] is None:
            return False
        name = options["metric"]
        if name not in values:
            raise UserError(
                f"train.early_stopping.metric: no report carries {name!r}; there is {', '.join(sorted(values))}"
            )
        value = values[name]
        if position.watched is None or self.session.reporter.is_better(
            name, value, position.watched, options["min_delta"]
        ):
            position.watched, position.stale = value, 0
        else:
            position.stale += 1
        return position.stale >= options["patience"]

    def _finish_reports(self) -> None:
        if self.training.position.step > self.training.position.reported:
            self._report_loss()

    def _prepare(self) -> None:
        """Once the optimizer has its state: the memory that checkpoints are copied to, if there will be any."""
        self.prepared = True
        if self.session.cadence.look_at < NEVER:
            self.session.saver.prepare(self.training.tensors()[0])

    def _save(self) -> None:
        """Takes a checkpoint of the step that is done, unless there is one."""
        session, position = self.session, self.training.position
        progress, saver = session.reporter.progress, session.saver
        if progress.saved_step == position.step:
            return
        session.laps.begin(CHECKPOINT)
        self.spread.compare()
        position.seconds = progress.training_seconds + time.monotonic() - (progress.session_started or time.monotonic())
        tensors, outline = self.training.tensors()
        saver.take(position.step, tensors, self.training.small(outline, session.ranks), self._details())
        progress.saved_step = position.step
        session.adjust_cadence()
        session.laps.mark(CHECKPOINT)

    def _save_last(self) -> None:
        """Takes a checkpoint and waits until it is written, by all."""
        self._save()
        self.session.laps.begin(CHECKPOINT)
        self.session.saver.finish()
        self.session.laps.mark(CHECKPOINT)

    def _profile_step(self, profile: Profile) -> None:
        if profile.step():
            self.profile = None
        self.session.laps.mark(IDLE)  # what the profiler itself took is no wait for data

    def _save_alone(self) -> Path:
        """Writes a checkpoint without the other workers: for the one that finds the training broken."""
        session, position = self.session, self.training.position
        target = checkpoint.folder(session.job.checkpoints, position.step)
        if checkpoint.problem(target) is not None:
            tag = f"rank-{session.ranks.rank}"
            alone = Saver(
                session.job.checkpoints, Ranks(), tag, session.saver.retention, lambda: None, job=session.job.id
            )
            tensors, outline = self.training.tensors()
            alone.take(position.step, tensors, self.training.small(outline, Ranks()), self._details())
            alone.finish()
        return target

    def _details(self) -> dict[str, Any]:
        """What the manifest says beside the files: the metrics, where this very state has been validated."""
        position = self.training.position
        metrics = position.validation if position.validated == position.step else {}
        return {"samples": position.samples, "seconds": round(position.seconds, 3), "metrics": metrics}
