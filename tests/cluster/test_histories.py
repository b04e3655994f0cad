"""Eight schedulers post batches while hosts and leaders are killed: no promise is broken."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter

import pytest

from flynnhost.model import JobStatus
from tests.support.cluster_rig import ClusterRig
from tests.support.container_history import ContainerHistory
from tests.support.disturbances import Disturbances
from tests.support.histories import History
from tests.support.host_api import HostApi
from tests.support.schedulers import Scheduler
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(3600)]

SECONDS = float(os.environ.get("FLYNN_HOST_TEST_HISTORY", "25"))
"""For how long they post."""

SEED = int(os.environ.get("FLYNN_HOST_TEST_SEED", "0")) or random.randrange(1, 1_000_000)

SCHEDULERS = 8

PAUSE = 1.5
"""Seconds between a scheduler's batches, so that two cores can start all of their jobs meanwhile."""


def test_schedulers_and_kills(cluster: ClusterRig, history: ContainerHistory) -> None:
    """Whatever was acknowledged ran once, whatever was refused did not, and every end is known."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    earlier = {told.job_id for told in cluster.told()}
    apis = [HostApi(host.listen_port, host.host_id, host.address) for host in cluster.hosts]
    host_ids = [host.host_id for host in cluster.hosts]
    schedulers = [
        Scheduler(f"s{number}", apis, host_ids, random.Random(chance.random()), PAUSE)
        for number in range(SCHEDULERS)
    ]
    over = threading.Event()
    timer = threading.Timer(SECONDS, over.set)
    for scheduler in schedulers:
        scheduler.start()
    timer.start()
    try:
        Disturbances(cluster, chance, over).go_on()
    finally:
        timer.cancel()
        for scheduler in schedulers:
            scheduler.stop()
    for scheduler in schedulers:
        scheduler.join()
    began = time.monotonic()
    cluster.restore()
    _settle(cluster, set().union(*(scheduler.staying for scheduler in schedulers)))
    cluster.agreed()
    asked = [asked for scheduler in schedulers for asked in scheduler.asked]
    told = [each for each in cluster.told() if each.job_id not in earlier]
    known = History(asked, history.runs(), told)
    print(
        f"{len(asked)} batches, {dict(Counter(each.status for each in asked))}; "
        f"{len(known.ran)} containers; at rest after {time.monotonic() - began:.1f} s"
    )
    broken = [str(violation) for violation in known.violations()]
    broken += [said for scheduler in schedulers for said in scheduler.unexpected]
    print(*broken, sep="\n")
    assert broken == []
    assert any(each.status == 200 for each in asked)
    assert len(known.ran) > SCHEDULERS


def _settle(cluster: ClusterRig, staying: set[str]) -> None:
    """Wait until every job has ended, or runs if it is to stay."""

    def settled() -> bool:
        return all(
            told.status.ended or (told.status is JobStatus.RUNNING and told.job_id in staying)
            for told in cluster.told()
        )

    wait_until(settled, "all jobs to end, or to run for good", within=180)
