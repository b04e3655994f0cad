"""Makes a job of a container that the journal does not know, from the container's labels."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from twisted.logger import Logger

from flynnhost.agent.spec import LABEL_DIGEST, LABEL_JOB, LABEL_PORTS, LABEL_SPEC, LABEL_TERM
from flynnhost.canonical import parse_canonical
from flynnhost.interfaces import ContainerState
from flynnhost.model import ActiveJob, Job, Phase

log = Logger()


def adopted(state: ContainerState, host_id: str, now: datetime) -> ActiveJob:
    """The job that a container was made for, as it was when it was made.

    A label that can't be read leaves its part of the job empty: a job that is known by its ID
    alone can still be watched and stopped.
    """
    job_id = state.labels[LABEL_JOB]
    return ActiveJob(
        job=_job(job_id, state.labels.get(LABEL_SPEC, "")),
        host_id=host_id,
        digest=state.labels.get(LABEL_DIGEST, ""),
        accepted_at=state.started_at or now,
        term=_number(state.labels.get(LABEL_TERM, "")),
        phase=Phase.STARTING,
        container_id=state.id,
        host_ports=leased_ports(state.labels),
    )


def leased_ports(labels: Mapping[str, str]) -> tuple[int, ...]:
    """The ports that were leased to the job when its container was made."""
    return tuple(filter(None, map(_number, labels.get(LABEL_PORTS, "").split(","))))


def _job(job_id: str, spec: str) -> Job:
    try:
        job = parse_canonical(spec)
    except ValueError as e:
        log.warn(
            "The label {label} of job {job_id} can't be read: {reason}",
            label=LABEL_SPEC,
            job_id=job_id,
            reason=str(e),
        )
        return Job(id=job_id)
    return job if job.id == job_id else Job(id=job_id)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else 0
