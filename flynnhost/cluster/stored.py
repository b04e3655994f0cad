"""Jobs as the leader keeps them: encoded, for there may be millions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import msgspec
from attrs import define, field
from msgspec import Struct

from flynnhost.errors import InvalidField
from flynnhost.interfaces import Part
from flynnhost.model import Job, canonical, parse_canonical


class Placed(Struct, frozen=True, gc=False):
    """A job and the host it belongs to.

    The garbage collector does not look at it, and so neither at the maps that hold it.

    :param canonical: what ``canonical(job)`` is.
    """

    host_id: str
    job_id: str
    canonical: bytes

    @classmethod
    def of(cls, host_id: str, job: Job) -> Placed:
        """The same of a job that is not encoded yet."""
        return cls(host_id, job.id, canonical(job))

    def same_content(self, other: Placed) -> bool:
        """Whether both are the same job."""
        return self.canonical == other.canonical

    @property
    def job(self) -> Job:
        """The job, made anew each time; only its ID if this version can't read the rest."""
        try:
            return parse_canonical(self.canonical)
        except ValueError:
            return Job(self.job_id)


class _Identified(Struct):
    id: str


_identified = msgspec.json.Decoder(_Identified)


def placed_from(host_id: str, encoded: bytes) -> Placed:
    """A job that a host has sent.

    :raises InvalidField: when it is none.
    """
    try:
        return Placed(host_id, _identified.decode(encoded).id, encoded)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise InvalidField("job", f"can't be read: {e}") from e


def part_of(jobs: Iterable[Job]) -> Part:
    """One host's part of a batch, encoded."""
    jobs = tuple(jobs)
    return Part(jobs, tuple(map(canonical, jobs)))


@define(eq=False)
class StoredJobs(Sequence[Job]):
    """The jobs of one host as a sequence, each decoded when it is asked for.

    Which jobs those are is decided when they are first asked for.
    """

    _by_id: Mapping[str, Placed]
    _found: tuple[Placed, ...] | None = field(init=False, default=None)

    def _placed(self) -> tuple[Placed, ...]:
        if self._found is None:
            self._found = tuple(self._by_id.values())
        return self._found

    def ids(self, start: int, end: int) -> list[str]:
        """The IDs of some of the jobs."""
        return [placed.job_id for placed in self._placed()[start:end]]

    def __len__(self) -> int:
        return len(self._placed())

    def __iter__(self) -> Iterator[Job]:
        for placed in self._placed():
            yield placed.job

    @overload
    def __getitem__(self, index: int) -> Job: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Job]: ...

    def __getitem__(self, index: int | slice) -> Job | Sequence[Job]:
        if isinstance(index, slice):
            return tuple(placed.job for placed in self._placed()[index])
        return self._placed()[index].job

    def __eq__(self, other: object) -> bool:
        if isinstance(other, tuple | StoredJobs):
            return tuple(self) == tuple(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of all that can be compared and change
