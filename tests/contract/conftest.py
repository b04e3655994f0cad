"""Docker, a registry and etcd for the tests of contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flynnhost.agent.spec import host_labels
from tests.conftest import Engine
from tests.support import etcd as etcd_support
from tests.support import registry as registry_support
from tests.support.docker_rig import DockerRig
from tests.support.etcd import EtcdCluster
from tests.support.registry import Registry

pytest.register_assert_rewrite(
    "flynnhost.testing.etcd_contract",
    "flynnhost.testing.etcd_contract_rig",
    "flynnhost.testing.etcd_contract_watch",
)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An image registry on loopback that all tests share: ``.address``."""
    missing = registry_support.missing()
    if missing:
        pytest.fail(f"these tests need a registry: {missing}")
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture
def make_rig(
    dockerd: Engine, registry: Registry, host_id: str, clean_reactor: Any
) -> Iterator[Callable[..., DockerRig]]:
    """Makes rigs on the shared engine; arguments are those of ``DockerClient``."""
    rigs: list[DockerRig] = []

    def make(**client: Any) -> DockerRig:
        rig = DockerRig(clean_reactor, dockerd.url, host_labels(host_id), registry, **client)
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., DockerRig]) -> DockerRig:
    """A rig on the shared engine."""
    return make_rig()


@pytest.fixture(scope="session")
def make_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., EtcdCluster]]:
    """Starts etcd clusters that run until the end of the tests; arguments are those of ``EtcdCluster``."""
    missing = etcd_support.missing()
    clusters: list[EtcdCluster] = []

    def make(**options: Any) -> EtcdCluster:
        if missing:
            pytest.fail(f"these tests need etcd: {missing}")
        cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"), **options)
        clusters.append(cluster)
        cluster.start()
        return cluster

    yield make
    for cluster in clusters:
        cluster.stop()


@pytest.fixture(scope="session")
def etcd(make_etcd: Callable[..., EtcdCluster]) -> EtcdCluster:
    """An etcd of one member that all tests share. Who disturbs it brings it back."""
    return make_etcd()


@pytest.fixture(scope="session")
def etcd_of_three(make_etcd: Callable[..., EtcdCluster]) -> EtcdCluster:
    """An etcd of three members that all tests share. Who disturbs it brings it back."""
    return make_etcd(size=3)
