"""The cluster's state: what a batch may do, and what it costs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import pytest

from flynnhost.cluster.arrival import Arrival
from flynnhost.cluster.past import FOREIGN, PastJobs
from flynnhost.cluster.state import ClusterState, Hold
from flynnhost.cluster.stored import Placed
from flynnhost.encoded import ListedJobs
from flynnhost.errors import JobConflict, UnknownHost
from flynnhost.interfaces import Part
from flynnhost.model import Artifact, Host, Job


def job(job_id: str, url: str = "busybox:latest") -> Job:
    return Job(id=job_id, artifact=Artifact(url=url))


def jobs_by_host(state: ClusterState) -> dict[str, list[str]]:
    return {host.id: [job.id for job in host.jobs] for host in state.hosts()}


def arrival(host: Host, **more: Any) -> Arrival:
    return Arrival(host.id, host.attributes, [Placed.of(host.id, job) for job in host.jobs], **more)


def add_host(state: ClusterState, host: Host) -> None:
    state.add_host(arrival(host))


def report(state: ClusterState, host_id: str, job: Job) -> None:
    state.report(Placed.of(host_id, job))


def begin_all(state: ClusterState, batch: Mapping[str, Sequence[Job]]) -> dict[str, list[Hold]]:
    held: dict[str, list[Hold]] = {}
    for _ in state.begin({host_id: Part(ListedJobs.of(jobs)) for host_id, jobs in batch.items()}, held):
        pass
    return {host_id: holds for host_id, holds in held.items() if holds}


def begin(state: ClusterState, batch: Mapping[str, Sequence[Job]]) -> list[Hold]:
    return [hold for holds in begin_all(state, batch).values() for hold in holds]


def commit(state: ClusterState, batch: Mapping[str, Sequence[Job]]) -> None:
    for hold in begin(state, batch):
        state.commit(hold)


def empty() -> ClusterState:
    return ClusterState(PastJobs(lambda: 0.0))


@pytest.fixture
def state() -> ClusterState:
    """Two hosts, of which one has two jobs."""
    state = empty()
    add_host(state, Host("h1", {"zone": "a"}, (job("a"), job("b"))))
    add_host(state, Host("h2"))
    return state


def refused(state: ClusterState, batch: Mapping[str, Sequence[Job]]) -> str:
    """Why a batch is refused, which must leave everything as it was."""
    before = state.hosts()
    with pytest.raises((JobConflict, UnknownHost)) as caught:
        begin_all(state, batch)
    assert state.hosts() == before
    assert state._held == {}
    return str(caught.value)


# --- hosts --------------------------------------------------------------------


def test_hosts(state: ClusterState) -> None:
    """Hosts are told with what they said of themselves and their jobs, in order."""
    assert list(state.hosts()) == [Host("h1", {"zone": "a"}, (job("a"), job("b"))), Host("h2")]
    assert state.has_host("h2")
    assert not state.has_host("h3")


def test_host_replaced(state: ClusterState) -> None:
    """A host's new report takes the place of the old one, in all."""
    add_host(state, Host("h1", {"zone": "b"}, (job("b", "other"), job("c"))))
    assert state.hosts()[-1] == Host("h1", {"zone": "b"}, (job("b", "other"), job("c")))
    assert "on host h1" in refused(state, {"h2": [job("c")]})


def test_host_removed(state: ClusterState) -> None:
    """With a host its jobs go; to remove it again changes nothing."""
    state.remove_host("h1")
    state.remove_host("h1")
    assert jobs_by_host(state) == {"h2": []}
    assert refused(state, {"h1": []}) == "no host h1 in this cluster"


# --- jobs that hosts tell of --------------------------------------------------


def test_reported(state: ClusterState) -> None:
    """A job that a host says it has is kept, once, and its ID is taken."""
    report(state, "h2", job("c"))
    report(state, "h2", job("c"))
    report(state, "nowhere", job("d"))
    assert jobs_by_host(state) == {"h1": ["a", "b"], "h2": ["c"]}
    assert "is on host h2" in refused(state, {"h1": [job("c")]})


