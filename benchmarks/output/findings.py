"""The figures of reading output, as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from attrs import Factory, define

from benchmarks.report import Row, table

OURS = "flynn-host"


@define(eq=False)
class Findings:
    """All that was measured.

    :param conditions: what was run and on what, in words.
    :ivar speeds: bytes in a second, trial by trial, by what is done, what is read, and who does it.
    :ivar memory: what flynn-host held before and the most while it did something, in bytes.
    :ivar commands: seconds that commands took, by their words.
    """

    conditions: Mapping[str, str]
    speeds: dict[tuple[str, str], dict[str, list[float]]] = Factory(dict)
    memory: dict[str, tuple[int, int]] = Factory(dict)
    commands: dict[str, list[float]] = Factory(dict)

    def add(self, what: str, content: str, reader: str, speed: float) -> None:
        """Take in a trial."""
        self.speeds.setdefault((what, content), {}).setdefault(reader, []).append(speed)

    def text(self) -> str:
        """All of it in Markdown."""
        parts = ["\n".join(f"- {key}: {value}" for key, value in self.conditions.items())]
        for (what, content), found in self.speeds.items():
            parts += [f"### {what}: {content}", table(_speeds(found))]
        parts += ["### Memory of flynn-host", table(self._memory())]
        if self.commands:
            parts += ["### Commands", table(self._commands())]
        return "\n\n".join(parts) + "\n"

    def json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "conditions": dict(self.conditions),
            "bytes_per_second": [
                {"what": what, "content": content, "readers": found}
                for (what, content), found in self.speeds.items()
            ],
            "memory": self.memory,
            "commands": self.commands,
        }

    def _memory(self) -> Iterator[Row]:
        yield "while", "before", "most", "more"
        for what, (before, most) in self.memory.items():
            yield what, *(f"{value / 1e6:.1f} MB" for value in (before, most, most - before))

    def _commands(self) -> Iterator[Row]:
        yield "command", "median", "quickest", "slowest"
        for words, took in self.commands.items():
            yield words, *(f"{value:.3f} s" for value in (median(took), min(took), max(took)))


def _speeds(found: Mapping[str, list[float]]) -> Iterator[Row]:
    """Each reader beside the best of the others that are not flynn-host."""
    best = max(median(speeds) for reader, speeds in found.items() if not reader.startswith(OURS))
    yield "reader", "trials", "MB/s", "from", "to", "of the best other"
    for reader, speeds in found.items():
        values = (median(speeds), min(speeds), max(speeds))
        share = f"{median(speeds) / best:.2f}" if reader.startswith(OURS) else ""
        yield reader, str(len(speeds)), *(f"{value / 1e6:.1f}" for value in values), share
