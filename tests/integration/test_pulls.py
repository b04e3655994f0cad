"""Images are fetched from a registry when they are needed, once, and failing to is told."""

from __future__ import annotations

import io
import os
import re
import socket
import tarfile
from collections.abc import Callable, Iterator

import pytest

from flynnhost.client.address import HostAddress
from flynnhost.model import JobStatus
from tests.conftest import Engine
from tests.support.busybox import IMAGE
from tests.support.host_api import status
from tests.support.host_process import HostProcess
from tests.support.registry import Registry
from tests.support.typed_command import TypedCommand
from tests.support.waiting import wait_until
from tests.support.wire_jobs import wire_job

pytestmark = pytest.mark.docker


@pytest.fixture
def push(dockerd: Engine, registry: Registry) -> Iterator[Callable[[str, int], str]]:
    """Puts an image into the registry, and takes it from the engine: ``push(name, megabytes)``."""
    client = dockerd.client()
    pushed = []

    def push(name: str, megabytes: int = 0) -> str:
        image = f"{registry.address}/{name}:1"
        container = client.create_container(IMAGE, ["true"])["Id"]
        if megabytes:
            client.put_archive(container, "/", _tar_of_noise(megabytes))
        client.commit(container, f"{registry.address}/{name}", "1")
        client.remove_container(container)
        told = list(client.push(f"{registry.address}/{name}", "1", stream=True, decode=True))
        assert not [line for line in told if "error" in line], told
        client.remove_image(image)
        pushed.append(image)
        return image

    yield push
    for image in pushed:
        if client.images(image):
            client.remove_image(image, force=True)
    client.close()


def _tar_of_noise(megabytes: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("noise")
        info.size = megabytes << 20
        tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    return packed.getvalue()


def _requests(registry: Registry, path: str) -> int:
    """How many requests for a path the registry has answered."""
    log = (registry.directory / "registry.log").read_text(errors="replace")
    return log.count(f'"GET {path}')


def test_ten_jobs_and_one_pull(
    host: HostProcess, push: Callable[[str, int], str], registry: Registry
) -> None:
    """All jobs that need an image wait for the same pull."""
    image = push("shared", 4)
    blobs = _requests(registry, "/v2/shared/blobs/")
    jobs = [wire_job("true", image=image) for _ in range(10)]
    host.api.run(*jobs)
    host.api.all_are(jobs, JobStatus.DONE)
    # The configuration and two layers, of which the engine has busybox already.
    fetched = _requests(registry, "/v2/shared/blobs/") - blobs
    assert 1 <= fetched <= 3, fetched
    assert wait_until(lambda: _manifests(registry, "shared"), "the registry's log") == 1


def _manifests(registry: Registry, name: str) -> int:
    return _requests(registry, f"/v2/{name}/manifests/")


def test_progress(host: HostProcess, push: Callable[[str, int], str], registry: Registry) -> None:
    """People can see what a job waits for, and how far it is."""
    image = push("large", 96)
    job = wire_job("true", image=image)
    seen: set[str] = set()

    def look(active: dict[str, object]) -> bool:
        if active["phase"] == "pulling":
            seen.add(str(active["detail"]))
        return active["phase"] == "ended"

    host.api.run(job)
    active = host.api.until(job, look, "end")
    assert status(active) is JobStatus.DONE
    assert "detail" not in active
    assert all(detail.startswith(f"pulling {image}") for detail in seen)
    assert any(" of 100." in detail and detail.endswith(" MB") for detail in seen), seen


def test_an_image_that_is_not_there(host: HostProcess, registry: Registry) -> None:
    """The job has failed, with the registry's words, and others are not held up."""
    image = f"{registry.address}/no/such/image:1"
    missing, other = wire_job("true", image=image), wire_job("true")
    host.api.run(missing, other)
    active = host.api.ended(missing)
    assert status(active) is JobStatus.FAILED
    assert image in active["error"]
    assert "manifest unknown" in active["error"] or "not found" in active["error"]
    assert status(host.api.ended(other)) is JobStatus.DONE


def test_no_registry(host: HostProcess) -> None:
    """A registry that is not there is told as such."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        job = wire_job("true", image=f"127.0.0.1:{taken.getsockname()[1]}/a/b:1")
        host.api.run(job)
        active = host.api.ended(job)
    assert status(active) is JobStatus.FAILED
    assert "connection refused" in active["error"]


def test_progress_is_shown_to_who_waits(host: HostProcess, push: Callable[[str, int], str]) -> None:
    """At a terminal, ``run`` tells how far the pull is; then comes what the job writes, and nothing else."""
    image = push("shown", 200)
    command = TypedCommand(
        ("run", "--host-network", image, "echo", "begun"),
        HostAddress("127.0.0.1", host.api.port),
        terminal=True,
    )
    try:
        wait_until(lambda: re.search(rb"pulling .*[0-9]", command.out), "the progress", 60)
        wait_until(lambda: command.ended, "the end", 120)
        assert (command.code, command.out.endswith(b"begun\r\n")) == (0, True), command.out
    finally:
        command.end()
