"""What is refused before a job's directory is written, and what isn't where a job goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from trainer.config.compose import compose
from trainer.config.schema import check
from trainer.errors import UserError
from trainer.job.directory import Job
from trainer.submission.preflight import check_algorithm, refuse_read_otherwise


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


def test_a_job_whose_columns_another_version_read_otherwise_does_not_go_on(tmp_path: Path) -> None:
    """Times of day, which were words once: its trees would take seconds for the numbers of words."""
    job = Job(tmp_path)
    began = {"time": 1.0, "state": "Running", "step": 0, "content": "a", "kinds": {"categorical": 1, "numeric": 2}}
    job.events_path.write_text(json.dumps(began) + "\n")
    now = {"time": 1, "numeric": 2}
    refuse_read_otherwise(job, "a", now)  # nothing is trained yet
    (job.checkpoints / "step-00000003").mkdir(parents=True)
    with pytest.raises(
        UserError, match="are 1 time, 2 numeric, and when the job began they were 1 categorical, 2 numeric"
    ):
        refuse_read_otherwise(job, "a", now)
    refuse_read_otherwise(job, "a", {"numeric": 2, "categorical": 1})
    refuse_read_otherwise(job, "b", now)  # other files, as data.changed=accept takes
