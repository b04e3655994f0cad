"""Jobs started by flynn-host."""

from __future__ import annotations

import http.client
import time

import docker
import msgspec
from attrs import define, field

from benchmarks.arrivals import Arrivals
from benchmarks.host_process import HostProcess, Memory
from benchmarks.jobs import Jobs, flynn_batch, group_of
from benchmarks.removing import remove_containers
from benchmarks.trials import Trial
from flynnhost.agent.spec import container_name

_HEADERS = {"Content-Type": "application/json", "Prefer": "return=minimal"}
_AFTERWORK = 0.2
"""Seconds after the last start in which flynn-host writes down what it has told."""


class _Event(msgspec.Struct):
    event: str
    job_id: str


@define(eq=False)
class FlynnHost:
    """Posts all jobs as one batch, and listens to the host's event stream.

    :param process: a host that is ready.
    :ivar idle: what the host holds with no job.
    :ivar busiest: the most that it was seen to hold with a batch running, by the size of the batch.
    """

    process: HostProcess
    _client: docker.APIClient
    name: str = field(init=False, default="flynn-host")
    idle: Memory = field(init=False)
    busiest: dict[int, Memory] = field(init=False, factory=dict)
    _events: Arrivals = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.idle = self.process.memory()
        self._events = Arrivals(_reading)
        stream = self.process.connection()
        stream.timeout = None
        self._events.follow(stream, "/host/jobs", "text/event-stream")

    def start(self, jobs: Jobs) -> Trial:
        """See ``Contender``."""
        body = flynn_batch(jobs, self.process.host_id)
        # Connected beforehand, as a scheduler is; but not kept, for a host ends what is idle for long.
        connection = self.process.connection()
        connection.connect()
        used = self.process.cpu_seconds()
        began = time.monotonic()
        _post(connection, body)
        arrived = self._events.wait("start", jobs.group, jobs.count)
        time.sleep(_AFTERWORK)
        used = self.process.cpu_seconds() - used
        self._weigh(jobs.count)
        return Trial([at - began for at in arrived], used)

    def clear(self, jobs: Jobs) -> None:
        """See ``Contender``."""
        remove_containers(self._client, [container_name(job.id) for job in jobs.each])
        self._events.wait("stop", jobs.group, jobs.count)

    def _weigh(self, count: int) -> None:
        memory = self.process.memory()
        if count not in self.busiest or memory.resident > self.busiest[count].resident:
            self.busiest[count] = memory


def _post(connection: http.client.HTTPConnection, body: bytes) -> None:
    connection.request("POST", "/cluster/jobs", body, _HEADERS)
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the jobs were answered with {answer.status}: {told[:500]!r}")


def _reading(line: bytes) -> tuple[str, str] | None:
    if not line.startswith(b"data: "):
        return None
    event = msgspec.json.decode(line[6:], type=_Event)
    return event.event, group_of(event.job_id)
