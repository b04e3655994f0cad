"""One client at a job's streams, from before the job is known to its end."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from flynnhost.agent.attached import Attached, NotToBeHad, kept
from flynnhost.agent.before_start import BeforeStart, Start
from flynnhost.agent.broadcast import Listening
from flynnhost.agent.engine import EngineHealth
from flynnhost.agent.errands import Errands
from flynnhost.agent.live_output import LiveOutputs
from flynnhost.agent.table import JobTable
from flynnhost.background import Background
from flynnhost.errors import ContainerNotRunning, FlynnHostError, NoSuchContainer
from flynnhost.interfaces import AttachQuery, IContainers, IInput, ILogReceiver, ILogStream, LogQuery
from flynnhost.model import ActiveJob, JobStatus

KNOWN_WITHIN = 60.0
"""Seconds that a client may wait for a job that this host does not know."""

ENDED_WITHIN = 10.0
"""Seconds between the end of a job's output and its own, after which the output is held for broken."""

LOST_WITHIN = 2.0
"""Seconds by which the loss of the engine may be noticed before that of the output."""

FREED_WITHIN = 5.0
"""Seconds that the engine may take to close an input."""

BROKE_OFF = "the output broke off: the connection to the container engine was lost"

STDOUT, STDERR = 1, 2


@frozen
class Surroundings:
    """What all attachments to jobs share.

    :param inputs: who has the input of which job.
    :param read_log: see ``IAgent.job_output``.
    :param send_signal: see ``IAgent.signal_job``.
    """

    clock: IReactorTime
    background: Background
    table: JobTable
    containers: IContainers
    engine: EngineHealth
    live: LiveOutputs
    starts: BeforeStart
    read_log: Callable[[str, LogQuery, ILogReceiver], Deferred[ILogStream]]
    send_signal: Callable[[str, int], Deferred[None]]
    inputs: dict[str, object] = field(init=False, factory=dict)


