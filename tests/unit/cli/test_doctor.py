"""What doctor finds, and how it tells it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from attrs import evolve
from click.testing import CliRunner
from msgspec.structs import replace

from flynnhost.cli.checks import cluster, disks, engine, etcd, host, ports, subject
from flynnhost.cli.checks.finding import Finding, State, found
from flynnhost.cli.checks.subject import Options, Subject, Told, ask, examine, is_here
from flynnhost.cli.main import main
from flynnhost.client.address import HostAddress
from flynnhost.client.errors import BadAnswer, HostUnreachable
from flynnhost.client.status import Disk, Engine, Etcd, HostStatus, Ports, Process
from flynnhost.client.values import Check
from flynnhost.errors import InvalidField
from flynnhost.model import Host
from tests.support.served_host import Run, ServedHost, in_the_reactor

GIB = 2**30
ADDRESS = HostAddress("192.0.2.7", 1113)

ENGINE = Engine(
    url="tcp://192.0.2.7:2375",
    version="20.10.24",
    api_version="1.41",
    cgroup_version="2",
    memory_limit=True,
    cpu_limit=True,
    pids_limit=True,
    ip_forwarding=True,
    bridge_iptables=True,
    disk=Disk("/var/lib/docker", 100 * GIB, 50 * GIB),
)
HEALTHY = HostStatus(
    "h1",
    version="1.0",
    checks=(Check("journal", True, "is open"), Check("engine", True, "answers")),
    ports=Ports(55000, 55099),
    listen=("0.0.0.0:1113",),
    solo=True,
    resources={"memory": 8 * GIB},
    state_dir=Disk("/state", 100 * GIB, 50 * GIB),
    process=Process(1, 100 * 2**20, 50, 20_000),
    engine=ENGINE,
)


def told(status: HostStatus = HEALTHY, *, here: bool = False, **options: Any) -> Subject:
    return Subject(ADDRESS, here, Told(status), None, Options(**options))


def silent(*, here: bool = True, bad: bool = False, **options: Any) -> Subject:
    problem = BadAnswer(ADDRESS.url, "no JSON") if bad else HostUnreachable(ADDRESS.url, "refused")
    return Subject(ADDRESS, here, None, problem, Options(**options))


def states(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    """What is found, in short; what is wrong has an advice."""
    all_found = list(findings)
    assert all(bool(each.advice) is (each.state is not State.OK) for each in all_found)
    return [(each.name, each.state.value) for each in all_found]


# --- the host -----------------------------------------------------------------


def test_healthy_host() -> None:
    assert states(host.check_host(told())) == [("host", "ok"), ("journal", "ok")]
    assert states(host.check_process(told())) == [("open files", "ok"), ("memory", "ok")]


@pytest.mark.parametrize(
    ("checks", "draining", "expected"),
    [
        ((Check("journal", False, "closed"),), False, [("journal", "failed")]),
        ((Check("reconciled", False, "not yet"),), False, [("reconciled", "warning")]),
        ((Check("reconciled", True, "done"),), False, []),
        ((), True, [("draining", "warning")]),
    ],
)
def test_host_that_is_not_ready(
    checks: tuple[Check, ...], draining: bool, expected: list[tuple[str, str]]
) -> None:
    status = replace(HEALTHY, checks=checks, draining=draining)
    assert states(host.check_host(told(status)))[1:] == expected


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("bad", [True, False])
def test_no_host(here: bool, bad: bool) -> None:
    (finding,) = host.check_host(silent(here=here, bad=bad))
    assert (finding.name, finding.state) == ("host", State.FAILED)
    assert ADDRESS.url in finding.text
    assert ("ss -ltnp" in finding.advice) is bad


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (Process(1, 3 * GIB, 5, 20_000), [("open files", "ok"), ("memory", "warning")]),
        (Process(1, 0, 19_000, 20_000), [("open files", "warning")]),
        (Process(1, 0, 5, 1024), [("open files", "warning")]),
        (Process(), []),
    ],
)
def test_process(process: Process, expected: list[tuple[str, str]]) -> None:
    assert states(host.check_process(told(replace(HEALTHY, process=process)))) == expected


@pytest.mark.parametrize(("limit", "state"), [(1024, "warning"), (10_000, "ok"), (-1, "ok")])
def test_limit_of_a_host_to_be_started(monkeypatch: pytest.MonkeyPatch, limit: int, state: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert states(host.check_process(silent())) == [("open files", state)]
    assert states(host.check_process(silent(here=False))) == []


@in_the_reactor
async def test_own_address(served: ServedHost) -> None:
    """Whether it is reached where others are told, and whether it is itself."""
    from twisted.internet.threads import deferToThread

    async def look(status: HostStatus) -> list[tuple[str, str]]:
        return await deferToThread(lambda: states(host.check_external(told(status))))

    own = replace(HEALTHY, addr=served.address.netloc)
    assert await look(own) == [("address", "ok")]
    assert await look(replace(own, id="h2")) == [("address", "failed")]
    gone = replace(HEALTHY, addr="127.0.0.1:1")
    assert await look(gone) == [("address", "ok")]
    assert await look(replace(gone, solo=False)) == [("address", "failed")]
    assert await look(replace(gone, addr="127.0.0.1:0")) == [("address", "failed")]
    assert states(host.check_external(told())) == states(host.check_external(silent())) == []


# --- disks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disk", "state"),
    [
        (Disk("/d", 100 * GIB, 3 * GIB), State.OK),
        (Disk("/d", 100 * GIB, GIB), State.WARNING),
        (Disk("/d", 4 * GIB, GIB), State.OK),
        (Disk("/d", 4 * GIB, GIB // 4), State.WARNING),
        (Disk("/d", 100 * GIB, 2**20), State.FAILED),
        (Disk("/d", 100 * GIB, 0), State.FAILED),
        (Disk("/d", error="hangs"), State.WARNING),
        (Disk(), State.WARNING),
    ],
)
def test_room(disk: Disk, state: State) -> None:
    assert disks.room("disk", disk, "Free some.").state is state


def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a host that runs it tells; for another one the directory that it would have is looked at."""
    assert states(disks.check_state_dir(told())) == [("state directory", "ok")]
    assert states(disks.check_engine_disk(told())) == [("engine disk", "ok")]
    assert states(disks.check_engine_disk(told(replace(HEALTHY, engine=Engine())))) == []
    (finding,) = disks.check_state_dir(silent(state_dir=str(tmp_path / "a" / "b")))
    assert str(tmp_path / "a" / "b") in finding.text
    monkeypatch.setattr(os, "access", lambda _, mode: mode == os.R_OK)
    assert ("state directory", "warning") in states(disks.check_state_dir(silent(state_dir="/")))
    assert (
        states(disks.check_state_dir(silent(here=False))) == states(disks.check_engine_disk(silent())) == []
    )