def test_removed_job(state: ClusterState) -> None:
    """A job that is taken out is gone from its host alone."""
    state.remove_job("h2", "a")
    assert jobs_by_host(state)["h1"] == ["a", "b"]
    state.remove_job("h1", "a")
    state.remove_job("h1", "a")
    state.remove_job("nowhere", "b")
    assert jobs_by_host(state)["h1"] == ["b"]


def test_job_on_two_hosts(state: ClusterState) -> None:
    """A job that was put on two hosts directly is on both, until each of them loses it."""
    report(state, "h2", job("a", "other"))
    assert jobs_by_host(state) == {"h1": ["a", "b"], "h2": ["a"]}
    commit(state, {"h2": [job("a", "other")]})
    commit(state, {"h1": [job("a")]})
    state.remove_job("h1", "a")
    assert jobs_by_host(state) == {"h1": ["b"], "h2": ["a"]}
    assert "is on host h2" in refused(state, {"h1": [job("a")]})
    state.remove_host("h2")
    assert jobs_by_host(state) == {"h1": ["b"]}
    assert state._twice == {}


@pytest.mark.parametrize("first", ["h1", "h2", "h3"])
@pytest.mark.parametrize("second", ["h1", "h2", "h3"])
def test_hosts_that_share_a_job_leave(first: str, second: str) -> None:
    """In whatever order hosts with the same job leave, nothing of it remains in the end."""
    state = empty()
    for host_id in ("h1", "h2", "h3"):
        add_host(state, Host(host_id, {}, (job("a"),)))
    for host_id in (first, second, "h1", "h2", "h3"):
        state.remove_host(host_id)
    assert (len(state._jobs), state._twice, state._hosts) == (0, {}, {})


# --- batches ------------------------------------------------------------------


def test_commit(state: ClusterState) -> None:
    """What is committed is on its host, in order."""
    commit(state, {"h2": [job("z"), job("y")], "h1": [job("x")]})
    assert jobs_by_host(state) == {"h1": ["a", "b", "x"], "h2": ["z", "y"]}


def test_held(state: ClusterState) -> None:
    """What is begun is not there yet, but its ID is taken: for other content and for other hosts."""
    (hold,) = begin(state, {"h2": [job("c")]})
    assert jobs_by_host(state)["h2"] == []
    with pytest.raises(JobConflict, match="other content"):
        begin_all(state, {"h2": [job("c", "other")]})
    with pytest.raises(JobConflict, match="is on host h2, not to be put on h1"):
        begin_all(state, {"h1": [job("c")]})
    state.abandon(hold)
    commit(state, {"h1": [job("c", "other")]})
    assert state._held == {}


def test_idempotent(state: ClusterState) -> None:
    """The same job again, in a batch or after it, is the same job."""
    commit(state, {"h1": [job("a"), job("c"), job("c")]})
    commit(state, {"h1": [job("c")]})
    assert jobs_by_host(state)["h1"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ({"h1": [job("c"), job("a", "other")]}, "job a is on host h1 already, with other content"),
        ({"h2": [job("c"), job("a")]}, "job a is on host h1, not to be put on h2"),
        ({"h1": [job("c"), job("c", "other")]}, "job c is on host h1 already, with other content"),
        ({"h1": [job("c")], "h2": [job("c")]}, "job c is on host h1, not to be put on h2"),
        ({"h1": [job("c")], "h3": [job("d")]}, "no host h3 in this cluster"),
        ({"h1": [job("c")], "h3": []}, "no host h3 in this cluster"),
    ],
)
def test_refused(state: ClusterState, batch: Mapping[str, Sequence[Job]], reason: str) -> None:
    """A batch of which anything can't be leaves nothing behind."""
    assert refused(state, batch) == reason


def test_empty(state: ClusterState) -> None:
    """A batch of nothing is no trouble."""
    assert begin_all(state, {}) == {}
    assert begin_all(state, {"h1": []}) == {}


