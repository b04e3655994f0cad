"""Output that somebody has not read yet: the newest in memory, what is older on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.agent.spool_files import Piece, Place, SpoolFiles

BLOCK_BYTES = 64 * 1024
"""How much is written, dropped and read back together."""

MEMORY_BYTES = 1024 * 1024
"""What stays in memory of what somebody has not read."""

UNWRITTEN_BYTES = 16 * 1024 * 1024
"""What may be in memory while the disk does not keep up."""

LIMIT_BYTES = 1024 * 1024 * 1024
"""How far anyone may be behind."""

_READ_BLOCKS = 4
_PIECE_COST = 128  # what Python needs for each, however small it is

FELL_BEHIND = "fell behind: {limit} MiB of output were not read"
DISK_TOO_SLOW = "fell behind: the host's disk does not keep up with the job"
DISK_FAILED = "the output could not be kept for a slow reader: {error}"


@frozen
class SpoolLimits:
    """How much is kept where, in bytes; see the constants of the same names."""

    memory: int = MEMORY_BYTES
    unwritten: int = UNWRITTEN_BYTES
    total: int = LIMIT_BYTES


@frozen
class Position:
    """Before which piece of which block a reader is."""

    block: int
    piece: int


@define(eq=False)
class _Block:
    pieces: list[Piece] | None = field(factory=list)  # None when they are on disk
    cost: int = 0
    size: int = 0
    place: Place | None = None


@define(eq=False)
class Spool:
    """Keeps a sequence of pieces for those who have not read them, each of whom holds a block.

    :param lost: called with a block and a reason: whoever holds that block or one before it will
        not get it, and lets go of it at once.
    """

    log = Logger()

    _files: SpoolFiles
    _limits: SpoolLimits
    _lost: Callable[[int, str], None]
    _blocks: dict[int, _Block] = field(init=False, factory=lambda: {0: _Block()})
    _first: int = field(init=False, default=0)
    _last: int = field(init=False, default=0)
    _holders: Counter[int] = field(init=False, factory=Counter)
    _spilled: int = field(init=False, default=0)  # the first block that is not on disk or on its way there
    _writing: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)
    size: int = field(init=False, default=0)
    in_memory: int = field(init=False, default=0)

    @property
    def end(self) -> Position:
        """Where the next piece will be."""
        return Position(self._last, len(self._blocks[self._last].pieces or ()))

    def append(self, piece: Piece) -> None:
        """Keep a piece, if anybody holds something."""
        block = self._blocks[self._last]
        if block.size >= BLOCK_BYTES or block.cost >= 4 * BLOCK_BYTES:
            self._begin_block()
            block = self._blocks[self._last]
        if not self._holders:
            return
        if block.pieces is None:
            raise RuntimeError("the last block is always in memory")
        block.pieces.append(piece)
        size = len(piece[1])
        block.size += size
        block.cost += size + _PIECE_COST
        self.size += size
        self.in_memory += size + _PIECE_COST

    def pieces_at(self, position: Position) -> Sequence[Piece] | None:
        """What there is from here to the end of the block; None if it is on disk."""
        pieces = self._blocks[position.block].pieces
        return None if pieces is None else pieces[position.piece :]

    def after(self, block: int) -> Position:
        """Where to go on after a block."""
        return self.end if block == self._last else Position(block + 1, 0)

    def fetch(self, first: int) -> tuple[int, Deferred[list[Piece]]]:
        """Read a block that is on disk, and some after it.

        :return: the last one, and what fires with all that is in them.
        :raises OSError: (as the Deferred's failure) when they can't be read.
        """
        places = [self._place(first)]
        while len(places) < _READ_BLOCKS:
            following = self._blocks.get(first + len(places))
            if following is None or following.place is None or not places[-1].followed_by(following.place):
                break
            places.append(following.place)
        return first + len(places) - 1, self._files.read(places)

    def hold(self, block: int) -> None:
        """Somebody is in this block: keep it, and all after it."""
        self._holders[block] += 1

    def release(self, block: int) -> None:
        """Somebody is not in this block any more."""
        self._holders[block] -= 1
        if not self._holders[block]:
            del self._holders[block]
            self._drop()

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._holders.clear()
        self._drop()
        self._files.close()

    def _place(self, block: int) -> Place:
        place = self._blocks[block].place
        if place is None:
            raise RuntimeError("only what is on disk is fetched")
        return place

    def _begin_block(self) -> None:
        self._last += 1
        self._blocks[self._last] = _Block()
        if self.in_memory > self._limits.unwritten:
            recent = self._limits.memory // BLOCK_BYTES
            self._lose(self._last - 1 - recent, DISK_TOO_SLOW)
        while self.size > self._limits.total and self._first < self._last:
            self._lose(self._first, FELL_BEHIND.format(limit=self._limits.total >> 20))
        self._spill()

    def _lose(self, block: int, reason: str) -> None:
        self._lost(block, reason)
        self._drop()

    def _drop(self) -> None:
        """Forget the blocks before the first that somebody holds."""
        while self._first < self._last and not self._holders.get(self._first):
            self._forget(self._blocks.pop(self._first))
            self._first += 1
        if not self._holders:  # the last block too: whoever comes begins after it
            self._forget(self._blocks.pop(self._last))
            self._first = self._last = self._last + 1
            self._blocks[self._last] = _Block()
        self._spilled = max(self._spilled, self._first)

    def _forget(self, block: _Block) -> None:
        self.size -= block.size
        if block.pieces is not None:
            self.in_memory -= block.cost
        if block.place is not None:
            self._files.forget(block.place)

    def _spill(self) -> None:
        """Have the oldest blocks written, unless some are being written."""
        if self._writing or self._closed or self.in_memory <= self._limits.memory:
            return
        batch: dict[int, _Block] = {}
        left = self.in_memory
        while self._spilled < self._last and left > self._limits.memory // 2:
            block = self._blocks[self._spilled]
            batch[self._spilled] = block
            left -= block.cost
            self._spilled += 1
        if batch:
            self._writing = True
            written = self._files.write([block.pieces or [] for block in batch.values()])
            written.addCallbacks(self._written, self._not_written, (batch,), {}, (batch,))
            written.addErrback(self._broke)

    def _written(self, places: list[Place], batch: dict[int, _Block]) -> None:
        self._writing = False
        for (number, block), place in zip(batch.items(), places, strict=True):
            if number in self._blocks:
                block.place, block.pieces = place, None
                self.in_memory -= block.cost
            else:
                self._files.forget(place)
        self._spill()

    def _not_written(self, failure: Failure, batch: dict[int, _Block]) -> None:
        failure.trap(OSError)
        self._writing = False
        self.log.warn("Output can't be kept on disk: {error}", error=str(failure.value))
        error = failure.value.strerror if isinstance(failure.value, OSError) else failure.value
        self._lose(max(batch), DISK_FAILED.format(error=error))
        self._spill()

    def _broke(self, failure: Failure) -> None:
        self.log.failure("While keeping output", failure)
