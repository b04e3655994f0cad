"""What the engine's answers mean, and how it is spoken to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flynnhost.containers.address import EngineAddress
from flynnhost.containers.calls import EngineCalls
from flynnhost.containers.session import EngineSessions
from flynnhost.errors import (
    ContainerNotRunning,
    EngineRefused,
    EngineUnavailable,
    FlynnHostError,
    ImageMissing,
    NameTaken,
    NoSuchContainer,
    PortTaken,
)
from tests.support.fake_engine import Answer, FakeEngine, Request, refusal


@pytest.fixture
def calls(engine: FakeEngine) -> EngineCalls:
    return EngineCalls(EngineSessions(EngineAddress.parse(engine.url), timeout=5))


def create(calls: EngineCalls) -> None:
    calls.thd_create("name", {"Image": "thing"})


def start(calls: EngineCalls) -> None:
    calls.thd_start("c1")


def inspect(calls: EngineCalls) -> None:
    calls.thd_inspect("c1")


def kill(calls: EngineCalls) -> None:
    calls.thd_kill("c1", 9)


def remove(calls: EngineCalls) -> None:
    calls.thd_remove("c1")


def find(calls: EngineCalls) -> None:
    calls.thd_list({})


@pytest.mark.parametrize(
    ("call", "status", "words", "expected"),
    [
        (create, 404, "No such image: thing:latest", ImageMissing("thing")),
        (create, 404, "plugin thing not found", EngineRefused("plugin thing not found")),
        (create, 409, 'The container name "/name" is already in use by "x".', NameTaken("name")),
        (create, 400, "invalid mount config", EngineRefused("invalid mount config")),
        (start, 404, "No such container: c1", NoSuchContainer("c1")),
        (start, 500, "Bind for :80 failed: port is already allocated", None),
        (start, 500, "listen tcp4 :80: bind: address already in use", None),
        (start, 400, "OCI runtime create failed", EngineRefused("OCI runtime create failed")),
        (start, 500, "failed to create shim: context canceled", EngineUnavailable),
        (inspect, 404, "No such container: c1", NoSuchContainer("c1")),
        (inspect, 503, "try again", EngineUnavailable),
        (kill, 404, "No such container: c1", NoSuchContainer("c1")),
        (kill, 409, "Cannot kill container: c1: Container c1 is not running", ContainerNotRunning("c1")),
        (kill, 500, "Cannot kill container c1: Container c1 is not running", ContainerNotRunning("c1")),
        (kill, 400, "Invalid signal: 99", EngineRefused("Invalid signal: 99")),
        (remove, 500, "driver failed to remove root filesystem", EngineRefused),
        (find, 500, "layer does not exist", EngineRefused("layer does not exist")),
    ],
)
def test_refusals(
    engine: FakeEngine,
    calls: EngineCalls,
    call: Callable[[EngineCalls], None],
    status: int,
    words: str,
    expected: FlynnHostError | type[FlynnHostError] | None,
) -> None:
    """Each refusal becomes the error on which a caller can decide, with the engine's words."""
    engine.answers = lambda _request: refusal(status, words)
    with pytest.raises(FlynnHostError) as raised:
        call(calls)
    if expected is None:
        expected = PortTaken(words)
    if isinstance(expected, type):
        assert type(raised.value) is expected
        assert words in str(raised.value)
    else:
        assert repr(raised.value) == repr(expected)


def test_nobody_listens(short_dir: Path) -> None:
    """Without an engine it is told what was tried in vain."""
    calls = EngineCalls(EngineSessions(EngineAddress(path=str(short_dir / "none")), timeout=5))
    with pytest.raises(EngineUnavailable, match="no such file or directory"):
        calls.thd_ping()


def test_nobody_listens_on_tcp() -> None:
    """The same for an engine at a port."""
    calls = EngineCalls(EngineSessions(EngineAddress.parse("tcp://127.0.0.1:1"), timeout=5))
    with pytest.raises(EngineUnavailable, match="connection refused"):
        calls.thd_ping()


def test_no_answer(engine: FakeEngine) -> None:
    """An engine that says nothing is given up after the timeout."""

    def answers(_request: Request) -> None:
        engine.silence.wait(10)

    engine.answers = answers
    calls = EngineCalls(EngineSessions(EngineAddress.parse(engine.url), timeout=0.2))
    with pytest.raises(EngineUnavailable, match="no answer in time"):
        calls.thd_inspect("c1")


