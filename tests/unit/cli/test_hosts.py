"""The commands about hosts, with a real leader behind the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

import flynnhost
from flynnhost.cli import words
from flynnhost.cli.exit_codes import ExitCode
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.local import LocalHost
from flynnhost.model import Host
from tests.support.served_host import Run, ServedHost, in_the_reactor, job


class NoWay:
    """A host that is never asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.fixture
def leader(clean_reactor: Any) -> Iterator[Leader]:
    leader = Leader(clean_reactor, lambda: datetime(2020, 1, 1, tzinfo=UTC), 7, "h1", "")
    leader.startService()
    yield leader
    pytest_twisted.blockon(leader.stopService())


@pytest.fixture
def served(clean_reactor: Any, leader: Leader) -> Iterator[ServedHost]:
    """A host that leads, and another one."""
    served = ServedHost(clean_reactor, cluster=leader)
    leader.addr = served.address.netloc
    served.agent.attributes = {"zone": "a", "disk": "ssd"}
    served.agent.resources = {"memory": 8 * 2**30, "cpu": 1500}
    local = LocalHost(served.agent, leader)
    local.startService()
    leader.add_host(Host("h0", addr="192.0.2.1:1113"), NoWay())
    yield served
    pytest_twisted.blockon(local.stopService())
    pytest_twisted.blockon(Deferred.fromCoroutine(served.close()))


def cells(line: str) -> list[str]:
    """What stands in the columns of a line of a table."""
    return [each.strip() for each in line.split("  ") if each.strip()]


# --- list, leader -------------------------------------------------------------


@in_the_reactor
async def test_list(run: Run, served: ServedHost) -> None:
    """Hosts are listed in order, with what they have and how they are."""
    served.add(job("j1"), job("j2"))
    result = await run("list")
    assert (result.exit_code, result.stderr) == (0, "")
    head, first, second = map(cells, result.stdout.splitlines())
    assert head == ["ID", "STATE", "ADDRESS", "JOBS", "MEMORY", "CPUS", "ATTRIBUTES"]
    assert first == ["h0", "up", "192.0.2.1:1113", "0"]
    about = ["h1", "up, leads", served.address.netloc, "2", "8.0 GiB", "1.5", "disk=ssd, zone=a"]
    assert second == about
    assert (await run("list", "-q")).stdout == "h0\nh1\n"


@in_the_reactor
async def test_list_json(run: Run, served: ServedHost, leader: Leader) -> None:
    """In JSON each host has all fields; drained and lost ones are told."""
    assert (await run("drain", "h1")).exit_code == 0
    leader._membership.lost("h0", leader._membership.command_link("h0"))
    assert json.loads((await run("list", "-o", "json")).stdout) == [
        {"id": "h0", "state": "down", "leads": False, "addr": "192.0.2.1:1113", "jobs": 0}
        | {"resources": {}, "attributes": {}},
        {"id": "h1", "state": "draining", "leads": True, "addr": served.address.netloc, "jobs": 0}
        | {"resources": {"memory": 8 * 2**30, "cpu": 1500}, "attributes": {"zone": "a", "disk": "ssd"}},
    ]


@in_the_reactor
async def test_list_is_not_whole(run: Run, served: ServedHost, leader: Leader) -> None:
    """A list that may be short says so, and so does the exit code."""
    leader._membership._missing = {"h9"}
    result = await run("list", "-q")
    assert (result.exit_code, result.stdout) == (ExitCode.NOT_NOW, "h0\nh1\n")
    assert "some hosts have not reported" in result.stderr


@in_the_reactor
async def test_leader(run: Run, served: ServedHost) -> None:
    lines = (await run("leader")).stdout.splitlines()
    assert lines[0].split() == ["ID", "ADDRESS", "TERM", "ELECTED"]
    assert lines[1].split()[:3] == ["h1", served.address.netloc, "7"]
    assert lines[1].endswith(" days ago")
    assert (await run("leader", "-q")).stdout == "h1\n"
    told = json.loads((await run("leader", "-o", "json")).stdout)
    assert told == {
        "id": "h1",
        "addr": served.address.netloc,
        "term": 7,
        "since": "2020-01-01T00:00:00Z",
    }


# --- drain --------------------------------------------------------------------


