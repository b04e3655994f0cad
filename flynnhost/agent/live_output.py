"""What jobs write from now on: one stream of the engine for each job that somebody listens to."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from flynnhost.agent.broadcast import Broadcast
from flynnhost.agent.spool import Spool
from flynnhost.agent.table import JobTable
from flynnhost.background import Background
from flynnhost.errors import EngineUnavailable, FlynnHostError
from flynnhost.gate import Gate
from flynnhost.interfaces import IContainers, ILogStream
from flynnhost.model import ActiveJob

MakeSpool = Callable[[Callable[[int, str], None]], Spool]


@define(eq=False)
class _Connection:
    """The stream of one container, as an ``ILogReceiver``."""

    container_id: str
    _live: LiveOutput
    error: FlynnHostError | None = field(init=False, default=None)
    ended: bool = field(init=False, default=False)
    _stream: ILogStream | None = field(init=False, default=None)
    _dropped: bool = field(init=False, default=False)
    _settled: Gate = field(init=False, factory=Gate)

    async def open(self, containers: IContainers, tty: bool) -> None:
        """Connect, and tell those who wait."""
        try:
            self._stream = await containers.attach_output(self.container_id, tty, self)
            if self._dropped:
                self._stream.stopProducing()
        except FlynnHostError as e:
            self.error = e
        except CancelledError:
            self.error = EngineUnavailable("this host is shutting down")
            raise
        finally:
            self._settled.open()

    async def settled(self) -> None:
        """Return when the stream is open.

        :raises FlynnHostError: why it is not.
        """
        await self._settled.wait()
        if self.error is not None:
            raise self.error

    @property
    def usable(self) -> bool:
        """Whether output comes or may come this way."""
        return self.error is None and not self.ended

    def drop(self) -> None:
        """Take nothing more."""
        self._dropped = True
        if self._stream is not None and not self.ended:
            self._stream.stopProducing()

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``ILogReceiver``."""
        if not self._dropped:
            self._live.broadcast.receive(stream, data)

    def output_ended(self, error: Exception | None) -> None:
        """See ``ILogReceiver``."""
        self.ended = True
        if not self._dropped:
            self._live.connection_ended(self, error)


@define(eq=False)
class LiveOutput:
    """What one job writes while somebody listens. It is always taken as fast as it comes.

    :ivar broadcast: where to listen.
    """

    _job_id: str
    _tty: bool
    _containers: IContainers
    _table: JobTable
    _background: Background
    broadcast: Broadcast
    _connection: _Connection | None = field(init=False, default=None)

    def connect(self, container_id: str) -> Deferred[None]:
        """Have a container's output broadcast. A Deferred of your own that fires when it is.

        :raises FlynnHostError: (as the Deferred's failure) what ``IContainers.attach_output`` fails with.
        """
        known = self._connection
        if known is None or known.container_id != container_id or not known.usable:
            self.disconnect()
            known = self._connection = _Connection(container_id, self)
            self._background.run(
                known.open(self._containers, self._tty), f"attaching to the output of job {self._job_id}"
            )
        return Deferred.fromCoroutine(known.settled())

    def disconnect(self) -> None:
        """Take nothing more."""
        if self._connection is not None:
            self._connection.drop()

    def connection_ended(self, connection: _Connection, error: Exception | None) -> None:
        """A stream has ended."""
        self._background.run(self._end(connection, error), f"ending the output of job {self._job_id}")

    async def _end(self, connection: _Connection, error: Exception | None) -> None:
        # As long as the job has not started, another container may take the place of this one.
        await self._table.started(self._job_id)
        if connection is self._connection:
            self.broadcast.finish("" if error is None else f"the output broke off: {error}")


@define(eq=False)
class LiveOutputs:
    """The live output of all jobs that somebody listens to.

    :param make_spool: makes a place for what one job's slow listeners have not read.
    """

    _clock: IReactorTime
    _table: JobTable
    _containers: IContainers
    _background: Background
    _make_spool: MakeSpool
    _live: dict[str, LiveOutput] = field(init=False, factory=dict)

    def __len__(self) -> int:
        return len(self._live)

    def of(self, job: ActiveJob) -> LiveOutput:
        """One job's. Join its broadcast at once: it is gone when nobody listens."""
        live = self._live.get(job.id)
        if live is None or live.broadcast.over:
            live = self._live[job.id] = self._make(job)
        return live

    def _make(self, job: ActiveJob) -> LiveOutput:
        def deserted() -> None:
            live.disconnect()
            if self._live.get(job.id) is live:
                del self._live[job.id]

        broadcast = Broadcast(self._clock, self._make_spool, deserted)
        live = LiveOutput(
            job.id, job.job.config.tty, self._containers, self._table, self._background, broadcast
        )
        return live
