"""What only a real engine can show: that processes get what was asked for them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import docker
import pytest
from twisted.internet.defer import gatherResults

from flynnhost.containers.body import OutputFiles
from flynnhost.errors import EngineRefused, PortTaken, PositionGone
from flynnhost.interfaces import Bind, Limits, LogQuery, PublishedPort
from flynnhost.testing.container_contract import failing
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import OutputRecorder
from tests.conftest import Engine
from tests.support.busybox import IMAGE
from tests.support.docker_rig import DockerRig
from tests.support.reactor import on_reactor
from tests.support.waiting import until_it

pytestmark = pytest.mark.docker

_TALKING = Program(output=((1, b"hello\n"),))


async def said(rig: DockerRig, script: str, **fields: Any) -> str:
    """What a container with these fields says when it runs this script."""
    spec = attrs.evolve(rig.spec(), cmd=("sh", "-c", script), **fields)
    container_id = await rig.containers.create(spec)
    await rig.containers.start(container_id)
    await rig.ended(container_id)
    receiver = OutputRecorder()
    await receiver.read(rig, container_id, LogQuery(), tty=spec.tty)
    assert receiver.of(2) == b""
    return receiver.of(1).decode().replace("\r", "")


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def client(dockerd: Engine) -> Any:
    client = dockerd.client()
    yield client
    client.close()


class TestProcess:
    @on_reactor
    async def test_environment(self, rig: DockerRig) -> None:
        """Values reach the process as they are, whatever is in them."""
        env = {"PLAIN": "1", "EQUALS": "a=b", "LINES": "one\ntwo", "UMLAUT": "ü", "EMPTY": ""}
        script = 'printf "%s|" "$PLAIN" "$EQUALS" "$LINES" "$UMLAUT" "${EMPTY-unset}"'
        assert await said(rig, script, env=env) == "1|a=b|one\ntwo|ü||"

    @on_reactor
    async def test_image_environment(self, rig: DockerRig) -> None:
        """What the image sets and the spec does not remains."""
        assert await said(rig, 'echo "$PATH"', env={"A": "b"}) == "/bin\n"

    @on_reactor
    async def test_hostname(self, rig: DockerRig) -> None:
        """The process sees the hostname, in a network of its own and in the host's."""
        assert await said(rig, "hostname", hostname="somewhere") == "somewhere\n"
        assert await said(rig, "hostname", hostname="somewhere", host_network=True) == "somewhere\n"

    @on_reactor
    async def test_user(self, rig: DockerRig) -> None:
        """The process runs as the user, by number or name; otherwise as the image says."""
        assert await said(rig, "id -u", user="1234") == "1234\n"
        assert await said(rig, "id -u", user="flynn") == "1000\n"
        assert await said(rig, "id -u") == "0\n"

    @on_reactor
    async def test_working_dir(self, rig: DockerRig) -> None:
        """The process begins in the directory, which is made if it is missing."""
        assert await said(rig, "pwd", working_dir="/tmp/not there") == "/tmp/not there\n"

    @on_reactor
    async def test_entry_point(self, rig: DockerRig) -> None:
        """The entry point comes before the arguments, neither of which any shell sees."""
        spec = attrs.evolve(rig.spec(), entry_point=("echo", "$HOME"), cmd=("a  b", "*"))
        container_id = await rig.containers.create(spec)
        await rig.containers.start(container_id)
        await rig.ended(container_id)
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery())
        assert receiver.of(1) == b"$HOME a  b *\n"

    @on_reactor
    async def test_image_command(self, rig: DockerRig) -> None:
        """Without entry point and arguments the image's own command runs."""
        container_id = await rig.containers.create(attrs.evolve(rig.spec(), cmd=()))
        await rig.containers.start(container_id)
        assert (await rig.ended(container_id)).exit_code == 0

    @on_reactor
    async def test_tty(self, rig: DockerRig) -> None:
        """A process has a terminal if it was asked for."""
        assert await said(rig, "test -t 1 && echo yes", tty=True) == "yes\n"
        assert await said(rig, "test -t 1 || echo no") == "no\n"

    @on_reactor
    async def test_stdin(self, rig: DockerRig) -> None:
        """Standard input is open if it was asked for, and at its end if not."""
        assert await said(rig, "cat; echo over") == "over\n"
        spec = attrs.evolve(rig.spec(), cmd=("cat",), stdin=True)
        container_id = await rig.containers.create(spec)
        await rig.containers.start(container_id)
        await rig.pass_time(0.3)
        assert (await rig.containers.inspect(container_id)).running

    @on_reactor
    async def test_no_restart(self, rig: DockerRig, client: docker.APIClient) -> None:
        """What ended stays as it is, to be looked at."""
        spec = attrs.evolve(rig.spec(), cmd=("false",))
        container_id = await rig.containers.create(spec)
        await rig.containers.start(container_id)
        assert (await rig.ended(container_id)).exit_code == 1
        config = client.inspect_container(container_id)["HostConfig"]
        assert (config["RestartPolicy"]["Name"], config["AutoRemove"]) == ("no", False)


