"""How the API listens."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.testing import MemoryReactorClock

from flynnhost.errors import InvalidField
from flynnhost.http.listener import BACKLOG, Listener
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.site import APISite
from tests.support.reactor import on_reactor


def listening(description: str, site: APISite) -> MemoryReactorClock:
    reactor = MemoryReactorClock()
    Listener(reactor, (description,), site, OpenStreams()).privilegedStartService()
    return reactor


def test_a_whole_cluster_may_connect_at_once(site: APISite) -> None:
    """Connections wait to be accepted, as many as may, unless an operator says otherwise."""
    ((port, _, backlog, interface),) = listening("tcp:1113:interface=127.0.0.1", site).tcpServers
    assert (port, backlog, interface) == (1113, BACKLOG, "127.0.0.1")
    assert listening("tcp:1113:backlog=7", site).tcpServers[0][2] == 7
    assert listening("unix:/run/flynn-host.sock", site).unixServers[0][2] == BACKLOG


@on_reactor
async def test_addresses(site: APISite, tmp_path: Path) -> None:
    """It tells where it listens."""
    socket = tmp_path / "api.sock"
    given = ("tcp:0:interface=127.0.0.1", "tcp:0:interface=\\:\\:1", f"unix:{socket}")
    listener = Listener(reactor, given, site, OpenStreams())
    listener.privilegedStartService()
    ipv4, ipv6, path = listener.addresses
    assert ipv4 == f"127.0.0.1:{listener.port}"
    assert ipv6.startswith("[::1]:")
    assert path == str(socket)
    await listener.stopService()
    assert listener.addresses == []


@pytest.mark.parametrize("description", ["tcp", "tcp:", "tcp:x", "tcp:1:y=1", "nothing:1", ""])
def test_a_bad_description_is_told_as_it_was_given(description: str, site: APISite) -> None:
    with pytest.raises(InvalidField, match=f"listen '{description}' is not an endpoint description"):
        Listener(MemoryReactorClock(), (description,), site, OpenStreams())
