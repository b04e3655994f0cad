"""What becomes of entries on their way to a receiver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from attrs import define, field

from flynnhost.containers.entries import PIECE_BYTES, Entry
from flynnhost.containers.log_places import Numbering
from flynnhost.interfaces import IEntryReceiver, ILogReceiver, LogEntry

Delivery = Callable[[], None]


class ISink(Protocol):
    """Hands entries to a receiver."""

    def deliveries(self, entries: Sequence[Entry], numbering: Numbering) -> Iterator[Delivery]:
        """The calls of the receiver that these entries make, between which there may be pauses.

        :param numbering: all of the entries are passed by it, before the first call.
        """

    def end(self, error: Exception | None) -> None:
        """Nothing more will come."""


@define(eq=False)
class TextSink:
    """Hands on the bytes of the wanted streams, those of neighbours together.

    Docker 20.10 loses the newline at the end of a line that it has cut into pieces. It is put back as soon
    as something follows; at the very end it can't be known whether there was one.
    """

    _streams: frozenset[int]
    _receiver: ILogReceiver
    # Of each stream, whether a newline is missing after what came last.
    _broken: list[bool] = field(init=False, factory=lambda: [False, False, False])

    def deliveries(self, entries: Sequence[Entry], numbering: Numbering) -> Iterator[Delivery]:
        """See ``ISink``."""
        runs = self._runs(entries, numbering)
        return (partial(self._receiver.output_received, *run) for run in runs)

    def end(self, error: Exception | None) -> None:
        """See ``ISink``."""
        self._receiver.output_ended(error)

    def _runs(self, entries: Sequence[Entry], numbering: Numbering) -> list[tuple[int, bytes]]:
        broken, wanted, stamps, index = self._broken, self._streams, numbering.stamps, numbering.index
        runs: list[tuple[int, bytes]] = []
        current = 0
        pieces: list[bytes] = []
        add = pieces.append
        for stream, stamp, data in entries:
            if stamps[stream] == stamp:
                index[stream] += 1
            else:
                stamps[stream] = stamp
                index[stream] = 0
            if stream not in wanted:
                continue
            if stream != current:
                if pieces:
                    runs.append((current, b"".join(pieces)))
                    pieces.clear()
                current = stream
            if broken[stream]:
                broken[stream] = False
                add(b"\n")
            if data[-1:] != b"\n" and len(data) < PIECE_BYTES:
                broken[stream] = True
            add(data)
        if pieces:
            runs.append((current, b"".join(pieces)))
        return [(stream, data) for stream, data in runs if data]


@define(eq=False)
class EntrySink:
    """Hands on the entries of the wanted streams, with their positions."""

    _streams: frozenset[int]
    _receiver: IEntryReceiver

    def deliveries(self, entries: Sequence[Entry], numbering: Numbering) -> Iterator[Delivery]:
        """See ``ISink``."""
        wanted: list[LogEntry] = []
        for entry in entries:
            numbering.passed(entry)
            if entry[0] in self._streams:
                wanted.append(LogEntry(numbering.position(entry), entry[2]))
        return iter([lambda: self._receiver.entries_received(wanted)] if wanted else [])

    def end(self, error: Exception | None) -> None:
        """See ``ISink``."""
        self._receiver.output_ended(error)