@define(eq=False)
class Attachment(Attached):
    """An ``IAttachment`` to a job."""

    _around: Surroundings
    _query: AttachQuery
    _streams: frozenset[int] = field(init=False)
    _waiting: bool = field(init=False, default=False)
    _listening: Listening | None = field(init=False, default=None)
    _connected_to: str = field(init=False, default="")
    _input: IInput | None = field(init=False, default=None)
    _input_of: str = field(init=False, default="")
    _over: Deferred[str] = field(init=False, factory=Deferred)
    _over_at: float = field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        wanted = {STDOUT: self._query.stdout, STDERR: self._query.stderr}
        self._streams = frozenset(stream for stream in wanted if wanted[stream])
        self._errands = Errands(
            self._around.background,
            self._whose,
            lambda number: self._around.send_signal(self._query.job_id, number),
            self._set_size,
        )
        self._errands.resize(self._query.height, self._query.width)

    @property
    def job_id(self) -> str:
        """The job that the client asked for."""
        return self._query.job_id

    async def _serve(self) -> None:
        job = await self._accepted()
        self._claim_input(job)
        early = job.status is JobStatus.STARTING
        if early:
            job = await self._started(job)
        if job.status is JobStatus.FAILED:
            raise NotToBeHad(job.error or "it never started")
        if job.container_id and job.container_id == self._connected_to:
            self._runs(job)
            await self._to_the_end(job)
            return
        self._stop_listening()
        if job.ended:
            await self._past(job, early)
        else:
            await self._running(job, early)

    async def _let_go(self) -> None:
        query, around = self._query, self._around
        around.starts.leave(query.job_id, self._prepare)
        self._stop_listening()
        await self._close_input()
        if around.inputs.get(query.job_id) is self:
            del around.inputs[query.job_id]

    # --- until the job runs ---------------------------------------------------

    async def _accepted(self) -> ActiveJob:
        """The job, when this host has it."""
        table, job_id = self._around.table, self._query.job_id
        if job_id not in table.jobs:
            self._tell_waiting()
        try:
            return await table.accepted(job_id).addTimeout(KNOWN_WITHIN, self._clock)
        except defer.TimeoutError:
            raise NotToBeHad(f"no job {job_id} came to this host within {KNOWN_WITHIN:g} s") from None

    def _claim_input(self, job: ActiveJob) -> None:
        if not self._query.stdin or job.status is JobStatus.FAILED:
            return
        if job.ended:
            raise self._nothing_reads(job)
        if not job.job.config.stdin:
            raise NotToBeHad(f"the stdin of job {job.id} was not opened: it was started without it")
        if self._around.inputs.setdefault(job.id, self) is not self:
            raise NotToBeHad(f"the stdin of job {job.id} is taken: one client can write to it at a time")

    async def _started(self, job: ActiveJob) -> ActiveJob:
        """The job when it has started; if that is possible, everything is connected before."""
        if not job.container_id:
            self._tell_waiting()
        starts = self._around.starts
        if self._stays(job):
            starts.join(job.id, self._prepare)
        try:
            return await self._around.table.started(job.id)
        finally:
            starts.leave(job.id, self._prepare)

    async def _prepare(self, start: Start) -> None:
        """Connect everything before the job starts."""
        job = start.job

        def too_late() -> bool:
            """Whether something may be missing, so that this was in vain."""
            return start.begun or self._silent

        try:
            if self._query.stdin:
                await self._open_input(job, too_late)
            if self._wants_output and not too_late():
                await self._listen(job)
        except FlynnHostError as e:
            self.log.debug("Not attached to job {job_id} yet: {reason}", job_id=job.id, reason=str(e))
            return
        if too_late():
            return
        self._connected_to = job.container_id
        self._tell_attached()
        self._flow()

    # --- when it runs or has run ----------------------------------------------

    async def _past(self, job: ActiveJob, early: bool) -> None:
        """Serve the client of a job that has ended.

        :param early: the client was there before the job started.
        """
        query = self._query
        if self._wants_output and (query.logs or (early and self._stays(job))):
            await self._read_log(job, follow=False)
        self._tell_attached()
        if early and self._stays(job):
            self._exit(_status(job))
            return
        self._end_streams()
        if query.stream:
            self._exit(_status(job))
        else:
            self._finish()

    async def _running(self, job: ActiveJob, early: bool) -> None:
        """Serve the client of a job that runs.

        :param early: the client was there before the job started, so it gets all.
        """
        wants_log = self._query.logs or early
        if not self._stays(job):
            if wants_log:
                await self._read_log(job, follow=False)
            self._tell_attached()
            self._end_streams()
            self._finish()
            return
        if self._query.stdin and self._input_of != job.container_id:
            try:
                await self._open_input(job)
            except (ContainerNotRunning, NoSuchContainer):
                ended = await self._ended(job)
                if not early:
                    raise self._nothing_reads(ended) from None
                await self._past(ended, early)
                return
        self._runs(job)
        if wants_log and self._wants_output and not job.job.config.tty and not job.job.config.disable_log:
            await self._read_log(job, follow=True)
            self._over_at = self._clock.seconds()
            await self._exit_with(job)
            return
        try:
            if self._wants_output:
                await self._listen(job)
        except (ContainerNotRunning, NoSuchContainer):
            await self._past(await self._ended(job), early)
            return
        self._tell_attached()
        if wants_log and self._wants_output and not job.job.config.disable_log:
            await self._read_log(job, follow=False)
        self._flow()
        await self._to_the_end(job)

    async def _to_the_end(self, job: ActiveJob) -> None:
        if not self._wants_output:
            self._over_at = self._clock.seconds()
            self._exit(_status(await self._around.table.ended(job.id)))
            return
        broken = await self._over
        if broken:
            raise NotToBeHad(broken)
        await self._exit_with(job)

    async def _exit_with(self, job: ActiveJob) -> None:
        """Tell how the job ended, unless its output may have ended for another reason."""
        ended = await self._ended(job)
        if self._around.engine.lost_since(self._over_at - LOST_WITHIN):
            raise NotToBeHad(BROKE_OFF)
        self._exit(_status(ended))

    async def _ended(self, job: ActiveJob) -> ActiveJob:
        try:
            return await self._around.table.ended(job.id).addTimeout(ENDED_WITHIN, self._clock)
        except defer.TimeoutError:
            raise NotToBeHad(BROKE_OFF) from None

    # --- live output ----------------------------------------------------------

    async def _listen(self, job: ActiveJob) -> None:
        """Have what the job writes from now on kept for this client, until ``_flow``."""
        live = self._around.live.of(job)
        if self._listening is None:
            self._listening = live.broadcast.join(self)
        listening = self._listening
        try:
            await live.connect(job.container_id)
        except FlynnHostError:
            if listening is self._listening:
                self._stop_listening()
            raise

    def _flow(self) -> None:
        if self._listening is not None:
            self._take_from(self._listening)
            if not self._paused:
                self._listening.resumeProducing()

    def _stop_listening(self) -> None:
        if self._listening is not None:
            if self._source is self._listening:
                self._take_from(None)
            self._listening.leave()
            self._listening = None

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``IListener``."""
        if stream in self._streams:
            self._pass_on(stream, data)

    def output_over(self, error: str) -> None:
        """See ``IListener``."""
        self._over_at = self._clock.seconds()
        if not self._over.called:
            self._over.callback(error)

    # --- output of the past ---------------------------------------------------

    async def _read_log(self, job: ActiveJob, follow: bool) -> None:
        """Pass on what the job wrote so far, or to its end."""
        query = LogQuery(stdout=STDOUT in self._streams, stderr=STDERR in self._streams, follow=follow)
        reading = _Reading(self)
        stream = await kept(self._around.read_log(job.id, query, reading), lambda late: late.stopProducing())
        self._tell_attached()
        self._take_from(stream)
        try:
            broken = await reading.over
        finally:
            self._take_from(None)
            if not reading.ended:
                stream.stopProducing()
        if broken:
            raise NotToBeHad(broken)

    def log_received(self, stream: int, data: bytes) -> None:
        """Some of the log came."""
        self._tell_attached()
        self.output_received(stream, data)

    # --- input, signals, sizes ------------------------------------------------

    async def _open_input(self, job: ActiveJob, too_late: Callable[[], bool] = lambda: False) -> None:
        """Open the input of the job's container, in place of another's. Nothing is written yet."""
        await self._close_input()
        opened = await kept(self._around.containers.attach_input(job.container_id), lambda late: late.close())
        if too_late():
            opened.close()
        else:
            self._input, self._input_of = opened, job.container_id

    async def _close_input(self) -> None:
        closing, self._input, self._input_of = self._input, None, ""
        if closing is None:
            return
        closing.close()
        try:
            await closing.when_closed().addTimeout(FREED_WITHIN, self._clock)
        except defer.TimeoutError:
            self.log.warn("An input of {whose} does not close", whose=self._whose)

    def _nothing_reads(self, job: ActiveJob) -> NotToBeHad:
        return NotToBeHad(f"job {job.id} has ended: there is nothing to write to")

    def _runs(self, job: ActiveJob) -> None:
        """The process is there."""
        if self._input is not None and self._input_of == job.container_id:
            self._typed.open(self._input)
        self._errands.begin()

    def _set_size(self, height: int, width: int) -> Deferred[None]:
        return self._around.containers.resize(
            self._around.table.get(self._query.job_id).container_id, height, width
        )

    # --- small things ---------------------------------------------------------

    @property
    def _wants_output(self) -> bool:
        return bool(self._streams)

    def _stays(self, job: ActiveJob) -> bool:
        """Whether the client stays until the job ends."""
        return self._query.stream or self._query.stdin or job.job.config.tty

    def _tell_waiting(self) -> None:
        if not self._waiting and not self._silent:
            self._waiting = True
            self._tell(self._client.waiting)

    def _end_streams(self) -> None:
        for stream in sorted(self._streams):
            if not self._silent:
                self._tell(self._client.stream_ended, stream)


@define(eq=False)
class _Reading:
    """Takes output of the past, as an ``ILogReceiver``.

    :ivar over: fires at its end, with what is the matter if something is missing.
    """

    _attachment: Attachment
    over: Deferred[str] = field(init=False, factory=Deferred)
    ended: bool = field(init=False, default=False)

    def output_received(self, stream: int, data: bytes) -> None:
        self._attachment.log_received(stream, data)

    def output_ended(self, error: Exception | None) -> None:
        self.ended = True
        if not self.over.called:
            self.over.callback("" if error is None else f"the output broke off: {error}")


def _status(job: ActiveJob) -> int:
    return 0 if job.exit_status is None else job.exit_status
