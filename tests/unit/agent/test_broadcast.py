"""One job's output for many listeners, fast and slow."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.task import Clock

from flynnhost.agent import spool_files
from flynnhost.agent.broadcast import Broadcast, Listening
from flynnhost.agent.spool import BLOCK_BYTES, Spool, SpoolLimits
from flynnhost.agent.spool_files import SpoolFiles
from flynnhost.testing.threads import NoThreads

SMALL = SpoolLimits(memory=4 * BLOCK_BYTES, unwritten=1 << 30, total=1 << 30)


@define(eq=False)
class Listener:
    """Takes all that comes, or as much as it is told to."""

    pieces: list[tuple[int, bytes]] = field(factory=list)
    over: str | None = None
    place: Listening | None = None
    pause_after: int | None = None

    def output_received(self, stream: int, data: bytes) -> None:
        assert self.over is None
        self.pieces.append((stream, data))
        if self.pause_after is not None and self.place is not None:
            self.pause_after -= 1
            if self.pause_after <= 0:
                self.place.pauseProducing()

    def output_over(self, error: str) -> None:
        assert self.over is None
        self.over = error

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.pieces)


@define(eq=False)
class Rig:
    """A broadcast whose spool is in a folder."""

    directory: Path
    limits: SpoolLimits = SMALL
    clock: Clock = field(factory=Clock)
    threads: NoThreads = field(factory=NoThreads)
    broadcast: Broadcast = field(init=False)
    deserted: int = 0
    written: list[bytes] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        files = SpoolFiles(self.threads, self.directory)

        def gone() -> None:
            self.deserted += 1

        def spool(lost: Callable[[int, str], None]) -> Spool:
            return Spool(files, self.limits, lost)

        self.broadcast = Broadcast(self.clock, spool, gone)

    def listen(self, flowing: bool = True) -> Listener:
        listener = Listener()
        listener.place = self.broadcast.join(listener)
        if flowing:
            listener.place.resumeProducing()
        return listener

    def write(self, size: int, piece: int = 5000, stream: int = 1) -> None:
        for start in range(0, size, piece):
            data = os.urandom(min(piece, size - start))
            self.written.append(data)
            self.broadcast.receive(stream, data)

    def settle(self) -> None:
        for _ in range(10_000):
            if not self.clock.getDelayedCalls():
                return
            self.clock.advance(0)
        raise AssertionError("it never settles")

    @property
    def all(self) -> bytes:
        return b"".join(self.written)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "spool")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def resume(listener: Listener) -> None:
    assert listener.place is not None
    listener.place.resumeProducing()


def pause(listener: Listener) -> None:
    assert listener.place is not None
    listener.place.pauseProducing()


def leave(listener: Listener) -> None:
    assert listener.place is not None
    listener.place.leave()


def test_all_get_the_same(rig: Rig) -> None:
    """A hundred listeners get every piece as it comes, and nothing is kept."""
    listeners = [rig.listen() for _ in range(100)]
    rig.write(1_000_000)
    assert {listener.data for listener in listeners} == {rig.all}
    assert (rig.broadcast.spool.size, rig.broadcast.spool.in_memory) == (0, 0)
    rig.broadcast.finish("")
    assert {listener.over for listener in listeners} == {""}
    assert rig.deserted == 1


def test_streams_are_kept_apart(rig: Rig) -> None:
    """Pieces keep their streams and their order, also on their way over the disk."""
    slow = rig.listen(flowing=False)
    for number in range(3000):
        rig.broadcast.receive(1 + number % 2, b"%d " % number * 100)
    resume(slow)
    rig.settle()
    assert slow.pieces == [(1 + number % 2, b"%d " % number * 100) for number in range(3000)]


def test_slow_listener_gets_all(rig: Rig) -> None:
    """One who is far behind gets everything in the end; memory stays small, and others wait for nothing."""
    quick, slow = rig.listen(), rig.listen(flowing=False)
    rig.write(20_000_000)
    assert quick.data == rig.all
    assert slow.pieces == []
    assert rig.broadcast.spool.size == 20_000_000
    assert rig.broadcast.spool.in_memory <= 5 * BLOCK_BYTES
    assert list(rig.directory.iterdir()) == []  # the files have no names
    rig.broadcast.finish("")
    assert slow.over is None
    resume(slow)
    rig.settle()
    assert slow.data == rig.all
    assert slow.over == ""
    assert rig.deserted == 1


def test_slices(rig: Rig) -> None:
    """Those who catch up get one slice at a time, and take turns."""
    first, second = rig.listen(flowing=False), rig.listen(flowing=False)
    rig.write(1_000_000)
    resume(first)
    resume(second)
    turns = []
    while rig.clock.calls:
        before = len(first.data), len(second.data)
        call: Any = rig.clock.calls.pop(0)
        call.func()
        turns.append((len(first.data) - before[0], len(second.data) - before[1]))
    assert all(0 <= sum(turn) < 2 * BLOCK_BYTES for turn in turns)
    assert [turn[0] > 0 for turn in turns[:6]] == [True, False] * 3
    assert first.data == second.data == rig.all


def test_space_is_given_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is closed as soon as all have passed it."""
    monkeypatch.setattr(spool_files, "SEGMENT_BYTES", 1_000_000)
    before = open_files()
    slow, slower = rig.listen(flowing=False), rig.listen(flowing=False)
    rig.write(10_000_000)
    most = open_files()
    assert most - before >= 8
    resume(slow)
    rig.settle()
    assert open_files() == most
    resume(slower)
    rig.settle()
    assert open_files() == before
    assert rig.broadcast.spool.size == 0
    assert slow.data == slower.data == rig.all


