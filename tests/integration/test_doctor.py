"""flynn-host doctor at real hosts, engines and etcds, some of which are gone."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from tests.conftest import Engine
from tests.integration.conftest import StartHost
from tests.support.dockerd import Dockerd
from tests.support.etcd import EtcdCluster
from tests.support.host_process import HostProcess, environment
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

PROGRAM = "from flynnhost.cli.main import main; main()"


@define
class Told:
    """What doctor has said, by the names of things."""

    code: int
    by_name: dict[str, list[tuple[str, str]]]

    def states(self, name: str) -> list[str]:
        """How something is."""
        return [state for state, _ in self.by_name.get(name, ())]

    @property
    def failed(self) -> set[str]:
        """What has failed."""
        return {name for name, found in self.by_name.items() if any(state == "failed" for state, _ in found)}

    def __str__(self) -> str:
        return json.dumps(self.by_name, indent=1)


def doctor(url: str, **env: str) -> Told:
    """Run it as a user would."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "doctor", "--host-url", url, "--output", "json"],
        env={**environment(), "PATH": environment()["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    by_name: dict[str, list[tuple[str, str]]] = {}
    for each in json.loads(done.stdout):
        by_name.setdefault(each["name"], []).append((each["state"], each["text"]))
    return Told(done.returncode, by_name)


def url_of(host: HostProcess) -> str:
    return f"http://{host.api.address}:{host.api.port}"


def known_engine(host: HostProcess) -> None:
    """Wait until the host knows its engine."""

    def known() -> Any:
        return host.api.get("/host/status").json["engine"].get("version")

    wait_until(known, "the engine to say what it is")


def test_healthy(host: HostProcess) -> None:
    """Nothing has failed at a host that is well, and all is looked at."""
    host.wait_ready()
    known_engine(host)
    told = doctor(url_of(host))
    assert (told.code, told.failed) == (0, set()), told
    for name in ("host", "journal", "API port", "engine", "etcd", "leader", "hosts", "open files", "memory"):
        assert told.states(name) == ["ok"], told
    assert told.states("address") == ["ok"], "a host that is alone need not be reached by others"
    for name in ("limits", "network", "iptables", "engine disk", "state directory", "job ports"):
        assert told.states(name), told


def test_no_host(dockerd: Engine, tmp_path: Path) -> None:
    """Without a host, what it would need is looked at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"state-dir": str(tmp_path / "state"), "solo": True}))
    told = doctor(url, DOCKER_HOST=dockerd.url)
    assert (told.code, told.failed) == (1, {"host"}), told
    for name in ("API port", "engine"):
        assert told.states(name) == ["ok"], told


def test_host_that_hangs(make_host: StartHost, dockerd: Engine) -> None:
    """One that does not answer is told from one that is not there."""
    host = make_host(dockerd.url)
    host.start()
    host.signal(signal.SIGSTOP)
    try:
        told = doctor(url_of(host), DOCKER_HOST=dockerd.url)
    finally:
        host.signal(signal.SIGCONT)
    assert (told.code, told.failed) == (1, {"host", "API port"}), told
    assert "no answer" in told.by_name["host"][0][1]


def test_engine_is_gone(make_host: StartHost, own_dockerd: Callable[..., Dockerd]) -> None:
    """When Docker has ended that is what has failed; when it is back all is well."""
    engine = own_dockerd()
    host = make_host(engine.url)
    host.start()
    host.wait_ready()
    engine.stop()

    def noticed() -> bool:
        return bool(host.api.get("/ready").status == 503)

    wait_until(noticed, "the host to notice")
    told = doctor(url_of(host))
    assert (told.code, told.failed) == (1, {"engine"}), told
    assert engine.url in told.by_name["engine"][0][1]
    gone = doctor("http://127.0.0.1:1", DOCKER_HOST=engine.url)
    assert gone.failed == {"host", "engine"}, gone
    engine.start()
    host.wait_ready()
    known_engine(host)
    assert doctor(url_of(host)).code == 0


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    cluster = EtcdCluster(tmp_path / "etcd", 1)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.mark.etcd
def test_etcd_is_gone(make_host: StartHost, dockerd: Engine, etcd: EtcdCluster) -> None:
    """A host of a cluster is well with etcd, and without it that is what is told."""
    cluster = ("--etcd", ",".join(etcd.urls), "--lease-ttl", "3")
    host = make_host(dockerd.url, cluster=cluster, external="127.0.0.1")
    host.start()
    host.wait_ready()
    known_engine(host)
    told = doctor(url_of(host))
    assert (told.code, told.failed) == (0, set()), told
    for name in ("etcd", "etcd members", "address", "leader", "hosts"):
        assert told.states(name) == ["ok"], told
    (member,) = etcd.members
    member.kill()
    wait_until(lambda: not host.api.get("/host/status").json["etcd"]["answers"], "the lease to lapse")
    told = doctor(url_of(host))
    assert (told.code, told.failed) == (1, {"etcd", "etcd members", "leader"}), told
    etcd.run(member)
    etcd.wait_ready()
    host.wait_ready()
    assert doctor(url_of(host)).code == 0
