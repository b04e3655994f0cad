"""Commands as they are typed, and a host to ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from flynnhost.cli.main import main
from flynnhost.model import Host
from tests.support.served_host import Run, ServedHost


@pytest.fixture
def served(clean_reactor: Any) -> Iterator[ServedHost]:
    """A host."""
    served = ServedHost(clean_reactor)
    yield served
    pytest_twisted.blockon(Deferred.fromCoroutine(served.close()))


@pytest.fixture
def other(served: ServedHost) -> Iterator[ServedHost]:
    """Another host of the cluster."""
    other = ServedHost(served.reactor, "h2")
    served.cluster.add_host(Host("h2", addr=other.address.netloc))
    yield other
    pytest_twisted.blockon(Deferred.fromCoroutine(other.close()))


@pytest.fixture
def run(served: ServedHost) -> Run:
    """Runs a command against the host, in a thread, for the host to answer meanwhile."""

    def run(*args: str, **more: Any) -> Deferred[Result]:
        env = {"FLYNN_HOST_URL": served.address.url, **more.pop("env", {})}
        return deferToThread(CliRunner().invoke, main, args, prog_name="flynn-host", env=env, **more)

    return run
