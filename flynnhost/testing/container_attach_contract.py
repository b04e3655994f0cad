# ruff: noqa: S101 - these are tests
"""What every ``IContainers`` does with the standard streams of containers that run."""

from __future__ import annotations

from attrs import define, field

from flynnhost.errors import ContainerNotRunning, NoSuchContainer
from flynnhost.interfaces import IInput
from flynnhost.testing.container_contract import failing, fails_with
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import ContainersRig, OutputRecorder, contract

_LINES = tuple((1, b"line %d\n" % number) for number in range(5))
_TEXT = b"".join(data for _, data in _LINES)
_CAT = Program(reads_input=True, exit_code=3)


@define(eq=False)
class Typist:
    """A push producer that only remembers what it is told."""

    paused: bool = False
    told: list[str] = field(factory=list)

    def pauseProducing(self) -> None:
        """See ``IPushProducer``."""
        self.paused = True
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """See ``IPushProducer``."""
        self.paused = False
        self.told.append("resume")

    def stopProducing(self) -> None:
        """See ``IPushProducer``."""
        self.told.append("stop")


class ContainerAttachContract:
    """Subclasses have a fixture ``rig`` that gives a ``ContainersRig``."""

    # --- output ---

    @contract
    async def test_before_the_start(self, rig: ContainersRig) -> None:
        """Who is there before the start gets everything from the first byte, and then the end."""
        container_id = await rig.containers.create(rig.spec(Program(output=_LINES, exits_after=0)))
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id)
        await rig.containers.start(container_id)
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == _TEXT
        assert receiver.error is None

    @contract
    async def test_both_streams(self, rig: ContainersRig) -> None:
        """Output and errors can be told apart."""
        program = Program(output=((1, b"out\n"), (2, b"err\n")), exits_after=0)
        container_id = await rig.containers.create(rig.spec(program))
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id)
        await rig.containers.start(container_id)
        await rig.until(lambda: receiver.ended)
        assert (receiver.of(1), receiver.of(2)) == (b"out\n", b"err\n")

    @contract
    async def test_from_now_on(self, rig: ContainersRig) -> None:
        """Who comes later gets only what is written from then on."""
        container_id = await rig.containers.create(
            rig.spec(Program(output=_LINES, reads_input=True), stdin=True)
        )
        first, second = OutputRecorder(), OutputRecorder()
        await first.attach(rig, container_id)
        await rig.containers.start(container_id)
        await rig.until(lambda: first.of(1) == _TEXT)
        await second.attach(rig, container_id)
        way = await rig.containers.attach_input(container_id)
        way.write(b"typed\n")
        way.end()
        await rig.until(lambda: first.ended and second.ended)
        assert (first.of(1), second.of(1)) == (_TEXT + b"typed\n", b"typed\n")

    @contract
    async def test_not_kept(self, rig: ContainersRig) -> None:
        """Output that is not kept can be had while it is written."""
        program = Program(output=_LINES, exits_after=0)
        container_id = await rig.containers.create(rig.spec(program, keep_output=False))
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id)
        await rig.containers.start(container_id)
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == _TEXT

    @contract
    async def test_nothing_before_the_answer(self, rig: ContainersRig) -> None:
        """Output comes only when the caller has the stream to hold it back."""
        container_id = await rig.containers.create(rig.spec(Program(output=_LINES, exits_after=0.3)))
        receiver = OutputRecorder()
        answered = rig.containers.attach_output(container_id, False, receiver)
        answered.addCallback(lambda stream: (stream.pauseProducing(), stream))
        _, stream = await answered
        await rig.containers.start(container_id)
        await rig.ended(container_id)
        await rig.pass_time(0.2)
        assert (receiver.pieces, receiver.ended) == ([], False)
        stream.resumeProducing()
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == _TEXT

    @contract
    async def test_pause(self, rig: ContainersRig) -> None:
        """In a pause nothing comes, not even the end; afterwards all of it does."""
        container_id = await rig.containers.create(rig.spec(Program(output=_LINES, exits_after=0.1)))
        receiver = OutputRecorder(pause_at_first=True)
        await receiver.attach(rig, container_id)
        await rig.containers.start(container_id)
        await rig.until(lambda: receiver.pieces)
        await rig.ended(container_id)
        await rig.pass_time(0.2)
        assert len(receiver.pieces) == 1
        assert not receiver.ended
        assert receiver.stream is not None
        receiver.stream.resumeProducing()
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == _TEXT

    @contract
    async def test_stop(self, rig: ContainersRig) -> None:
        """Who stops the stream hears nothing more, the others do, and the container goes on."""
        container_id = await rig.containers.create(rig.spec(Program(reads_input=True), stdin=True))
        leaves, stays = OutputRecorder(), OutputRecorder()
        await leaves.attach(rig, container_id)
        await stays.attach(rig, container_id)
        await rig.containers.start(container_id)
        way = await rig.containers.attach_input(container_id)
        way.write(b"one\n")
        await rig.until(lambda: leaves.of(1) == stays.of(1) == b"one\n")
        assert leaves.stream is not None
        leaves.stream.stopProducing()
        leaves.stream.stopProducing()
        way.write(b"two\n")
        await rig.until(lambda: stays.of(1) == b"one\ntwo\n")
        way.end()
        await rig.until(lambda: stays.ended)
        assert (leaves.of(1), leaves.ended) == (b"one\n", False)

    @contract
    async def test_output_of_nothing(self, rig: ContainersRig) -> None:
        """There is no output of what is not there, has ended, or ends meanwhile without a word."""
        call = rig.containers.attach_output("nowhere", False, OutputRecorder())
        await fails_with(call, NoSuchContainer("nowhere"))
        container_id = await rig.started(Program(output=_LINES, exits_after=0))
        await rig.ended(container_id)
        call = rig.containers.attach_output(container_id, False, OutputRecorder())
        await fails_with(call, ContainerNotRunning(container_id))

    # --- input ---

    @contract
    async def test_input(self, rig: ContainersRig) -> None:
        """What is written reaches the process, and so does the end; then the connection can be closed."""
        container_id, receiver = await self._cat(rig)
        await rig.containers.start(container_id)
        way = await rig.containers.attach_input(container_id)
        way.write(b"one\n")
        await rig.until(lambda: receiver.of(1) == b"one\n")
        way.write(b"two\n")
        way.end()
        way.write(b"too late\n")
        way.end()
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == b"one\ntwo\n"
        assert (await rig.ended(container_id)).exit_code == 3
        await self._close(way)

    @contract
    async def test_input_before_the_start(self, rig: ContainersRig) -> None:
        """What is written before the start is read after it, to its end."""
        container_id, receiver = await self._cat(rig)
        way = await rig.containers.attach_input(container_id)
        way.write(b"early\n")
        way.end()
        await rig.pass_time(0.2)
        await rig.containers.start(container_id)
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == b"early\n"
        assert (await rig.ended(container_id)).exit_code == 3
        await self._close(way)

    @contract
    async def test_input_closed(self, rig: ContainersRig) -> None:
        """A process without a TTY reads the end when the connection is closed."""
        container_id = await rig.started(_CAT, stdin=True)
        way = await rig.containers.attach_input(container_id)
        await self._close(way)
        assert (await rig.ended(container_id)).exit_code == 3

    @contract
    async def test_input_closed_at_once(self, rig: ContainersRig) -> None:
        """What was written before is read all the same."""
        container_id, receiver = await self._cat(rig)
        await rig.containers.start(container_id)
        way = await rig.containers.attach_input(container_id)
        way.write(b"last words\n")
        await self._close(way)
        await rig.until(lambda: receiver.ended)
        assert receiver.of(1) == b"last words\n"

    @contract
    async def test_input_of_a_tty(self, rig: ContainersRig) -> None:
        """The input of a TTY can be closed and opened again."""
        spec = rig.spec(Program(reads_input=True), tty=True, stdin=True)
        container_id = await rig.containers.create(spec)
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id, tty=True)
        await rig.containers.start(container_id)
        for word in (b"one", b"two"):
            way = await rig.containers.attach_input(container_id)
            way.write(word + b"\n")
            await rig.until(lambda word=word: word in receiver.of(1))  # type: ignore[misc]
            await self._close(way)
        assert (await rig.containers.inspect(container_id)).running
        assert not receiver.ended

    @contract
    async def test_any_byte_of_a_tty(self, rig: ContainersRig) -> None:
        """No keys mean anything to the engine."""
        spec = rig.spec(Program(reads_input=True), tty=True, stdin=True)
        container_id = await rig.containers.create(spec)
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id, tty=True)
        await rig.containers.start(container_id)
        way = await rig.containers.attach_input(container_id)
        way.write(b"one\x10\x11two\n")
        await rig.until(lambda: b"two" in receiver.of(1))
        await self._close(way)

    @contract
    async def test_input_of_nothing(self, rig: ContainersRig) -> None:
        """Nobody reads what is written to what is not there or has ended."""
        await fails_with(rig.containers.attach_input("nowhere"), NoSuchContainer("nowhere"))
        container_id = await rig.started(Program(exits_after=0), stdin=True)
        await rig.ended(container_id)
        await fails_with(rig.containers.attach_input(container_id), ContainerNotRunning(container_id))

    @contract
    async def test_producer(self, rig: ContainersRig) -> None:
        """A producer is let go on when the input is gone, never stopped; the next one too."""
        container_id = await rig.started(_CAT, stdin=True)
        way = await rig.containers.attach_input(container_id)
        first, second = Typist(), Typist()
        way.registerProducer(first, True)
        way.write(b"typed\n")
        await self._close(way)
        way.unregisterProducer()
        way.registerProducer(second, True)
        assert not first.paused
        assert not second.paused
        assert "stop" not in first.told + second.told

    # --- size ---

    @contract
    async def test_resize_of_nothing(self, rig: ContainersRig) -> None:
        """What does not run has no size."""
        await fails_with(rig.containers.resize("nowhere", 10, 20), NoSuchContainer("nowhere"))
        container_id = await rig.containers.create(rig.spec(Program(exits_after=0), tty=True))
        await fails_with(rig.containers.resize(container_id, 10, 20), ContainerNotRunning(container_id))
        await rig.containers.start(container_id)
        await rig.ended(container_id)
        await failing(rig.containers.resize(container_id, 10, 20), ContainerNotRunning)

    async def _cat(self, rig: ContainersRig) -> tuple[str, OutputRecorder]:
        """A container that gives back what it reads, not started yet, and who takes that."""
        container_id = await rig.containers.create(rig.spec(_CAT, stdin=True))
        receiver = OutputRecorder()
        await receiver.attach(rig, container_id)
        return container_id, receiver

    async def _close(self, way: IInput) -> None:
        closed = way.when_closed()
        way.close()
        way.close()
        await closed
        await way.when_closed()
