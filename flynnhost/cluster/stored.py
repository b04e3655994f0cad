"""Jobs as the leader keeps them: encoded, for there may be millions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from attrs import define, field
from msgspec import Struct

from flynnhost.canonical import canonical
from flynnhost.encoded import EncodedJobs
from flynnhost.errors import InvalidField
from flynnhost.model import Job


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


def placed_of(host_id: str, jobs: Sequence[Job]) -> Iterable[Placed]:
    """The jobs of a host."""
    if isinstance(jobs, EncodedJobs):
        return map(Placed, [host_id] * len(jobs), jobs.ids(), jobs.encoded())
    return [Placed.of(host_id, job) for job in jobs]


@define(eq=False)
class StoredJobs(EncodedJobs):
    """The jobs of one host. Which those are is decided when they are first asked for."""

    _by_id: Mapping[str, Placed]
    _found: tuple[Placed, ...] | None = field(init=False, default=None)

    def _placed(self) -> tuple[Placed, ...]:
        if self._found is None:
            self._found = tuple(self._by_id.values())
        return self._found

    def __len__(self) -> int:
        return len(self._placed())

    def ids(self, start: int = 0, end: int | None = None) -> Sequence[str]:
        """See ``EncodedJobs``."""
        return [placed.job_id for placed in self._placed()[start:end]]

    def encoded(self, start: int = 0, end: int | None = None) -> Sequence[bytes]:
        """See ``EncodedJobs``."""
        return [placed.canonical for placed in self._placed()[start:end]]
