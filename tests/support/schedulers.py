"""Schedulers that post batches to a cluster all the time, and write down what they are told."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from attrs import define, evolve, field

from tests.support.cluster_rig import NO_ANSWER, post
from tests.support.histories import Asked
from tests.support.host_api import Answer, HostApi, WireJob
from tests.support.wire_jobs import shell_job

Batch = dict[str, list[WireJob]]

PATIENCE = 4.0
"""Seconds that a scheduler waits for an answer. Some hosts hang, and the deadline of a batch is longer."""

NOWHERE = "nowhere"
"""A host that there never is."""

_TRIES = 12
_FOR_GOOD = 3600


@define(eq=False)
class Scheduler:
    """Posts batches, one after the other, and repeats them as long as it knows nothing of them.

    Some batches it leaves at that. Some it makes so that they must be refused, and some it posts
    twice, at the same time or when they are done.

    :param apis: the hosts that it may ask.
    :param host_ids: the hosts that it wants jobs on.
    :ivar asked: all that it has asked until now.
    :ivar staying: the IDs of the jobs that will not end by themselves.
    :ivar unexpected: answers that were not as they should be.
    """

    name: str
    apis: Sequence[HostApi]
    host_ids: Sequence[str]
    chance: random.Random
    pause: float
    asked: list[Asked] = field(init=False, factory=list)
    staying: set[str] = field(init=False, factory=set)
    unexpected: list[str] = field(init=False, factory=list)
    _over: threading.Event = field(init=False, factory=threading.Event)
    _accepted: list[Batch] = field(init=False, factory=list)
    _thread: threading.Thread | None = field(init=False, default=None)
    _failed: list[BaseException] = field(init=False, factory=list)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._thd_work, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask for no more."""
        self._over.set()

    def join(self) -> None:
        """Wait until it has stopped.

        :raises BaseException: what it has failed with.
        """
        assert self._thread is not None
        self._thread.join(120)
        assert not self._thread.is_alive(), f"{self.name} does not stop"
        for failed in self._failed:
            raise failed

    def _thd_work(self) -> None:
        kinds = [self._ordinary] * 6 + [self._given_up, self._twins, self._nowhere, self._taken, self._again]
        try:
            while not self._over.is_set():
                self.chance.choice(kinds)()
                self._over.wait(self.chance.uniform(0.5, 1.5) * self.pause)
        except BaseException as e:
            self._failed.append(e)

    # --- kinds of batches -----------------------------------------------------

    def _ordinary(self) -> None:
        batch = self._batch()
        answer = self._insist(batch)
        self._expect(answer, 200)
        if answer is not None:
            self._accepted.append(batch)

    def _given_up(self) -> None:
        """Whatever comes of it, it is not posted again."""
        self._post(self._batch())

    def _twins(self) -> None:
        """As a scheduler that has lost its own leader may do."""
        batch = self._batch()
        other = threading.Thread(target=self._post, args=(batch,), daemon=True)
        other.start()
        self._insist(batch)
        other.join()

    def _again(self) -> None:
        """Of a batch that was acknowledged nothing is run again."""
        if self._accepted:
            self._expect(self._insist(self.chance.choice(self._accepted)), 200)

    def _nowhere(self) -> None:
        """A host that there isn't: nothing of the batch is done."""
        batch = self._batch()
        self._expect(self._insist({**batch, NOWHERE: [self._job()]}), 404)

    def _taken(self) -> None:
        """An ID that another job has: nothing of the batch is done."""
        if not self._accepted:
            return
        host_id, jobs = next(iter(self.chance.choice(self._accepted).items()))
        other = {**shell_job("echo other content"), "id": jobs[0]["id"]}
        self._expect(self._insist({host_id: [self._job(), other]}), 409)

    def _batch(self) -> Batch:
        hosts = self.chance.sample(self.host_ids, self.chance.choice([1, 1, 2, len(self.host_ids)]))
        return {host_id: [self._job() for _ in range(self.chance.randint(1, 3))] for host_id in hosts}

    def _job(self) -> WireJob:
        status = self.chance.choice([0, 0, 1, 7])
        seconds = self.chance.choice([0, 0, 0.3, 2, _FOR_GOOD])
        job = shell_job(f"sleep {seconds}; exit {status}" if seconds else f"exit {status}")
        if seconds == _FOR_GOOD:
            self.staying.add(job["id"])
        return job

    def _expect(self, answer: Answer | None, status: int) -> None:
        # A host that is down is told before what is wrong with the jobs.
        if answer is not None and answer.status not in (status, 409):
            self.unexpected.append(
                f"{self.name} expected {status}, not {answer.status}: {answer.body[:300]!r}"
            )

    # --- asking ---------------------------------------------------------------

    def _insist(self, batch: Batch) -> Answer | None:
        """Post a batch until it is taken or refused. None if it was neither in all tries."""
        for _ in range(_TRIES):
            answer = self._post(batch)
            if answer is not None and not _try_again(answer):
                return answer
            self._over.wait(self.chance.uniform(0.3, 1.0))
        return None

    def _post(self, batch: Batch) -> Answer | None:
        content = {host_id: {job["id"]: _digest(job) for job in jobs} for host_id, jobs in batch.items()}
        asked = Asked(self.name, content, began=time.monotonic())
        api = self.chance.choice(self.apis)
        try:
            answer = post(api, batch, PATIENCE)
        except NO_ANSWER:
            self.asked.append(evolve(asked, ended=time.monotonic()))
            return None
        said = answer.json if answer.status != 200 else {}
        self.asked.append(
            evolve(
                asked,
                ended=time.monotonic(),
                status=answer.status,
                code=said.get("code", ""),
                outcomes=_outcomes(said),
            )
        )
        return answer


def _try_again(answer: Answer) -> bool:
    """Whether the same may be taken later: nobody knows, nobody leads, or a host is down or has left."""
    if answer.status in (404, 409):
        return bool(answer.json["detail"].get("host_id", NOWHERE) != NOWHERE)
    return answer.status in (503, 504)


def _outcomes(said: dict[str, Any]) -> dict[str, str]:
    outcomes: dict[str, str] = (said.get("detail") or {}).get("outcomes", {})
    return outcomes


def _digest(job: WireJob) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:12]
