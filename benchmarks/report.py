"""The figures as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import attrs
from attrs import frozen

from benchmarks.figures import Figures, Results
from benchmarks.host_process import Memory

DOCKER = "Docker alone"
HOST = "flynn-host"
SWARM = "Docker Swarm"

Row = Sequence[str]


@frozen
class Report:
    """Everything that a run has found out.

    :param conditions: what was run and on what, in words.
    :param cold_starts: seconds from the exec of flynn-host until it was ready.
    :param idle: what flynn-host held with no job.
    :param busiest: what it held with this many jobs running.
    """

    conditions: Mapping[str, str]
    results: Results
    cold_starts: Sequence[float]
    idle: Memory
    busiest: Mapping[int, Memory]

    def text(self) -> str:
        """All of it in Markdown."""
        parts = ["\n".join(f"- {key}: {value}" for key, value in self.conditions.items())]
        for network, count in self.results.kinds():
            parts.append(_heading(network, count))
            parts.append(table(_systems(self.results.figures(network, count))))
            parts.append(table(_compared(count, self.results.figures(network, count))))
        parts += ["### The process", table(self._process())]
        return "\n\n".join(parts) + "\n"

    def json(self) -> dict[str, Any]:
        """All of it, with every single latency."""
        return {
            "conditions": dict(self.conditions),
            "cold_starts": list(self.cold_starts),
            "memory": {
                "idle": attrs.asdict(self.idle),
                **{str(count): attrs.asdict(memory) for count, memory in self.busiest.items()},
            },
            "starts": [
                {
                    "network": network,
                    "at_once": count,
                    "system": name,
                    **attrs.asdict(figures),
                    "latencies": self.results.latencies(network, count, name),
                }
                for network, count in self.results.kinds()
                for name, figures in self.results.figures(network, count).items()
            ],
        }

    def _process(self) -> Iterator[Row]:
        yield "what", "measured", "target"
        yield "cold start until ready, median", f"{median(self.cold_starts):.2f} s", "< 1.5 s"
        yield "memory with no job", _memory(self.idle), ""
        for count, memory in sorted(self.busiest.items()):
            target = "< 100 MB resident" if count >= 100 else ""
            yield f"memory with {count} running", _memory(memory), target


def _heading(network: str, count: int) -> str:
    what = "one job at a time" if count == 1 else f"{count} jobs at once"
    return f"### {what}, network: {network}"


def _systems(found: Mapping[str, Figures]) -> Iterator[Row]:
    yield "system", "trials", "p50 ms", "p99 ms", "jobs/s", "from", "to", "own CPU ms/job"
    for name, figures in found.items():
        cpu = "" if figures.cpu_per_job is None else f"{figures.cpu_per_job * 1000:.1f}"
        yield (
            name,
            str(figures.trials),
            f"{figures.p50 * 1000:.1f}",
            f"{figures.p99 * 1000:.1f}",
            f"{figures.per_second:.2f}",
            f"{figures.slowest:.2f}",
            f"{figures.quickest:.2f}",
            cpu,
        )


def _compared(count: int, found: Mapping[str, Figures]) -> Iterator[Row]:
    yield "flynn-host beside", "measured", "target"
    ours = found[HOST]
    if (docker := found.get(DOCKER)) is not None:
        over = ours.p50 - docker.p50
        share = f"{over * 1000:+.1f} ms, {over / docker.p50:+.1%}"
        yield f"{DOCKER}: time at p50", share, "< +5 %" if count == 1 else ""
        ratio = ours.per_second / docker.per_second
        yield f"{DOCKER}: throughput", f"{ratio:.2f} times", "" if count == 1 else ">= 0.95 times"
    if (swarm := found.get(SWARM)) is not None:
        target = ">= 1.5 times" if count == 1 else ">= 1 times"
        yield f"{SWARM}: quickness at p50", f"{swarm.p50 / ours.p50:.2f} times", target
        yield f"{SWARM}: throughput", f"{ours.per_second / swarm.per_second:.2f} times", target


def _memory(memory: Memory) -> str:
    return f"{memory.resident / 1e6:.1f} MB resident, {memory.proportional / 1e6:.1f} MB proportional"


def table(rows: Iterator[Row]) -> str:
    """Rows of cells as a table in Markdown; the first row names the columns."""
    lines = list(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