class TestFiles:
    @on_reactor
    async def test_bind_read_only(self, rig: DockerRig, tmp_path: Path) -> None:
        """A path of the host can be read, but not written."""
        source = tmp_path / "with:colon"
        source.mkdir()
        (source / "file").write_text("from the host\n")
        binds = (Bind(str(source), "/seen", writeable=False),)
        assert await said(rig, "cat /seen/file; touch /seen/x 2>/dev/null || echo no", binds=binds) == (
            "from the host\nno\n"
        )

    @on_reactor
    async def test_bind_writeable(self, rig: DockerRig, tmp_path: Path) -> None:
        """A path of the host can be written if it was asked for."""
        binds = (Bind(str(tmp_path), "/seen", writeable=True),)
        await said(rig, "echo from inside > /seen/file", binds=binds)
        assert (tmp_path / "file").read_text() == "from inside\n"

    @on_reactor
    async def test_bind_missing(self, rig: DockerRig, tmp_path: Path) -> None:
        """A path that the host does not have is an error, and is not made."""
        missing = tmp_path / "missing"
        spec = rig.spec(binds=(Bind(str(missing), "/seen", writeable=False),))
        assert str(missing) in str(await failing(rig.containers.create(spec), EngineRefused))
        assert not missing.exists()

    @on_reactor
    async def test_named_volume(self, rig: DockerRig, host_id: str, client: docker.APIClient) -> None:
        """A named volume is shared, and survives its containers."""
        volume = f"volume-{host_id}"
        try:
            writing = (Bind(volume, "/shared", writeable=True),)
            reading = (Bind(volume, "/shared", writeable=False),)
            await said(rig, "echo kept > /shared/file", binds=writing)
            for each in await rig.containers.list_containers(rig.labels):
                await rig.containers.remove(each.id)
            assert await said(
                rig, "cat /shared/file; touch /shared/x 2>/dev/null || echo no", binds=reading
            ) == ("kept\nno\n")
        finally:
            for each in await rig.containers.list_containers(rig.labels):
                await rig.containers.remove(each.id)
            client.remove_volume(volume)

    @on_reactor
    async def test_nameless_volume(self, rig: DockerRig, client: docker.APIClient) -> None:
        """A nameless volume is there, can be written, and goes with its container."""
        before = _volumes(client)
        assert await said(rig, "touch /data/x && mount | grep -c ' /data '", volumes=("/data",)) == "1\n"
        assert len(_volumes(client) - before) == 1
        for each in await rig.containers.list_containers(rig.labels):
            await rig.containers.remove(each.id)
        assert _volumes(client) == before


class TestLimits:
    @on_reactor
    async def test_limits(self, rig: DockerRig, client: docker.APIClient) -> None:
        """All limits reach the engine, and the memory limit is not stretched by swap."""
        limits = Limits(
            memory_bytes=64 << 20,
            memory_reservation_bytes=32 << 20,
            nano_cpus=500_000_000,
            cpu_shares=512,
            open_files=4321,
            pids=99,
        )
        container_id = await rig.started(limits=limits)
        config = client.inspect_container(container_id)["HostConfig"]
        assert config["Memory"] == 64 << 20
        assert config["MemorySwap"] in (64 << 20, -1)
        assert config["MemoryReservation"] == 32 << 20
        assert (config["NanoCpus"], config["CpuShares"], config["PidsLimit"]) == (500_000_000, 512, 99)

    @on_reactor
    async def test_open_files(self, rig: DockerRig) -> None:
        """The process can't open more files, nor raise the limit."""
        assert await said(rig, "ulimit -Sn; ulimit -Hn", limits=Limits(open_files=4321)) == "4321\n4321\n"

    @on_reactor
    async def test_memory(self, rig: DockerRig) -> None:
        """A process that takes too much memory is killed, which is told from other ends."""
        limits = Limits(memory_bytes=16 << 20)
        spec = attrs.evolve(rig.spec(), cmd=("tail", "/dev/zero"), limits=limits)
        container_id = await rig.containers.create(spec)
        await rig.containers.start(container_id)
        state = await rig.ended(container_id)
        assert (state.oom_killed, state.exit_code) == (True, 137)

    @on_reactor
    async def test_impossible(self, rig: DockerRig) -> None:
        """A limit that can't be had is refused with the engine's words."""
        spec = rig.spec(limits=Limits(memory_bytes=1))
        assert "memory" in str(await failing(rig.containers.create(spec), EngineRefused)).lower()