# --- the engine ---------------------------------------------------------------


ALL_WELL = [("engine", "ok"), ("limits", "ok"), ("network", "ok")]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, {}),
        ({"version": "19.03.1"}, {"engine": "warning"}),
        ({"version": "27.0.0-rc.1"}, {}),
        ({"memory_limit": False}, {"limits": "warning"}),
        ({"pids_limit": False, "cgroup_version": ""}, {"limits": "warning"}),
        ({"ip_forwarding": False}, {"network": "warning"}),
        ({"bridge_iptables": False}, {"network": "warning"}),
    ],
)
def test_engine(changes: dict[str, Any], wrong: dict[str, str]) -> None:
    status = replace(HEALTHY, engine=replace(ENGINE, **changes))
    assert states(engine.check_engine(told(status))) == list({**dict(ALL_WELL), **wrong}.items())


def test_engine_that_does_not_serve() -> None:
    gone = replace(HEALTHY, checks=(Check("engine", False, "its events don't flow"),))
    (finding,) = engine.check_engine(told(gone))
    assert (finding.state, "its events don't flow" in finding.text) == (State.FAILED, True)
    new = replace(HEALTHY, engine=Engine(url="unix:///d"))
    assert states(engine.check_engine(told(new))) == [("engine", "ok")]


def test_engine_without_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked itself, as far as one may."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(path))
        asked = silent(docker=f"unix://{path}")
        assert states(engine.check_engine(asked)) == [("engine", "failed")]
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert states(engine.check_engine(asked)) == [("engine", "warning")]
    assert states(engine.check_engine(silent(here=False))) == []


