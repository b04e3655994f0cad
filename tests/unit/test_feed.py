"""Feeds: events in order, and the last of them again."""

from __future__ import annotations

from typing import Any

import pytest

from flynnhost.errors import ResyncNeeded
from flynnhost.feed import Feed

Heard = list[tuple[str, str]]


@pytest.fixture
def feed() -> Feed[str]:
    return Feed("e", kept=3)


def listen(feed: Feed[str], key: str | None = None, after: str | None = None) -> Heard:
    heard: Heard = []
    feed.subscribe(lambda event_id, event: heard.append((event_id, event)), key=key, after=after)
    return heard


def test_from_now_on(feed: Feed[str]) -> None:
    """A listener hears what is published from now on, in order."""
    feed.publish("k", "a")
    heard = listen(feed)
    assert feed.last_id == "e-1"
    feed.publish("k", "b")
    feed.publish("l", "c")
    assert heard == [("e-2", "b"), ("e-3", "c")]
    assert feed.last_id == "e-3"


def test_by_key(feed: Feed[str]) -> None:
    """A listener to one key hears nothing else."""
    feed.publish("k", "a")
    heard = listen(feed, key="k", after="e-0")
    feed.publish("l", "b")
    feed.publish("k", "c")
    assert heard == [("e-1", "a"), ("e-3", "c")]


def test_cancel(feed: Feed[str]) -> None:
    """Who has cancelled hears nothing more, and nothing is kept of it."""
    heard: Heard = []
    subscription = feed.subscribe(lambda event_id, event: heard.append((event_id, event)), key="k")
    feed.publish("k", "a")
    subscription.cancel()
    subscription.cancel()
    feed.publish("k", "b")
    assert heard == [("e-1", "a")]
    assert feed._listeners == {}


def test_cancelled_by_another_listener(feed: Feed[str]) -> None:
    """Who is cancelled while an event is told does not hear it any more."""
    subscriptions: list[Any] = []
    heard: Heard = []
    feed.subscribe(lambda _id, _event: subscriptions[0].cancel())
    subscriptions.append(feed.subscribe(lambda event_id, event: heard.append((event_id, event))))
    feed.publish("k", "a")
    assert heard == []


def test_cancelled_while_it_catches_up(feed: Feed[str]) -> None:
    """Who wants no more while it is told what it missed gets nothing new either."""
    feed.publish("k", "a")
    heard: Heard = []
    subscription = feed.subscribe(lambda event_id, event: heard.append((event_id, event)), after="e-0")
    subscription.cancel()
    feed.publish("k", "b")
    assert heard == [("e-1", "a")]


@pytest.mark.parametrize(("after", "missed"), [("e-2", "cde"), ("e-4", "e"), ("e-5", "")])
def test_after(feed: Feed[str], after: str, missed: str) -> None:
    """What is kept is told again."""
    for event in "abcde":
        feed.publish("k", event)
    heard = listen(feed, after=after)
    assert "".join(event for _, event in heard) == missed
    feed.publish("k", "f")
    assert heard[-1] == ("e-6", "f")


@pytest.mark.parametrize(
    "after", ["e-1", "e-6", "f-3", "e", "", "e-", "e--1", "e-x", "-3", "e-" + "9" * 5000, "e-²"]
)
def test_resync(feed: Feed[str], after: str) -> None:
    """What is not kept, not yet there or not ours can't be told again."""
    for event in "abcde":
        feed.publish("k", event)
    with pytest.raises(ResyncNeeded):
        listen(feed, after=after)
    assert feed._listeners == {}


def test_after_nothing(feed: Feed[str]) -> None:
    """A feed that has told nothing yet can be resumed from its beginning."""
    heard = listen(feed, after=feed.last_id)
    feed.publish("k", "a")
    assert heard == [("e-1", "a")]


def test_epoch_with_dashes() -> None:
    """An epoch may hold dashes."""
    feed: Feed[str] = Feed("a-b")
    feed.publish("k", "x")
    assert listen(feed, after="a-b-0") == [("a-b-1", "x")]


def test_a_listener_that_fails(feed: Feed[str], logged_failures: Any) -> None:
    """A listener that fails is logged, harms no other, and goes on being told."""
    calls = []

    def fails(event_id: str, event: str) -> None:
        calls.append(event)
        raise ZeroDivisionError

    feed.subscribe(fails)
    heard = listen(feed)
    feed.publish("k", "a")
    feed.publish("k", "b")
    assert calls == ["a", "b"]
    assert len(heard) == 2
    assert len(logged_failures.flush(ZeroDivisionError)) == 2


def test_end(feed: Feed[str], logged_failures: Any) -> None:
    """When a feed is closed, everyone who wants to know is told, once."""
    ended: list[str] = []

    def fails() -> None:
        raise ZeroDivisionError

    feed.subscribe(lambda _id, _event: None, ended=fails)
    feed.subscribe(lambda _id, _event: None, key="k", ended=lambda: ended.append("k"))
    feed.subscribe(lambda _id, _event: None)
    feed.subscribe(lambda _id, _event: None, ended=lambda: ended.append("cancelled")).cancel()
    feed.close()
    feed.close()
    assert ended == ["k"]
    assert feed._listeners == {}
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
