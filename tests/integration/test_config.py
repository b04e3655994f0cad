"""Everything that a job asks for, as its process sees it."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tests.support.host_api import WireJob, status
from tests.support.host_containers import HostContainers
from tests.support.host_process import EXTERNAL_IP, HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, sleeper, wire_job

pytestmark = pytest.mark.docker


def said(host: HostProcess, job: WireJob) -> str:
    """What a job writes until it ends, which it must without trouble."""
    host.api.run(job)
    active = host.api.ended(job)
    output = host.api.log(job).body.decode()
    assert active["status"] == 2, f"{active}: {output}"
    return output


def test_command(host: HostProcess) -> None:
    """The entry point and its arguments, where and as whom they run."""
    job = wire_job(
        "pwd; id -u; echo $0 $1",
        "zero",
        "one two",
        entry_point=["/bin/sh", "-c"],
        working_dir="/var",
        uid=1000,
    )
    assert said(host, job) == "/var\n1000\nzero one two\n"
    assert said(host, shell_job("id -u; pwd")) == "0\n/\n"


def test_environment(host: HostProcess) -> None:
    """The job's own variables, and those that tell it where it is."""
    own = {"A": "1", "SPACED": "two words", "EMPTY": "", "UMLAUT": "ä=ö", "PORT": "no port of mine"}
    job = wire_job("env", env=own, ports=[{}, {"proto": "udp"}, {"proto": "tcp"}])
    lines = dict(line.partition("=")[::2] for line in said(host, job).splitlines())
    told = host.api.job(job)["job"]["config"]
    ports = [str(port["port"]) for port in told["ports"]]
    assert len(set(ports)) == 3
    assert [lines["PORT_0"], lines["PORT_1"], lines["PORT_2"]] == ports
    assert lines["PORT"] == ports[0]
    assert lines["HOSTNAME"] == job["id"]
    assert lines["EXTERNAL_IP"] == EXTERNAL_IP
    assert {name: lines[name] for name in own if name != "PORT"} == {
        name: value for name, value in own.items() if name != "PORT"
    }
    assert told["env"] == own


def test_hostname(host: HostProcess) -> None:
    """The job's ID is the name of its machine."""
    job = wire_job("hostname", host_network=False)
    assert said(host, job).strip() == job["id"]


def test_terminal_and_stdin(host: HostProcess) -> None:
    """A terminal and an open input are there exactly if they were asked for."""
    script = "tty >/dev/null && echo terminal || echo none"
    assert said(host, shell_job(script, tty=True)) == "terminal\r\n"
    assert said(host, shell_job(script)) == "none\n"
    assert said(host, wire_job("cat")) == ""
    waits = wire_job("cat", stdin=True)
    host.api.run(waits)
    host.api.running(waits)
    assert host.api.job(waits)["job"]["config"]["stdin"] is True


@pytest.fixture
def volume(dockerd: Engine) -> Iterator[str]:
    """The name of a volume, which is removed in the end."""
    name = f"v{uuid.uuid4().hex}"
    yield name
    client = dockerd.client()
    try:
        for container in client.containers(all=True, filters={"volume": name}):
            client.remove_container(container["Id"], force=True)
        if name in [each["Name"] for each in client.volumes()["Volumes"] or []]:
            client.remove_volume(name)
    finally:
        client.close()


def test_places(host: HostProcess, volume: str, tmp_path: Path) -> None:
    """Data, mounts and volumes, each as writeable as it is to be."""
    for name in ("ro", "rw"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "there").write_text(f"{name}\n")
    places: dict[str, Any] = {
        "data": True,
        "mounts": [
            {"location": "/ro", "target": str(tmp_path / "ro")},
            {"location": "/rw", "target": str(tmp_path / "rw"), "writeable": True},
        ],
        "volumes": [
            {"target": "/kept", "volume": volume, "writeable": True},
            {"target": "/seen", "volume": volume},
        ],
    }
    script = """
        cat /ro/there /rw/there
        for place in /data /ro /rw /kept /seen; do
            if touch $place/new 2>/dev/null; then echo $place writeable; else echo $place not; fi
        done
        ls /seen; grep -c ' /data ' /proc/mounts
    """
    assert said(host, shell_job(script, **places)).splitlines() == [
        "ro",
        "rw",
        "/data writeable",
        "/ro not",
        "/rw writeable",
        "/kept writeable",
        "/seen not",
        "new",
        "1",
    ]
    assert (tmp_path / "rw" / "new").exists()
    kept = {"volumes": [{"target": "/again", "volume": volume}]}
    assert said(host, shell_job("ls /again", **kept)) == "new\n"


def test_a_mount_that_is_not_there(host: HostProcess, tmp_path: Path) -> None:
    """A job is not started with an empty directory in place of what it asked for."""
    mount = {"location": "/here", "target": str(tmp_path / "nothing")}
    job = wire_job("true", mounts=[mount])
    host.api.run(job)
    active = host.api.ended(job)
    assert status(active).name == "FAILED"
    assert "does not exist" in active["error"]
    assert not (tmp_path / "nothing").exists()


