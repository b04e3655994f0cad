"""Hosts as processes, and what they need."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.support import registry as registry_support
from tests.support.host_containers import HostContainers
from tests.support.host_process import HostProcess
from tests.support.registry import Registry

StartHost = Callable[..., HostProcess]


@pytest.fixture
def make_host(tmp_path: Path, host_id: str) -> Iterator[StartHost]:
    """Makes hosts, not started: ``make_host(engine, *options)``; their logs are shown if the test fails.

    ``host_id`` and ``name`` tell several apart; hosts of the same name share their state.
    """
    hosts: list[HostProcess] = []

    def make(url: str, *options: str, host_id: str = host_id, name: str = "h", **more: object) -> HostProcess:
        host = HostProcess(url, host_id, tmp_path / name, options, **more)  # type: ignore[arg-type]
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.end()
        _show(host.log(all_runs=True), host)


@pytest.fixture(scope="session")
def _shared(dockerd: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    directory = tmp_path_factory.mktemp("host")
    host = HostProcess(dockerd.url, f"t{uuid.uuid4().hex[:12]}", directory)
    yield host
    host.end()
    HostContainers(dockerd, host.host_id).remove()


@pytest.fixture
def host(_shared: HostProcess, dockerd: Engine) -> Iterator[HostProcess]:
    """A host on the shared engine that all tests share who do it no harm.

    The containers of its jobs are removed after the test.
    """
    if not _shared.alive:
        _shared.start()
    begin = len(_shared.log())
    yield _shared
    HostContainers(dockerd, _shared.host_id).remove()
    _show(_shared.log()[begin:], _shared)


@pytest.fixture
def containers(host: HostProcess, dockerd: Engine) -> HostContainers:
    """The containers of ``host``."""
    return HostContainers(dockerd, host.host_id)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An image registry on loopback."""
    missing = registry_support.missing()
    if missing:
        pytest.fail(f"these tests need a registry: {missing}")
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.start()
    yield registry
    registry.stop()


def _show(log: str, host: HostProcess) -> None:
    """Print a log without what is asked all the time; pytest shows it if the test failed."""
    lines = [line for line in log.splitlines() if not ("APISite#debug] GET" in line and "with 200" in line)]
    print(f"--- the log of {host.host_id} ({host.log_path}) ---", *lines[-200:], sep="\n")
