"""What is refused before a job's directory is written, and what isn't where a job goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from trainer.composing import compose
from trainer.config import check
from trainer.errors import UserError
from trainer.job import Job
from trainer.refusing import check_algorithm


def test_a_job_goes_on_with_the_settings_that_another_version_took(tmp_path: Path) -> None:
    config = check(compose(["algorithm=xgboost", "data=digits", "+algorithm.params.seed=3"]))
    job = Job(tmp_path)
    with pytest.raises(UserError, match=r"seed is job\.seed"):
        check_algorithm(config, job)
    job.config_path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"seed is job\.seed"):  # it never came to anything
        check_algorithm(config, job)
    (job.checkpoints / "step-00000003").mkdir(parents=True)
    check_algorithm(config, job)
    with pytest.raises(UserError, match=r"random_state is job\.seed"):
        check_algorithm(check(compose(["algorithm=xgboost", "data=digits", "+algorithm.params.random_state=3"])), job)
