# ruff: noqa: S101 - these are tests
"""What every ``IContainers`` does with the output of containers."""

from __future__ import annotations

import attrs

from flynnhost.errors import EngineRefused, NoSuchContainer, PositionGone
from flynnhost.interfaces import LogEntry, LogQuery
from flynnhost.log_position import LogPosition
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
    async def test_tail_of_one_stream(self, rig: ContainersRig) -> None:
        """So many lines of the stream that is wanted, however many of the other lie between."""
        mixed = tuple((1 + number % 2, b"line %d\n" % number) for number in range(8))
        container_id = await rig.started(Program(output=mixed, exits_after=0))
        await rig.ended(container_id)
        for count, expected in (
            (2, b"line 5\nline 7\n"),
            (0, b""),
            (99, b"line 1\nline 3\nline 5\nline 7\n"),
        ):
            receiver = OutputRecorder()
            await receiver.read(rig, container_id, LogQuery(stdout=False, tail=count))
            assert (receiver.of(1), receiver.of(2)) == (b"", expected)
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery(stdout=False, tail=1, follow=True))
        assert receiver.of(2) == b"line 7\n"

    @contract
    async def test_tail_and_follow(self, rig: ContainersRig) -> None:
        """A tail is followed by what is written later, and nothing comes twice."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0.5))
        await self._written(rig, container_id)
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery(tail=1, follow=True))
        assert receiver.of(1) == b"line 4\n"

    @contract
    async def test_entries(self, rig: ContainersRig) -> None:
        """Each line is an entry, with its stream and a position of its own that can be written down."""
        entries = await self._entries(rig, Program(output=(*_LINES, (2, b"err\n")), exits_after=0))
        assert [each.data for each in entries if each.position.stream == 1] == [data for _, data in _LINES]
        assert [each.data for each in entries if each.position.stream == 2] == [b"err\n"]
        assert len({each.position for each in entries}) == 6
        for each in entries:
            assert LogPosition.parse(str(each.position), "id") == each.position
            assert not each.position.partial

    @contract
    async def test_continue(self, rig: ContainersRig) -> None:
        """From every entry on, all that follows can be had, once, of the streams that are wanted."""
        program = Program(output=((2, b"err\n"), *_LINES), exits_after=0)
        container_id = await rig.started(program)
        await rig.ended(container_id)
        entries = OutputRecorder()
        await entries.read_entries(rig, container_id, LogQuery(tail=0))
        assert entries.entries == []
        entries = OutputRecorder()
        await entries.read_entries(rig, container_id, LogQuery())
        for number, entry in enumerate(entries.entries):
            for query in (LogQuery(after=entry.position), LogQuery(after=entry.position, follow=True)):
                rest = OutputRecorder()
                await rest.read_entries(rig, container_id, query)
                assert rest.entries == entries.entries[number + 1 :]
            text = OutputRecorder()
            await text.read(rig, container_id, LogQuery(after=entry.position, stdout=False))
            later = [each.data for each in entries.entries[number + 1 :] if each.position.stream == 2]
            assert (text.of(1), text.of(2)) == (b"", b"".join(later))

    @contract
    async def test_gone(self, rig: ContainersRig) -> None:
        """What follows an entry that is not there can't be had, and that is told before anything comes."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0))
        await rig.ended(container_id)
        entries = OutputRecorder()
        await entries.read_entries(rig, container_id, LogQuery())
        position = entries.entries[2].position
        for other in (
            attrs.evolve(position, index=99),
            attrs.evolve(position, check=position.check ^ 1),
            attrs.evolve(position, stream=2),
            attrs.evolve(position, stamp=b"1960-01-01T00:00:00.000000000Z"),
            attrs.evolve(position, stamp=b"9999-12-31T23:59:59.999999999Z"),
        ):
            for follow in (False, True):
                call = rig.containers.logs(
                    container_id, False, LogQuery(after=other, follow=follow), OutputRecorder()
                )
                await failing(call, PositionGone)

    @contract
    async def test_since(self, rig: ContainersRig) -> None:
        """What was written before a time can be left out."""
        container_id = await rig.started(Program(output=_LINES, exits_after=0.5))
        await self._written(rig, container_id)
        for since, expected in ((0, _TEXT), (4_000_000_000, b"")):
            since_ns = since * 1_000_000_000
            for query in (LogQuery(since_ns=since_ns), LogQuery(since_ns=since_ns, tail=3, stderr=False)):
                receiver = OutputRecorder()
                await receiver.read(rig, container_id, query)
                lines = expected.splitlines(keepends=True)
                assert receiver.of(1) == b"".join(lines if query.tail is None else lines[-query.tail :])
        receiver = OutputRecorder()
        await receiver.read(rig, container_id, LogQuery(since_ns=4_000_000_000_000_000_000, follow=True))
        assert receiver.of(1) == b""

    @contract
    async def test_long_line(self, rig: ContainersRig) -> None:
        """A long line comes in entries that say that it goes on, from each of which one can continue."""
        line = b"".join(b"%07d " % number for number in range(5000)) + b"\n"
        program = Program(output=((1, line), (1, b"short\n")), exits_after=0)
        for tty in (False, True):
            container_id = await rig.started(program, tty=tty)
            await rig.ended(container_id)
            receiver = OutputRecorder()
            await receiver.read(rig, container_id, LogQuery(), tty=tty)
            assert receiver.of(1).replace(b"\r", b"") == line + b"short\n"
            recorder = OutputRecorder()
            await recorder.read_entries(rig, container_id, LogQuery(), tty=tty)
            entries = recorder.entries
            assert [each.position.partial for each in entries] == [True, True, False, False]
            assert b"".join(each.data for each in entries).replace(b"\r", b"").replace(b"\n", b"") == (
                line.rstrip() + b" short"
            )
            for number, entry in enumerate(entries):
                rest = OutputRecorder()
                await rest.read_entries(rig, container_id, LogQuery(after=entry.position), tty=tty)
                assert rest.entries == entries[number + 1 :]

    @contract
    async def test_bytes(self, rig: ContainersRig) -> None:
        """All bytes are kept as they are, also after the last newline."""
        data = bytes(number for number in range(256) if number != 10) + b"\n"
        program = Program(output=((1, data), (2, b"\xff\xfe\n"), (1, b"\x80last")), exits_after=0)
        container_id = await rig.started(program)
        await rig.ended(container_id)
        for query in (LogQuery(), LogQuery(follow=True)):
            receiver = OutputRecorder()
            await receiver.read(rig, container_id, query)
            assert (receiver.of(1), receiver.of(2)) == (data + b"\x80last", b"\xff\xfe\n")

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

    async def _entries(self, rig: ContainersRig, program: Program) -> list[LogEntry]:
        container_id = await rig.started(program)
        await rig.ended(container_id)
        recorder = OutputRecorder()
        await recorder.read_entries(rig, container_id, LogQuery())
        assert recorder.error is None
        return recorder.entries

    async def _written(self, rig: ContainersRig, container_id: str) -> None:
        receiver = OutputRecorder()
        await receiver.follow(rig, container_id, LogQuery(follow=True))
        await rig.until(lambda: receiver.of(1) == _TEXT)
        assert receiver.stream is not None
        receiver.stream.stopProducing()