def test_any_mixture(rig: Rig) -> None:
    """Whoever pauses and resumes whenever, and joins at any time, misses nothing from then on."""
    chance = random.Random(7)
    listeners: list[tuple[int, Listener]] = []
    for _ in range(3000):
        what = chance.random()
        if what < 0.02:
            listeners.append((len(rig.all), rig.listen()))
        elif what < 0.4 and listeners:
            pause(chance.choice(listeners)[1])
        elif what < 0.6 and listeners:
            resume(chance.choice(listeners)[1])
        elif what < 0.7:
            rig.clock.advance(0)
        else:
            rig.write(chance.randrange(1, 40_000), chance.choice((100, 32_768, 100_000)))
    rig.broadcast.finish("")
    for _, listener in listeners:
        resume(listener)
    rig.settle()
    assert len(listeners) > 20
    for begin, listener in listeners:
        assert listener.data == rig.all[begin:]
        assert listener.over == ""
    assert rig.broadcast.spool.size == 0


def test_listener_that_pauses_at_every_piece(rig: Rig) -> None:
    """Pausing in the middle of what is passed on loses and repeats nothing."""
    listener = rig.listen()
    for _ in range(100):
        listener.pause_after = 1
        rig.write(10_000, 1000)
        resume(listener)
    listener.pause_after = None
    resume(listener)
    rig.settle()
    assert listener.data == rig.all


def test_listener_that_leaves(rig: Rig) -> None:
    """Who leaves hears no more, and what was kept for it is forgotten."""
    before = open_files()
    quick, slow = rig.listen(), rig.listen(flowing=False)
    rig.write(2_000_000)
    leave(slow)
    leave(slow)
    assert rig.broadcast.spool.size == 0
    assert open_files() == before
    assert (rig.deserted, len(rig.broadcast)) == (0, 1)
    rig.write(1000)
    leave(quick)
    assert quick.data == rig.all
    assert (slow.pieces, slow.over, rig.deserted) == ([], None, 1)


def test_listener_that_leaves_while_it_catches_up(rig: Rig) -> None:
    """Who leaves in the middle of being fed hears no more."""
    rig.listen()
    slow = rig.listen(flowing=False)
    rig.write(2_000_000)
    rig.threads.held = []
    resume(slow)
    leave(slow)
    count = len(slow.pieces)
    rig.threads.release()
    rig.settle()
    assert len(slow.pieces) == count


def test_falls_behind(tmp_path: Path) -> None:
    """Who is too far behind is cut off alone, and told why."""
    rig = Rig(tmp_path, SpoolLimits(memory=4 * BLOCK_BYTES, unwritten=1 << 30, total=4 << 20))
    quick, slow, stuck = rig.listen(), rig.listen(flowing=False), rig.listen(flowing=False)
    for _ in range(10):
        rig.write(1_000_000)
        resume(slow)
        rig.settle()
        pause(slow)
    assert stuck.over == "fell behind: 4 MiB of output were not read"
    assert stuck.pieces == []
    rig.broadcast.finish("")
    resume(slow)
    rig.settle()
    assert quick.data == slow.data == rig.all
    assert (quick.over, slow.over) == ("", "")


