"""Checks a cluster's promises against what was asked of it, what it answered, and what ran."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import field, frozen

from flynnhost.model import JobStatus

Place = tuple[str, str]
"""A host's ID and a job's."""

ACCEPTED, REFUSED, UNKNOWN = "accepted", "refused", "unknown"


@frozen
class Asked:
    """A batch that somebody posted, and the answer.

    :param batch: by host the IDs of its jobs, each with what tells its content from another's.
    :param began: when it was sent, in seconds of some clock.
    :param ended: when it was answered, or given up.
    :param status: of the answer; None if none came, or not all of it.
    :param code: of an error.
    :param outcomes: what the answer says of single jobs.
    """

    who: str
    batch: Mapping[str, Mapping[str, str]]
    began: float = 0.0
    ended: float = 0.0
    status: int | None = None
    code: str = ""
    outcomes: Mapping[str, str] = field(factory=dict)

    def outcome(self, job_id: str) -> str:
        """What who asked must think became of a job."""
        if self.status == 200:
            return ACCEPTED
        if self.status == 504:
            return self.outcomes.get(job_id, UNKNOWN)
        if self.status is None or (self.status >= 500 and self.status != 503):
            return UNKNOWN
        return REFUSED

    def places(self) -> Iterator[Place]:
        """Where which jobs were to run."""
        for host_id, jobs in self.batch.items():
            for job_id in jobs:
                yield host_id, job_id

    def __str__(self) -> str:
        answer = "no answer" if self.status is None else f"{self.status} {self.code}".strip()
        jobs = {host_id: sorted(jobs) for host_id, jobs in self.batch.items()}
        return f"{self.who} asked {self.began:.3f}-{self.ended:.3f} for {jobs}: {answer}"


@frozen
class Ran:
    """A container that an engine has made for a job.

    :param starts: how often it was started.
    :param exit_status: with which its process has ended; None if it has not.
    """

    container_id: str
    host_id: str
    job_id: str
    starts: int = 1
    exit_status: int | None = None


@frozen
class Told:
    """What a host says of a job in the end."""

    host_id: str
    job_id: str
    status: JobStatus
    exit_status: int = 0
    error: str = ""


class Kind(enum.Enum):
    """Which promise was broken."""

    LOST = "acknowledged, and never ran"
    TWICE = "ran twice"
    FORGOTTEN = "its host does not know it"
    UNTOLD = "its end is not known, or wrong"
    STRAY = "nobody has accepted it, and it is there"
    HALF = "only a part of a host's part is there"
    CLASH = "acknowledged twice, as different jobs"
    ERROR = "the cluster answered with an error of its own"


@frozen
class Violation:
    """A promise that was broken.

    :param about: the IDs of the jobs.
    """

    kind: Kind
    about: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{', '.join(self.about)}: {self.kind.value}: {self.text}"


@frozen
class History:
    """All that is known when everything is at rest again.

    :param asked: all requests.
    :param ran: all containers that there ever were.
    :param told: what all hosts say.
    """

    asked: Sequence[Asked]
    ran: Sequence[Ran]
    told: Sequence[Told]

    def violations(self) -> list[Violation]:
        """Every promise that was broken, in no order that means anything."""
        return [
            *self._errors(),
            *self._clashes(),
            *self._lost(),
            *self._twice(),
            *self._stray(),
            *self._half(),
            *self._ends(),
        ]

    # --- what was answered ----------------------------------------------------

    def _errors(self) -> Iterator[Violation]:
        """Only these errors may be the cluster's own: no leader or busy, and not known in time."""
        for asked in self.asked:
            if asked.status is not None and asked.status >= 500 and asked.status not in (503, 504):
                yield Violation(Kind.ERROR, _ids(asked.places()), str(asked))

    def _clashes(self) -> Iterator[Violation]:
        accepted: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for asked in self.asked:
            for host_id, job_id in asked.places():
                if asked.outcome(job_id) == ACCEPTED:
                    accepted[job_id].add((host_id, asked.batch[host_id][job_id]))
        for job_id, jobs in accepted.items():
            if len(jobs) > 1:
                yield Violation(Kind.CLASH, (job_id,), f"{sorted(jobs)}")

    # --- what ran -------------------------------------------------------------

    def _lost(self) -> Iterator[Violation]:
        started, told = self._started(), self._told()
        for place, asked in self._by_outcome(ACCEPTED).items():
            known = told.get(place)
            if place not in started:
                yield Violation(Kind.LOST, (place[1],), f"on {place[0]}, which says {known}; {asked}")
            elif known is None:
                yield Violation(Kind.FORGOTTEN, (place[1],), f"{place[0]}; {asked}")

    def _twice(self) -> Iterator[Violation]:
        runs: dict[str, list[Ran]] = defaultdict(list)
        for ran in self.ran:
            if ran.starts:
                runs[ran.job_id].append(ran)
        for job_id, all_runs in runs.items():
            if sum(ran.starts for ran in all_runs) > 1:
                yield Violation(Kind.TWICE, (job_id,), f"{all_runs}")

    def _stray(self) -> Iterator[Violation]:
        """Jobs that are on a host where nobody wanted them, or where all who did were refused."""
        maybe = {
            place for asked in self.asked for place in asked.places() if asked.outcome(place[1]) != REFUSED
        }
        refused = self._by_outcome(REFUSED)
        for place in sorted(self._there() - maybe):
            asked = refused.get(place)
            yield Violation(Kind.STRAY, (place[1],), f"on {place[0]}; {asked or 'nobody asked for it'}")

    def _half(self) -> Iterator[Violation]:
        """Each host takes all of its part or nothing.

        Of a part only those jobs count that are in no other batch: they can't have come otherwise.
        """
        there = self._there()
        for batch, host_id, jobs in self._parts_of_one_batch():
            places = {(host_id, job_id) for job_id in jobs}
            missing = places - there
            if missing and missing != places:
                about = tuple(sorted(jobs))
                yield Violation(Kind.HALF, about, f"{host_id} has not {_ids(missing)}; {batch[-1]}")

    def _ends(self) -> Iterator[Violation]:
        """What the engine says of each end, the host must say."""
        told = self._told()
        for ran in self.ran:
            known = told.get((ran.host_id, ran.job_id))
            if not ran.starts:
                continue
            if known is None:
                yield Violation(Kind.FORGOTTEN, (ran.job_id,), f"it ran: {ran}")
            elif (known.status, known.exit_status) != _end(ran):
                yield Violation(Kind.UNTOLD, (ran.job_id,), f"{ran}, but {known}")

    # --- what follows from it -------------------------------------------------

    def _by_outcome(self, outcome: str) -> dict[Place, Asked]:
        """A request with this outcome for each place where there is one."""
        return {
            place: asked
            for asked in self.asked
            for place in asked.places()
            if asked.outcome(place[1]) == outcome
        }

    def _started(self) -> set[Place]:
        return {(ran.host_id, ran.job_id) for ran in self.ran if ran.starts}

    def _told(self) -> dict[Place, Told]:
        return {(told.host_id, told.job_id): told for told in self.told}

    def _there(self) -> set[Place]:
        return self._started() | set(self._told())

    def _parts_of_one_batch(self) -> Iterator[tuple[list[Asked], str, list[str]]]:
        """By batch and host the jobs that are in no other batch; a batch may be posted again."""
        batches: dict[frozenset[Place], list[Asked]] = defaultdict(list)
        for asked in self.asked:
            batches[frozenset(asked.places())].append(asked)
        uses: dict[str, int] = defaultdict(int)
        for places in batches:
            for job_id in {job_id for _, job_id in places}:
                uses[job_id] += 1
        for batch in batches.values():
            for host_id, jobs in batch[0].batch.items():
                yield batch, host_id, [job_id for job_id in jobs if uses[job_id] == 1]


def disagreements(
    leader: Mapping[str, Iterable[str]], hosts: Mapping[str, Iterable[str]]
) -> dict[str, set[str]]:
    """By host the jobs of which only the leader or only the host says that they are active.

    :param leader: the active jobs of each host as the leader has them.
    :param hosts: as the hosts have them.
    """
    differences = {
        host_id: set(leader.get(host_id, ())) ^ set(hosts.get(host_id, ())) for host_id in {*leader, *hosts}
    }
    missing = {host_id: {"the host itself"} for host_id in set(leader) ^ set(hosts)}
    return {host_id: jobs for host_id, jobs in differences.items() if jobs} | missing


def _end(ran: Ran) -> tuple[JobStatus, int]:
    """What a host must say of a container."""
    if ran.exit_status is None:
        return JobStatus.RUNNING, 0
    return (JobStatus.CRASHED if ran.exit_status else JobStatus.DONE), ran.exit_status


def _ids(places: Iterable[Place]) -> tuple[str, ...]:
    return tuple(sorted({job_id for _, job_id in places}))
