"""What only a real engine can show of the standard streams of containers and of commands in them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.logger import LogLevel, capturedLogs

from flynnhost.containers import exec_process
from flynnhost.errors import EngineRefused, EngineUnavailable
from flynnhost.interfaces import ExecSpec, IExecution
from flynnhost.testing.container_attach_contract import Typist
from flynnhost.testing.container_contract import failing
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import OutputRecorder
from tests.support.docker_rig import DockerRig
from tests.support.reactor import on_reactor

pytestmark = pytest.mark.docker

_MUCH = 20_000_000


class Counter(OutputRecorder):
    """Counts what comes instead of keeping it."""

    count = 0

    def output_received(self, stream: int, data: bytes) -> None:
        self.count += len(data)


async def created(rig: DockerRig, script: str, **fields: Any) -> str:
    """A container that runs a script, when it is started."""
    return str(await rig.containers.create(attrs.evolve(rig.spec(), cmd=("sh", "-c", script), **fields)))


async def begun(rig: DockerRig, script: str, **fields: Any) -> tuple[IExecution, OutputRecorder, str]:
    """A script that runs in a running container, after it has said something."""
    container_id = await rig.started()
    receiver = OutputRecorder()
    command = ExecSpec(("sh", "-c", f"echo ready; {script}"), **fields)
    execution = await rig.containers.exec(container_id, command, receiver)
    await rig.until(lambda: b"ready" in receiver.of(1))
    return execution, receiver, container_id


async def closed(execution: IExecution) -> None:
    execution.close()
    await execution.when_closed()


class TestSize:
    @on_reactor
    async def test_container(self, rig: DockerRig) -> None:
        """A container's TTY has the size it was given last, and its process hears of it."""
        script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
        container_id = await created(rig, script, tty=True)
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id, tty=True)
        await rig.containers.start(container_id)
        await rig.until(lambda: b"ready" in receiver.of(1))
        await rig.containers.resize(container_id, 43, 121)
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == b"ready\r\n43 121\r\n"

    @on_reactor
    async def test_command(self, rig: DockerRig) -> None:
        """A command's TTY has a size from its beginning, and can be given another."""
        script = "read line; stty size; read line; stty size"
        execution, receiver, _ = await begun(rig, script, tty=True, stdin=True, height=17, width=71)
        execution.write(b"\n")
        await rig.until(lambda: b"17 71" in receiver.of(1))
        await execution.resize(43, 121)
        execution.write(b"\n")
        assert await execution.exit_status() == 0
        assert receiver.of(1).endswith(b"43 121\r\n")


class TestMuch:
    @on_reactor
    async def test_output(self, rig: DockerRig) -> None:
        """The process waits for who has paused; then all of it comes."""
        container_id = await created(rig, f"head -c {_MUCH} /dev/zero")
        receiver = Counter()
        await receiver.attach(rig, container_id)
        assert receiver.stream is not None
        receiver.stream.pauseProducing()
        await rig.containers.start(container_id)
        await rig.pass_time(1)
        assert receiver.count == 0
        assert (await rig.containers.inspect(container_id)).running
        receiver.stream.resumeProducing()
        await rig.until(lambda: receiver.ended)
        assert (receiver.count, receiver.error) == (_MUCH, None)

    @on_reactor
    async def test_input(self, rig: DockerRig) -> None:
        """A producer is paused while the process does not read; then all of it is read, to the end."""
        container_id = await created(rig, "sleep 1; wc -c", stdin=True)
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id)
        way = await rig.containers.attach_input(container_id)
        typist = Typist()
        way.registerProducer(typist, True)
        way.write(bytes(_MUCH))
        assert typist.paused
        await rig.containers.start(container_id)
        await rig.until(lambda: not typist.paused)
        way.unregisterProducer()
        way.end()
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1).strip() == b"%d" % _MUCH
        way.close()

    @on_reactor
    async def test_end_while_the_producer_is_paused(self, rig: DockerRig) -> None:
        """The end of the input comes after all of it, also when too much waits; the producer goes on."""
        container_id = await created(rig, "wc -c", stdin=True)
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id)
        way = await rig.containers.attach_input(container_id)
        typist = Typist()
        way.registerProducer(typist, True)
        way.write(bytes(_MUCH))
        way.end()
        assert not typist.paused
        await rig.containers.start(container_id)
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1).strip() == b"%d" % _MUCH
        way.close()


