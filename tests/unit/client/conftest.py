"""A host to ask, and both clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from flynnhost.client.blocking import BlockingClient
from flynnhost.client.calls import Call
from flynnhost.client.client import Client
from tests.support.served_host import ServedHost

Ask = Callable[[Call[Any]], Awaitable[Any]]


@pytest.fixture
def served(clean_reactor: Any) -> Iterator[ServedHost]:
    """A host."""
    served = ServedHost(clean_reactor)
    yield served
    pytest_twisted.blockon(Deferred.fromCoroutine(served.close()))


@pytest.fixture
def client(served: ServedHost) -> Iterator[Client]:
    """The client for programs on Twisted."""
    client = Client(served.reactor, served.address)
    yield client
    pytest_twisted.blockon(client.close())


@pytest.fixture(params=["blocking", "twisted"])
def ask(request: pytest.FixtureRequest, served: ServedHost) -> Iterator[Ask]:
    """Asks the host, by either client."""
    if request.param == "twisted":
        yield request.getfixturevalue("client").run
        return
    blocking = BlockingClient(served.address)
    yield lambda call: deferToThread(blocking.run, call)
    blocking.close()