def test_all_fall_behind(tmp_path: Path) -> None:
    """When the only listener is cut off, nothing is kept any more."""
    rig = Rig(tmp_path, SpoolLimits(memory=4 * BLOCK_BYTES, unwritten=1 << 30, total=4 << 20))
    before = open_files()
    stuck = rig.listen(flowing=False)
    rig.write(10_000_000)
    assert stuck.over is not None
    assert (rig.deserted, rig.broadcast.spool.size, open_files()) == (1, 0, before)


def test_disk_full(rig: Rig) -> None:
    """When the disk takes nothing, those who need it are told; the others go on."""
    quick, slow = rig.listen(), rig.listen(flowing=False)
    rig.write(100_000)
    rig.threads.error = OSError(errno.ENOSPC, "No space left on device")
    rig.write(1_000_000)
    assert slow.over == "the output could not be kept for a slow reader: No space left on device"
    assert (rig.broadcast.spool.size, rig.broadcast.spool.in_memory) == (0, 0)
    rig.threads.error = None
    slow = rig.listen(flowing=False)
    rig.write(2_000_000)
    resume(slow)
    rig.settle()
    assert quick.data == rig.all
    assert slow.data == rig.all[-2_000_000:]


def test_disk_that_can_not_be_read(rig: Rig) -> None:
    """When what was kept can't be read any more, only its reader is told."""
    quick, slow = rig.listen(), rig.listen(flowing=False)
    rig.write(2_000_000)
    rig.threads.error = OSError(errno.EIO, "Input/output error")
    resume(slow)
    assert slow.over is not None
    assert "Input/output error" in slow.over
    assert quick.data == rig.all


def test_too_little_space(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the file system is left to the host's journal."""
    monkeypatch.setattr(spool_files, "KEEP_FREE_SHARE", 2.0)
    monkeypatch.setattr(spool_files, "KEEP_FREE_BYTES", 1 << 62)
    slow = rig.listen(flowing=False)
    rig.write(2_000_000)
    assert slow.over == "the output could not be kept for a slow reader: too little space is left"


def test_slow_disk(tmp_path: Path) -> None:
    """A disk that does not keep up costs those who are behind their place, and nobody anything else."""
    rig = Rig(tmp_path, SpoolLimits(memory=4 * BLOCK_BYTES, unwritten=20 * BLOCK_BYTES, total=1 << 30))
    rig.threads.held = []
    quick, slow = rig.listen(), rig.listen(flowing=False)
    rig.write(20 * BLOCK_BYTES)
    assert slow.over is None
    rig.write(20 * BLOCK_BYTES)
    assert slow.over == "fell behind: the host's disk does not keep up with the job"
    assert rig.broadcast.spool.in_memory < 30 * BLOCK_BYTES
    assert quick.data == rig.all
    rig.threads.release()


def test_small_pieces_cost_memory(rig: Rig) -> None:
    """What Python needs for many small pieces counts too."""
    slow = rig.listen(flowing=False)
    for _ in range(100_000):
        rig.broadcast.receive(1, b"x")
    assert rig.broadcast.spool.in_memory < 9 * BLOCK_BYTES
    resume(slow)
    rig.settle()
    assert slow.data == b"x" * 100_000


def test_breaks_off(rig: Rig) -> None:
    """Everybody gets all there was, and then the reason."""
    quick, slow = rig.listen(), rig.listen(flowing=False)
    rig.write(2_000_000)
    rig.broadcast.finish("the output broke off")
    assert (quick.over, slow.over) == ("the output broke off", None)
    resume(slow)
    rig.settle()
    assert (slow.data, slow.over) == (rig.all, "the output broke off")


def test_listeners_come_and_go(rig: Rig) -> None:
    """A thousand who come and go leave nothing behind."""
    before = open_files()
    stay = rig.listen()
    for number in range(1000):
        listener = rig.listen(flowing=number % 2 == 0)
        rig.write(3000)
        leave(listener)
    inner: Any = rig.broadcast.spool
    assert (len(rig.broadcast), len(inner._blocks), len(inner._holders)) == (1, 1, 0)
    assert open_files() == before
    assert stay.data == rig.all