@in_the_reactor
async def test_drain(run: Run, served: ServedHost) -> None:
    """A host is drained, and again not; one that is not there is told."""
    assert (await run("drain", "h1")).output == ""
    assert served.agent.draining
    result = await run("undrain", "h1", "h9")
    assert not served.agent.draining
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "no host h9 in this cluster" in result.stderr
    assert (await run("drain")).exit_code == ExitCode.USAGE


# --- attributes ---------------------------------------------------------------


@in_the_reactor
async def test_attributes(run: Run, served: ServedHost) -> None:
    """They are told, set and removed, of the host that is asked or of another one."""
    assert (await run("attributes", "get")).stdout.split() == ["NAME", "VALUE", "disk", "ssd", "zone", "a"]
    assert (await run("attributes", "get", "-q")).stdout == "disk\nzone\n"
    assert (await run("attributes", "get", "zone")).stdout == "a\n"
    result = await run("attributes", "set", "a/b=x=y", "empty=", "--host", "h1")
    assert (result.exit_code, result.output) == (0, "")
    assert served.agent.attributes == {"zone": "a", "disk": "ssd", "a/b": "x=y", "empty": ""}
    assert (await run("attributes", "rm", "zone", "disk")).exit_code == 0
    told = json.loads((await run("attributes", "get", "--output", "json", "--host", "h1")).stdout)
    assert told == {"a/b": "x=y", "empty": ""}
    assert (await run("attributes", "get", "empty", "-o", "json")).stdout == '""\n'


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("get", "none"), ExitCode.NOT_FOUND, "the host has no attribute 'none'"),
        (("rm", "none"), ExitCode.NOT_FOUND, "no attribute 'none'"),
        (("set", "zone"), ExitCode.USAGE, "'zone' is not of the form NAME=VALUE"),
        (("set", "zone=b", "=b"), ExitCode.USAGE, "'=b' is not of the form NAME=VALUE"),
        (("set",), ExitCode.USAGE, "Missing argument"),
        (("set", "zone=" + "x" * 4001), ExitCode.FAILED, "value must not have more than 4000 bytes"),
        (("get", "--host", "h9"), ExitCode.NOT_FOUND, "no host h9 in this cluster"),
    ],
)
@in_the_reactor
async def test_attributes_refused(
    run: Run, served: ServedHost, words: tuple[str, ...], code: int, text: str
) -> None:
    """What can't be is told in a line, and changes nothing."""
    result = await run("attributes", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr
    assert served.agent.attributes == {"zone": "a", "disk": "ssd"}


@in_the_reactor
async def test_attributes_of_a_host_that_is_down(run: Run, served: ServedHost, leader: Leader) -> None:
    """It is told without waiting for it."""
    leader._membership.lost("h0", leader._membership.command_link("h0"))
    result = await run("attributes", "get", "--host", "h0")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "host h0 is down" in result.stderr


# --- version ------------------------------------------------------------------


@in_the_reactor
async def test_version(run: Run, served: ServedHost) -> None:
    """That of the program, and that of the host as far as it can be asked."""
    served.facts = {"version": "9.9"}
    client, host = (await run("version")).stdout.splitlines()
    assert client.split() == ["client", flynnhost.__version__]
    assert host.split() == ["host", "9.9", "h1", "at", served.address.url]
    assert json.loads((await run("version", "-o", "json")).stdout) == {
        "client": {"version": flynnhost.__version__},
        "host": {"version": "9.9", "id": "h1", "url": served.address.url},
    }
    only = await run("version", "--client", "-q")
    assert only.stdout == f"{flynnhost.__version__}\n"


@in_the_reactor
async def test_version_without_a_host(run: Run) -> None:
    gone = {"FLYNN_HOST_URL": "http://127.0.0.1:1"}
    result = await run("version", env=gone)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.stdout.split() == ["client", flynnhost.__version__]
    assert (await run("version", "--client", env=gone)).exit_code == 0


# --- words --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, ""),
        (-1, ""),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * 1024, "10 KiB"),
        (1.5 * 2**30, "1.5 GiB"),
        (2**70, "1048576 PiB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert words.size(count) == text


def test_pairs() -> None:
    """They are in order, and on one line."""
    assert words.pairs({"b": "1\n2", "a": ""}) == "a=, b=1 2"
    assert words.cpus(0) == ""
