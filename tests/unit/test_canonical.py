"""A job's one encoding, and what two jobs have in common."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from flynnhost.canonical import canonical, digest, parse_canonical, to_nanoseconds, to_seconds
from flynnhost.model import (
    Artifact,
    ContainerConfig,
    HealthCheck,
    Job,
    Mount,
    Port,
    PortService,
    Quantity,
    Resources,
    VolumeBinding,
)
from flynnhost.testing.journal_contract import everything

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.none() | st.integers(0, 2**31 - 1)
amounts = st.none() | st.integers(1, 2**63 - 1)
seconds = st.integers(0, 10**15).map(to_seconds)
maps = st.dictionaries(texts, texts, max_size=3)
quantities = st.builds(Quantity, amounts, amounts)
kinds = st.sampled_from(["tcp", "http", "https"])
checks = st.builds(
    HealthCheck, kinds, seconds, st.integers(0, 9), st.booleans(), seconds, texts, texts, texts
)
services = st.builds(PortService, texts, st.booleans(), st.none() | checks)
ports = st.builds(Port, st.integers(0, 65535), st.sampled_from(["tcp", "udp"]), st.none() | services)


def several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=2).map(tuple)


configs = st.builds(
    ContainerConfig,
    tty=st.booleans(),
    entry_point=several(texts),
    cmd=several(texts),
    env=maps,
    mounts=several(st.builds(Mount, texts, texts, st.booleans())),
    volumes=several(st.builds(VolumeBinding, texts, texts, st.booleans())),
    ports=several(ports),
    uid=numbers,
    stop_timeout=st.none() | st.integers(0, 3600 * 10**9).map(to_seconds),
)
jobs = st.builds(
    Job,
    id=st.text("abc", min_size=1),
    artifact=st.builds(Artifact, texts),
    config=configs,
    resources=st.builds(Resources, quantities, quantities, quantities, quantities),
    metadata=maps,
    resurrect=st.booleans(),
)


@given(jobs)
@settings(max_examples=150, deadline=None)
def test_encoding(job: Job) -> None:
    """What is encoded can be read again, and is the same job with the same encoding."""
    again = parse_canonical(canonical(job))
    assert again == job
    assert canonical(again) == canonical(job)
    assert digest(again) == digest(job)


def test_full_job() -> None:
    """The same of a job with a value in every field, of which none gets lost."""
    job = everything().job
    assert parse_canonical(canonical(job)) == job
    said = json.loads(canonical(job))
    assert set(said) == {each.name for each in fields(Job)}
    assert set(said["config"]) == {each.name for each in fields(ContainerConfig)}


def test_defaults_are_left_out() -> None:
    """Fields that have their default are left out, so that a new field changes no digest."""
    assert canonical(Job(id="a")) == b'{"id":"a","artifact":{"type":"docker"},"config":{}}'
    config = ContainerConfig(ports=(Port(80), Port()))
    assert canonical(Job(id="a", config=config)) == (
        b'{"id":"a","artifact":{"type":"docker"},'
        b'"config":{"ports":[{"port":80,"proto":"tcp"},{"proto":"tcp"}]}}'
    )


def test_digest() -> None:
    """The digest is what it has always been, or journals of before could not be compared with."""
    job = Job(id="a", artifact=Artifact("busybox:latest"), config=ContainerConfig(env={"B": "1", "A": "2"}))
    assert digest(job) == "03ce0ed56638a4ba3e1575256cb2b53099d5b96e4887c5d23dfb4fa5124c1961"


def test_order_of_maps() -> None:
    """Maps are the same in whatever order they were written; lists are not."""
    one = Job(id="a", metadata={"x": "1", "y": "2"})
    assert digest(one) == digest(Job(id="a", metadata={"y": "2", "x": "1"}))
    first = Job(id="a", config=ContainerConfig(cmd=("x", "y")))
    assert digest(first) != digest(Job(id="a", config=ContainerConfig(cmd=("y", "x"))))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "b"},
        {"artifact": Artifact("other")},
        {"resurrect": True},
        {"metadata": {"": ""}},
        {"resources": Resources(memory=Quantity(request=0))},
        {"resources": Resources(memory=Quantity(limit=0))},
        {"resources": Resources(cpu=Quantity(request=0))},
        {"config": ContainerConfig(uid=0)},
        {"config": ContainerConfig(stop_timeout=0.0)},
        {"config": ContainerConfig(cmd=("",))},
        {"config": ContainerConfig(entry_point=("",))},
        {"config": ContainerConfig(ports=(Port(),))},
    ],
)
def test_digest_of_other_content(change: dict[str, Any]) -> None:
    """Whatever differs makes another digest, zero and nothing being two things."""
    job = Job(id="a")
    assert digest(evolve(job, **change)) != digest(job)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"id": 5}', b'{"id": "a", "config": {"env": {"a": 1}}}', b"\xff"]
)
def test_not_an_encoding(data: bytes) -> None:
    """What is no encoding of a job is refused as a bad value."""
    with pytest.raises(ValueError):
        parse_canonical(data)


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=500, deadline=None)
def test_durations(nanoseconds: int) -> None:
    """What was a duration once stays the same, however often it is written and read."""
    once = to_nanoseconds(to_seconds(nanoseconds))
    assert to_nanoseconds(to_seconds(once)) == once
    assert abs(once - nanoseconds) <= nanoseconds // 10**14
    if nanoseconds < 10**15:
        assert once == nanoseconds