class TestNetwork:
    @on_reactor
    async def test_published_port(self, rig: DockerRig) -> None:
        """What listens in the container can be reached at the host's port."""
        port = free_port()
        await rig.containers.start(
            await rig.containers.create(
                attrs.evolve(
                    rig.spec(),
                    cmd=("nc", "-l", "-p", "8080", "-e", "echo", "hello"),
                    ports=(PublishedPort(8080, "tcp", "127.0.0.1", port),),
                )
            )
        )

        async def answer() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.settimeout(1)
                try:
                    return connection.recv(100)
                except OSError:
                    return b""

        assert await until_it(rig.clock, answer, "an answer") == b"hello\n"

    @on_reactor
    async def test_port_of_another_program(self, rig: DockerRig) -> None:
        """A port that another program has is told from other refusals."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            port = PublishedPort(80, "tcp", "127.0.0.1", listening.getsockname()[1])
            container_id = await rig.containers.create(rig.spec(ports=(port,)))
            await failing(rig.containers.start(container_id), PortTaken)

    @on_reactor
    async def test_host_network(self, rig: DockerRig) -> None:
        """A container in the host's network sees the host's own addresses."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            port = listening.getsockname()[1]
            script = f"netstat -ltn | grep -c 127.0.0.1:{port}"
            assert await said(rig, script, host_network=True) == "1\n"


