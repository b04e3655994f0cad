"""What the jobs write: so many bytes of lines of one length, as quickly as they can."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from flynnhost.agent.spec import JobContainers
from flynnhost.canonical import digest
from flynnhost.containers.body import OutputFiles, create_body
from flynnhost.http.encode import encode_job
from flynnhost.model import ActiveJob, Artifact, ContainerConfig, Job
from tests.support.busybox import IMAGE

HOST_ID = "rawdocker"
"""In the labels of containers that are not flynn-host's, so that they are as long but not its own."""


@frozen
class Content:
    """The output of one job.

    :param line: how long a line is, in bytes with its end.
    :param size: how much is written, in bytes.
    """

    line: int
    size: int

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f"{self.size / 1e6:.0f} MB in lines of {self.line} bytes"

    def job(self, job_id: str) -> Job:
        """A job that writes it."""
        script = f"yes {'x' * (self.line - 1)} | head -c {self.size}"
        config = ContainerConfig(cmd=("sh", "-c", script), host_network=True)
        return Job(job_id, Artifact(url=IMAGE), config)

    def wire_job(self, job_id: str) -> bytes:
        """The same as it is sent to flynn-host."""
        return encode_job(self.job(job_id))

    def docker_body(self, job_id: str, now: Any) -> dict[str, Any]:
        """The request to Docker to make its container, just as flynn-host makes it."""
        job = self.job(job_id)
        active = ActiveJob(job=job, host_id=HOST_ID, digest=digest(job), accepted_at=now, term=1)
        return create_body(JobContainers(HOST_ID, "127.0.0.1", "").spec(active), OutputFiles())