def test_broken_off(engine: FakeEngine, calls: EngineCalls) -> None:
    """An engine that hangs up in the middle of a request may have done it, and is unavailable."""
    engine.answers = lambda _request: None
    with pytest.raises(EngineUnavailable):
        calls.thd_start("c1")


@pytest.mark.parametrize("body", ["", "not json", "[]", "{}", '{"Id": 3}', '{"State": null, "Id": "x"}'])
def test_senseless(engine: FakeEngine, calls: EngineCalls, body: str) -> None:
    """An answer that is none of Docker's is refused, not passed on."""
    engine.answers = lambda _request: Answer(body=body)
    with pytest.raises(EngineRefused, match="makes no sense"):
        calls.thd_inspect("c1")


def test_senseless_refusal(engine: FakeEngine, calls: EngineCalls) -> None:
    """So is a refusal that is none of Docker's, such as that of a proxy."""
    engine.answers = lambda _request: Answer(403, "<html>no</html>")
    with pytest.raises(EngineRefused, match="<html>no</html>"):
        calls.thd_inspect("c1")


def test_shutting_down(engine: FakeEngine, calls: EngineCalls) -> None:
    """An engine that refuses and then takes no more connections is on its way down."""

    def answers(_request: Request) -> Answer:
        engine.stop()
        return refusal(500, "something went wrong")

    calls.thd_ping()
    engine.answers = answers
    with pytest.raises(EngineUnavailable, match="something went wrong"):
        calls.thd_start("c1")


def test_connection_is_kept(engine: FakeEngine, calls: EngineCalls) -> None:
    """One connection serves all requests of a thread, and a new one when it was closed."""
    engine.answers = lambda _request: Answer(body=[])
    for _ in range(3):
        calls.thd_list({"a": "b"})
    engine.stop()
    calls.thd_list({})
    calls.sessions.thd_session().close()
    engine.start()
    calls.thd_list({})
    assert len(engine.requests) == 5


def test_remove_twice_at_once(engine: FakeEngine, calls: EngineCalls) -> None:
    """Who removes what somebody else is removing waits until it is gone."""

    def answers(request: Request) -> Answer:
        if request.method == "DELETE":
            return refusal(409, "removal of container c1 is already in progress")
        assert request.path == "/containers/c1/wait"
        return Answer(body={"StatusCode": 0, "Error": None})

    engine.answers = answers
    calls.thd_remove("c1")
    assert [request.method for request in engine.requests] == ["DELETE", "POST"]
    assert engine.requests[0].query == {"v": "True", "link": "False", "force": "True"}


def test_remove_fails_elsewhere(engine: FakeEngine, calls: EngineCalls) -> None:
    """If that somebody fails, so does this."""

    def answers(request: Request) -> Answer:
        if request.method == "DELETE":
            return refusal(409, "removal of container c1 is already in progress")
        return Answer(body={"StatusCode": 0, "Error": {"Message": "device is busy"}})

    engine.answers = answers
    with pytest.raises(EngineRefused, match="device is busy"):
        calls.thd_remove("c1")


@pytest.mark.parametrize(("offered", "used"), [("1.30", "1.30"), ("1.41", "1.41"), ("1.52", "1.44")])
def test_version(engine: FakeEngine, calls: EngineCalls, offered: str, used: str) -> None:
    """The newest version of the API is spoken that both sides know."""
    engine.api_version = offered
    engine.answers = lambda _request: Answer(body=[])
    calls.thd_list({})
    assert engine.versions == [used]


@pytest.mark.parametrize(
    ("words", "offered", "used"),
    [
        ("client version 1.41 is too old. Minimum supported API version is 1.48", "1.52", "1.52"),
        ("client version 1.41 is too new. Maximum supported API version is 1.40", "1.40", "1.40"),
    ],
)
def test_version_changes(engine: FakeEngine, calls: EngineCalls, words: str, offered: str, used: str) -> None:
    """When another engine takes over the version is settled anew, and the next call works."""
    engine.answers = lambda _request: refusal(400, words)
    with pytest.raises(EngineUnavailable):
        calls.thd_list({})
    engine.api_version = offered
    engine.answers = lambda _request: Answer(body=[])
    calls.thd_list({})
    assert engine.versions[-1] == used


def test_abort(engine: FakeEngine, calls: EngineCalls) -> None:
    """After the end nothing is asked any more."""
    calls.thd_ping()
    calls.sessions.abort()
    for _ in range(2):
        with pytest.raises(EngineUnavailable):
            calls.thd_ping()
