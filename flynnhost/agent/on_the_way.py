"""Jobs that a leader has sent, and of which it is not known yet whether this host has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from attrs import define, field


@define(eq=False)
class _Coming:
    encoded: bytes
    times: int = 0


@define(eq=False)
class OnTheWay:
    """Such jobs by ID, whichever session they came by: the next leader must hear of them too.

    :ivar settled: called with the ID of each job of which it is known now.
    """

    settled: Callable[[str], None] | None = None
    _coming: dict[str, _Coming] = field(init=False, factory=dict)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._coming

    def items(self) -> Iterator[tuple[str, bytes]]:
        """All of them, with their canonical forms."""
        for job_id, coming in self._coming.items():
            yield job_id, coming.encoded

    def begin(self, jobs: Mapping[str, bytes]) -> None:
        """These are being taken."""
        for job_id, encoded in jobs.items():
            self._coming.setdefault(job_id, _Coming(encoded)).times += 1

    def end(self, jobs: Mapping[str, bytes]) -> None:
        """These were taken, or were not."""
        for job_id in jobs:
            self._coming[job_id].times -= 1
            if not self._coming[job_id].times:
                del self._coming[job_id]
                if self.settled is not None:
                    self.settled(job_id)