class TestCommand:
    @on_reactor
    async def test_where_and_who(self, rig: DockerRig) -> None:
        """A command has the environment, the user and the directory that were asked for."""
        execution, receiver, _ = await begun(
            rig, 'echo "$A|$(id -u)|$(pwd)"', env={"A": "b=c d"}, user="1234", working_dir="/tmp"
        )
        assert await execution.exit_status() == 0
        assert receiver.of(1) == b"ready\nb=c d|1234|/tmp\n"

    @on_reactor
    async def test_output_closed_early(self, rig: DockerRig) -> None:
        """A command may close its output long before it ends."""
        execution, receiver, _ = await begun(rig, "exec >/dev/null 2>&1; sleep 1; exit 5")
        assert await execution.exit_status() == 5
        assert receiver.ended

    @on_reactor
    @pytest.mark.parametrize("tty", [False, True])
    @pytest.mark.parametrize(
        "script",
        [
            "sleep 1000",
            "sleep 1000 & sleep 2000 & wait",
            "trap '' HUP; (sleep 1000; sleep 2000) & wait",
            "(trap '' HUP; exec sleep 1000) & sleep 2000",
            "set -m; sleep 1000 & sleep 2000",
            "exec >/dev/null 2>&1; sleep 1000",
        ],
    )
    async def test_closed_early(self, rig: DockerRig, script: str, tty: bool) -> None:
        """Nothing is left of a command that is closed, nor of what it has begun, whatever ignores SIGHUP."""
        execution, _, container_id = await begun(rig, script, tty=tty, stdin=True)
        assert await rig.commands_left(container_id) > 0
        await closed(execution)
        await rig.until_it(lambda: rig.commands_left(container_id), 0, within=2)
        assert (await rig.containers.inspect(container_id)).running

    @on_reactor
    async def test_signal_to_all(self, rig: DockerRig) -> None:
        """A signal reaches what the command has begun as well."""
        execution, receiver, container_id = await begun(rig, "sleep 1000 & sleep 2000 & wait")
        await rig.until_it(lambda: rig.commands_left(container_id), 3)
        await execution.signal(15)
        assert await execution.exit_status() == 143
        assert receiver.ended
        await rig.until_it(lambda: rig.commands_left(container_id), 0)

    @on_reactor
    async def test_closed_with_the_adapter(self, make_rig: Callable[..., DockerRig], rig: DockerRig) -> None:
        """Who closes the adapter ends its commands and streams, but no container."""
        ours = make_rig()
        execution, _, container_id = await begun(ours, "trap '' HUP; sleep 1000")
        way = await ours.containers.attach_input(container_id)
        left = ours.containers.exec(container_id, ExecSpec(("sleep", "1000")), OutputRecorder())
        await ours.containers.close()
        await way.when_closed()
        await execution.when_closed()
        await failing(left, EngineUnavailable)
        await rig.until_it(lambda: rig.commands_left(container_id), 0)
        assert (await rig.containers.inspect(container_id)).running

    @on_reactor
    async def test_out_of_reach(self, rig: DockerRig, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that may be another one is never sent a signal; this is said and logged."""
        monkeypatch.setattr(exec_process, "_within", lambda _pid, _container: False)
        execution, _, container_id = await begun(rig, "sleep 1000")
        assert "reached" in str(await failing(execution.signal(15), EngineRefused))
        with capturedLogs() as events:
            await closed(execution)
        warnings = [str(event["log_format"]) for event in events if event["log_level"] == LogLevel.warn]
        assert any("goes on" in each for each in warnings)
        assert await rig.commands_left(container_id) > 0


class TestNothingLeft:
    @on_reactor
    async def test_attach_and_detach(self, rig: DockerRig) -> None:
        """Fifty who come and go, and as many commands as ten of them run, leave nothing behind."""
        spec = rig.spec(Program(reads_input=True), tty=True, stdin=True)
        container_id = await rig.containers.create(spec)
        await rig.containers.start(container_id)

        async def come_and_go(commands: bool) -> None:
            receiver = OutputRecorder()
            await receiver.attach(rig, container_id, tty=True)
            way = await rig.containers.attach_input(container_id)
            assert receiver.stream is not None
            receiver.stream.stopProducing()
            way.close()
            await way.when_closed()
            if commands:
                command = ExecSpec(("sh", "-c", "exit 3"))
                execution = await rig.containers.exec(container_id, command, OutputRecorder())
                assert await execution.exit_status() == 3
                await closed(await rig.containers.exec(container_id, ExecSpec(("sleep", "99")), receiver))

        await come_and_go(True)
        files, threads = os.listdir("/proc/self/fd"), threading.active_count()
        for number in range(50):
            await come_and_go(number % 5 == 0)
        await rig.until(lambda: len(os.listdir("/proc/self/fd")) <= len(files) + 4, within=5)
        # The calls have a few threads each with a connection of its own, which are made when needed.
        assert threading.active_count() <= threads + 3
        assert await rig.commands_left(container_id) == 0
