"""Docker's own ways to read the output of containers: its command and docker-py."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime

import docker
from attrs import define, field

from benchmarks.output.contents import Content
from tests.support.dockerd import Dockerd

PIECE = 1 << 20


@define(eq=False)
class RawDocker:
    """Reads what containers write, and counts it."""

    _engine: Dockerd
    _client: docker.APIClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._client = self._engine.client(timeout=300)

    def close(self) -> None:
        """Free everything."""
        self._client.close()

    def command_logs(self, container_id: str) -> int:
        """With ``docker logs``."""
        return self._command("logs", container_id)

    def library_logs(self, container_id: str) -> int:
        """With docker-py's stream of pieces, as it gives them."""
        return sum(map(len, self._client.logs(container_id, stream=True)))

    def command_attach(self, job_id: str, content: Content) -> int:
        """With ``docker start --attach`` of a new container."""
        return self._command("start", "--attach", self._create(job_id, content))

    def library_attach(self, job_id: str, content: Content) -> int:
        """With docker-py's stream, attached before the start."""
        container_id = self._create(job_id, content)
        pieces = self._client.attach(container_id, stream=True)
        self._client.start(container_id)
        return sum(map(len, pieces))

    def remove(self, container_id: str) -> None:
        """Remove a container and what it wrote."""
        self._client.remove_container(container_id, force=True)

    def remove_all(self) -> None:
        """Remove all containers that have ended."""
        for container in self._client.containers(all=True, filters={"status": "exited"}):
            self.remove(container["Id"])

    def _create(self, job_id: str, content: Content) -> str:
        body = content.docker_body(job_id, datetime.now(UTC))
        return str(self._client.create_container_from_config(body, job_id)["Id"])

    def _command(self, *words: str) -> int:
        command = ["docker", "--host", self._engine.url, *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            count, buffer = 0, bytearray(PIECE)
            while size := process.stdout.readinto(buffer):  # type: ignore[attr-defined]
                count += size
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        return count