def test_two_batches_of_the_same_job(state: ClusterState) -> None:
    """While one of two batches holds a job its ID stays taken, and what one committed stays."""
    (first,), (second,) = begin(state, {"h2": [job("c")]}), begin(state, {"h2": [job("c")]})
    state.abandon(first)
    with pytest.raises(JobConflict):
        begin_all(state, {"h1": [job("c")]})
    state.commit(second)
    assert jobs_by_host(state)["h2"] == ["c"]
    third, fourth = begin(state, {"h2": [job("c")]}), begin(state, {"h2": [job("c")]})
    state.commit(third[0])
    state.abandon(fourth[0])
    assert jobs_by_host(state)["h2"] == ["c"]
    assert state._held == {}


def test_removed_while_held(state: ClusterState) -> None:
    """A job that ends before its batch is committed is not there afterwards; one begun later is."""
    first = begin(state, {"h2": [job("c")]})[0]
    state.remove_job("h1", "c")
    state.remove_job("h2", "c")
    second = begin(state, {"h2": [job("c")]})[0]
    state.commit(first)
    assert jobs_by_host(state)["h2"] == []
    state.commit(second)
    assert jobs_by_host(state)["h2"] == ["c"]


def test_another_host_loses_it_while_held(state: ClusterState) -> None:
    """What ends on one host says nothing of a job of that ID on its way to another."""
    hold = begin(state, {"h2": [job("c")]})[0]
    state.remove_job("h1", "c")
    state.commit(hold)
    assert jobs_by_host(state)["h2"] == ["c"]


def test_reported_while_held(state: ClusterState) -> None:
    """A host that tells of a job before it acknowledges it does not make it count twice."""
    hold = begin(state, {"h2": [job("c")]})[0]
    report(state, "h2", job("c"))
    assert jobs_by_host(state)["h2"] == []
    state.commit(hold)
    report(state, "h2", job("c"))
    assert jobs_by_host(state)["h2"] == ["c"]


def test_reported_while_held_for_nothing(state: ClusterState) -> None:
    """A job that was put on the host directly stays, when the same of a batch comes to nothing."""
    batch = begin(state, {"h2": [job("c"), job("d"), job("e")]})
    for job_id in "cde":
        report(state, "h2", job(job_id))
    state.remove_job("h2", "d")
    for hold in batch[:2]:
        state.abandon(hold)
    assert jobs_by_host(state)["h2"] == ["c"]
    state.add_host(arrival(Host("h2")))
    state.abandon(batch[2])
    assert jobs_by_host(state)["h2"] == []


def test_reported_elsewhere_while_held(state: ClusterState) -> None:
    """A job that was put on another host directly, while it is on its way, is on both."""
    hold = begin(state, {"h2": [job("c")]})[0]
    report(state, "h1", job("c"))
    state.commit(hold)
    assert jobs_by_host(state) == {"h1": ["a", "b", "c"], "h2": ["c"]}


def test_host_removed_while_held(state: ClusterState) -> None:
    """What is committed for a host that is gone is not kept; for one that came back it is."""
    gone, back = begin(state, {"h2": [job("c")]})[0], begin(state, {"h2": [job("d")]})[0]
    state.remove_host("h2")
    state.commit(gone)
    add_host(state, Host("h2", {}, (job("e"),)))
    state.commit(back)
    assert jobs_by_host(state)["h2"] == ["e", "d"]
    assert state._held == {}


def test_host_replaced_while_held(state: ClusterState) -> None:
    """A job that is in the new report of its host already is there once after the commit."""
    hold = begin(state, {"h2": [job("c")]})[0]
    add_host(state, Host("h2", {}, (job("c"),)))
    state.commit(hold)
    assert jobs_by_host(state)["h2"] == ["c"]
    assert state._twice == {}


# --- jobs that are no more ----------------------------------------------------


def test_ended(state: ClusterState) -> None:
    """The ID of a job that has ended goes to no other host; its own may be asked again, and answers."""
    state.remove_job("h1", "a")
    assert refused(state, {"h2": [job("a")]}) == "job a was on host h1, not to be put on h2"
    assert refused(state, {"h2": [job("a", "other")]}) == "job a was on host h1, not to be put on h2"
    (hold,) = begin(state, {"h1": [job("a", "other")]})
    state.abandon(hold)
    assert refused(state, {"h2": [job("a")]}) == "job a was on host h1, not to be put on h2"


