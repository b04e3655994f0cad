"""All that a run has found out, as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import attrs
from attrs import define, field

from benchmarks.cluster.clusters import Joined, Rested
from benchmarks.cluster.large import Served
from benchmarks.cluster.series import Kind, Trial
from benchmarks.cluster.turns import Held
from benchmarks.figures import percentile
from benchmarks.report import Row, table

CHALLENGE_SECONDS = 22 * 60 + 14
"""What Nomad took for two million containers on 6,100 hosts, all that makes and starts them included."""


@define(eq=False)
class Findings:
    """What was found out.

    :param conditions: what was run and on what, in words.
    :ivar bare: small POSTs that Klein alone answered in a second, by round.
    :ivar replaced: new leaders, from the death of the last one on.
    :ivar crowded: series in a cluster that has all jobs of the challenge already.
    """

    conditions: Mapping[str, str]
    bare: list[float] = field(factory=list)
    joined: list[Joined] = field(factory=list)
    rested: list[Rested] = field(factory=list)
    trials: dict[Kind, list[Trial]] = field(factory=dict)
    challenge: Trial | None = None
    crowded: list[Trial] = field(factory=list)
    served: list[Served] = field(factory=list)
    replaced: list[Joined] = field(factory=list)

    def add(self, trial: Trial) -> None:
        """Take in a trial."""
        self.trials.setdefault(trial.kind, []).append(trial)

    def text(self) -> str:
        """All of it in Markdown."""
        parts = ["\n".join(f"- {key}: {value}" for key, value in self.conditions.items())]
        sections: list[tuple[str, Callable[[], Iterator[Row]], bool]] = [
            ("Jobs of one caller", self._series, bool(self.trials)),
            ("The challenge", self._challenge, self.challenge is not None),
            ("Large requests with all these jobs", self._served, bool(self.served)),
            ("Hosts that register", lambda: _joined(self.joined), bool(self.joined)),
            (
                "Hosts and jobs that a new leader is told of",
                lambda: _joined(self.replaced),
                bool(self.replaced),
            ),
            ("Nothing to do", self._rested, bool(self.rested)),
            ("Aims", self._aims, bool(self.trials)),
        ]
        for title, rows, there in sections:
            if there:
                parts += [f"### {title}", table(rows())]
        return "\n\n".join(parts) + "\n"

    def json(self) -> dict[str, Any]:
        """All of it, but for the single latencies."""
        return {
            "conditions": dict(self.conditions),
            "bare": self.bare,
            "joined": [attrs.asdict(each) for each in self.joined],
            "replaced": [attrs.asdict(each) for each in self.replaced],
            "rested": [attrs.asdict(each) for each in self.rested],
            "served": [attrs.asdict(each) for each in self.served],
            "series": [_figures(trial) for trials in self.trials.values() for trial in trials],
            "crowded": [_figures(trial) for trial in self.crowded],
            "challenge": None if self.challenge is None else _figures(self.challenge),
        }

    # --- tables ---------------------------------------------------------------

    def _series(self) -> Iterator[Row]:
        yield _SERIES_HEAD
        for kind, trials in self.trials.items():
            yield _series_row(kind, trials)
        if self.bare:
            answers = f"{median(self.bare):,.0f}", f"{min(self.bare):,.0f}", f"{max(self.bare):,.0f}"
            yield ("Klein alone", "1", "", "", "", *answers, *[""] * (len(_SERIES_HEAD) - 8))

    def _challenge(self) -> Iterator[Row]:
        assert self.challenge is not None
        yield ("jobs before", "seconds", *_SERIES_HEAD)
        for trial in [self.challenge, *self.crowded]:
            yield (f"{trial.before:,}", f"{trial.ends[-1]:.1f}", *_series_row(trial.kind, [trial]))

    def _served(self) -> Iterator[Row]:
        yield "request", "status", "MB", "seconds", "slowest other ms", *_HELD_HEAD
        for each in self.served:
            yield (
                each.what,
                str(each.status),
                f"{each.size / 1e6:.1f}",
                f"{each.seconds:.2f}",
                f"{each.waited * 1000:.1f}",
                *_held(each.held),
            )

    def _rested(self) -> Iterator[Row]:
        yield "hosts", "% of a core", *_HELD_HEAD
        for each in self.rested:
            yield f"{each.hosts:,}", f"{each.busy:.1%}", *_held(each.held)

    def _aims(self) -> Iterator[Row]:
        yield "aim", "measured", "target"
        hundred = self._of(hosts=100, batch=100, spread=1)
        single, bare = self._of(hosts=100, batch=1), median(self.bare or [0.0])
        few, many = self._of(hosts=10, batch=1), self._of(hosts=6100, batch=1)
        if hundred:
            yield "batches of 100, 100 hosts", _rate(hundred), ">= 4,624/s"
            yield "the same, last tenth to first", _flat(hundred), ">= 0.9"
        if single:
            yield "single jobs, 100 hosts", f"{_rate(single)}, Klein alone {bare:,.0f}/s", ">= 500/s"
            yield "the same, last tenth to first", _flat(single), ">= 0.9"
        if few and many:
            yield "p50 of a single job, 6,100 hosts to 10", f"{_p(many, 50) / _p(few, 50):.2f}", "<= 1.5"
        thousand = [each.seconds for each in self.joined if each.hosts == 1000]
        if thousand:
            yield "1,000 hosts registered", f"{median(thousand):.1f} s", "seconds"
        if self.challenge is not None:
            yield "the challenge", f"{self.challenge.ends[-1] / 60:.1f} min", "< 10 min"
            yield "the same, last tenth to first", _flat([self.challenge]), ">= 0.9"
            yield "memory of a job", f"{self.challenge.bytes_per_job:,.0f} bytes", "<= 1,500 bytes"
        if self.served:
            longest = max(each.held.event for each in self.served)
            yield "the reactor is held for", f"{longest * 1000:.0f} ms", "<= 50 ms"

    def _of(self, **wanted: int) -> list[Trial]:
        return [
            trial
            for kind, trials in self.trials.items()
            if kind.minimal and all(getattr(kind, name) == value for name, value in wanted.items())
            for trial in trials
        ]


_HELD_HEAD = ("longest event ms", "turn ms", "of it collecting ms")
_SERIES_HEAD = (
    "hosts", "batch", "among", "answer", "jobs", "jobs/s", "from", "to", "first tenth", "last tenth",
    "p50 ms", "p99 ms", "leader CPU s/1,000", "last to first", "bytes/job", *_HELD_HEAD,
)  # fmt: skip


def _series_row(kind: Kind, trials: Sequence[Trial]) -> Row:
    rates = [trial.per_second for trial in trials]
    held = Held()
    for trial in trials:
        held = held.and_then(trial.held)
    return (
        f"{kind.hosts:,}",
        f"{kind.batch:,}",
        f"{kind.spread:,}",
        "jobs" if kind.minimal else "cluster",
        f"{kind.jobs:,}",
        *(f"{rate:,.0f}" for rate in (median(rates), min(rates), max(rates))),
        f"{median(trial.first_tenth for trial in trials):,.0f}",
        f"{median(trial.last_tenth for trial in trials):,.0f}",
        f"{_p(trials, 50) * 1000:.2f}",
        f"{_p(trials, 99) * 1000:.2f}",
        f"{median(trial.cpu_per_thousand for trial in trials):.3f}",
        f"{median(trial.cpu_growth for trial in trials):.2f}",
        f"{median(trial.bytes_per_job for trial in trials):,.0f}",
        *_held(held),
    )


def _joined(joined: Iterable[Joined]) -> Iterator[Row]:
    yield "hosts", "jobs", "times", "seconds", "to", "leader CPU s", "MB", *_HELD_HEAD
    kinds: dict[tuple[int, int], list[Joined]] = {}
    for each in joined:
        kinds.setdefault((each.hosts, each.jobs), []).append(each)
    for (hosts, jobs), some in kinds.items():
        held = Held()
        for each in some:
            held = held.and_then(each.held)
        yield (
            f"{hosts:,}",
            f"{jobs:,}",
            str(len(some)),
            f"{median(each.seconds for each in some):.2f}",
            f"{max(each.seconds for each in some):.2f}",
            f"{median(each.cpu_seconds for each in some):.2f}",
            f"{median(each.memory_bytes for each in some) / 1e6:.1f}",
            *_held(held),
        )


def _held(held: Held) -> Row:
    return tuple(f"{seconds * 1000:.1f}" for seconds in (held.event, held.turn, held.collecting))


def _p(trials: Sequence[Trial], percent: float) -> float:
    return percentile([seconds for trial in trials for seconds in trial.latencies], percent)


def _rate(trials: Sequence[Trial]) -> str:
    return f"{median(trial.per_second for trial in trials):,.0f}/s"


def _flat(trials: Sequence[Trial]) -> str:
    return f"{median(trial.last_tenth / trial.first_tenth for trial in trials):.2f}"


def _figures(trial: Trial) -> dict[str, Any]:
    return {
        **attrs.asdict(trial.kind),
        "before": trial.before,
        "seconds": trial.ends[-1],
        "per_second": trial.per_second,
        "first_tenth": trial.first_tenth,
        "last_tenth": trial.last_tenth,
        "p50": percentile(trial.latencies, 50),
        "p99": percentile(trial.latencies, 99),
        "cpu_seconds": trial.cpu_seconds,
        "memory_bytes": trial.memory_bytes,
        "held": attrs.asdict(trial.held),
    }
