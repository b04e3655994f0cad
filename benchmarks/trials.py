"""What is measured: some jobs started by one system, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from benchmarks.jobs import Jobs


@frozen
class Trial:
    """Some jobs, started at once.

    :param latencies: for each job, seconds from the begin of the request that started it, or all
        of them, until its start was known to who listens.
    :param cpu_seconds: what the system used besides Docker; None if it is Docker.
    """

    latencies: Sequence[float]
    cpu_seconds: float | None = None

    @property
    def per_second(self) -> float:
        """Jobs started in a second, over all of them."""
        return len(self.latencies) / max(self.latencies)


class Contender(Protocol):
    """A system that starts jobs."""

    name: str

    def start(self, jobs: Jobs) -> Trial:
        """Start the jobs, and return when all of them run."""

    def clear(self, jobs: Jobs) -> None:
        """Remove all that was made for these jobs, and return when nothing of it goes on."""
