"""Batches of jobs: all or nothing, as far as anyone can foresee."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from flynnhost.background import Steps
from flynnhost.canonical import canonical
from flynnhost.cluster.host_part import Answer, HostPart
from flynnhost.cluster.membership import Membership
from flynnhost.cluster.state import ClusterState, Hold
from flynnhost.encoded import EncodedJobs, ListedJobs
from flynnhost.errors import FlynnHostError, InvalidField, NotReady, TookTooLong
from flynnhost.interfaces import IHostLink, Part
from flynnhost.model import Job, Placement

ACKNOWLEDGE_WITHIN = 30.0
"""Seconds the hosts have to put a batch on disk."""

MAX_UNACKNOWLEDGED = 20_000
"""Jobs that one host may have to acknowledge."""

_HOST_WEIGHT = 10
"""To ask a host costs as much as so many jobs."""


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
        steps = Steps(self._clock)
        parts = await self._begin(await self._encode(batch, steps))
        try:
            if len(parts) > 1:
                await self._prepare(parts, steps)
            self._check()
        except FlynnHostError:
            for part in parts:
                await part.let_go(steps)
            raise
        patience = max(1.0, deadline - self._clock.seconds())
        asked = []
        for part in parts:
            asked.append(part.hand_over(patience))
            await steps.did(_HOST_WEIGHT)
        answers = [await answer for answer in asked]
        placements = await self._placements(answers, steps)
        self._raise_for(answers)
        return placements

    async def _encode(self, batch: Mapping[str, Sequence[Job]], steps: Steps) -> dict[str, Part]:
        parts = {}
        for host_id, jobs in batch.items():
            if isinstance(jobs, EncodedJobs):
                parts[host_id] = Part(jobs)
                continue
            encoded = ListedJobs([], [])
            for some in steps.slices(jobs):
                for job in some:
                    encoded.add(job.id, canonical(job))
                await steps.did(len(some))
            parts[host_id] = Part(encoded)
        return parts

    # --- holding --------------------------------------------------------------

    async def _begin(self, parts: Mapping[str, Part]) -> list[HostPart]:
        """Hold the jobs of all hosts that get any."""
        self._check()
        links = self._links(parts)
        held: dict[str, list[Hold]] = {}
        for _ in self._state.begin(parts, held):
            await deferLater(self._clock, 0)
        for host_id, holds in held.items():
            self._unacknowledged[host_id] += len(holds)
        return [self._part(host_id, parts[host_id], link, held[host_id]) for host_id, link in links.items()]

    def _part(self, host_id: str, part: Part, link: IHostLink, holds: Sequence[Hold]) -> HostPart:
        def settled() -> None:
            self._settled(host_id, len(holds))

        return HostPart(
            self._clock, self._term, self._state, host_id, part, link, holds, self._check, settled
        )

    def _settled(self, host_id: str, count: int) -> None:
        self._unacknowledged[host_id] -= count
        if not self._unacknowledged[host_id]:
            del self._unacknowledged[host_id]

    def _links(self, parts: Mapping[str, Part]) -> dict[str, IHostLink]:
        """The ways to all hosts that get jobs, each of which must be there and able to take more."""
        links = {}
        for host_id, part in parts.items():
            if part.jobs:
                links[host_id] = self._membership.link(host_id, part.jobs.ids())
            if len(part.jobs) > MAX_UNACKNOWLEDGED:
                raise InvalidField(host_id, f"must not get more than {MAX_UNACKNOWLEDGED} jobs at once")
            if self._unacknowledged[host_id] >= MAX_UNACKNOWLEDGED:
                raise NotReady(
                    f"host {host_id} has {self._unacknowledged[host_id]} jobs to acknowledge already"
                )
        return links

    # --- handing over ---------------------------------------------------------

    async def _prepare(self, parts: Sequence[HostPart], steps: Steps) -> None:
        """Ask all hosts whether they could take their parts.

        :raises FlynnHostError: when one could not, after all have answered.
        """
        asked = []
        for part in parts:
            asked.append(part.prepare())
            await steps.did(_HOST_WEIGHT)
        objections = [await answer for answer in asked]
        for objection in objections:
            if objection is not None:
                raise objection

    async def _placements(self, answers: Sequence[Answer], steps: Steps) -> list[Placement]:
        placements: list[Placement] = []
        for answer in answers:
            if answer.statuses is None:
                continue
            pairs = list(zip(answer.job_ids, answer.statuses, strict=True))
            for some in steps.slices(pairs):
                placements += [Placement(job_id, answer.host_id, status) for job_id, status in some]
                await steps.did(len(some))
        return placements

    def _raise_for(self, answers: Sequence[Answer]) -> None:
        """Tell what became of a batch that not every host has acknowledged."""
        certain = self._confirmed()
        if certain and all(answer.statuses is not None for answer in answers):
            return
        # Where this host may lead no longer another may know of other jobs with these IDs.
        outcomes = [(job_id, answer.outcome(certain)) for answer in answers for job_id in answer.job_ids]
        refusals = [answer.error for answer in answers if answer.error is not None]
        if refusals and len(refusals) == len(answers):
            raise refusals[0]
        if refusals:
            self.log.warn(
                "Some hosts have taken their part of a batch and others not: {outcomes}", outcomes=outcomes
            )
            raise TookTooLong(f"not every host has taken its part: {refusals[0]}", outcomes)
        for answer in answers:
            if answer.statuses is None:
                late = f"not every host has acknowledged within {ACKNOWLEDGE_WITHIN:g} s"
                raise TookTooLong(answer.doubt or late, outcomes)
        raise TookTooLong("this host may lead no longer, and can't be certain of the jobs", outcomes)
