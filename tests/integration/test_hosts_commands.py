"""The commands about hosts, at a cluster of two that can be reached from here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.integration.conftest import StartHost
from tests.support.etcd import EtcdCluster
from tests.support.host_process import HostProcess, environment
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(240)]

PROGRAM = "from flynnhost.cli.main import main; main()"


@pytest.fixture
def hosts(
    make_host: StartHost, dockerd: Engine, host_id: str, tmp_path: Path
) -> Iterator[tuple[HostProcess, HostProcess]]:
    """The one that leads, and the other one."""
    etcd = EtcdCluster(tmp_path / "etcd", 1)
    etcd.start()
    made = []
    for number in (1, 2):
        address = f"127.0.0.{20 + number}"
        host = make_host(
            dockerd.url,
            "--ports",
            f"{41000 + 100 * number}-{41099 + 100 * number}",
            host_id=f"{host_id}n{number}",
            name=f"n{number}",
            cluster=("--etcd", ",".join(etcd.urls)),
            external=address,
            address=address,
        )
        host.start()
        made.append(host)
    for host in made:
        host.wait_ready()
    leader_id = made[0].api.get("/cluster/leader").json["id"]
    made.sort(key=lambda host: host.host_id != leader_id)
    yield made[0], made[1]
    for host in made:
        host.end()
    etcd.stop()


def run(host: HostProcess, *words: str) -> str:
    """What a command prints, which must end well."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**environment(), "FLYNN_HOST_URL": f"{host.api.address}:{host.api.port}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}{done.stderr}"
    return done.stdout


def test_any_host_tells_of_all(hosts: tuple[HostProcess, HostProcess]) -> None:
    """Whichever is asked, all are listed, changed and looked at."""
    leader, other = hosts
    listed = {each["id"]: each for each in json.loads(run(other, "list", "-o", "json"))}
    assert {host_id: each["leads"] for host_id, each in listed.items()} == {
        leader.host_id: True,
        other.host_id: False,
    }
    assert listed[other.host_id]["addr"] == f"{other.external}:{other.api.port}"
    assert run(other, "leader", "-q") == f"{leader.host_id}\n"
    for asked, about in ((other, leader), (leader, other)):
        run(asked, "attributes", "set", "rack=7", "zone/x=a=b", "--host", about.host_id)
        assert about.api.get("/host/attributes").json == {"rack": "7", "zone/x": "a=b"}
        run(about, "attributes", "rm", "rack")

        def seen(asked: HostProcess = asked, about: HostProcess = about) -> bool:
            hosts = json.loads(run(asked, "list", "-o", "json"))
            return {"zone/x": "a=b"} in [each["attributes"] for each in hosts if each["id"] == about.host_id]

        wait_until(seen, "the leader to know")
    run(other, "drain", leader.host_id, other.host_id)
    assert [line.split()[1].rstrip(",") for line in run(leader, "list").splitlines()[1:]] == ["draining"] * 2
    run(leader, "undrain", other.host_id, leader.host_id)
    assert "draining" not in run(other, "list")
    assert f"{other.host_id} at " in run(other, "version")


def test_doctor(hosts: tuple[HostProcess, HostProcess]) -> None:
    """Both hosts are looked at, and their clocks compared, whichever is asked."""
    wanted = ("hosts", "clock", "address", "etcd", "leader")
    for host in hosts:
        found = {each["name"]: each for each in json.loads(run(host, "doctor", "--output", "json"))}
        assert [found[name]["state"] for name in wanted] == ["ok"] * len(wanted), found
        assert found["hosts"]["text"] == "all 2 are up"
        assert found["clock"]["text"].startswith("all agree within 0.")


def test_jobs_of_another_host(hosts: tuple[HostProcess, HostProcess]) -> None:
    """A job is run at whichever host is named, and found from any by the beginning of its ID."""
    leader, other = hosts
    common = ("--host-network", "busybox:latest", "sh", "-c")
    for asked, about in ((other, leader), (leader, other)):
        assert run(asked, "run", "--host", about.host_id, *common, "echo from $HOSTNAME").startswith("from ")
        job_id = run(asked, "run", "-d", "--host", about.host_id, *common, "echo here; sleep 600").strip()
        listed = json.loads(run(asked, "ps", "--cluster", "--output", "json"))
        assert (job_id, about.host_id) in {(each["id"], each["host_id"]) for each in listed}
        short = job_id[:8]
        wait_until(lambda: run(asked, "log", short) == "here\n", "its output")  # noqa: B023
        assert run(asked, "exec", short, "cat", "/etc/hostname")
        assert run(asked, "stop", short) == f"{job_id}\n"
        assert json.loads(run(asked, "inspect", f"{about.host_id}-{short}"))["status"] == 3
