from pathlib import Path

import numpy as np

from trainer import Batch, Context, Estimator


class NearestMean(Estimator):
    """A class is the mean of its rows; a new row belongs to the class whose mean is nearest."""

    def fit(self, context: Context) -> None:
        sums = np.zeros((context.schema.classes, context.schema.columns))
        counts = np.zeros((context.schema.classes, 1))
        for x, y in context.train.chunks(rank=context.rank, world=context.world_size):  # this worker's share
            np.add.at(sums, y, x)
            np.add.at(counts, y, 1)
        shares = context.gather((sums.tolist(), counts.tolist()))  # every worker's, on every worker
        self.means = sum(np.array(s) for s, _ in shares) / sum(np.array(c) for _, c in shares)
        if context.validation is not None:
            batches = (Batch(x, y, len(x), len(x)) for x, y in context.validation.chunks())
            right = [self.predict(batch)["prediction"] == batch.y for batch in batches]
            context.report(1, {"validation_accuracy": float(np.concatenate(right).mean())})

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        distances = ((batch.x[:, None] - self.means) ** 2).sum(axis=2)
        return {"prediction": distances.argmin(axis=1)}

    def save(self, folder: Path) -> None:
        np.save(folder / "means.npy", self.means)

    def load(self, folder: Path) -> None:
        self.means = np.load(folder / "means.npy")
