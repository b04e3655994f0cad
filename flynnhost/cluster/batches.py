"""Batches of jobs on their way to hosts: all or nothing, as far as anyone can foresee."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from attrs import define, field, frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.background import shielded
from flynnhost.canonical import canonical
from flynnhost.cluster.membership import Membership
from flynnhost.cluster.state import ClusterState, Hold
from flynnhost.encoded import EncodedJobs, ListedJobs
from flynnhost.errors import (
    FlynnHostError,
    HostNotReady,
    InvalidField,
    JobConflict,
    JournalFailed,
    NotReady,
    StaleTerm,
    TookTooLong,
)
from flynnhost.interfaces import IHostLink, IPrepared, Part
from flynnhost.model import Job, JobStatus, Placement

ACKNOWLEDGE_WITHIN = 30.0
"""Seconds the hosts have to put a batch on disk."""

PREPARE_WITHIN = 10.0
"""Seconds of these that they have to say whether they could."""

MAX_UNACKNOWLEDGED = 20_000
"""Jobs that one host may have to acknowledge before it is given more."""

_STEP = 500
"""How many jobs are encoded before others get their turn."""

_REFUSALS = (HostNotReady, InvalidField, JobConflict, StaleTerm, JournalFailed, NotReady)
"""How a host says that it has not taken the jobs. After anything else it may have them."""

Handing = Callable[[], Deferred[list[JobStatus]]]
"""Hands a host its part."""


@frozen
class _Answer:
    """What is known of a host's part of a batch.

    :param job_ids: of all jobs, as they were asked for.
    :param statuses: where each of them is; None when the host has not said.
    """

    host_id: str
    job_ids: Sequence[str]
    statuses: Sequence[JobStatus] | None = None
    error: FlynnHostError | None = None

    @property
    def outcome(self) -> str:
        """What became of each job, in a word."""
        if self.error is not None:
            return "refused"
        return "unknown" if self.statuses is None else "accepted"


@define(eq=False)
class Batches:
    """Commits the batches of one term.

    :param check: raises what keeps this leader from taking batches at the moment.
    :param confirmed: whether it is certain that this host leads.
    """

    log = Logger()

    _clock: IReactorTime
    _term: int
    _state: ClusterState
    _membership: Membership
    _check: Callable[[], None]
    _confirmed: Callable[[], bool]
    _unacknowledged: Counter[str] = field(init=False, factory=Counter)

    async def submit(self, batch: Mapping[str, Sequence[Job]]) -> list[Placement]:
        """Commit a batch; see ``ICluster.submit``. Not to be cancelled."""
        deadline = self._clock.seconds() + ACKNOWLEDGE_WITHIN
        parts = await self._encode(batch)
        self._check()
        links = self._links(parts)
        held = self._state.begin(parts)
        for host_id, holds in held.items():
            self._unacknowledged[host_id] += len(holds)
        concerned = {host_id: part for host_id, part in parts.items() if part.jobs}
        handing: dict[str, Handing] = {
            host_id: _submitting(links[host_id], part, self._term) for host_id, part in concerned.items()
        }
        if len(concerned) > 1:
            try:
                handing = await self._prepare(links, concerned)
                self._check()
            except FlynnHostError:
                for host_id, holds in held.items():
                    self._abandon(holds)
                    self._settled(host_id, len(holds))
                raise
        patience = max(1.0, deadline - self._clock.seconds())
        asked = [
            self._ask(host_id, parts[host_id].jobs.ids(), held[host_id], hand, patience)
            for host_id, hand in handing.items()
        ]
        answers = [await answer for answer in asked]
        self._raise_for(answers)
        return [
            Placement(job_id, answer.host_id, status)
            for answer in answers
            for job_id, status in zip(answer.job_ids, answer.statuses or (), strict=True)
        ]

    async def _encode(self, batch: Mapping[str, Sequence[Job]]) -> dict[str, Part]:
        parts, count = {}, 0
        for host_id, jobs in batch.items():
            if isinstance(jobs, EncodedJobs):
                parts[host_id] = Part(jobs)
                continue
            encoded = ListedJobs([], [])
            for job in jobs:
                if count >= _STEP:
                    await deferLater(self._clock, 0)
                    count = 0
                encoded.add(job.id, canonical(job))
                count += 1
            parts[host_id] = Part(encoded)
        return parts

    def _links(self, parts: Mapping[str, Part]) -> dict[str, IHostLink]:
        """The ways to all hosts of a batch, each of which must be there and able to take more."""
        links = {}
        for host_id, part in parts.items():
            if part.jobs:
                links[host_id] = self._membership.link(host_id, part.jobs.ids()[0])
            if self._unacknowledged[host_id] >= MAX_UNACKNOWLEDGED:
                raise NotReady(
                    f"host {host_id} has {self._unacknowledged[host_id]} jobs to acknowledge already"
                )
        return links

    # --- looking whether all could take their parts ---------------------------

    async def _prepare(self, links: Mapping[str, IHostLink], parts: Mapping[str, Part]) -> dict[str, Handing]:
        """Ask all hosts whether they could take their parts, and let all forget it if one could not."""
        asked = {host_id: self._prepare_one(host_id, links[host_id], part) for host_id, part in parts.items()}
        answers = {host_id: await answer for host_id, answer in asked.items()}
        prepared = {
            host_id: answer for host_id, answer in answers.items() if not isinstance(answer, FlynnHostError)
        }
        for answer in answers.values():
            if isinstance(answer, FlynnHostError):
                for each in prepared.values():
                    each.drop()
                raise answer
        return {host_id: each.submit for host_id, each in prepared.items()}

    def _prepare_one(self, host_id: str, link: IHostLink, part: Part) -> Deferred[IPrepared | FlynnHostError]:
        """Ask one host. Fires within the deadline, and never fails."""
        late: list[bool] = []
        job_id = part.jobs.ids()[0]

        def prepared(answer: IPrepared) -> IPrepared:
            if late:
                answer.drop()
            return answer

        def refused(failure: Failure) -> FlynnHostError:
            if failure.check(defer.TimeoutError):
                late.append(True)
                return HostNotReady(
                    host_id, part.jobs.ids()[0], f"did not answer within {PREPARE_WITHIN:g} s"
                )
            if isinstance(failure.value, _REFUSALS):
                return _as_of_host(host_id, failure.value)
            if not isinstance(failure.value, FlynnHostError):
                self.log.failure("While host {host_id} looked at its jobs", failure, host_id=host_id)
            return HostNotReady(host_id, job_id, "was lost")

        asked = shielded(link.prepare(part, self._term).addCallback(prepared))
        return asked.addTimeout(PREPARE_WITHIN, self._clock).addErrback(refused)

    # --- handing over ---------------------------------------------------------

    def _ask(
        self, host_id: str, job_ids: Sequence[str], holds: Sequence[Hold], hand: Handing, patience: float
    ) -> Deferred[_Answer]:
        """Hand a host its part. Fires within the deadline, and never fails."""
        answered = Deferred.fromCoroutine(self._hand_over(host_id, job_ids, holds, hand))
        # A late acknowledgement is committed all the same: the deadline ends the wait alone.
        answer = shielded(answered).addTimeout(patience, self._clock)

        def late(failure: Failure) -> _Answer:
            failure.trap(defer.TimeoutError)
            return _Answer(host_id, job_ids)

        return answer.addErrback(late)

    async def _hand_over(
        self, host_id: str, job_ids: Sequence[str], holds: Sequence[Hold], hand: Handing
    ) -> _Answer:
        """Nobody cancels this: whatever a host says, however late, is what counts."""
        statuses: Sequence[JobStatus] | None = None
        try:
            statuses = await hand()
            by_id = dict(zip(job_ids, statuses, strict=True))
        except _REFUSALS as e:
            self._abandon(holds)
            return _Answer(host_id, job_ids, error=_as_of_host(host_id, e))
        except Exception as e:
            self._log_unknown(host_id, e)
            # If the host has the jobs they must not get onto another one, so they stay its own.
            statuses, by_id = None, {}
        finally:
            self._settled(host_id, len(holds))
        for hold in holds:
            if by_id.get(hold.placed.job_id, JobStatus.STARTING).ended:
                self._state.finish(hold)
            else:
                self._state.commit(hold, certain=statuses is not None)
        return _Answer(host_id, job_ids, statuses)

    def _settled(self, host_id: str, count: int) -> None:
        self._unacknowledged[host_id] -= count
        if not self._unacknowledged[host_id]:
            del self._unacknowledged[host_id]

    def _abandon(self, holds: Sequence[Hold]) -> None:
        for hold in holds:
            self._state.abandon(hold)

    def _log_unknown(self, host_id: str, error: Exception) -> None:
        if isinstance(error, FlynnHostError):
            self.log.warn(
                "Host {host_id} may have its jobs or not: {reason}", host_id=host_id, reason=str(error)
            )
        else:
            self.log.failure("Host {host_id} may have its jobs or not", host_id=host_id)

    def _raise_for(self, answers: Sequence[_Answer]) -> None:
        """Tell what became of a batch that not every host has acknowledged."""
        outcomes = [(job_id, answer.outcome) for answer in answers for job_id in answer.job_ids]
        refusals = [answer.error for answer in answers if answer.error is not None]
        if refusals and len(refusals) == len(answers):
            raise refusals[0]
        if refusals:
            self.log.warn(
                "Some hosts have taken their part of a batch and others not: {outcomes}", outcomes=outcomes
            )
            raise TookTooLong(f"not every host has taken its part: {refusals[0]}", outcomes)
        if any(answer.statuses is None for answer in answers):
            raise TookTooLong(f"not every host has acknowledged within {ACKNOWLEDGE_WITHIN:g} s", outcomes)
        if not self._confirmed():
            # Another may lead by now, and know of other jobs with these IDs.
            unknown = [(job_id, "unknown") for job_id, _ in outcomes]
            raise TookTooLong("this host may lead no longer, and can't be certain of the jobs", unknown)


def _submitting(link: IHostLink, part: Part, term: int) -> Handing:
    return lambda: link.submit(part, term)


def _as_of_host(host_id: str, error: FlynnHostError) -> FlynnHostError:
    if isinstance(error, InvalidField):
        return InvalidField(f"{host_id}{error.field}", error.reason)
    if isinstance(error, StaleTerm):
        return NotReady(f"host {host_id} has heard a later leader: {error}")
    return error
