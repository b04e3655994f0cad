"""What the engine says of a host's containers, which is the truth."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

import docker
from attrs import define

from flynnhost.agent.spec import LABEL_HOST, LABEL_JOB
from tests.support.host_api import WireJob


class HasClient(Protocol):
    """An engine."""

    def client(self, timeout: float = 60.0) -> docker.APIClient:
        """A new docker-py client of it."""


@define
class HostContainers:
    """The containers of one host on an engine."""

    engine: HasClient
    host_id: str

    def all(self) -> list[dict[str, Any]]:
        """All of them, inspected."""
        client = self.engine.client()
        try:
            label = f"{LABEL_HOST}={self.host_id}"
            listed = client.containers(all=True, filters={"label": label})
            inspected = []
            for each in listed:
                with suppress(docker.errors.NotFound):  # the host has removed it since
                    inspected.append(client.inspect_container(each["Id"]))
            return inspected
        finally:
            client.close()

    def of(self, job: WireJob) -> list[dict[str, Any]]:
        """Those of one job."""
        return [each for each in self.all() if each["Config"]["Labels"][LABEL_JOB] == job["id"]]

    def only(self, job: WireJob) -> dict[str, Any]:
        """The only one of a job."""
        (container,) = self.of(job)
        return container

    def pids(self) -> dict[str, int]:
        """The process of each running job."""
        running = [each for each in self.all() if each["State"]["Running"]]
        return {each["Config"]["Labels"][LABEL_JOB]: each["State"]["Pid"] for each in running}

    def remove(self, jobs: Sequence[WireJob] | None = None) -> None:
        """End and remove those of some jobs, or all."""
        wanted = None if jobs is None else {job["id"] for job in jobs}
        client = self.engine.client()
        try:
            listed = client.containers(all=True, filters={"label": f"{LABEL_HOST}={self.host_id}"})
            unwanted = [
                each["Id"] for each in listed if wanted is None or each["Labels"][LABEL_JOB] in wanted
            ]

            def remove(container_id: str) -> None:
                with suppress(docker.errors.NotFound):  # the host was quicker
                    client.remove_container(container_id, force=True, v=True)

            with ThreadPoolExecutor(4) as threads:
                list(threads.map(remove, unwanted))
        finally:
            client.close()
