"""Jobs started by Docker Swarm, one node on its own."""

from __future__ import annotations

import os
import time

import docker
from attrs import define, field

from benchmarks.arrivals import Arrivals, engine_events, label_reading
from benchmarks.jobs import Jobs, swarm_service
from benchmarks.removing import wait_until_gone
from benchmarks.trials import Trial
from tests.support.dockerd import Dockerd

LABEL_SERVICE = "com.docker.swarm.service.name"


@define(eq=False)
class Swarm:
    """Creates a service with one replica for each job, and listens to the engine's events.

    It has an engine of its own, because a manager is at work all the time.
    """

    _engine: Dockerd
    _image: str
    name: str = field(init=False, default="Docker Swarm")
    _client: docker.APIClient = field(init=False)
    _events: Arrivals = field(init=False)
    _image_id: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._client = self._engine.client()
        address = _address()
        self._client.init_swarm(advertise_addr=address, listen_addr=address)
        self._image_id = self._client.inspect_image(self._image)["Id"]
        self._events = engine_events(self._engine.socket, label_reading(LABEL_SERVICE, str))

    def start(self, jobs: Jobs) -> Trial:
        """See ``Contender``."""
        service = swarm_service(jobs, self._image_id)
        began = time.monotonic()
        self._client.create_service(**service)
        return Trial([at - began for at in self._events.wait("start", jobs.group, jobs.count)])

    def clear(self, jobs: Jobs) -> None:
        """See ``Contender``."""
        self._client.remove_service(jobs.group)
        wait_until_gone(self._client, f"{LABEL_SERVICE}={jobs.group}")

    def close(self) -> None:
        """Leave the swarm."""
        self._client.leave_swarm(force=True)
        self._client.close()


def _address() -> str:
    """A loopback address of this process's own: the ports of a manager are the same everywhere."""
    return f"127.77.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"
