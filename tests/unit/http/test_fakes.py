"""The host and the cluster in memory have all that the real ones have."""

from __future__ import annotations

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from flynnhost.interfaces import IAgent, ICluster
from flynnhost.testing.agent import FakeAgent, FakeCluster


def test_interfaces() -> None:
    """They provide what they stand for."""
    assert verifyObject(IAgent, FakeAgent(Clock()))
    assert verifyObject(ICluster, FakeCluster())
