"""A host's API in memory."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.site import APISite, build_site
from flynnhost.model import Host
from flynnhost.testing.agent import FakeAgent, FakeCluster
from flynnhost.testing.http_connection import MemoryConnection


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def agent(clock: Clock) -> FakeAgent:
    return FakeAgent(clock)


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.add_host(Host("h1", {"zone": "a"}))
    return cluster


@pytest.fixture
def served(clock: Clock, agent: FakeAgent, cluster: FakeCluster) -> tuple[APISite, OpenStreams]:
    return build_site(clock, agent, cluster)


@pytest.fixture
def site(served: tuple[APISite, OpenStreams]) -> APISite:
    return served[0]


@pytest.fixture
def streams(served: tuple[APISite, OpenStreams]) -> OpenStreams:
    return served[1]


@pytest.fixture
def client(clock: Clock, site: APISite) -> MemoryConnection:
    return MemoryConnection(clock, site)
