"""Pulling images through a real engine, from registries that work, refuse or say nothing."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from twisted.internet.defer import Deferred, gatherResults

from flynnhost.errors import EngineUnavailable, ImageMissing, PullFailed
from flynnhost.testing.container_contract import failing
from tests.conftest import Engine
from tests.support.busybox import IMAGE
from tests.support.docker_rig import DockerEngineRig, DockerRig
from tests.support.dockerd import Dockerd
from tests.support.reactor import on_reactor
from tests.support.registry import Registry

pytestmark = pytest.mark.docker


def ignore(_text: str) -> None:
    """Nobody wants to know how far it is."""


@pytest.fixture
def client(dockerd: Engine) -> Iterator[docker.APIClient]:
    client = dockerd.client()
    yield client
    client.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a registry that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def big_image(rig: DockerRig, client: docker.APIClient) -> str:
    """An image of some megabytes in four layers, only one of which the engine has."""
    image, names = IMAGE, []
    for number in range(3):
        container = client.create_container(image, ["true"])["Id"]
        client.put_archive(container, "/var", _tar(f"noise{number}", os.urandom(10_000_000)))
        image = f"big-{container[:12]}:{number}"
        client.commit(container, *image.split(":"))
        client.remove_container(container)
        names.append(image)
    reference = rig.pushed(image)
    for name in reversed(names):
        client.remove_image(name)
    return reference


def _tar(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@on_reactor
async def test_progress(rig: DockerRig, big_image: str) -> None:
    """How much has come of how much is told in words, but not too often."""
    texts: list[str] = []
    begun = rig.clock.seconds()
    await rig.containers.pull(big_image, texts.append)
    assert texts[0] == f"pulling {big_image}"
    assert texts[-1].startswith(f"pulling {big_image}: 4 of 4 layers, 30.0 of 30.0 MB")
    assert len(texts) <= 2 + 4 * (rig.clock.seconds() - begun)


@on_reactor
async def test_only_latest(rig: DockerRig, registry: Registry, client: docker.APIClient) -> None:
    """Without a tag only the image with the tag ``latest`` is pulled."""
    repository = f"{registry.address}/tags/many"
    for tag in ("latest", "other"):
        client.tag(IMAGE, repository, tag)
        client.push(repository, tag)
        client.remove_image(f"{repository}:{tag}")
    await rig.containers.pull(repository, ignore)
    tags = [tag for image in client.images(name=repository) for tag in image["RepoTags"]]
    assert tags == [f"{repository}:latest"]
    await rig.containers.create(rig.spec(image=repository))
    await failing(rig.containers.create(rig.spec(image=f"{repository}:other")), ImageMissing)


@on_reactor
async def test_digest(rig: DockerRig, client: docker.APIClient) -> None:
    """An image can be named by its digest."""
    reference = rig.pushed(IMAGE)
    await rig.containers.pull(reference, ignore)
    digests = client.inspect_image(reference)["RepoDigests"]
    by_digest = next(each for each in digests if each.startswith(reference.rpartition(":")[0] + "@"))
    client.remove_image(reference)
    await rig.containers.pull(by_digest, ignore)
    await rig.containers.create(rig.spec(image=by_digest))


@on_reactor
async def test_bad_reference(rig: DockerRig) -> None:
    """What is no reference fails with the engine's words."""
    for image in ("UPPER/case", "a b", "registry/x@sha256:12", "http://registry/x"):
        error = await failing(rig.containers.pull(image, ignore), PullFailed)
        assert error.image == image


@on_reactor
async def test_nobody_listens(rig: DockerRig) -> None:
    """A registry that is not there is told with the engine's words."""
    error = await failing(rig.containers.pull("127.0.0.1:1/thing", ignore), PullFailed)
    assert "connection refused" in error.reason


@on_reactor
async def test_silence(make_rig: Callable[..., DockerRig], silent: str) -> None:
    """A pull of which nothing comes fails; how long was waited is told."""
    rig = make_rig(pull_inactivity=1)
    error = await failing(rig.containers.pull(f"{silent}/thing", ignore), PullFailed)
    assert error.reason == "nothing was received for 1 s"


@on_reactor
async def test_delays_nobody(make_rig: Callable[..., DockerRig], silent: str) -> None:
    """Pulls that hang, more than there are threads, delay no other call, nor the end."""
    rig = make_rig(pull_threads=2)
    pulls: list[Deferred[None]] = [rig.containers.pull(f"{silent}/{name}", ignore) for name in "abcde"]
    container_id = await rig.containers.create(rig.spec())
    await gatherResults(
        [rig.containers.ping(), rig.containers.start(container_id), rig.containers.inspect(container_id)]
    )
    assert not any(pull.called for pull in pulls)
    begun = rig.clock.seconds()
    await rig.containers.close()
    assert rig.clock.seconds() - begun < 2
    for pull in pulls:
        await failing(pull, EngineUnavailable)


@on_reactor
async def test_queue_is_bounded(make_rig: Callable[..., DockerRig], silent: str) -> None:
    """Who comes when too many wait is told so at once."""
    rig = make_rig(pull_threads=1, waiting=2)
    pulls: list[Deferred[None]] = [rig.containers.pull(f"{silent}/{name}", ignore) for name in "abc"]
    await failing(rig.containers.pull(f"{silent}/d", ignore), EngineUnavailable)
    await rig.containers.close()
    for pull in pulls:
        await failing(pull, EngineUnavailable)


@pytest.fixture
def engine_rig(
    own_dockerd: Callable[..., Dockerd], host_id: str, clean_reactor: Any
) -> Iterator[DockerEngineRig]:
    rig = DockerEngineRig(clean_reactor, own_dockerd(), {"test": host_id}, ping_timeout=1, pull_inactivity=2)
    yield rig
    rig.come_back()
    rig.close()


@on_reactor
async def test_engine_lost(engine_rig: DockerEngineRig, silent: str) -> None:
    """A pull in whose midst the engine hangs or dies can be tried again later."""
    for lose in (engine_rig.hang, engine_rig.go_down):
        await engine_rig.containers.ping()
        pull = engine_rig.containers.pull(f"{silent}/thing", ignore)
        await engine_rig.pass_time(0.3)
        lose()
        await failing(pull, EngineUnavailable)
        engine_rig.come_back()
