"""The job that is started everywhere, in the words of each system."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from flynnhost.agent.spec import DEFAULT_MEMORY_BYTES, DEFAULT_PIDS, JobContainers, container_name
from flynnhost.canonical import digest
from flynnhost.containers.body import OutputFiles, create_body
from flynnhost.http.encode import encode_job
from flynnhost.model import ActiveJob, Artifact, ContainerConfig, Job, Port

COMMAND = ("sleep", "3600")
EXTERNAL_IP = "127.0.0.1"
PORTS = (40000, 49999)
"""What jobs' ports are taken from."""


class Network(enum.Enum):
    """How the container of a job is reached."""

    HOST = "host"
    BRIDGE = "bridge"
    PORTS = "ports"


@frozen
class Jobs:
    """Some jobs that are started at once. Their IDs are ``GROUP.NUMBER``."""

    group: str
    count: int
    network: Network
    image: str

    @property
    def each(self) -> Sequence[Job]:
        """All of them as flynn-host knows them."""
        config = ContainerConfig(
            cmd=COMMAND,
            host_network=self.network is Network.HOST,
            ports=(Port(),) if self.network is Network.PORTS else (),
        )
        artifact = Artifact(url=self.image)
        return [Job(f"{self.group}.{n}", artifact, config) for n in range(self.count)]


def group_of(job_id: str) -> str:
    """The group that the ID of a job begins with."""
    return job_id.partition(".")[0]


def docker_bodies(jobs: Jobs, host_id: str, ports: Iterator[int]) -> list[tuple[str, dict[str, Any]]]:
    """The names of the containers and the requests to make them, just as flynn-host makes them.

    :param ports: gives ports of the host that are free.
    """
    containers = JobContainers(host_id, EXTERNAL_IP, "")
    bodies = []
    for job in jobs.each:
        active = ActiveJob(
            job=job,
            host_id=host_id,
            digest=digest(job),
            accepted_at=datetime.now(UTC),
            term=1,
            host_ports=tuple(next(ports) for _ in job.config.ports),
        )
        bodies.append((container_name(job.id), create_body(containers.spec(active), OutputFiles())))
    return bodies


def flynn_batch(jobs: Jobs, host_id: str) -> bytes:
    """The body of ``POST /cluster/jobs``."""
    return b'{"%b":[%b]}' % (host_id.encode(), b",".join(encode_job(job) for job in jobs.each))


def swarm_service(jobs: Jobs, image_id: str) -> dict[str, Any]:
    """The arguments of docker-py's ``create_service``: all jobs are replicas of one service.

    :param image_id: the image by its ID, as Swarm asks a registry about every other name.
    """
    task: dict[str, Any] = {
        "ContainerSpec": {
            "Image": image_id,
            "Command": list(COMMAND),
            "Env": [f"EXTERNAL_IP={EXTERNAL_IP}"],
            "StopSignal": "SIGKILL",
        },
        "Resources": {"Limits": {"MemoryBytes": DEFAULT_MEMORY_BYTES, "Pids": DEFAULT_PIDS}},
        "RestartPolicy": {"Condition": "none"},
        "LogDriver": {
            "Name": "local",
            "Options": {"max-size": "100000000", "max-file": "5", "compress": "false"},
        },
        "Networks": [{"Target": "host" if jobs.network is Network.HOST else "bridge"}],
    }
    service: dict[str, Any] = {
        "task_template": task,
        "name": jobs.group,
        "mode": {"Replicated": {"Replicas": jobs.count}},
    }
    if jobs.network is Network.PORTS:
        port = {"Protocol": "tcp", "TargetPort": PORTS[0], "PublishMode": "host"}
        service["endpoint_spec"] = {"Ports": [port]}
    return service
