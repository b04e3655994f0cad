"""Reading a container's output without a gap, however slowly, and for as long as it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from flynnhost.background import Backoff
from flynnhost.containers.entries import Entry
from flynnhost.containers.log_bell import Bell
from flynnhost.containers.log_places import (
    Numbering,
    Search,
    Start,
    stamp_of,
    streams_of,
)
from flynnhost.containers.log_sinks import ISink
from flynnhost.containers.log_source import ILogSource, ISnapshot, LogRequest
from flynnhost.containers.log_start import FEWEST, nearer_tail, nothing_since, tail_start
from flynnhost.errors import EngineUnavailable, FlynnHostError, PositionGone
from flynnhost.gate import Gate
from flynnhost.interfaces import ILogStream, LogQuery
from flynnhost.log_position import LogPosition

#: The least time between two looks at a container that writes all the time.
LOOK_EVERY = 0.1

#: How long the first wait for a bell is, and how long the last ones are.
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 10.0

#: How long a receiver may pause before the engine's files are let go of. Files that the engine has
#: dropped take space as long as they are read.
HOLD = 300.0

#: Where the last entry that was passed on is looked for, no more entries from the end than so many just
#: because as many came the last time.
_EXPECTED = 4000

#: How far from the end it is worth to see first whether the place is kept at all.
_FAR = 50_000


@define(eq=False)
class LogReader:
    """An ``ILogStream`` made of snapshots of the output, each of which is read from where the last one ended.

    Docker's own way to follow loses output when its reader is slow, without a word. So it only
    serves to hear that there is something new.

    :param stamped: whether entries have stamps; without them there is but one snapshot.
    :param patience: how long the engine may be away before the output breaks off.
    :param look_every: tells the least time between two looks.
    :param closed: called when it is over.
    """

    log = Logger()

    _clock: IReactorTime
    _source: ILogSource
    _query: LogQuery
    _sink: ISink
    _stamped: bool
    _patience: float
    _look_every: Callable[[], float]
    _closed: Callable[[LogReader], None]
    _cursor: LogPosition | None = field(init=False, default=None)
    _numbering: Numbering = field(init=False, factory=Numbering)
    _skipped: int = field(init=False, default=0)
    _not_before: bytes = field(init=False, default=b"")
    _expected: int = field(init=False, default=0)
    _bell: Bell | None = field(init=False, default=None)
    _wait: float = field(init=False, default=_FIRST_WAIT)
    _rang: bool = field(init=False, default=False)
    _ended: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)
    _calling: bool = field(init=False, default=False)
    _flowing: Gate = field(init=False)
    _agreed: Deferred[ILogStream] | None = field(init=False, default=None)
    _work: Deferred[None] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._flowing = Gate()
        self._flowing.open()
        if self._query.after is not None:
            self._go_on_after(self._query.after)

    def start(self) -> Deferred[ILogStream]:
        """Begin. Fires when it is known where, before the first output."""
        agreed: Deferred[ILogStream] = Deferred(lambda _: self.stopProducing())
        self._agreed = agreed
        self._work = Deferred.fromCoroutine(self._run())
        return agreed

    def pauseProducing(self) -> None:
        """See ``ILogStream``."""
        self._flowing.shut()

    def resumeProducing(self) -> None:
        """See ``ILogStream``."""
        self._flowing.open()

    def stopProducing(self) -> None:
        """See ``ILogStream``."""
        if self._over:
            return
        self._finish()
        if self._work is not None and not self._calling:
            self._work.cancel()

    def break_off(self) -> None:
        """End it from our side, which the receiver is told."""
        if self._over:
            return
        agreed = self._agreed
        self.stopProducing()
        error = EngineUnavailable("the connection is closed for good")
        if agreed is not None:
            agreed.errback(error)
        else:
            self._sink.end(error)

    # --- from the beginning to the end ---

    async def _run(self) -> None:
        try:
            error = await self._read()
            await self._flowing.wait()
            if not self._over:
                self._finish()
                self._sink.end(error)
        except CancelledError:
            self._finish()
        except Exception:
            self.log.failure("A receiver of a container's output failed")
            self._finish()

    async def _read(self) -> Exception | None:
        try:
            await (self._follow() if self._stamped else self._read_plainly())
        except FlynnHostError as e:
            if self._agreed is None:
                return e
            agreed, self._agreed = self._agreed, None
            self._finish()
            agreed.errback(e)
            raise CancelledError from e
        finally:
            self._hang_up()
        return None

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._agreed = None
            self._hang_up()
            self._closed(self)

    async def _agree(self) -> None:
        """Say that output is about to come, and give the caller the time to take the stream."""
        if self._agreed is not None:
            agreed, self._agreed = self._agreed, None
            self._call(lambda: agreed.callback(self))
            await deferLater(self._clock, 0)

    # --- one snapshot as it is ---

    async def _read_plainly(self) -> None:
        query = self._query
        snapshot = await self._source.ask(
            LogRequest(query.stdout, query.stderr, stamped=False, tail=query.tail, since_ns=query.since_ns)
        )
        try:
            await self._agree()
            while entries := await self._next(snapshot):
                await self._hand_on(entries)
        finally:
            snapshot.close()

    # --- one snapshot after the other ---

    async def _follow(self) -> None:
        backoff, away_since = Backoff(self._clock, first=0.1, cap=2.0), None
        begun = False
        while True:
            await self._flowing.wait()
            try:
                if not begun:
                    await self._begin()
                    begun = True
                if await self._turn():
                    return
                backoff, away_since = Backoff(self._clock, first=0.1, cap=2.0), None
            except _LetGo:
                continue
            except EngineUnavailable:
                self._hang_up()
                now = self._clock.seconds()
                away_since = now if away_since is None else away_since
                if self._agreed is not None or now - away_since >= self._patience:
                    raise
                await backoff.wait()

    async def _begin(self) -> None:
        query = self._query
        if query.after is not None:
            return
        if query.since_ns is not None:
            self._not_before = stamp_of(query.since_ns)
        if query.tail is not None:
            self._start_from(await tail_start(self._source, query, query.tail))
        elif query.since_ns is not None and query.follow:
            end = await tail_start(self._source, query, 0)
            if await nothing_since(self._source, query.since_ns):
                # Or each look would be one at everything.
                self._start_from(end)

    def _start_from(self, start: Start) -> None:
        self._skipped = start.skipped
        self._expected = start.entries
        if start.after is not None:
            self._go_on_after(start.after)

    def _go_on_after(self, position: LogPosition) -> None:
        self._cursor = position
        self._numbering.stamps[position.stream] = position.stamp
        self._numbering.index[position.stream] = position.index

    async def _turn(self) -> bool:
        """Look for what is new, and wait until there may be more. Says whether that was all."""
        nothing = self._query.tail == 0 and self._query.after is None and not self._query.follow
        if nothing:
            await self._agree()
            return True
        ended = self._ended
        looked_at = self._clock.seconds()
        came = await self._catch_up()
        if ended or not self._query.follow:
            await self._agree()
            return True
        if came:
            self._hang_up()
            self._wait = _FIRST_WAIT
            self._rang = False
            await self._rest(looked_at + self._look_every() - self._clock.seconds())
        elif self._bell is None:
            if self._rang:
                # For nothing, it seems.
                await self._rest(self._look_every())
            following = await self._source.ask(LogRequest(tail=0, follow=True))
            self._bell = Bell(self._clock, following)
        elif await self._bell.wait(self._wait):
            await self._heard(self._bell)
        else:
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
        return False

    async def _heard(self, bell: Bell) -> None:
        self._hang_up()
        self._rang = True
        if bell.ended:
            # Everything is written before a container has ended.
            self._ended = not await self._source.running()
            if not self._ended:
                await self._rest(_FIRST_WAIT)

    async def _rest(self, seconds: float) -> None:
        await deferLater(self._clock, max(0.0, seconds))

    def _hang_up(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()

    # --- one snapshot ---

    async def _catch_up(self) -> int:
        """Pass on what there is after the cursor. Says how many entries that was."""
        tail = self._likely_tail()
        while True:
            request = LogRequest(tail=tail)
            if self._cursor is None and self._query.since_ns is not None and self._query.tail is None:
                request = evolve(request, since_ns=self._query.since_ns)
            snapshot = await self._source.ask(request)
            try:
                search = Search(self._cursor, tail) if self._cursor is not None else None
                came = await self._pass_on(snapshot, search)
            finally:
                snapshot.close()
            if came is not None:
                self._expected = min(2 * came, _EXPECTED)
                return came
            if tail is None or search is None:
                raise PositionGone
            before, tail = tail, search.next_tail()
            if before < _FAR and (tail is None or tail >= _FAR):
                tail = await nearer_tail(self._source, search, tail)

    async def _pass_on(self, snapshot: ISnapshot, search: Search | None) -> int | None:
        """Pass on what comes after the cursor; None if that is not in this snapshot."""
        came = 0
        while entries := await self._next(snapshot):
            if search is not None:
                number = search.look(entries)
                if number is not None:
                    search = None
                    entries = entries[number + 1 :]
                elif search.in_vain:
                    break
                else:
                    continue
            await self._agree()
            if entries:
                came += len(entries)
                await self._hand_on(entries)
        if search is None:
            await self._agree()
            return came
        return None

    def _likely_tail(self) -> int | None:
        """How many entries from the end the cursor may be; None for all."""
        if self._cursor is None:
            return None
        return FEWEST + self._expected

    async def _next(self, snapshot: ISnapshot) -> list[Entry] | None:
        """What comes next of a snapshot, as soon as the receiver wants it."""
        if not self._flowing.is_open:
            try:
                await self._flowing.wait().addTimeout(HOLD, self._clock)
            except DeferredTimeout as e:
                if not self._stamped:
                    await self._flowing.wait()
                else:
                    raise _LetGo from e
        return await snapshot.read()

    # --- to the receiver ---

    async def _hand_on(self, entries: list[Entry]) -> None:
        wanted = self._without_skipped(entries) if self._skipped or self._not_before else entries
        for deliver in self._sink.deliveries(wanted, self._numbering):
            await self._flowing.wait()
            self._call(deliver)
        if self._stamped:
            # Also if it was passed over.
            self._cursor = self._numbering.position(entries[-1])

    def _call(self, deliver: Callable[[], Any]) -> None:
        self._calling = True
        try:
            deliver()
        finally:
            self._calling = False
        if self._over:
            raise CancelledError

    def _without_skipped(self, entries: list[Entry]) -> list[Entry]:
        streams = streams_of(self._query)
        kept: list[Entry] = []
        for entry in entries:
            early = entry[1] < self._not_before
            skipped = self._skipped > 0 and entry[0] in streams
            if skipped:
                self._skipped -= 1
            if early or skipped:
                self._numbering.passed(entry)
                continue
            self._not_before = b""
            kept.append(entry)
        return kept


class _LetGo(Exception):
    """A snapshot was given up because the receiver pauses."""