def test_ended_while_held(state: ClusterState) -> None:
    """Neither does that of a job that ended before its host had acknowledged it."""
    (hold,) = begin(state, {"h2": [job("c")]})
    state.remove_job("h2", "c")
    state.commit(hold)
    assert "was on host h2" in refused(state, {"h1": [job("c")]})


def test_ended_before(state: ClusterState) -> None:
    """Nor that of one that its host says has ended already."""
    (hold,) = begin(state, {"h2": [job("c")]})
    state.finish(hold)
    assert jobs_by_host(state)["h2"] == []
    assert "was on host h2" in refused(state, {"h1": [job("c")]})
    assert state._held == {}


def test_jobs_of_a_removed_host(state: ClusterState) -> None:
    """The jobs of a host that is removed may go on there: they get onto no other one."""
    state.remove_host("h1")
    for job_id in ("a", "b"):
        assert refused(state, {"h2": [job(job_id)]}) == f"job {job_id} was on host h1, not to be put on h2"


def test_removed_host_comes_back(state: ClusterState) -> None:
    """A host that comes back has its jobs as before; another one that was given its ID gets none of them."""
    state.add_host(arrival(Host("h1", {}, (job("a"),)), instance="one"))
    state.remove_host("h1")
    state.add_host(arrival(Host("h1"), instance="one"))
    commit(state, {"h1": [job("a")]})
    state.remove_host("h1")
    state.add_host(arrival(Host("h1"), instance="two"))
    assert refused(state, {"h1": [job("a")]}) == "job a was on another host that had the ID h1"


def test_committed_when_the_host_is_gone(state: ClusterState) -> None:
    """A job that is acknowledged by a host that was removed meanwhile gets onto no other one."""
    (hold,) = begin(state, {"h2": [job("c")]})
    state.remove_host("h2")
    state.commit(hold)
    assert "was on host h2" in refused(state, {"h1": [job("c")]})


def test_not_reported_any_more(state: ClusterState) -> None:
    """A job that its host had, and does not report when it is back, has ended."""
    state.add_host(arrival(Host("h1", {}, (job("b"),))))
    assert refused(state, {"h2": [job("a")]}) == "job a was on host h1, not to be put on h2"


@pytest.mark.parametrize("ended", [["c"], []])
def test_unsure(state: ClusterState, ended: Sequence[str]) -> None:
    """Of a job that a host was sent, and has not acknowledged, its report says whether it ever was there."""
    (hold,) = begin(state, {"h2": [job("c")]})
    state.commit(hold, certain=False)
    assert "is on host h2" in refused(state, {"h1": [job("c")]})
    state.add_host(arrival(Host("h2"), ended=ended))
    if ended:
        assert "was on host h2" in refused(state, {"h1": [job("c")]})
    else:
        commit(state, {"h1": [job("c")]})


def test_unsure_and_not_all_is_told(state: ClusterState) -> None:
    """If the host does not tell of all that has ended there, the job may have."""
    (hold,) = begin(state, {"h2": [job("c")]})
    state.commit(hold, certain=False)
    state.add_host(arrival(Host("h2"), ended=["x"], ended_are_all=False))
    assert "was on host h2" in refused(state, {"h1": [job("c")]})


def test_unsure_no_more(state: ClusterState) -> None:
    """What is acknowledged in the end, or reported, was there."""
    for job_id, certain in (("c", True), ("d", False)):
        (hold,) = begin(state, {"h2": [job(job_id)]})
        state.commit(hold, certain=False)
        if certain:
            commit(state, {"h2": [job(job_id)]})
        else:
            report(state, "h2", job(job_id))
    state.add_host(arrival(Host("h2")))
    for job_id in ("c", "d"):
        assert "was on host h2" in refused(state, {"h1": [job(job_id)]})


