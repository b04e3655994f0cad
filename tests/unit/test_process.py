"""What a process does about itself."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.task import Clock

from flynnhost.process import LOOK_AGAIN, SLOW, ShortCollections, allow_many_files


@define(eq=False)
class Collector:
    """A garbage collector whose collections take as long as a test says."""

    seconds: float = 0.0
    threshold: tuple[int, int, int] = (700, 10, 10)
    frozen: int = 0
    callbacks: list[Callable[[str, dict[str, int]], None]] = field(factory=list)

    def get_threshold(self) -> tuple[int, int, int]:
        return self.threshold

    def set_threshold(self, *threshold: int) -> None:
        self.threshold = threshold  # type: ignore[assignment]

    def freeze(self) -> None:
        self.frozen += 1

    def unfreeze(self) -> None:
        self.frozen = 0

    def collect(self, generation: int, took: float) -> None:
        for phase, now in (("start", self.seconds), ("stop", self.seconds + took)):
            self.seconds = now
            for callback in self.callbacks:
                callback(phase, {"generation": generation})


def test_what_a_slow_collection_has_found_alive_is_left_out_of_the_next() -> None:
    collector = Collector()
    collections = ShortCollections(Clock(), collector, lambda: collector.seconds)
    collections.startService()
    assert collector.frozen == 1
    collector.collect(2, SLOW / 2)
    collector.collect(1, SLOW * 2)
    assert collector.frozen == 1
    collector.collect(2, SLOW * 2)
    assert collector.frozen == 2


def test_all_is_looked_at_again_in_time() -> None:
    clock, collector = Clock(), Collector()
    ShortCollections(clock, collector, lambda: collector.seconds).startService()
    for _ in range(3):
        collector.collect(2, 1)
        clock.advance(LOOK_AGAIN)
        assert collector.frozen == 0


def test_the_collector_is_left_as_it_was() -> None:
    clock, collector = Clock(), Collector()
    collections = ShortCollections(clock, collector, lambda: collector.seconds)
    collections.startService()
    collections.stopService()
    collections.stopService()
    assert (collector.threshold, collector.frozen) == ((700, 10, 10), 0)
    assert collector.callbacks == []
    assert clock.getDelayedCalls() == []


@pytest.fixture
def collections() -> Iterator[ShortCollections]:
    collections = ShortCollections(Clock(), timer=iter(range(10**9)).__next__)  # all are slow
    collections.startService()
    yield collections
    collections.stopService()


def test_python_does_not_look_at_what_is_left_out(collections: ShortCollections) -> None:
    """With the real one, garbage in circles goes, and what lives is not looked at again."""
    alive: list[Any] = [[] for _ in range(50_000)]
    circle: list[Any] = []
    circle.append(circle)
    del circle
    assert gc.collect() >= 1
    assert gc.get_freeze_count() > len(alive)
    assert len(gc.get_objects()) < len(alive)


def test_as_many_files_as_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
