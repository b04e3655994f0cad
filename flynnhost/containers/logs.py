"""The output of an engine's containers, without a thread for each who reads."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from flynnhost.containers.address import EngineAddress
from flynnhost.containers.log_places import streams_of
from flynnhost.containers.log_reader import LOOK_EVERY, LogReader
from flynnhost.containers.log_sinks import EntrySink, ISink, TextSink
from flynnhost.containers.log_source import EngineSource
from flynnhost.containers.transfer import Transfers
from flynnhost.interfaces import ContainerState, IEntryReceiver, ILogReceiver, ILogStream, LogQuery

#: How many times a second all readers together look for more output.
_LOOKS_PER_SECOND = 200


@define(eq=False)
class EngineLogs:
    """Reads output from one engine.

    :param inspect: asks the engine how a container is.
    :param timeout: how long the engine may take to agree to a transfer.
    :param patience: how long it may be away while output is read, before that breaks off.
    """

    _reactor: IReactorTime
    _address: EngineAddress
    _inspect: Callable[[str], Deferred[ContainerState]]
    _timeout: float
    _patience: float
    _readers: set[LogReader] = field(init=False, factory=set)

    def read(
        self, container_id: str, tty: bool, query: LogQuery, receiver: ILogReceiver
    ) -> Deferred[ILogStream]:
        """See ``IContainers.logs``."""
        sink = TextSink(streams_of(query), receiver)
        return self._start(container_id, tty, query, sink, stamped=tty or _needs_stamps(query))

    def read_entries(
        self, container_id: str, tty: bool, query: LogQuery, receiver: IEntryReceiver
    ) -> Deferred[ILogStream]:
        """See ``IContainers.log_entries``."""
        return self._start(container_id, tty, query, EntrySink(streams_of(query), receiver), stamped=True)

    def close(self) -> None:
        """Break off all that is being read."""
        for reader in list(self._readers):
            reader.break_off()

    def _start(
        self, container_id: str, tty: bool, query: LogQuery, sink: ISink, *, stamped: bool
    ) -> Deferred[ILogStream]:
        transfers = Transfers(self._reactor, self._address, self._timeout)
        source = EngineSource(self._reactor, transfers, container_id, tty, self._is_running)
        reader = LogReader(
            self._reactor,
            source,
            query,
            sink,
            # Docker refuses to pass on neither stream.
            stamped and (query.stdout or query.stderr),
            self._patience,
            self._look_every,
            self._readers.discard,
        )
        self._readers.add(reader)
        return reader.start()

    def _is_running(self, container_id: str) -> Deferred[bool]:
        return self._inspect(container_id).addCallback(lambda state: state.running)

    def _look_every(self) -> float:
        return max(LOOK_EVERY, len(self._readers) / _LOOKS_PER_SECOND)


def _needs_stamps(query: LogQuery) -> bool:
    """Whether the engine can't do by itself what is asked for, or not well."""
    one_stream = query.stdout != query.stderr
    return query.follow or query.after is not None or (query.tail is not None and one_stream)
