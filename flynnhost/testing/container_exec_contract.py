# ruff: noqa: S101 - these are tests
"""What every ``IContainers`` does with commands in running containers."""

from __future__ import annotations

from typing import Any

from flynnhost.errors import ContainerNotRunning, EngineRefused, EngineUnavailable, NoSuchContainer
from flynnhost.interfaces import IExecution
from flynnhost.testing.container_contract import failing, fails_with
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import ContainersRig, OutputRecorder, contract

_CAT = Program(reads_input=True, exit_code=3)


class ContainerExecContract:
    """Subclasses have a fixture ``rig`` that gives a ``ContainersRig``."""

    @contract
    async def test_output(self, rig: ContainersRig) -> None:
        """All it writes comes on its stream, then the end, then the exit status."""
        program = Program(output=((1, b"out\n"), (2, b"err\n")), exits_after=0, exit_code=7)
        execution, receiver, _ = await self._exec(rig, program)
        assert await execution.exit_status() == 7
        assert (receiver.of(1), receiver.of(2)) == (b"out\n", b"err\n")
        assert (receiver.ended, receiver.error) == (True, None)
        assert await execution.exit_status() == 7
        await execution.when_closed()
        await self._closed(execution)

    @contract
    async def test_exit_status(self, rig: ContainersRig) -> None:
        """The exit status waits for the end, though nothing is written."""
        execution, receiver, _ = await self._exec(rig, Program(exits_after=0.3))
        status = execution.exit_status()
        assert (status.called, receiver.ended) == (False, False)
        assert await status == 0
        assert receiver.pieces == []

    @contract
    async def test_nothing_before_the_answer(self, rig: ContainersRig) -> None:
        """Output comes only when the caller has the means to hold it back; so does the exit status."""
        container_id = await rig.started()
        receiver = OutputRecorder()
        program = Program(output=((1, b"out\n"),), exits_after=0)
        answered = rig.containers.exec(container_id, rig.command(program), receiver)
        answered.addCallback(lambda execution: (execution.pauseProducing(), execution))
        _, execution = await answered
        status = execution.exit_status()
        await rig.pass_time(0.3)
        assert (receiver.pieces, receiver.ended, status.called) == ([], False, False)
        execution.resumeProducing()
        assert await status == 0
        assert receiver.of(1) == b"out\n"

    @contract
    async def test_input(self, rig: ContainersRig) -> None:
        """It reads what is written and the end of it, on the connection that brings its output."""
        execution, receiver, _ = await self._exec(rig, _CAT, stdin=True)
        execution.write(b"one\n")
        await rig.until(lambda: receiver.of(1) == b"one\n")
        execution.write(b"two\n")
        execution.end()
        execution.end()
        assert await execution.exit_status() == 3
        assert receiver.of(1) == b"one\ntwo\n"

    @contract
    async def test_input_that_nobody_reads(self, rig: ContainersRig) -> None:
        """A command may end without reading all that was written."""
        program = Program(output=((1, b"out\n"),), exits_after=0, exit_code=2)
        execution, receiver, _ = await self._exec(rig, program, stdin=True)
        execution.write(b"x" * 1_000_000)
        assert await execution.exit_status() == 2
        execution.write(b"more")
        execution.end()
        assert (receiver.of(1), receiver.error) == (b"out\n", None)

    @contract
    async def test_without_input(self, rig: ContainersRig) -> None:
        """A command without input reads its end at once, whatever is written."""
        execution, receiver, _ = await self._exec(rig, _CAT)
        execution.write(b"nothing")
        execution.end()
        assert await execution.exit_status() == 3
        assert receiver.pieces == []

    @contract
    async def test_tty(self, rig: ContainersRig) -> None:
        """With a TTY all comes on the first stream, and the end of the input means nothing."""
        program = Program(output=((1, b"out\n"), (2, b"err\n")), reads_input=True)
        execution, receiver, _ = await self._exec(rig, program, stdin=True, tty=True, height=10, width=20)
        await rig.until(lambda: receiver.of(1).replace(b"\r", b"") == b"out\nerr\n")
        await execution.resize(30, 40)
        execution.end()
        execution.write(b"one\x10\x11two\n")
        await rig.until(lambda: b"two" in receiver.of(1))
        assert receiver.of(2) == b""
        await self._closed(execution)

    @contract
    async def test_signal(self, rig: ContainersRig) -> None:
        """A signal reaches the command, and not the container."""
        program = Program(output=((1, b"ready\n"),))
        execution, receiver, container_id = await self._exec(rig, program)
        await rig.until(lambda: receiver.pieces)
        await execution.signal(15)
        assert await execution.exit_status() == 143
        assert (await rig.containers.inspect(container_id)).running
        await failing(execution.signal(15), ContainerNotRunning)
        await execution.resize(10, 20)

    @contract
    async def test_refused(self, rig: ContainersRig) -> None:
        """A command that can't be run is refused with the engine's words, and nothing is told of it."""
        container_id = await rig.started()
        for tty in (False, True):
            receiver = OutputRecorder()
            command = rig.command(Program(refused="no such program"), tty=tty)
            error = await failing(rig.containers.exec(container_id, command, receiver), EngineRefused)
            assert "no such" in error.reason
            assert (receiver.pieces, receiver.ended) == ([], False)

    @contract
    async def test_nowhere(self, rig: ContainersRig) -> None:
        """Where nothing runs no command can be run."""
        command = rig.command(Program(exits_after=0))
        await fails_with(
            rig.containers.exec("nowhere", command, OutputRecorder()), NoSuchContainer("nowhere")
        )
        container_id = await rig.containers.create(rig.spec(Program(exits_after=0)))
        for _ in range(2):
            call = rig.containers.exec(container_id, command, OutputRecorder())
            await fails_with(call, ContainerNotRunning(container_id))
            await rig.containers.start(container_id)
            await rig.ended(container_id)

    @contract
    async def test_container_ends(self, rig: ContainersRig) -> None:
        """A command ends with its container."""
        program = Program(output=((1, b"ready\n"),), on_signal={})
        execution, receiver, container_id = await self._exec(rig, program)
        await rig.until(lambda: receiver.pieces)
        await rig.containers.kill(container_id, 9)
        assert await execution.exit_status() == 137
        assert receiver.ended

    @contract
    async def test_closed(self, rig: ContainersRig) -> None:
        """A command that is closed ends, one that does not care for SIGHUP too; nothing is told of it."""
        for signals in ({1: 129}, {}):
            program = Program(output=((1, b"ready\n"),), on_signal=signals)
            execution, receiver, container_id = await self._exec(rig, program)
            await rig.until(lambda: receiver.pieces)  # noqa: B023 - it is done before the next
            status = execution.exit_status()
            await self._closed(execution)
            await failing(status, EngineUnavailable)
            await failing(execution.exit_status(), EngineUnavailable)
            assert not receiver.ended
            assert await rig.commands_left(container_id) == 0

    @contract
    async def test_closed_in_the_answer(self, rig: ContainersRig) -> None:
        """A command can be closed at once."""
        container_id = await rig.started()
        receiver = OutputRecorder()
        answered = rig.containers.exec(container_id, rig.command(Program()), receiver)
        answered.addCallback(lambda execution: (execution.close(), execution))
        _, execution = await answered
        await execution.when_closed()
        assert await rig.commands_left(container_id) == 0
        assert (receiver.pieces, receiver.ended) == ([], False)

    @contract
    async def test_cancelled(self, rig: ContainersRig) -> None:
        """Who does not wait for the answer leaves no command behind."""
        container_id = await rig.started()
        answered = rig.containers.exec(container_id, rig.command(Program()), OutputRecorder())
        if not answered.called:
            answered.addErrback(lambda _: None)
            answered.cancel()
        else:
            (await answered).close()
        await rig.until_it(lambda: rig.commands_left(container_id), 0)
        await rig.pass_time(1)
        assert await rig.commands_left(container_id) == 0

    async def _exec(
        self, rig: ContainersRig, program: Program, **fields: Any
    ) -> tuple[IExecution, OutputRecorder, str]:
        container_id = await rig.started()
        receiver = OutputRecorder()
        execution = await rig.containers.exec(container_id, rig.command(program, **fields), receiver)
        return execution, receiver, container_id

    async def _closed(self, execution: IExecution) -> None:
        closed = execution.when_closed()
        execution.close()
        execution.close()
        await closed
        await execution.when_closed()
