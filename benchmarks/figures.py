"""From what was measured to the figures that say it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from attrs import Factory, define, frozen

from benchmarks.trials import Trial


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not below this many percent of them."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@frozen
class Figures:
    """What one system did with jobs of one kind, in so many trials.

    :param p50: seconds until a job's start is known, half of the time.
    :param p99: the same, 99 times of a hundred.
    :param per_second: jobs started in a second, in the median trial.
    :param slowest: the same, in the slowest trial.
    :param quickest: the same, in the quickest one.
    :param cpu_per_job: CPU seconds of the system itself, Docker apart; None if not known.
    """

    trials: int
    p50: float
    p99: float
    per_second: float
    slowest: float
    quickest: float
    cpu_per_job: float | None

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Figures:
        """The figures of at least one trial."""
        latencies = [latency for trial in trials for latency in trial.latencies]
        used = [trial.cpu_seconds for trial in trials if trial.cpu_seconds is not None]
        rates = [trial.per_second for trial in trials]
        return cls(
            trials=len(trials),
            p50=percentile(latencies, 50),
            p99=percentile(latencies, 99),
            per_second=statistics.median(rates),
            slowest=min(rates),
            quickest=max(rates),
            cpu_per_job=sum(used) / len(latencies) if used else None,
        )


@define(eq=False)
class Results:
    """All trials so far, by network, how many jobs were started at once, and system."""

    _trials: dict[tuple[str, int, str], list[Trial]] = Factory(dict)

    def add(self, network: str, count: int, name: str, trial: Trial) -> None:
        """Take in a trial."""
        self._trials.setdefault((network, count, name), []).append(trial)

    def kinds(self) -> list[tuple[str, int]]:
        """Each network and count there is, in the order in which they came."""
        return list(dict.fromkeys((network, count) for network, count, _ in self._trials))

    def figures(self, network: str, count: int) -> dict[str, Figures]:
        """The figures of each system for one kind of jobs, in the order of the systems' first trials ever."""
        names = dict.fromkeys(name for _, _, name in self._trials)
        kinds = {name: self._trials.get((network, count, name)) for name in names}
        return {name: Figures.of(trials) for name, trials in kinds.items() if trials}

    def latencies(self, network: str, count: int, name: str) -> list[list[float]]:
        """All that was measured, trial by trial, in seconds."""
        return [list(trial.latencies) for trial in self._trials[network, count, name]]
