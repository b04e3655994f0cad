"""What is said of a host for schedulers, by its options and at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flynnhost.attributes import MAX_ATTRIBUTES, MAX_NAME_BYTES, MAX_VALUE_BYTES
from flynnhost.errors import InvalidField, JournalFailed, NotReady, UnknownAttribute
from flynnhost.testing.world import World


@pytest.fixture
def world() -> World:
    """A host that has started, with two attributes of its options."""
    world = World()
    start(world)
    return world


def start(world: World, **given: str) -> None:
    world.start(attributes=given or {"zone": "a", "disk": "hdd"})


def put(world: World, name: Any, value: Any) -> None:
    world.answer(world.agent.set_attribute(name, value))


def remove(world: World, name: str) -> None:
    world.answer(world.agent.remove_attribute(name))


def test_over_options(world: World) -> None:
    """What is said at run time goes before the options, is told, and outlives the process."""
    told: list[Mapping[str, str]] = []
    subscription = world.agent.watch_attributes(told.append)
    put(world, "disk", "ssd")
    put(world, "rack", "")
    put(world, "rack", "")
    remove(world, "zone")
    expected = {"disk": "ssd", "rack": ""}
    assert told == [
        {"zone": "a", "disk": "ssd"},
        {"zone": "a", "disk": "ssd", "rack": ""},
        expected,
    ]
    assert (world.agent.attributes, world.agent.status()["attributes"]) == (expected, expected)
    subscription.cancel()
    world.kill()
    start(world)
    assert world.agent.attributes == expected
    world.kill()
    start(world, zone="b", disk="hdd", new="1")
    assert world.agent.attributes == {**expected, "new": "1"}
    put(world, "zone", "c")
    remove(world, "rack")
    world.kill()
    start(world, rack="9")
    assert world.agent.attributes == {"zone": "c", "disk": "ssd", "rack": "9"}
    assert len(told) == 3


def test_disk_is_full(world: World) -> None:
    """What can't be written is not so."""
    told: list[Mapping[str, str]] = []
    world.agent.watch_attributes(told.append)
    world.journal.trouble = "full"
    with pytest.raises(JournalFailed):
        put(world, "disk", "ssd")
    with pytest.raises(JournalFailed):
        remove(world, "disk")
    assert (told, world.agent.attributes["disk"]) == ([], "hdd")


def test_told_when_on_disk(world: World) -> None:
    """Nobody is told before it is on disk, and what overlaps loses nothing."""
    world.journal.hold()
    answers = [world.agent.set_attribute(name, "1") for name in ("a", "b", "a")]
    answers.append(world.agent.remove_attribute("b"))
    assert world.agent.attributes == {"zone": "a", "disk": "hdd"}
    world.journal.release()
    for answer in answers:
        world.answer(answer)
    assert world.agent.attributes == {"zone": "a", "disk": "hdd", "a": "1"}
    world.kill()
    start(world)
    assert world.agent.attributes == {"zone": "a", "disk": "hdd", "a": "1"}


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("", "1", "name"),
        ("\0", "1", "name"),
        ("\ud800", "1", "name"),
        ("ä" * (MAX_NAME_BYTES // 2 + 1), "1", "name"),
        ("a", "\0", "value"),
        ("a", 1, "value"),
        ("a", "x" * (MAX_VALUE_BYTES + 1), "value"),
    ],
)
def test_refused(world: World, name: Any, value: Any, field: str) -> None:
    """What can't be an attribute is refused, with what is wrong."""
    with pytest.raises(InvalidField) as refused:
        put(world, name, value)
    assert refused.value.field == field
    assert world.journal.writes == 0


def test_bounds(world: World) -> None:
    """The longest are taken, as many as there may be; those that are there can be changed still."""
    world.journal.hold()
    longest = "n" * MAX_NAME_BYTES
    answers = [world.agent.set_attribute(longest, "v" * MAX_VALUE_BYTES)]
    answers += [world.agent.set_attribute(str(number), "") for number in range(MAX_ATTRIBUTES - 3)]
    with pytest.raises(InvalidField, match="name can't be added: a host has at most"):
        put(world, "more", "1")
    world.journal.release()
    for answer in answers:
        world.answer(answer)
    assert len(world.agent.attributes) == MAX_ATTRIBUTES
    with pytest.raises(InvalidField):
        put(world, "more", "1")
    put(world, "zone", "z")
    remove(world, longest)
    put(world, "more", "1")


def test_unknown(world: World) -> None:
    """What is not there can't be removed, nor twice."""
    remove(world, "zone")
    for name in ("zone", "never", ""):
        with pytest.raises(UnknownAttribute):
            remove(world, name)


def test_not_open() -> None:
    """Before the journal was read, and after the end, nothing is said."""
    world = World()
    start(world)
    stopped = world.agent.stopService()
    world.answer(stopped)
    with pytest.raises(NotReady):
        put(world, "a", "1")
    with pytest.raises(NotReady):
        remove(world, "zone")
    with pytest.raises(NotReady):
        assert world.agent.attributes
    assert world.agent.status()["attributes"] == {"zone": "a", "disk": "hdd"}