@pytest.mark.parametrize(
    ("program", "state"),
    [("exit 0", "ok"), ("exit 1", "warning"), ("exec sleep 60", "warning"), (None, "warning")],
)
def test_iptables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, state: str) -> None:
    """Docker's rules are there, or not; who may not ask is told nothing."""
    iptables = tmp_path / "iptables"
    if program is not None:
        iptables.write_text(f"#!/bin/sh\n{program}\n")
        iptables.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: program and str(iptables))
    monkeypatch.setattr(engine, "ASK_WITHIN", 0.3)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert states(engine.check_iptables(silent())) == [("iptables", state)]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert states(engine.check_iptables(silent())) == ([] if program else [("iptables", "warning")])
    assert states(engine.check_iptables(told(here=True))) == []  # its engine is on another machine


# --- etcd ---------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts something that answers as etcd does, and gives its URL."""
    servers: list[HTTPServer] = []

    def start(
        health: bytes = b'{"health":"true"}', version: str = "3.5.1", date: datetime | None = None
    ) -> str:
        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = health if self.path == "/health" else json.dumps({"etcdserver": version}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string((date or datetime.now(UTC)).timestamp())

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        servers.append(HTTPServer(("127.0.0.1", 0), Answers))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


NOBODY = "http://127.0.0.1:1"


def clustered(*urls: str, answers: bool = True) -> Subject:
    return told(replace(HEALTHY, solo=False, etcd=Etcd(urls, answers, 4.0, 5)))


def test_etcd(serve: Callable[..., str]) -> None:
    """What the host says of it, and what its members say themselves."""
    url = serve()
    assert states(etcd.check_etcd(told())) == [("etcd", "ok")]
    assert states(etcd.check_etcd(silent(solo=True))) == [("etcd", "ok")]
    assert states(etcd.check_etcd(silent())) == []
    assert states(etcd.check_etcd(clustered(url))) == [("etcd", "ok"), ("etcd members", "ok")]
    assert states(etcd.check_etcd(clustered("https://192.0.2.1:1"))) == [("etcd", "ok")]
    assert states(etcd.check_etcd(clustered(url, answers=False)))[0] == ("etcd", "failed")
    assert states(etcd.check_etcd(silent(etcd=(url,)))) == [("etcd members", "ok")]


def test_members(serve: Callable[..., str]) -> None:
    """A few that are of no use are a warning, half of them a failure, unless the host reaches them."""
    url = serve()
    assert states(etcd.check_etcd(silent(etcd=(url, url, NOBODY)))) == [("etcd members", "warning")]
    assert states(etcd.check_etcd(silent(etcd=(url, NOBODY)))) == [("etcd members", "failed")]
    assert states(etcd.check_etcd(clustered(NOBODY)))[1:] == [("etcd members", "warning")]


@pytest.mark.parametrize(
    ("answer", "state", "word"),
    [
        ({"health": b'{"health":"false","reason":"no leader"}'}, "failed", "no leader"),
        ({"health": b"<html>"}, "failed", "does not answer as etcd"),
        ({"health": b"[]"}, "failed", "does not answer as etcd"),
        ({"version": "3.3.9"}, "failed", "too old"),
        ({"date": datetime.now(UTC) - timedelta(hours=1)}, "warning", "-36"),
    ],
)
def test_member_with_a_fault(
    serve: Callable[..., str], answer: dict[str, Any], state: str, word: str
) -> None:
    findings = list(etcd.check_etcd(silent(etcd=(serve(**answer),))))
    assert (findings[-1].state.value, word in findings[-1].text) == (state, True)


# --- ports --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "reserved", "state"),
    [
        ("32768\t60999\n", "\n", "warning"),
        ("32768\t60999\n", "55000-55099\n", "ok"),
        ("32768\t60999\n", "1,55000-55050,55051-55099\n", "ok"),
        ("32768\t60999\n", "55000-55098\n", "warning"),
        ("32768\t54999\n", "\n", "ok"),
        ("55100\t60999\n", "\n", "ok"),
        ("odd", "\n", "warning"),
    ],
)
def test_job_ports(tmp_path: Path, system: str, reserved: str, state: str) -> None:
    (tmp_path / "ip_local_port_range").write_text(system)
    (tmp_path / "ip_local_reserved_ports").write_text(reserved)
    assert states(ports.check_job_ports(told(here=True), tmp_path)) == [("job ports", state)]
    assert states(ports.check_job_ports(told(), tmp_path)) == []


