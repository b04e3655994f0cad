"""Jobs that are kept encoded, since there may be millions and few of them are looked into."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from attrs import define

from flynnhost.canonical import canonical, parse_canonical
from flynnhost.model import Job


class EncodedJobs(Sequence[Job]):
    """A sequence of jobs, each of which is decoded when it is asked for."""

    @abstractmethod
    def ids(self, start: int = 0, end: int | None = None) -> Sequence[str]:
        """The IDs of some of the jobs."""

    @abstractmethod
    def encoded(self, start: int = 0, end: int | None = None) -> Sequence[bytes]:
        """Some of the jobs, in their canonical form."""

    def __iter__(self) -> Iterator[Job]:
        return map(decoded, self.ids(), self.encoded())

    @overload
    def __getitem__(self, index: int) -> Job: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Job]: ...

    def __getitem__(self, index: int | slice) -> Job | Sequence[Job]:
        if isinstance(index, slice):
            return tuple(map(decoded, self.ids()[index], self.encoded()[index]))
        return decoded(self.ids()[index], self.encoded()[index])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, tuple | list | EncodedJobs):
            return tuple(self) == tuple(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of all that can be compared and change


def decoded(job_id: str, encoded: bytes) -> Job:
    """A job from its canonical form; only its ID if this version can't read the rest."""
    try:
        return parse_canonical(encoded)
    except ValueError:
        return Job(job_id)


@define(eq=False)
class ListedJobs(EncodedJobs):
    """Jobs that were encoded one by one."""

    _ids: list[str]
    _encoded: list[bytes]

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> ListedJobs:
        """The same jobs, encoded."""
        jobs = tuple(jobs)
        return cls([job.id for job in jobs], list(map(canonical, jobs)))

    def add(self, job_id: str, encoded: bytes) -> None:
        """Take in another one at the end."""
        self._ids.append(job_id)
        self._encoded.append(encoded)

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, start: int = 0, end: int | None = None) -> Sequence[str]:
        """See ``EncodedJobs``."""
        return self._ids if start == 0 and end is None else self._ids[start:end]

    def encoded(self, start: int = 0, end: int | None = None) -> Sequence[bytes]:
        """See ``EncodedJobs``."""
        return self._encoded if start == 0 and end is None else self._encoded[start:end]
