"""The checker of histories finds every kind of broken promise, and nothing where none was broken."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from flynnhost.model import JobStatus
from tests.support.histories import Asked, History, Kind, Ran, Told, disagreements


def asked(*job_ids: str, status: int | None = 200, host_id: str = "h1", **more: Any) -> Asked:
    return Asked(
        "s1", {host_id: {job_id: f"content of {job_id}" for job_id in job_ids}}, status=status, **more
    )


def across(status: int | None, **more: Any) -> Asked:
    """A batch for two hosts, two jobs each."""
    batch = {"h1": {"a": "a", "b": "b"}, "h2": {"c": "c", "d": "d"}}
    return Asked("s1", batch, status=status, **more)


def ran(job_id: str, host_id: str = "h1", exit_status: int | None = 0, starts: int = 1) -> Ran:
    return Ran(f"container of {job_id} on {host_id}", host_id, job_id, starts, exit_status)


def told(job_id: str, host_id: str = "h1", exit_status: int = 0) -> Told:
    return Told(host_id, job_id, JobStatus.CRASHED if exit_status else JobStatus.DONE, exit_status)


def history(requests: list[Asked], *places: tuple[str, str]) -> History:
    """One in which jobs ran properly at these places."""
    return History(
        requests,
        [ran(job_id, host_id) for host_id, job_id in places],
        [told(job_id, host_id) for host_id, job_id in places],
    )


ALL = (("h1", "a"), ("h1", "b"), ("h2", "c"), ("h2", "d"))
ON_H1, ON_H2 = ALL[:2], ALL[2:]
OUTCOMES = {"a": "accepted", "b": "accepted", "c": "refused", "d": "refused"}

GOOD = {
    "nothing happened": History([], [], []),
    "all was taken": history([across(200)], *ALL),
    "posted twice, acknowledged twice": history([across(200), across(200)], *ALL),
    "nothing known, and all was taken": history([across(None)], *ALL),
    "nothing known, and nothing was taken": history([across(None)]),
    "nothing known, and one host took its part": history([across(None)], *ON_H2),
    "a deadline passed, and one host took its part": history([across(504)], *ON_H1),
    "one host refused, and was told": history([across(504, outcomes=OUTCOMES)], *ON_H1),
    "refused, and nothing was taken": history([across(409)]),
    "no leader, and nothing was taken": history([across(503)]),
    "no leader, then repeated": history([across(503), across(None), across(200)], *ALL),
    "taken, then refused on another host": history(
        [asked("a"), asked("a", status=409, host_id="h2")], ALL[0]
    ),
    "refused for one that was there already": history([asked("a"), asked("a", "x", status=409)], ALL[0]),
    "one runs still": History(
        [asked("a")], [ran("a", exit_status=None)], [Told("h1", "a", JobStatus.RUNNING)]
    ),
    "one crashed": History([asked("a")], [ran("a", exit_status=3)], [told("a", exit_status=3)]),
    "a container was made, and never started, for what nobody knows of": History(
        [asked("a", status=None)], [ran("a", starts=0)], [Told("h1", "a", JobStatus.FAILED)]
    ),
}

WELL = history([across(200)], *ALL)
OTHER_CONTENT = Asked("s2", {"h1": {"a": "other content of a"}}, status=200)


def without(kept: History, **lists: tuple[str, ...]) -> History:
    """A history without some jobs in its lists."""
    return evolve(
        kept,
        **{
            name: [each for each in getattr(kept, name) if each.job_id not in job_ids]
            for name, job_ids in lists.items()
        },
    )


BAD = {
    "an acknowledged job is nowhere": (
        without(WELL, ran=("b",), told=("b",)),
        {(Kind.LOST, "b"), (Kind.HALF, "ab")},
    ),
    "an acknowledged job never ran": (without(WELL, ran=("b",)), {(Kind.LOST, "b")}),
    "an acknowledged job was made and never started": (
        evolve(without(WELL, ran=("b",)), ran=[*without(WELL, ran=("b",)).ran, ran("b", starts=0)]),
        {(Kind.LOST, "b")},
    ),
    "an acknowledged job ran on another host only": (
        history([asked("a")], ("h2", "a")),
        {(Kind.LOST, "a"), (Kind.STRAY, "a")},
    ),
    "acknowledged in a batch that was not": (
        without(history([across(504, outcomes=OUTCOMES)], *ON_H1), ran=("a",)),
        {(Kind.LOST, "a")},
    ),
    "two containers": (
        evolve(WELL, ran=[*WELL.ran, evolve(ran("a"), container_id="second")]),
        {(Kind.TWICE, "a")},
    ),
    "one container, started twice": (
        evolve(without(WELL, ran=("d",)), ran=[*WELL.ran[:3], ran("d", "h2", starts=2)]),
        {(Kind.TWICE, "d")},
    ),
    "on two hosts, as the answer was unknown": (
        history([asked("a", status=None), asked("a", host_id="h2")], ("h1", "a"), ("h2", "a")),
        {(Kind.TWICE, "a")},
    ),
    "two jobs of one ID": (
        history([asked("a"), OTHER_CONTENT], ALL[0]),
        {(Kind.CLASH, "a")},
    ),
    "one job for two hosts": (
        history([asked("a"), asked("a", host_id="h2")], ALL[0]),
        {(Kind.CLASH, "a"), (Kind.LOST, "a")},
    ),
    "refused, and one ran": (history([across(409)], ALL[0]), {(Kind.STRAY, "a"), (Kind.HALF, "ab")}),
    "refused, and all ran": (
        history([across(404)], *ALL),
        {(Kind.STRAY, job_id) for job_id in "abcd"},
    ),
    "no leader, and one host took its part": (
        history([across(503)], *ON_H2),
        {(Kind.STRAY, "c"), (Kind.STRAY, "d")},
    ),
    "said to be refused, and ran": (
        history([across(504, outcomes=OUTCOMES)], *ALL),
        {(Kind.STRAY, "c"), (Kind.STRAY, "d")},
    ),
    "refused for one that was there, and the other came in": (
        history([asked("a"), asked("a", "x", status=409)], ALL[0], ("h1", "x")),
        {(Kind.STRAY, "x")},
    ),
    "a part is half there": (history([across(None)], ALL[0], *ON_H2), {(Kind.HALF, "ab")}),
    "a part is half there after a deadline": (
        history([across(504), across(None)], *ON_H1, ALL[2]),
        {(Kind.HALF, "cd")},
    ),
    "a part is half known, and nothing ran": (
        History([across(None)], [], [Told("h1", "a", JobStatus.FAILED)]),
        {(Kind.HALF, "ab")},
    ),
    "nobody asked": (history([across(200)], *ALL, ("h2", "z")), {(Kind.STRAY, "z")}),
    "it ran, and its host does not know": (
        without(WELL, told=("c",)),
        {(Kind.FORGOTTEN, "c")},
    ),
    "it has ended, and its host says it runs": (
        evolve(WELL, told=[*WELL.told[:3], Told("h2", "d", JobStatus.RUNNING)]),
        {(Kind.UNTOLD, "d")},
    ),
    "its exit status is wrong": (
        evolve(WELL, told=[*WELL.told[:3], told("d", "h2", exit_status=1)]),
        {(Kind.UNTOLD, "d")},
    ),
    "it runs, and its host says it has ended": (
        evolve(WELL, ran=[*WELL.ran[:3], ran("d", "h2", exit_status=None)]),
        {(Kind.UNTOLD, "d")},
    ),
    "an error of the cluster's own": (
        history([across(500), across(200)], *ALL),
        {(Kind.ERROR, "abcd")},
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_found_where_all_is_well(name: str) -> None:
    assert GOOD[name].violations() == []


@pytest.mark.parametrize("name", BAD)
def test_what_is_planted_is_found(name: str) -> None:
    planted, expected = BAD[name]
    found = planted.violations()
    assert {(each.kind, "".join(each.about)) for each in found} == expected
    assert all(str(each).startswith(", ".join(each.about)) for each in found)


def test_one_broken_promise_among_many_batches() -> None:
    """Batches that have nothing to do with it hide nothing, and are not blamed."""
    many = [asked(f"{n}x", f"{n}y", status=200 if n % 2 else None, host_id=f"h{n % 3}") for n in range(100)]
    places = [(f"h{n % 3}", f"{n}{which}") for n in range(100) for which in "xy"]
    well = history(many, *places)
    assert well.violations() == []
    (found,) = without(well, ran=("40x",), told=("40x",)).violations()
    assert (found.kind, found.about) == (Kind.HALF, ("40x", "40y"))
    lost = {each.kind for each in without(well, ran=("41x",), told=("41x",)).violations()}
    assert lost == {Kind.LOST, Kind.HALF}


def test_what_leader_and_hosts_say() -> None:
    """A job of which only one side knows is named, and so is a host that is missing."""
    said = {"h1": ["a", "b"], "h2": []}
    assert disagreements(said, {"h1": ["b", "a"], "h2": ()}) == {}
    assert disagreements(said, {"h1": ["a"], "h2": ["c"]}) == {"h1": {"b"}, "h2": {"c"}}
    assert disagreements(said, {"h1": ["a", "b"]}) == {"h2": {"the host itself"}}
