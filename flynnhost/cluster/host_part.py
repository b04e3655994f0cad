"""One host's part of a batch, on its way there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field, frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.background import Steps, shielded
from flynnhost.cluster.state import ClusterState, Hold
from flynnhost.errors import (
    FlynnHostError,
    HostNotReady,
    InvalidField,
    JobConflict,
    JournalFailed,
    NotReady,
    StaleTerm,
)
from flynnhost.interfaces import IHostLink, IPrepared, Part
from flynnhost.model import JobStatus

PREPARE_WITHIN = 10.0
"""Seconds that a host has to say whether it could take its part."""

_REFUSALS = (HostNotReady, InvalidField, JobConflict, StaleTerm, JournalFailed, NotReady)
"""How a host says that it has not taken the jobs. After anything else it may have them."""


@frozen
class Answer:
    """What is known of a host's part of a batch.

    :param job_ids: of all jobs, as they were asked for.
    :param statuses: where each of them is; None when the host has not said.
    :param doubt: why it has not, and will not; empty if it may still.
    """

    host_id: str
    job_ids: Sequence[str]
    statuses: Sequence[JobStatus] | None = None
    error: FlynnHostError | None = None
    doubt: str = ""

    def outcome(self, certain: bool) -> str:
        """What became of each job, in a word.

        :param certain: whether this host leads still.
        """
        if self.error is not None:
            return "refused"
        return "accepted" if certain and self.statuses is not None else "unknown"


@define(eq=False)
class HostPart:
    """A part that is held in the state, until its host has taken it or it was let go.

    :param link: the way to the host.
    :param holds: what is held for it; a job that is there twice is held once.
    :param check: raises what keeps this leader from handing over anything.
    :param settled: called once when the host has nothing of it to acknowledge any more.
    """

    log = Logger()

    _clock: IReactorTime
    _term: int
    _state: ClusterState
    host_id: str
    part: Part
    _link: IHostLink
    _holds: Sequence[Hold]
    _check: Callable[[], None]
    _settled: Callable[[], None]
    _prepared: IPrepared | None = field(init=False, default=None)

    @property
    def job_ids(self) -> Sequence[str]:
        """The IDs of all its jobs, as they were asked for."""
        return self.part.jobs.ids()

    def prepare(self) -> Deferred[FlynnHostError | None]:
        """Ask the host whether it could take the part. Fires within the deadline, and never fails:
        with what speaks against it, if anything does.
        """
        late: list[bool] = []
        job_id = self.job_ids[0]

        def prepared(answer: IPrepared) -> None:
            if late:
                answer.drop()
            else:
                self._prepared = answer

        def refused(failure: Failure) -> FlynnHostError:
            if failure.check(defer.TimeoutError):
                late.append(True)
                return HostNotReady(self.host_id, job_id, f"did not answer within {PREPARE_WITHIN:g} s")
            if isinstance(failure.value, _REFUSALS):
                return _as_of_host(self.host_id, failure.value)
            if not isinstance(failure.value, FlynnHostError):
                self.log.failure("While host {host_id} looked at its jobs", failure, host_id=self.host_id)
            return HostNotReady(self.host_id, job_id, "was lost")

        asked = shielded(self._link.prepare(self.part, self._term).addCallback(prepared))
        return asked.addTimeout(PREPARE_WITHIN, self._clock).addErrback(refused)

    async def let_go(self, steps: Steps) -> None:
        """Have nobody keep anything of it, before it was handed over."""
        if self._prepared is not None:
            self._prepared.drop()
        self._settled()
        await self._abandon(steps)

    def hand_over(self, patience: float) -> Deferred[Answer]:
        """Have the host take it. Fires within so many seconds, and never fails."""
        answered = Deferred.fromCoroutine(self._hand_over())
        # A late acknowledgement is committed all the same: the deadline ends the wait alone.
        answer = shielded(answered).addTimeout(patience, self._clock)

        def late(failure: Failure) -> Answer:
            failure.trap(defer.TimeoutError)
            return Answer(self.host_id, self.job_ids)

        return answer.addErrback(late)

    async def _hand_over(self) -> Answer:
        """Nobody cancels this: whatever a host says, however late, is what counts."""
        steps = Steps(self._clock)
        statuses: Sequence[JobStatus] | None = None
        doubt = ""
        try:
            self._check()  # other parts were handed over since it was last done, in several turns maybe
        except FlynnHostError as e:
            await self.let_go(steps)
            return Answer(self.host_id, self.job_ids, error=e)
        try:
            statuses = await self._submit()
            by_id = dict(zip(self.job_ids, statuses, strict=True))
        except _REFUSALS as e:
            await self._abandon(steps)
            return Answer(self.host_id, self.job_ids, error=_as_of_host(self.host_id, e))
        except Exception as e:
            self._log_unknown(e)
            # If the host has the jobs they must not get onto another one, so they stay its own.
            statuses, by_id = None, {}
            doubt = str(e) if isinstance(e, FlynnHostError) else f"host {self.host_id} can't be asked"
        finally:
            self._settled()
        certain, report = statuses is not None, self._state.report_of(self.host_id)
        for holds in steps.slices(self._holds):
            for hold in holds:
                if by_id.get(hold.placed.job_id, JobStatus.STARTING).ended:
                    self._state.finish(hold)
                else:
                    self._state.commit(hold, report, certain=certain)
            await steps.did(len(holds))
        return Answer(self.host_id, self.job_ids, statuses, doubt=doubt)

    def _submit(self) -> Deferred[list[JobStatus]]:
        if self._prepared is not None:
            return self._prepared.submit()
        return self._link.submit(self.part, self._term)

    async def _abandon(self, steps: Steps) -> None:
        for holds in steps.slices(self._holds):
            for hold in holds:
                self._state.abandon(hold)
            await steps.did(len(holds))

    def _log_unknown(self, error: Exception) -> None:
        if isinstance(error, FlynnHostError):
            self.log.warn(
                "Host {host_id} may have its jobs or not: {reason}", host_id=self.host_id, reason=str(error)
            )
        else:
            self.log.failure("Host {host_id} may have its jobs or not", host_id=self.host_id)


def _as_of_host(host_id: str, error: FlynnHostError) -> FlynnHostError:
    if isinstance(error, InvalidField):
        return InvalidField(f"{host_id}{error.field}", error.reason)
    if isinstance(error, StaleTerm):
        return NotReady(f"host {host_id} has heard a later leader: {error}")
    return error
