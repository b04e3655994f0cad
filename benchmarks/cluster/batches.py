"""Jobs as a scheduler posts them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from attrs import define, field

from benchmarks.cluster.lean_hosts import host_name

_JOB = (
    b'{"id":"%b","metadata":{"app":"b3e3a2b6","type":"web"},'
    b'"artifact":{"type":"docker","url":"registry.example.com/app:v17"},'
    b'"resources":{"memory":{"limit":536870912}},'
    b'"config":{"cmd":["/app/start","web"],"env":{"PORT":"8080","RELEASE":"v17"},"ports":[{"proto":"tcp"}]}}'
)


@define(eq=False)
class BatchMaker:
    """Bodies for ``POST /cluster/jobs`` with jobs that are all alike but for their IDs.

    The hosts take turns, so that all get the same.

    :param spread: among how many hosts the jobs of a batch are divided.
    """

    hosts: int
    jobs: int
    spread: int = 1
    _chance: random.Random = field(init=False, factory=random.Random)
    _next: int = field(init=False, default=0)

    def body(self) -> bytes:
        """The next batch."""
        return b"{%b}" % b",".join(self._parts())

    def _parts(self) -> Iterator[bytes]:
        spread = min(self.spread, self.hosts, self.jobs)
        for part in range(spread):
            count = self.jobs // spread + (part < self.jobs % spread)
            yield b'"%b":[%b]' % (self._host().encode(), b",".join(self._some(count)))

    def _host(self) -> str:
        self._next = (self._next + 1) % self.hosts
        return host_name(self._next)

    def _some(self, count: int) -> Sequence[bytes]:
        # Random as real IDs are, which matters to tables of them.
        ids = self._chance.randbytes(16 * count).hex().encode()
        return [_JOB % ids[at : at + 32] for at in range(0, len(ids), 32)]
