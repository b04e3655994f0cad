"""Large requests, and how long others have to wait while they are served."""

from __future__ import annotations

import threading
import time

from attrs import frozen

from benchmarks.cluster.batches import BatchMaker
from benchmarks.cluster.caller import Answer, Caller
from benchmarks.cluster.processes import LeaderProcess
from benchmarks.cluster.turns import Held

_BETWEEN_ASKS = 0.005


@frozen
class Large:
    """A large request.

    :param what: in words.
    """

    what: str
    method: str
    path: str
    body: bytes = b""
    headers: str = ""


@frozen
class Served:
    """What came of it.

    :param seconds: until all of the answer was there.
    :param size: bytes of the answer.
    :param waited: seconds of the slowest small request that was sent meanwhile.
    """

    what: str
    status: int
    seconds: float
    size: int
    waited: float
    held: Held


def requests(hosts: int) -> list[Large]:
    """Large requests to a cluster of so many hosts."""

    def batch(what: str, jobs: int, spread: int, minimal: bool) -> Large:
        headers = "Prefer: return=minimal\r\n" if minimal else ""
        return Large(what, "POST", "/cluster/jobs", BatchMaker(hosts, jobs, spread).body(), headers)

    return [
        Large("GET /cluster/hosts", "GET", "/cluster/hosts"),
        Large("GET /cluster/hosts?jobs=ids", "GET", "/cluster/hosts?jobs=ids"),
        Large("GET /cluster/hosts?jobs=none", "GET", "/cluster/hosts?jobs=none"),
        batch("POST of 10,000 jobs for one host", 10_000, 1, True),
        batch("POST of 10,000 jobs for 1,000 hosts", 10_000, 1000, True),
        batch("POST of 40,000 jobs for 100 hosts", 40_000, 100, True),
        batch("POST of 10,000 jobs, answered with the whole cluster", 10_000, 100, False),
    ]


def serve(large: Large, leader: LeaderProcess) -> Served:
    """Send a large request, and small ones at the same time."""
    big, small = Caller(leader.port), Caller(leader.port)
    answers: list[Answer] = []
    thread = threading.Thread(
        target=lambda: answers.append(big.ask(large.method, large.path, large.body, large.headers))
    )
    leader.held()
    waited = 0.0
    thread.start()
    while thread.is_alive():
        waited = max(waited, small.ask("GET", "/cluster/leader").seconds)
        time.sleep(_BETWEEN_ASKS)
    held = leader.held()
    big.close()
    small.close()
    if not answers:
        raise RuntimeError(f"{large.what} was not answered: {leader.last_words()}")
    answer = answers[0]
    return Served(large.what, answer.status, answer.seconds, answer.size, waited, held)
