"""Clusters of several hosts, which tests disturb in every way."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator

import pytest

from tests.conftest import Engine
from tests.support import etcd as etcd_support
from tests.support.cluster_rig import ClusterRig
from tests.support.container_history import ContainerHistory
from tests.support.etcd import EtcdCluster

MakeCluster = Callable[..., ClusterRig]

_FAILURE = re.compile(r"Traceback \(most recent|#critical\]|Unhandled")


_rigs: list[ClusterRig] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """End all clusters when the next test is none of these, for it to have the machine to itself."""
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path.parent != item.path.parent:
            _end_all()


def _end_all() -> None:
    while _rigs:
        _rigs.pop().end()


@pytest.fixture(scope="session")
def make_cluster(dockerd: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeCluster]:
    """Starts clusters: ``make_cluster(members, size)``, with so many members of etcd and hosts."""
    missing = etcd_support.missing()
    if missing:
        pytest.fail(f"these tests need etcd: {missing}")

    def make(members: int = 1, size: int = 3) -> ClusterRig:
        directory = tmp_path_factory.mktemp("cluster")
        rig = ClusterRig(directory, dockerd, EtcdCluster(directory / "etcd", members), size)
        _rigs.append(rig)
        rig.start()
        return rig

    yield make
    _end_all()


@pytest.fixture(scope="session")
def _shared() -> list[ClusterRig]:
    """The cluster that tests share, as soon as one of them has asked for it."""
    return []


@pytest.fixture
def cluster(_shared: list[ClusterRig], make_cluster: MakeCluster) -> Iterator[ClusterRig]:
    """Three hosts on one etcd, without jobs; whatever a test does to it is undone after it."""
    if not _shared or _shared[0].over:
        _shared[:] = [make_cluster()]
    yield from disturbed(_shared[0])


@pytest.fixture
def history(cluster: ClusterRig, dockerd: Engine) -> Iterator[ContainerHistory]:
    """What runs in the cluster from now on."""
    history = ContainerHistory(dockerd, [host.host_id for host in cluster.hosts])
    history.start()
    yield history
    history.stop()


def disturbed(rig: ClusterRig) -> Iterator[ClusterRig]:
    """A cluster for one test, which may do anything to it. The logs are shown if the test fails.

    One that can't be restored afterwards is ended, for the next test to have a new one.
    """
    rig.restore()
    begins = {host.host_id: len(host.log(all_runs=True)) for host in rig.hosts}
    try:
        yield rig
    finally:
        logs = {host.host_id: host.log(all_runs=True)[begins[host.host_id] :] for host in rig.hosts}
        for host_id, log in logs.items():
            _show(host_id, log)
        try:
            rig.restore()
            rig.remove_jobs()
        except BaseException:
            rig.end()
            raise
    failed = [line for log in logs.values() for line in log.splitlines() if _FAILURE.search(line)]
    assert failed == [], "whatever happens to a host, nothing fails within it"


def _show(host_id: str, log: str) -> None:
    lines = [line for line in log.splitlines() if not ("APISite#debug]" in line and "with 200" in line)]
    print(f"--- the log of {host_id} ---", *lines[-150:], sep="\n")
