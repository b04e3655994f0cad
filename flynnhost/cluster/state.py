"""The cluster's state: hosts, and the jobs that are meant to be on them. In memory only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import define, field
from msgspec import Struct
from twisted.logger import Logger

from flynnhost.background import STEP
from flynnhost.cluster.arrival import Arrival
from flynnhost.cluster.past import FOREIGN, PastJobs, Whereabouts, digest_of
from flynnhost.cluster.stored import Placed, StoredJobs
from flynnhost.cluster.wide_map import WideMap
from flynnhost.errors import FlynnHostError, JobConflict, UnknownHost
from flynnhost.interfaces import Part
from flynnhost.model import Host

_NONE: dict[str, Placed] = {}

_LAST = object()
"""Whatever a host has reported last."""


class Hold(Struct, eq=False, gc=False):
    """A job of a batch, whose ID is taken until it was committed or abandoned.

    :param host: the one that it is meant for, as it is remembered.
    :ivar removed: the job was taken out meanwhile, as it has ended.
    :ivar reported: the job as the host has told of it meanwhile, with what there is of the host.
    """

    placed: Placed
    host: Whereabouts
    removed: bool = False
    reported: tuple[Placed, object] | None = None


@define(eq=False)
class _HostJobs:
    """A host.

    :ivar host: what is remembered of its jobs.
    :ivar unsure: jobs of which it has not said that it has them.
    """

    id: str
    attributes: Mapping[str, str]
    host: Whereabouts
    resources: Mapping[str, int]
    draining: bool
    addr: str = ""
    down: bool = False
    jobs: dict[str, Placed] = field(factory=dict)
    unsure: set[str] = field(factory=set)


@define(eq=False)
class ClusterState:
    """All hosts with their jobs, all jobs by ID, and for a time where those were that are no more.

    What a batch costs here depends on the batch alone: everything is found by its ID, and
    nothing goes through all hosts or jobs but what lists them.
    """

    log = Logger()

    _past: PastJobs
    _hosts: dict[str, _HostJobs] = field(init=False, factory=dict)
    _jobs: WideMap[Placed] = field(init=False, factory=WideMap)
    # Jobs that another host has too, which comes of putting them on hosts directly.
    _twice: dict[str, dict[str, Placed]] = field(init=False, factory=dict)
    _held: dict[str, tuple[Hold, ...]] = field(init=False, factory=dict)

    def hosts(self) -> Sequence[Host]:
        """All hosts with their jobs."""
        return [_as_host(host) for host in self._hosts.values()]

    def host(self, host_id: str) -> Host:
        """One host with its jobs.

        :raises UnknownHost: when there is no such host.
        """
        return _as_host(self._get(host_id))

    def count(self) -> int:
        """How many hosts there are."""
        return len(self._hosts)

    def has_host(self, host_id: str) -> bool:
        """Whether the cluster has this host."""
        return host_id in self._hosts

    def has_job(self, host_id: str, job_id: str) -> bool:
        """Whether a job is on this host."""
        host = self._hosts.get(host_id)
        return host is not None and job_id in host.jobs

    def had_job(self, host_id: str, job_id: str) -> bool:
        """Whether a job was on this host, and is no more."""
        where, host = self._past.find(job_id), self._hosts.get(host_id)
        if where is None or host is None or job_id in host.jobs:
            return False
        return _same_host(where, host.host)

    def add_host(self, arrival: Arrival) -> None:
        """Add a host with the jobs it has, or take its report in place of an earlier one."""
        host_id = arrival.host_id
        self._past.grow_older()
        before = self._take_out_host(host_id)
        where = Whereabouts(host_id, arrival.instance)
        host = _HostJobs(
            host_id, arrival.attributes, where, arrival.resources, arrival.draining, arrival.addr
        )
        self._hosts[host_id] = host
        for placed in arrival.jobs:
            self._put(placed)
        for job_id in arrival.ended:
            self._past.note(job_id, where)
        if before is not None:
            # What it does not tell of has ended, or never got there.
            never_there = before.unsure if arrival.ended_are_all and _same_host(before.host, where) else ()
            for placed in before.jobs.values():
                if placed.job_id not in host.jobs and placed.job_id not in never_there:
                    self._remember(placed, before.host)

    def set_down(self, host_id: str) -> None:
        """Say of a host that it is not connected; its jobs stay."""
        self._get(host_id).down = True

    def set_draining(self, host_id: str, draining: bool) -> None:
        """Say of a host whether it is to get no more jobs."""
        self._get(host_id).draining = draining

    def set_attributes(self, host_id: str, attributes: Mapping[str, str]) -> None:
        """Say what is said of a host now, if it is there."""
        host = self._hosts.get(host_id)
        if host is not None:
            host.attributes = attributes

    def remove_host(self, host_id: str) -> None:
        """Remove a host and its jobs, if it is there; where these were is remembered."""
        host = self._take_out_host(host_id)
        if host is not None:
            for placed in host.jobs.values():
                self._remember(placed, host.host)

    def report(self, placed: Placed) -> None:
        """Keep a job that a host says it has, unless it is known there or about to be."""
        host = self._hosts.get(placed.host_id)
        held = [hold for hold in self._held.get(placed.job_id, ()) if hold.placed.host_id == placed.host_id]
        for hold in held:
            hold.reported = (placed, host)
        if not held and host is not None:
            host.unsure.discard(placed.job_id)
            self._put(placed)

    def remove_job(self, host_id: str, job_id: str, *, was_there: bool = True) -> None:
        """Take a job out, if it is there; where it was is remembered.

        :param was_there: whether its host has had it at all.
        """
        host = self._hosts.get(host_id)
        if host is None:
            return
        for hold in self._held.get(job_id, ()):
            if hold.placed.host_id == host_id and was_there:
                hold.removed, hold.reported = True, None
                self._remember(hold.placed, hold.host)
        placed = host.jobs.get(job_id)
        if placed is not None:
            self._take_out(host, placed)
            if was_there:
                self._remember(placed, host.host)

    def begin(self, batch: Mapping[str, Part], into: dict[str, list[Hold]]) -> Iterator[None]:
        """Check a whole batch, and hold its IDs until each was committed or abandoned. Between the steps of
        this, others can have their turn.

        :param into: for each host of the batch with jobs what is held for it; a job that is there
            twice is held once. Nothing when this fails.
        :raises UnknownHost: when there is no such host.
        :raises JobConflict: when an ID is taken by other content or on another host.
        """
        try:
            yield from self._hold_all(batch, into)
        except FlynnHostError:
            held = [hold for holds in into.values() for hold in holds]
            into.clear()
            for number, hold in enumerate(held, 1):
                self.abandon(hold)
                if number % STEP == 0:
                    yield
            raise

    def _hold_all(self, batch: Mapping[str, Part], into: dict[str, list[Hold]]) -> Iterator[None]:
        self._past.grow_older()
        wanted: dict[str, Hold] = {}
        for host_id, part in batch.items():
            host = self._get(host_id)
            held = into[host_id] = []
            for job_id, encoded in zip(part.jobs.ids(), part.jobs.encoded(), strict=True):
                placed = Placed(host.id, job_id, encoded)  # one string for all jobs of a host
                same = wanted.get(job_id)
                if same is not None:
                    _check_same(placed, same.placed)
                    continue
                known = self._known(placed)
                if known is not None:
                    _check_same(placed, known)
                else:
                    self._check_past(placed, host.host)
                hold = wanted[job_id] = Hold(placed, host.host)
                self._held[job_id] = (*self._held.get(job_id, ()), hold)
                held.append(hold)
                if len(wanted) % STEP == 0:
                    yield

    def report_of(self, host_id: str) -> object:
        """What tells the last report of a host from others."""
        return self._hosts.get(host_id)

    def commit(self, hold: Hold, report: object = _LAST, *, certain: bool = True) -> None:
        """Keep a job that was begun, unless it or its host was removed since, or the host has reported anew.

        :param report: the host's last one when it was known what became of the job.
        :param certain: whether the host has said that it has the job.
        """
        self._let_go(hold)
        host = self._hosts.get(hold.placed.host_id)
        newer = report is not _LAST and host is not report
        if host is None or newer or not _same_host(host.host, hold.host):
            if host is None or hold.placed.job_id not in host.jobs:
                self._remember(hold.placed, hold.host)
        elif not hold.removed:
            if certain:
                if host.unsure:
                    host.unsure.discard(hold.placed.job_id)
            elif hold.placed.job_id not in host.jobs:
                host.unsure.add(hold.placed.job_id)
            self._put(hold.placed)

    def finish(self, hold: Hold) -> None:
        """Let go of a job that was begun, and has ended; where it was is remembered."""
        self._let_go(hold)
        self._remember(hold.placed, hold.host)

    def abandon(self, hold: Hold) -> None:
        """Let go of a job that was begun, and came to nothing. What the host has from elsewhere stays."""
        self._let_go(hold)
        if hold.reported is not None:
            placed, host = hold.reported
            if host is self._hosts.get(placed.host_id):
                self.report(placed)

    def _let_go(self, hold: Hold) -> None:
        job_id = hold.placed.job_id
        holds = self._held.pop(job_id)
        if len(holds) > 1:
            self._held[job_id] = tuple(other for other in holds if other is not hold)

    def _get(self, host_id: str) -> _HostJobs:
        try:
            return self._hosts[host_id]
        except KeyError:
            raise UnknownHost(host_id) from None

    def _known(self, asked: Placed) -> Placed | None:
        """The job that has this ID, first of all on the host that it is asked for."""
        job_id = asked.job_id
        held = self._held.get(job_id)
        if held is not None:
            return held[0].placed  # the others are the same
        return self._get(asked.host_id).jobs.get(job_id) or self._jobs.get(job_id)

    def _check_past(self, asked: Placed, host: Whereabouts) -> None:
        """Refuse what was on another host, or was something else."""
        where = self._past.find(asked.job_id)
        if where is None:
            return
        if where.host_id != host.host_id:
            raise JobConflict(asked.job_id, f"was on host {where.host_id}, not to be put on {host.host_id}")
        if where.instance != host.instance:
            raise JobConflict(asked.job_id, f"was on another host that had the ID {host.host_id}")
        if where.content and where.content != digest_of(asked.canonical):
            raise JobConflict(asked.job_id, f"was on host {host.host_id}, with other content")

    def _remember(self, placed: Placed, host: Whereabouts) -> None:
        if host.instance == FOREIGN:
            host = Whereabouts(host.host_id, host.instance, digest_of(placed.canonical))
        self._past.note(placed.job_id, host)

    def _put(self, placed: Placed) -> None:
        job_id = placed.job_id
        self._hosts[placed.host_id].jobs[job_id] = placed
        first = self._jobs.setdefault(job_id, placed)
        if first is placed:
            return
        if first.host_id == placed.host_id:
            self._jobs[job_id] = placed
        else:
            self._twice.setdefault(job_id, {})[placed.host_id] = placed
            self.log.error(
                "Job {job_id} is on host {host_id} and on host {other_host_id}",
                job_id=job_id,
                host_id=placed.host_id,
                other_host_id=first.host_id,
            )

    def _take_out(self, host: _HostJobs, placed: Placed) -> None:
        del host.jobs[placed.job_id]
        host.unsure.discard(placed.job_id)
        self._unlink(placed)

    def _take_out_host(self, host_id: str) -> _HostJobs | None:
        host = self._hosts.pop(host_id, None)
        if host is not None:
            for placed in host.jobs.values():
                self._unlink(placed)
        return host

    def _unlink(self, placed: Placed) -> None:
        """Take a job that its host has no more from the jobs by ID."""
        job_id = placed.job_id
        others = self._twice.get(job_id, _NONE)
        if self._jobs[job_id].host_id != placed.host_id:
            del others[placed.host_id]
        elif others:
            self._jobs[job_id] = others.pop(next(iter(others)))
        else:
            del self._jobs[job_id]
        if self._twice and not others:
            self._twice.pop(job_id, None)


def _as_host(host: _HostJobs) -> Host:
    jobs = StoredJobs(host.jobs)
    return Host(host.id, host.attributes, jobs, host.down, host.draining, host.resources, host.addr)


def _same_host(one: Whereabouts, other: Whereabouts) -> bool:
    return one is other or (one.host_id, one.instance) == (other.host_id, other.instance)


def _check_same(asked: Placed, known: Placed) -> None:
    if asked.host_id != known.host_id:
        raise JobConflict(asked.job_id, f"is on host {known.host_id}, not to be put on {asked.host_id}")
    if not asked.same_content(known):
        raise JobConflict(asked.job_id, f"is on host {known.host_id} already, with other content")
