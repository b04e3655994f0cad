"""What is said of jobs."""

from __future__ import annotations

from flynnhost.model import ActiveJob, JobStatus
from flynnhost.testing.journal_contract import everything


def test_ended() -> None:
    """Nothing follows the last three states."""
    assert [status.name for status in JobStatus if status.ended] == ["DONE", "CRASHED", "FAILED"]
    job: ActiveJob = everything()
    assert job.ended
    assert job.id == job.job.id
