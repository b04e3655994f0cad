"""Asking the engine where in the output to begin, before anything of it is passed on."""

from __future__ import annotations

from collections.abc import Callable

from flynnhost.containers.entries import Entry
from flynnhost.containers.log_places import Search, Start, TailSearch, streams_of
from flynnhost.containers.log_source import ILogSource, LogRequest
from flynnhost.errors import PositionGone
from flynnhost.interfaces import LogQuery

#: How many entries are looked at, at least, for one of the last.
FEWEST = 32

#: From so many entries on, all are looked at.
_ALL = 20_000_000


async def tail_start(source: ILogSource, query: LogQuery, count: int) -> Start:
    """Where so many entries from the end begin, of the streams that are wanted."""
    tail = 2 * count + FEWEST if count < _ALL else None
    while True:
        search = TailSearch(count, streams_of(query))
        await _look_through(source, LogRequest(tail=tail), search.look)
        start = search.start(whole=tail is None or search.passed < tail)
        if start is not None:
            return start
        tail = None if tail is None or tail >= _ALL else 8 * tail


async def nothing_since(source: ILogSource, since_ns: int) -> bool:
    """Whether nothing was written from this time on."""
    return await _first_entries(source, LogRequest(since_ns=since_ns)) is None


async def nearer_tail(source: ILogSource, search: Search, tail: int | None) -> int | None:
    """How many entries from the end to look at for a place: as many as was thought, or all (None) if it
    is nearer to the beginning.

    :param search: one that did not find it.
    :raises PositionGone: when the output begins after it. To see that takes no time.
    """
    entries = await _first_entries(source, LogRequest())
    beginning = Search(search.wanted, None)
    if entries:
        beginning.look(entries)
    if not entries or beginning.in_vain:
        raise PositionGone
    return None if search.is_nearer_to(entries[0][1]) else tail


async def _first_entries(source: ILogSource, request: LogRequest) -> list[Entry] | None:
    snapshot = await source.ask(request)
    try:
        return await snapshot.read()
    finally:
        snapshot.close()


async def _look_through(source: ILogSource, request: LogRequest, look: Callable[[list[Entry]], None]) -> None:
    snapshot = await source.ask(request)
    try:
        while entries := await snapshot.read():
            look(entries)
    finally:
        snapshot.close()
