# ruff: noqa: S101 - these are tests
"""What every ``IContainers`` does with the output of containers."""

from __future__ import annotations

from flynnhost.errors import EngineRefused, NoSuchContainer
from flynnhost.interfaces import LogQuery
from flynnhost.testing.container_contract import failing, fails_with
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import ContainersRig, OutputRecorder, contract

_LINES = tuple((1, b"line %d\n" % number) for number in range(5))
_TEXT = b"".join(data for _, data in _LINES)


class ContainerOutputContract:
    """Subclasses have a fixture ``rig`` that gives a ``ContainersRig``."""

    @contract
    async def test_all(self, rig: ContainersRig) -> None:
        """What an ended container wrote is there, and then the output ends."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0))
        await rig.ended(container_id)
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery())
        assert receiver.of(1) == _TEXT
        assert receiver.error is None

    @contract
    async def test_streams(self, rig: ContainersRig) -> None:
        """Both streams can be told apart, and had one without the other."""
        program = Program(output=((1, b"out\n"), (2, b"err\n")), exits_after=0)
        container_id = await rig.started(program)
        await rig.ended(container_id)
        for query, expected in (
            (LogQuery(), (b"out\n", b"err\n")),
            (LogQuery(stderr=False), (b"out\n", b"")),
            (LogQuery(stdout=False), (b"", b"err\n")),
        ):
            receiver = OutputRecorder()
            await receiver.read(rig, container_id, query)
            assert (receiver.of(1), receiver.of(2)) == expected

    @contract
    async def test_neither_stream(self, rig: ContainersRig) -> None:
        """To want nothing at all is refused."""
        container_id = await rig.started()
        query = LogQuery(stdout=False, stderr=False)
        await failing(rig.containers.logs(container_id, False, query, OutputRecorder()), EngineRefused)

    @contract
    async def test_tail(self, rig: ContainersRig) -> None:
        """So many lines from the end, or none."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0))
        await rig.ended(container_id)
        for count, expected in ((2, b"line 3\nline 4\n"), (0, b""), (99, _TEXT)):
            receiver = OutputRecorder()
            await receiver.read(rig, container_id, LogQuery(tail=count))
            assert receiver.of(1) == expected

    @contract
    async def test_no_follow(self, rig: ContainersRig) -> None:
        """Who does not follow gets what there is, though the container goes on."""
        container_id = await rig.started(Program(output=_LINES))
        await self._written(rig, container_id)
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery())
        assert receiver.of(1) == _TEXT

    @contract
    async def test_follow(self, rig: ContainersRig) -> None:
        """Who follows gets everything to the end of the container, which ends the output."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0.5))
        receiver = OutputRecorder()
        await receiver.follow(rig, container_id, LogQuery(follow=True))
        await rig.until(lambda: receiver.of(1) == _TEXT)
        assert not receiver.ended
        await rig.until(lambda: receiver.ended)
        assert receiver.error is None

    @contract
    async def test_before_start(self, rig: ContainersRig) -> None:
        """A container that was never started has no output."""
        container_id = await rig.containers.create(rig.spec())
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery())
        assert receiver.pieces == []

    @contract
    async def test_nothing_before_the_answer(self, rig: ContainersRig) -> None:
        """Output comes only when the caller has the stream to hold it back."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0))
        await rig.ended(container_id)
        receiver = OutputRecorder()
        answered = rig.containers.logs(container_id, False, LogQuery(), receiver)
        answered.addCallback(lambda stream: (receiver.pieces.copy(), stream.pauseProducing(), stream))
        pieces, _, stream = await answered
        assert pieces == []
        await rig.pass_time(0.3)
        assert receiver.pieces == []
        assert not receiver.ended
        stream.resumeProducing()
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == _TEXT

    @contract
    async def test_pause(self, rig: ContainersRig) -> None:
        """In a pause nothing comes, not even the end; afterwards all of it does."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0))
        await rig.ended(container_id)
        receiver = OutputRecorder(pause_at_first=True)
        await receiver.follow(rig, container_id, LogQuery())
        await rig.until(lambda: receiver.pieces)
        await rig.pass_time(0.3)
        assert len(receiver.pieces) == 1
        assert not receiver.ended
        assert receiver.stream is not None
        receiver.stream.resumeProducing()
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == _TEXT

    @contract
    async def test_stop(self, rig: ContainersRig) -> None:
        """Who stops the stream hears nothing more, and may stop it again."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0.4))
        receiver = OutputRecorder()
        await receiver.follow(rig, container_id, LogQuery(follow=True))
        await rig.until(lambda: receiver.pieces)
        assert receiver.stream is not None
        receiver.stream.stopProducing()
        receiver.stream.stopProducing()
        before = len(receiver.pieces)
        await rig.ended(container_id)
        await rig.pass_time(0.2)
        assert len(receiver.pieces) == before
        assert not receiver.ended

    @contract
    async def test_tty(self, rig: ContainersRig) -> None:
        """With a TTY all comes on the first stream."""
        program = Program(output=((1, b"out\n"), (2, b"err\n")), exits_after=0)
        container_id = await rig.started(program, tty=True)
        await rig.ended(container_id)
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery(), tty=True)
        assert receiver.of(1).replace(b"\r", b"") == b"out\nerr\n"
        assert receiver.of(2) == b""

    @contract
    async def test_not_kept(self, rig: ContainersRig) -> None:
        """Output that is not kept can't be read."""
        container_id = await rig.started(keep_output=False)
        call = rig.containers.logs(container_id, False, LogQuery(), OutputRecorder())
        assert "read" in str(await failing(call, EngineRefused))

    @contract
    async def test_unknown(self, rig: ContainersRig) -> None:
        """There is no output of what is not there."""
        call = rig.containers.logs("nowhere", False, LogQuery(), OutputRecorder())
        await fails_with(call, NoSuchContainer("nowhere"))

    async def _written(self, rig: ContainersRig, container_id: str) -> None:
        receiver = OutputRecorder()
        await receiver.follow(rig, container_id, LogQuery(follow=True))
        await rig.until(lambda: receiver.of(1) == _TEXT)
        assert receiver.stream is not None
        receiver.stream.stopProducing()