def test_job_ports_of_another_system(tmp_path: Path) -> None:
    assert states(ports.check_job_ports(silent(), tmp_path / "none")) == [("job ports", "warning")]


def test_api_port() -> None:
    assert states(ports.check_api_port(told())) == [("API port", "ok")]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = HostAddress("127.0.0.1", taken.getsockname()[1])
        assert states(ports.check_api_port(evolve(silent(), address=address))) == [("API port", "failed")]
        assert states(ports.check_api_port(evolve(silent(bad=True), address=address))) == []
    assert states(ports.check_api_port(evolve(silent(), address=address))) == [("API port", "ok")]


# --- the cluster --------------------------------------------------------------


def clocks(*ahead: float) -> list[tuple[str, str]]:
    others = {f"h{number}": Told(HEALTHY, each, 0.1) for number, each in enumerate(ahead)}
    return states(cluster._clocks(others))


def test_clocks() -> None:
    """They are compared with most of the others, and one alone with the clock here."""
    assert clocks(7200.0, 7200.5, 7199.8) == [("clock", "ok")]
    assert clocks(0.0, 0.2, -3.0) == [("clock", "warning")]
    assert clocks(0.5) == [("clock", "ok")]
    assert clocks(5.0) == [("clock", "warning")]
    assert states(cluster._clocks({"h1": Told(HEALTHY)})) == []


def test_versions() -> None:
    newer = Told(replace(HEALTHY, version="2.0"))
    assert states(cluster._versions({"h1": Told(HEALTHY), "h2": newer})) == [("versions", "warning")]
    assert states(cluster._versions({"h1": newer, "h2": newer})) == []


# --- who is asked -------------------------------------------------------------


def test_is_here() -> None:
    assert is_here("127.0.0.1")
    assert is_here("::1")
    assert is_here("localhost")
    assert not is_here("192.0.2.7")
    assert not is_here("0.0.0.0")
    assert not is_here("none.invalid")


@in_the_reactor
async def test_ask(served: ServedHost) -> None:
    """The offset of a clock is known as well as the way there is short."""
    from twisted.internet.threads import deferToThread

    served.facts = {"time": "2026-01-01T00:00:10.500000Z"}
    times = iter([datetime(2026, 1, 1, tzinfo=UTC).timestamp() + each for each in (0, 1)])
    found = await deferToThread(lambda: ask(served.address, now=lambda: next(times)))
    assert (found.ahead, found.give_or_take) == (10.0, 0.5)
    served.facts = {}
    assert (await deferToThread(lambda: examine(served.address, Options()))).told == Told(HostStatus("h1"))


def test_options(tmp_path: Path) -> None:
    """The file goes before the environment, as it does for a host."""
    config = tmp_path / "config.json"
    given = {"docker": "unix:///d", "state-dir": "/s", "ports": "1-9", "solo": True, "id": "h1"}
    config.write_text(json.dumps(given))
    environ = {"DOCKER_HOST": "unix:///e", "ETCD_ENDPOINTS": "http://a:1,http://b:1"}
    assert Options.read("", {}) == Options()
    assert Options.read("", environ) == Options("unix:///e", ("http://a:1", "http://b:1"))
    both = Options("unix:///d", ("http://a:1", "http://b:1"), True, "/s", (1, 9))
    assert Options.read(str(config), environ) == both
    with pytest.raises(InvalidField):
        Options.read("", {"DOCKER_HOST": "ssh://h"})


