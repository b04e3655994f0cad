"""What is said to Docker and what Docker says, in our terms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flynnhost.containers.address import EngineAddress
from flynnhost.containers.body import OutputFiles, create_body
from flynnhost.containers.state import container_state, container_summary, timestamp
from flynnhost.errors import InvalidField
from flynnhost.interfaces import Bind, ContainerSpec, Limits, PublishedPort


def body(**fields: Any) -> dict[str, Any]:
    spec = ContainerSpec(name="x", image="thing", labels={"a": "b"}, **fields)
    return create_body(spec, OutputFiles())


def host(**fields: Any) -> dict[str, Any]:
    config: dict[str, Any] = body(**fields)["HostConfig"]
    return config


class TestCreateBody:
    def test_empty(self) -> None:
        """What the spec leaves open is left to the image."""
        assert body() == {
            "Image": "thing",
            "Labels": {"a": "b"},
            "Env": [],
            "Tty": False,
            "HostConfig": {
                "RestartPolicy": {"Name": "no"},
                "AutoRemove": False,
                "LogConfig": {
                    "Type": "local",
                    "Config": {"max-size": "100000000", "max-file": "5", "compress": "false"},
                },
            },
        }

    def test_process(self) -> None:
        """What the process is and where it runs."""
        made = body(
            entry_point=("a",), cmd=("b", "c"), env={"X": "1=2"}, working_dir="/w", user="7", hostname="h"
        )
        assert (made["Entrypoint"], made["Cmd"], made["Env"]) == (["a"], ["b", "c"], ["X=1=2"])
        assert (made["WorkingDir"], made["User"], made["Hostname"]) == ("/w", "7", "h")

    def test_ports(self) -> None:
        """Ports are exposed and bound, several to one as well."""
        ports = (
            PublishedPort(53, "udp", "", 5353),
            PublishedPort(80, "tcp", "127.0.0.1", 8080),
            PublishedPort(80, "tcp", "127.0.0.1", 8081),
        )
        made = body(ports=ports)
        assert made["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}}
        assert made["HostConfig"]["PortBindings"] == {
            "53/udp": [{"HostIp": "", "HostPort": "5353"}],
            "80/tcp": [
                {"HostIp": "127.0.0.1", "HostPort": "8080"},
                {"HostIp": "127.0.0.1", "HostPort": "8081"},
            ],
        }

    def test_mounts(self) -> None:
        """Paths and volumes are told apart; nothing is writeable that was not asked for."""
        mounts = host(binds=(Bind("/a:b", "/c", False), Bind("data", "/d", True)))["Mounts"]
        assert mounts == [
            {"Type": "bind", "Source": "/a:b", "Target": "/c", "ReadOnly": True},
            {"Type": "volume", "Source": "data", "Target": "/d", "ReadOnly": False},
        ]
        assert body(volumes=("/e", "/f"))["Volumes"] == {"/e": {}, "/f": {}}

    def test_limits(self) -> None:
        """Only what is limited is named, and memory is not stretched by swap."""
        assert host(limits=Limits(memory_bytes=100)) == {**host(), "Memory": 100, "MemorySwap": 100}
        assert host(limits=Limits(cpu_shares=2, pids=3, open_files=4, nano_cpus=5)) == {
            **host(),
            "CpuShares": 2,
            "PidsLimit": 3,
            "Ulimits": [{"Name": "nofile", "Soft": 4, "Hard": 4}],
            "NanoCpus": 5,
        }

    def test_network(self) -> None:
        """The host's network only if it was asked for."""
        assert host(host_network=True)["NetworkMode"] == "host"

    @pytest.mark.parametrize(("tty", "once"), [(False, True), (True, False)])
    def test_stdin(self, tty: bool, once: bool) -> None:
        """The end of the input reaches the process, but a terminal has none."""
        made = body(stdin=True, tty=tty)
        assert (made["OpenStdin"], made["StdinOnce"], made["Tty"]) == (True, once, tty)

    def test_output(self) -> None:
        """Output is kept in so many files of such a size, or not at all."""
        spec = ContainerSpec(name="x", image="thing", labels={})
        config = create_body(spec, OutputFiles(size_bytes=1000, count=2))["HostConfig"]["LogConfig"]
        assert config == {
            "Type": "local",
            "Config": {"max-size": "1000", "max-file": "2", "compress": "false"},
        }
        assert host(keep_output=False)["LogConfig"] == {"Type": "none", "Config": {}}