def test_unsure_and_acknowledged_before(state: ClusterState) -> None:
    """A repetition that is lost makes nothing unsure that was acknowledged."""
    (hold,) = begin(state, {"h1": [job("a")]})
    state.commit(hold, certain=False)
    state.add_host(arrival(Host("h1")))
    assert "was on host h1" in refused(state, {"h2": [job("a")]})


def test_never_there(state: ClusterState) -> None:
    """A job that was reported on its way, and was refused then, may go anywhere."""
    report(state, "h1", job("c"))
    state.remove_job("h1", "c", was_there=False)
    commit(state, {"h2": [job("c", "other")]})


def test_nobody_had_it(state: ClusterState) -> None:
    """To take out what is not there leaves nothing to be remembered."""
    state.remove_job("h1", "c")
    state.remove_job("nowhere", "c")
    commit(state, {"h2": [job("c")]})


def test_there_again(state: ClusterState) -> None:
    """Where a job is counts for more than where it was."""
    state.remove_job("h1", "a")
    report(state, "h2", job("a"))
    assert "is on host h2" in refused(state, {"h1": [job("a")]})
    commit(state, {"h2": [job("a")]})
    assert not state.had_job("h2", "a")


def test_foreign_host_compares_nothing(state: ClusterState) -> None:
    """For a host that can't say what its jobs were their content is compared here."""
    state.add_host(arrival(Host("f1", {}, (job("x"),)), instance=FOREIGN))
    state.remove_job("f1", "x")
    assert refused(state, {"f1": [job("x", "other")]}) == "job x was on host f1, with other content"
    (hold,) = begin(state, {"f1": [job("x")]})
    assert state.had_job("f1", "x")
    state.finish(hold)
    assert not state.had_job("f1", "y")
    assert not state.had_job("h1", "x")


# --- what it costs ------------------------------------------------------------


def operations(work: Callable[[], object]) -> int:
    """How many bytecodes and calls of C functions some work takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    def profile(_frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return count


class CountingDict(dict[str, Any]):
    """A dict that refuses to be gone through."""

    def refuse(self, *_: object) -> Any:
        raise AssertionError("went through all of them")

    __iter__ = keys = values = items = copy = refuse


def cluster_of(hosts: int, jobs: int) -> ClusterState:
    """A cluster that can't be gone through, of so many hosts with so many jobs each."""
    state = empty()
    for number in range(hosts):
        add_host(state, Host(f"n{number}", {}, tuple(job(f"j{number}x{n}") for n in range(jobs))))
    state._hosts = CountingDict(state._hosts)
    state._jobs._parts = [CountingDict(part) for part in state._jobs._parts]
    for host in dict.values(state._hosts):
        host.jobs = CountingDict(host.jobs)
    return state


def a_day(state: ClusterState) -> None:
    """A few of all the things that can happen to jobs."""
    batch = {f"n{number}": [job(f"new{number}-{n}") for n in range(5)] for number in range(3)}
    holds = begin(state, batch)
    for hold in holds[1:]:
        state.commit(hold)
    state.abandon(holds[0])
    report(state, "n1", job("direct"))
    state.remove_job("n1", "new1-2")
    with pytest.raises(JobConflict):
        begin_all(state, {"n2": [job("new1-1")]})


def test_cost() -> None:
    """What a batch costs does not depend on how many hosts and jobs there are."""
    a_day(cluster_of(3, 1))  # fills caches
    small, large = cluster_of(10, 1), cluster_of(10_000, 1)
    full = cluster_of(10, 1_000)
    costs = [operations(lambda state=state: a_day(state)) for state in (small, large, full)]  # type: ignore[misc]
    assert costs[0] > 1_000
    assert len(set(costs)) == 1, costs


def test_cost_of_removing_a_host() -> None:
    """Removing a host goes through its own jobs, not through those of others."""
    few, many = cluster_of(10, 20), cluster_of(1_000, 20)
    for state in (few, many):
        state._hosts["n5"].jobs = dict(dict.items(state._hosts["n5"].jobs))
    assert operations(lambda: few.remove_host("n5")) == operations(lambda: many.remove_host("n5"))
