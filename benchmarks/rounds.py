"""The order of the measurements: short blocks in turn, so that drift of the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from attrs import define, field

from benchmarks.figures import Results
from benchmarks.jobs import Jobs, Network
from benchmarks.trials import Contender, Trial

BLOCK = 4
"""Jobs that are started one after the other before it is another system's turn."""


@define(eq=False)
class Rounds:
    """Measures systems in turns, each time beginning with another one.

    :param image: what the jobs run.
    :param singles: how many jobs each system starts one at a time, in each round.
    :param batch: how many jobs each system starts at once, once in each round; 0 for none.
    :param settle: seconds of rest after the removal of what a block has made.
    :param tell: is told what is being done.
    """

    _contenders: Sequence[Contender]
    _networks: Sequence[Network]
    _image: str
    _singles: int
    _batch: int
    _settle: float
    _tell: Callable[[str], None]
    results: Results = field(init=False, factory=Results)
    _numbers: Iterator[int] = field(init=False, factory=count)
    _turns: Iterator[int] = field(init=False, factory=count)

    def warm_up(self) -> None:
        """Let each system start one job of each kind that does not count."""
        for network in self._networks:
            for contender in self._contenders:
                self._block(contender, network, 1, 1)

    def run(self, rounds: int) -> None:
        """Do all of it."""
        for number in range(rounds):
            for network in self._networks:
                self._tell(f"round {number + 1} of {rounds}, network {network.value}")
                for begin in range(0, self._singles, BLOCK):
                    self._turn(network, 1, min(BLOCK, self._singles - begin))
                if self._batch:
                    self._turn(network, self._batch, 1)

    def _turn(self, network: Network, at_once: int, times: int) -> None:
        first = next(self._turns) % len(self._contenders)
        for contender in [*self._contenders[first:], *self._contenders[:first]]:
            for trial in self._block(contender, network, at_once, times):
                self.results.add(network.value, at_once, contender.name, trial)

    def _block(self, contender: Contender, network: Network, at_once: int, times: int) -> list[Trial]:
        made, trials = [], []
        for _ in range(times):
            jobs = Jobs(f"b{next(self._numbers)}", at_once, network, self._image)
            made.append(jobs)
            trials.append(contender.start(jobs))
        for jobs in made:
            contender.clear(jobs)
        time.sleep(self._settle)
        return trials