class TestTimestamp:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-05-07T21:09:36.123456789Z", datetime(2026, 5, 7, 21, 9, 36, 123456, UTC)),
            ("2026-05-07T21:09:36.1Z", datetime(2026, 5, 7, 21, 9, 36, 100000, UTC)),
            ("2026-05-07T21:09:36Z", datetime(2026, 5, 7, 21, 9, 36, 0, UTC)),
            ("2026-05-07T23:09:36.5+02:00", datetime(2026, 5, 7, 21, 9, 36, 500000, UTC)),
            ("0001-01-01T00:00:00Z", None),
            ("", None),
        ],
    )
    def test_times(self, text: str, expected: datetime | None) -> None:
        """Any number of decimals and any offset give a time in UTC; Go's zero gives none."""
        assert timestamp(text) == expected

    def test_nonsense(self) -> None:
        """What is no time is an error, not a guess."""
        with pytest.raises(ValueError, match="yesterday"):
            timestamp("yesterday")


def inspected(**changes: Any) -> dict[str, Any]:
    state = {"Running": True, "StartedAt": "2026-05-07T21:09:36Z", "Pid": 12, "ExitCode": 0, "Error": ""}
    data: dict[str, Any] = {
        "Id": "c1",
        "Name": "/x",
        "Config": {"Labels": {"a": "b"}},
        "State": state,
        "NetworkSettings": {"IPAddress": "172.17.0.2", "Networks": {}},
    }
    return {**data, **changes}


class TestState:
    def test_running(self) -> None:
        """What matters of a running container."""
        state = container_state(inspected())
        assert (state.id, state.name, state.labels, state.running, state.pid) == (
            "c1",
            "x",
            {"a": "b"},
            True,
            12,
        )
        assert (state.internal_ip, state.finished_at, state.oom_killed) == ("172.17.0.2", None, False)

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"Networks": {"a": {"IPAddress": ""}, "b": {"IPAddress": "10.0.0.3"}}}, "10.0.0.3"),
            ({"Networks": {"host": {"IPAddress": ""}}}, ""),
            ({"Networks": {"a": None}}, ""),
            ({"Networks": None}, ""),
            (None, ""),
        ],
    )
    def test_address(self, settings: Any, expected: str) -> None:
        """The address is that of the first network that gives one, if any."""
        assert container_state(inspected(NetworkSettings=settings)).internal_ip == expected

    def test_no_labels(self) -> None:
        """No labels are none."""
        assert container_state(inspected(Config={"Labels": None})).labels == {}

    @pytest.mark.parametrize(
        ("state", "running"),
        [("running", True), ("paused", True), ("exited", False), ("created", False), ("dead", False)],
    )
    def test_summary(self, state: str, running: bool) -> None:
        """A container runs while it has a process."""
        summary = container_summary({"Id": "c1", "Names": ["/x"], "Labels": None, "State": state})
        assert (summary.name, summary.labels, summary.running) == ("x", {}, running)


class TestAddress:
    @pytest.mark.parametrize(
        "url", ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375", "tcp://host:1"]
    )
    def test_round_trip(self, url: str) -> None:
        """An address can be written as it was read."""
        assert EngineAddress.parse(url).url == url

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "docker",
            "unix://",
            "unix://relative",
            "tcp://host",
            "tcp://:1",
            "tcp://host:x",
            "tcp://host:0",
            "tcp://host:65536",
            "ssh://host:22",
            "https://host:2376",
        ],
    )
    def test_refused(self, url: str) -> None:
        """What is no such address is refused with the forms that are."""
        with pytest.raises(InvalidField, match="unix:///PATH or tcp://HOST:PORT"):
            EngineAddress.parse(url)
