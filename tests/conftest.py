"""What all tests share: engines to talk to, and nothing logged goes unnoticed."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import docker
import pytest
import pytest_twisted
from attrs import define, field
from docker.utils import kwargs_from_env
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.agent.spec import host_labels
from tests.support import dockerd as dockerd_support
from tests.support.busybox import IMAGE
from tests.support.dockerd import Dockerd, load_busybox
from tests.support.waiting import wait_until

pytest.register_assert_rewrite(
    "flynnhost.testing.container_attach_contract",
    "flynnhost.testing.container_contract",
    "flynnhost.testing.container_engine_contract",
    "flynnhost.testing.container_exec_contract",
    "flynnhost.testing.container_output_contract",
    "flynnhost.testing.container_rig",
)

# --- logged failures ----------------------------------------------------------


@implementer(ILogObserver)
@define(eq=False)
class LoggedFailures:
    """The failures that were logged in a test; those that remain fail it."""

    _seen: list[Failure] = field(factory=list)

    def flush(self, *kinds: type[BaseException]) -> list[Failure]:
        """Take out the failures of these kinds, or all: the test has expected them."""
        gc.collect()
        flushed = [each for each in self._seen if not kinds or each.check(*kinds)]
        self._seen[:] = [each for each in self._seen if each not in flushed]
        return flushed

    def remaining(self) -> list[Failure]:
        """Those that nobody expected; also of Deferreds that nobody holds any more."""
        gc.collect()
        return list(self._seen)

    def __call__(self, event: LogEvent) -> None:
        """Observe the log."""
        failure = event.get("log_failure")
        if failure is not None:
            self._seen.append(failure)


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections after each test, which makes them cheap."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[LoggedFailures]:
    """Fails a test in which a failure was logged or a failed Deferred was dropped.

    A test that expects some calls ``logged_failures.flush(SomeError)``.
    """
    failures = LoggedFailures()
    globalLogPublisher.addObserver(failures)
    try:
        yield failures
        remaining = failures.remaining()
    finally:
        globalLogPublisher.removeObserver(failures)
    if remaining:
        pytest.fail("logged: " + "\n".join(each.getTraceback() for each in remaining))


# --- the reactor --------------------------------------------------------------


@pytest.fixture
def clean_reactor() -> Iterator[Any]:
    """The global reactor; the test fails if it leaves timed calls or connections behind."""
    from twisted.internet import reactor

    before = _activity(reactor)
    yield reactor
    deadline = time.monotonic() + 2
    while (left := _activity(reactor) - before) and time.monotonic() < deadline:
        pytest_twisted.blockon(deferLater(reactor, 0.01))
    if left:
        pytest.fail(f"left on the reactor: {sorted(map(str, left))}")


def _activity(reactor: Any) -> set[Any]:
    """All that goes on but the reactor's own affairs."""
    found = {*reactor.getDelayedCalls(), *reactor.getReaders(), *reactor.getWriters()}
    return {each for each in found if not type(each).__name__.endswith("Waker")}


# --- engines ------------------------------------------------------------------


class Engine(Protocol):
    """A Docker engine for tests; ``Dockerd`` is one, with more to it."""

    @property
    def url(self) -> str:
        """Where it listens."""

    def client(self, timeout: float = 60.0) -> docker.APIClient:
        """A new docker-py client of it; close it after use."""


@define
class GivenEngine:
    """An engine that was there before the tests, and is not ours to stop."""

    url: str

    def client(self, timeout: float = 60.0) -> docker.APIClient:
        """A new docker-py client of it; close it after use."""
        return docker.APIClient(self.url, timeout=timeout)


def _given_engine() -> GivenEngine | None:
    engine = GivenEngine(kwargs_from_env().get("base_url") or "unix:///var/run/docker.sock")
    try:
        client = engine.client(timeout=10)
        if not client.images(name=IMAGE):
            load_busybox(client)
        client.close()
    except (docker.errors.DockerException, OSError):
        return None
    return engine


def _own_engine(options: tuple[str, ...] = ()) -> Dockerd:
    # Not below pytest's own folder: the path of a socket must be short.
    directory = Path(tempfile.mkdtemp(prefix="fh-dockerd-"))
    return Dockerd(directory, options)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Engine]:
    """A Docker engine that all tests share, with ``busybox:latest``: ``.url``, ``.client()``.

    Tests leave it as it was and clean up after themselves, for which there is ``host_id``.
    Without the means to start one, the engine of ``DOCKER_HOST`` or of this machine serves.
    """
    missing = dockerd_support.missing()
    if missing:
        given = _given_engine()
        if given is None:
            pytest.fail(f"these tests need Docker: {missing}")
        yield given
        return
    engine = _own_engine()
    try:
        engine.start()
        yield engine
    finally:
        engine.destroy()


@pytest.fixture(scope="module")
def own_dockerd() -> Iterator[Callable[..., Dockerd]]:
    """Starts engines that a module's tests may pause, kill and restart: ``own_dockerd()``.

    Arguments are more options for dockerd, such as ``--live-restore``.
    """
    missing = dockerd_support.missing()
    engines: list[Dockerd] = []

    def start(*options: str) -> Dockerd:
        if missing:
            pytest.fail(f"these tests need a dockerd of their own: {missing}")
        engine = _own_engine(options)
        engines.append(engine)
        engine.start()
        return engine

    yield start
    for engine in reversed(engines):
        engine.destroy()


@pytest.fixture
def host_id(request: pytest.FixtureRequest) -> Iterator[str]:
    """A host ID for this test only.

    All containers of the shared engine that bear its label are removed after the test.
    """
    host_id = f"t{uuid.uuid4().hex[:12]}"
    yield host_id
    if "dockerd" in request.fixturenames:
        remove_containers(request.getfixturevalue("dockerd"), host_labels(host_id))


def remove_containers(engine: Engine, labels: Any) -> None:
    """Remove all containers of an engine that have these labels."""
    client = engine.client()
    try:
        wanted = [f"{key}={value}" for key, value in labels.items()]

        def none_left() -> bool:
            left = client.containers(all=True, filters={"label": wanted})
            for container in left:
                # 404 or 409: a host that has just ended was removing it itself.
                with suppress(docker.errors.APIError):
                    client.remove_container(container["Id"], force=True, v=True)
            return not left

        wait_until(none_left, "the removal of all containers", within=30)
    finally:
        client.close()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder with a path short enough for sockets; removed after the test."""
    directory = Path(tempfile.mkdtemp(prefix="fh-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