def test_a_tcp_port(host: HostProcess) -> None:
    """What listens on the port in the container is reached on the same port of the host."""
    job = shell_job("echo hello >/tmp/index.html; exec httpd -f -p $PORT -h /tmp", ports=[{"proto": "tcp"}])
    host.api.run(job)
    port = host.api.running(job)["job"]["config"]["ports"][0]["port"]

    def fetched() -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            connection.close()

    assert wait_until(fetched, "the answer of the job") == b"hello\n"
    assert host.api.job(job)["internal_ip"]


_UDP_ECHO = """
import os, socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", int(os.environ["PORT_1"])))
while True:
    data, sender = sock.recvfrom(999)
    sock.sendto(data, sender)
"""


def test_a_udp_port(host: HostProcess) -> None:
    """The same for datagrams, here with a port that the job has chosen itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    # busybox has nothing that takes datagrams: this machine's own Python does.
    python = Path(sys.executable).resolve()
    places = {*map(str, (python.parents[1], *_libraries(python)))}
    mounts = [{"location": place, "target": place} for place in sorted(places)]
    job = wire_job(
        str(python), "-S", "-c", _UDP_ECHO, mounts=mounts, ports=[{}, {"port": number, "proto": "udp"}]
    )
    host.api.run(job)
    ports = host.api.running(job)["job"]["config"]["ports"]
    assert ports[1] == {"port": number, "proto": "udp"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", number))

        def echoed() -> bytes:
            try:
                sock.send(b"hello")
                return sock.recv(999)
            except OSError:
                return b""

        assert wait_until(echoed, f"an echo from {host.api.log(job).body!r}") == b"hello"


def _libraries(program: Path) -> list[Path]:
    """The directories of what a program is linked with."""
    told = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return [Path(word).parent for word in told.split() if word.startswith("/")]


def test_a_port_that_is_taken(host: HostProcess) -> None:
    """A job that insists on a port which another program has, fails, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        job = sleeper(ports=[{"port": number}])
        host.api.run(job)
        active = host.api.ended(job)
    assert status(active).name == "FAILED"
    assert str(number) in active["error"]


def test_host_network(host: HostProcess, containers: HostContainers) -> None:
    """A job in the network of the host sees its interfaces, and has no address of its own."""
    inside, outside = shell_job("ls /sys/class/net"), shell_job("ls /sys/class/net", host_network=False)
    here = {path.name for path in Path("/sys/class/net").iterdir()}
    assert len(here & set(said(host, inside).split())) > 1
    assert set(said(host, outside).split()) <= {"lo", "eth0", "tunl0", "sit0", "ip6tnl0"}
    assert "internal_ip" not in host.api.job(inside)
    assert containers.only(inside)["HostConfig"]["NetworkMode"] == "host"


def _first(*paths: str) -> str:
    """Says what is in the first of some files that is there: cgroups are of one version or the other."""
    return "cat " + " 2>/dev/null || cat ".join(paths)


_LIMITS = f"""
    {_first("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max")}
    {_first("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu.max")}
    {_first("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max")}
    ulimit -n
"""


def test_limits(host: HostProcess) -> None:
    """Memory, CPU, processes and open files are limited as asked."""
    job = shell_job(_LIMITS, host_network=False) | {
        "resources": {
            "memory": {"request": 16 << 20, "limit": 32 << 20},
            "cpu": {"request": 100, "limit": 500},
            "max_procs": {"limit": 50},
            "max_fd": {"limit": 123},
        }
    }
    memory, cpu, pids, files = said(host, job).splitlines()
    assert (memory, cpu.split()[0], pids, files) == (str(32 << 20), "50000", "50", "123")
    assert host.api.job(job)["job"]["resources"] == job["resources"]


def test_default_limits(host: HostProcess) -> None:
    """A job that says nothing of what it needs has Flynn's limits."""
    memory, cpu, pids, files = said(host, shell_job(_LIMITS, host_network=False)).splitlines()
    assert (memory, pids, files) == (str(1 << 30), "4096", "10000")
    assert cpu.split()[0] in ("-1", "max")


def test_what_is_told_of_a_job(host: HostProcess) -> None:
    """A job comes back as it was sent, with what nobody but its owner understands."""
    job = sleeper(stop_timeout=1500000000) | {"metadata": {"flynn-controller.app": "ä", "x": ""}}
    host.api.run(job)
    told = host.api.running(job)
    assert told["job"] == job
    assert told["host_id"] == host.host_id
    listed = host.api.get("/cluster/hosts").json
    assert job in next(each for each in listed if each["id"] == host.host_id)["jobs"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"resurrect": True}, "resurrect"),
        ({"config": {"ports": [{"service": {"name": "web"}}]}}, "config.ports[0].service"),
        ({"config": {"privileged": True}}, "config.privileged"),
        ({"artifact": {"type": "squashfs", "url": "x"}}, "artifact.type"),
        ({"resources": {"disk": {"limit": 1}}}, "resources.disk"),
    ],
)
def test_what_cant_be_honoured(host: HostProcess, change: dict[str, Any], field: str) -> None:
    """Nothing that a job asks for is ignored: what can't be had is refused by name."""
    answer = host.api.post(wire_job("true") | change)
    assert answer.status == 400
    assert answer.json["detail"]["field"] == f"{host.host_id}[0].{field}"