class TestOutput:
    @on_reactor
    async def test_back_pressure(self, rig: DockerRig) -> None:
        """While a reader pauses little is taken in, and afterwards nothing is missing."""
        size = 20_000_000
        line = "x" * 999
        container_id = await rig.containers.create(
            attrs.evolve(rig.spec(), cmd=("sh", "-c", f"yes {line} | head -c {size}"))
        )
        await rig.containers.start(container_id)
        await rig.ended(container_id)
        receiver = OutputRecorder(pause_at_first=True)
        await receiver.follow(rig, container_id, LogQuery())
        await rig.until(lambda: receiver.pieces)
        await rig.pass_time(0.5)
        assert len(receiver.pieces) == 1
        assert receiver.stream is not None
        receiver.stream.resumeProducing()
        await rig.until(lambda: receiver.ended, within=60)
        assert receiver.error is None
        assert len(receiver.of(1)) == size

    @on_reactor
    async def test_long_lines(self, rig: DockerRig) -> None:
        """A line without an end comes whole, in whatever pieces."""
        size = 1_000_000
        text = await said(rig, f"head -c {size} /dev/zero | tr '\\0' x")
        assert text == "x" * size

    @on_reactor
    async def test_rotation(self, make_rig: Callable[..., DockerRig]) -> None:
        """Only so much output is kept as was said, the newest of it."""
        rig = make_rig(output=OutputFiles(size_bytes=10_000, count=2))
        text = await said(rig, "for i in $(seq 1 2000); do echo line $i; done")
        assert len(text) < 40_000
        assert text.endswith("line 2000\n")

    @on_reactor
    async def test_pause_over_rotations(self, make_rig: Callable[..., DockerRig]) -> None:
        """Who pauses while files are begun and dropped gets all of it, as long as all of it is kept."""
        rig = make_rig(output=OutputFiles(size_bytes=500_000, count=10))
        receiver, container_id = await self._paused(rig, lines=30_000)
        await rig.ended(container_id)
        assert receiver.stream is not None
        receiver.stream.resumeProducing()
        await rig.until(lambda: receiver.ended)
        assert receiver.error is None
        assert receiver.of(1) == _numbered(30_000)

    @on_reactor
    async def test_pause_for_too_long(self, make_rig: Callable[..., DockerRig]) -> None:
        """Who pauses until what comes next was dropped is told so, and does not get what comes after it."""
        rig = make_rig(output=OutputFiles(size_bytes=100_000, count=3))
        receiver, container_id = await self._paused(rig, lines=30_000)
        await rig.ended(container_id)
        assert receiver.stream is not None
        receiver.stream.resumeProducing()
        await rig.until(lambda: receiver.ended)
        assert isinstance(receiver.error, PositionGone)
        assert _numbered(30_000).startswith(receiver.of(1))

    @pytest.mark.parametrize(("size", "count"), [(20_000, 3), (500_000, 3), (2_000_000, 5)])
    @on_reactor
    async def test_many_rotations(self, make_rig: Callable[..., DockerRig], size: int, count: int) -> None:
        """Who follows a container that writes faster than it can be read gets everything, or is told."""
        rig = make_rig(output=OutputFiles(size_bytes=size, count=count))
        container_id = await self._counting(rig, 100_000)
        receiver = OutputRecorder()
        await receiver.follow(rig, container_id, LogQuery(follow=True))
        await rig.until(lambda: receiver.ended, within=60)
        assert _numbered(100_000).startswith(receiver.of(1))
        assert isinstance(receiver.error, PositionGone) or receiver.of(1) == _numbered(100_000)

    @on_reactor
    async def test_slow_writer(self, make_rig: Callable[..., DockerRig]) -> None:
        """Lines that come now and then are passed on as they come, over many rotations."""
        rig = make_rig(output=OutputFiles(size_bytes=500, count=3))
        script = "for i in $(seq 1 60); do echo line $i; usleep 30000; done"
        container_id = await rig.containers.create(attrs.evolve(rig.spec(), cmd=("sh", "-c", script)))
        await rig.containers.start(container_id)
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery(follow=True))
        assert receiver.error is None
        assert receiver.of(1) == _numbered(60)
        assert len(receiver.pieces) > 5

    async def _paused(self, rig: DockerRig, lines: int) -> tuple[OutputRecorder, str]:
        """Somebody who follows a container that writes so many lines, and paused at the first of them."""
        container_id = await self._counting(rig, lines)
        receiver = OutputRecorder(pause_at_first=True)
        await receiver.follow(rig, container_id, LogQuery(follow=True))
        await rig.until(lambda: receiver.pieces)
        return receiver, container_id

    async def _counting(self, rig: DockerRig, lines: int) -> str:
        script = f"echo line 1; sleep 0.5; seq 2 {lines} | sed 's/^/line /'"
        container_id: str = await rig.containers.create(attrs.evolve(rig.spec(), cmd=("sh", "-c", script)))
        await rig.containers.start(container_id)
        return container_id

    @on_reactor
    async def test_driver_of_earlier_versions(self, rig: DockerRig, client: docker.APIClient) -> None:
        """Containers whose output is in the driver "json-file" can be read and followed."""
        config = client.create_host_config(log_config={"Type": "json-file", "Config": {}})
        line = "x" * 40_000
        script = f"yes {line[:100]} | tr -d '\\n' | head -c 40000; echo; echo short; printf last"
        for tty in (False, True):
            made = client.create_container(
                IMAGE, ["sh", "-c", script], tty=tty, host_config=config, labels=dict(rig.labels)
            )
            await rig.containers.start(made["Id"])
            await rig.ended(made["Id"])
            for query in (LogQuery(), LogQuery(follow=True)):
                receiver = OutputRecorder()
                await receiver.read(rig, made["Id"], query, tty=tty)
                assert receiver.of(1).replace(b"\r", b"") == f"{line}\nshort\nlast".encode()

    @on_reactor
    async def test_many_followers(self, rig: DockerRig) -> None:
        """Many can follow at once without a thread for each."""
        container_id = await rig.started(attrs.evolve(_TALKING, exits_after=1.0))
        receivers = [OutputRecorder() for _ in range(50)]
        query = LogQuery(follow=True)
        await gatherResults(
            [rig.containers.logs(container_id, False, query, receiver) for receiver in receivers]
        )
        await rig.until(lambda: all(receiver.ended for receiver in receivers))
        assert {receiver.of(1) for receiver in receivers} == {b"hello\n"}


def _numbered(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(1, count + 1))


def _volumes(client: docker.APIClient) -> set[str]:
    return {volume["Name"] for volume in client.volumes()["Volumes"] or ()}