def test_nearest_that_exists(tmp_path: Path) -> None:
    assert subject.nearest_that_exists(str(tmp_path / "a" / "b")) == str(tmp_path)
    assert subject.nearest_that_exists("/") == "/"


def test_a_look_that_fails() -> None:
    """A fault of doctor itself is told as one, and keeps nothing else from being looked at."""

    def look() -> Iterator[Finding]:
        yield Finding("a", State.OK, "well")
        raise ZeroDivisionError("odd")

    assert [(each.name, each.state) for each in found("b", look)] == [("a", State.OK), ("b", State.WARNING)]


# --- the command --------------------------------------------------------------


@in_the_reactor
async def test_command(run: Run, served: ServedHost) -> None:
    """It tells all, or only what is wrong; and ends well unless something has failed."""
    served.facts = {"solo": True, "checks": [{"name": "journal", "ok": True, "detail": "is open"}]}
    result = await run("doctor", "--output", "json")
    listed = json.loads(result.stdout)
    assert {each["name"] for each in listed} >= {"host", "journal", "leader", "hosts", "etcd"}
    assert all(set(each) == {"name", "state", "text", "advice"} for each in listed)
    has_failed = any(each["state"] == "failed" for each in listed)
    assert (result.exit_code, has_failed) == (0, False)
    lines = (await run("doctor")).stdout.splitlines()
    assert lines[0].startswith(f"ok       host             h1 answers at {served.address.url}")
    assert lines[-1].startswith("0 failed, ") or lines[-1] == "All is well."
    quiet = (await run("doctor", "-q")).stdout
    assert "ok  " not in quiet
    served.facts["checks"] = [{"name": "journal", "ok": False, "detail": "the disk is full"}]
    result = await run("doctor", "-q")
    assert result.exit_code == 1
    assert "failed   journal          the disk is full" in result.stdout


@in_the_reactor
async def test_cluster(run: Run, served: ServedHost) -> None:
    """All hosts that are up are asked themselves; those that are down or can't be are told."""

    async def look() -> dict[str, list[dict[str, str]]]:
        by_name: dict[str, list[dict[str, str]]] = {}
        for each in json.loads((await run("doctor", "--output", "json")).stdout):
            by_name.setdefault(each["name"], []).append(each)
        return by_name

    served.facts = {"solo": True, "time": datetime.now(UTC).isoformat()}
    for number in (2, 3):
        served.cluster.add_host(Host(f"h{number}", addr=served.address.netloc))
    found = await look()
    assert [each["text"] for each in found["hosts"]] == ["all 3 are up"]
    assert [each["state"] for each in found["clock"]] == ["ok"]
    served.cluster.add_host(Host("h4", down=True, addr="127.0.0.1:1"))
    served.cluster.add_host(Host("h5", addr="127.0.0.1:1"))
    down, unreached = (await look())["hosts"]
    assert down["text"] == "1 of 5 are down: h4"
    assert unreached["text"].startswith("1 can't be asked from here: h5 (can't reach http://127.0.0.1:1")
    served.cluster.whole = False
    assert "others not yet" in (await look())["hosts"][0]["text"]
    served.cluster.remove_host("h1")
    assert (await look())["hosts"][0]["state"] == "failed"
    served.cluster.leading = False
    assert (await look())["leader"][0]["state"] == "failed"


def test_command_without_a_host() -> None:
    """It works for a host that does not run."""
    env = {"FLYNN_HOST_URL": "127.0.0.1:1", "DOCKER_HOST": "unix:///none/docker.sock", "ETCD_ENDPOINTS": ""}
    result = CliRunner().invoke(main, ["doctor"], prog_name="flynn-host", env=env)
    assert result.exit_code == 1
    names = [line[9:26].strip() for line in result.stdout.splitlines() if line[:1] in "owf"]
    assert names[:3] == ["host", "API port", "engine"]
    assert result.stderr == ""


def test_bad_options() -> None:
    result = CliRunner().invoke(main, ["doctor", "--config", "/none"], prog_name="flynn-host")
    assert result.exit_code == 2
    assert "/none can't be read" in result.stderr
