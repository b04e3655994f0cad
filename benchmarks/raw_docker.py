"""The floor: nothing but Docker's own API."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import docker
from attrs import define, field

from benchmarks.arrivals import Arrivals, engine_events, label_reading
from benchmarks.jobs import PORTS, Jobs, docker_bodies, group_of
from benchmarks.removing import remove_containers
from benchmarks.trials import Trial
from flynnhost.agent.spec import LABEL_JOB, container_name
from tests.support.dockerd import Dockerd

HOST_ID = "rawdocker"
"""In the labels, so that they are as long as flynn-host's but not its own."""


@define(eq=False)
class RawDocker:
    """Creates and starts containers through docker-py, as many at the same time as flynn-host does.

    The containers are made by the very requests that flynn-host makes, encoded beforehand.

    :param at_once: how many threads, each with a client of its own.
    """

    _engine: Dockerd
    at_once: int
    name: str = field(init=False, default="Docker alone")
    _events: Arrivals = field(init=False)
    _ports: Iterator[int] = field(init=False, factory=lambda: cycle(range(*PORTS)))
    _threads: ThreadPoolExecutor = field(init=False)
    _of_thread: threading.local = field(init=False, factory=threading.local)
    _clients: queue.SimpleQueue[docker.APIClient] = field(init=False, factory=queue.SimpleQueue)

    def __attrs_post_init__(self) -> None:
        self._events = engine_events(self._engine.socket, label_reading(LABEL_JOB, group_of))
        self._threads = ThreadPoolExecutor(self.at_once, "raw", self._thd_connect)

    def start(self, jobs: Jobs) -> Trial:
        """See ``Contender``."""
        bodies = docker_bodies(jobs, HOST_ID, self._ports)
        began = time.monotonic()
        started = [self._threads.submit(self._thd_start, name, body) for name, body in bodies]
        for each in started:
            each.result()
        return Trial([at - began for at in self._events.wait("start", jobs.group, jobs.count)])

    def clear(self, jobs: Jobs) -> None:
        """See ``Contender``."""
        client = self._engine.client()
        remove_containers(client, [container_name(job.id) for job in jobs.each])
        client.close()
        self._events.wait("destroy", jobs.group, jobs.count)

    def close(self) -> None:
        """Free the threads and the clients."""
        self._threads.shutdown()
        while not self._clients.empty():
            self._clients.get().close()

    def _thd_connect(self) -> None:
        self._of_thread.client = self._engine.client()
        self._clients.put(self._of_thread.client)

    def _thd_start(self, name: str, body: dict[str, Any]) -> None:
        client: docker.APIClient = self._of_thread.client
        client.start(client.create_container_from_config(body, name)["Id"])
