"""How a pull is asked for, and what the engine's answers to it mean."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest

from flynnhost.containers.address import EngineAddress
from flynnhost.containers.pulls import EnginePulls
from flynnhost.containers.session import EngineSessions
from flynnhost.errors import EngineUnavailable, FlynnHostError, PullFailed
from tests.support.fake_engine import Answer, FakeEngine, Request, refusal

IMAGE = "registry.example:5000/team/thing:1.2"


class Puller:
    """Pulls, on a clock that a test sets."""

    def __init__(self, engine: FakeEngine) -> None:
        self.now = 0.0
        self.pings = 0
        self.texts: list[str] = []
        sessions = EngineSessions(EngineAddress.parse(engine.url), timeout=0.3)
        self._pulls = EnginePulls(sessions, self._ping, lambda: self.now)

    def pull(self, image: str = IMAGE) -> None:
        self._pulls.thd_pull(image, self.texts.append)

    def _ping(self) -> None:
        self.pings += 1


@pytest.fixture
def puller(engine: FakeEngine) -> Puller:
    return Puller(engine)


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def lines(*messages: Mapping[str, object]) -> list[bytes]:
    return [json.dumps(message).encode() + b"\r\n" for message in messages]


def pulling(*messages: Mapping[str, object]) -> Callable[[Request], Answer]:
    """Answers to a pull, after which the image is there."""

    def answers(request: Request) -> Answer:
        if request.path == "/images/create":
            return Answer(pieces=lines(*messages))
        return Answer(body={"Id": "sha256:0123"})

    return answers


@pytest.mark.parametrize(
    ("image", "repository", "version"),
    [
        (IMAGE, "registry.example:5000/team/thing", "1.2"),
        ("thing", "thing", "latest"),
        ("thing@sha256:ab", "thing", "sha256:ab"),
    ],
)
def test_request(engine: FakeEngine, puller: Puller, image: str, repository: str, version: str) -> None:
    """One version of one image is asked for, and looked for afterwards."""
    engine.answers = pulling()
    puller.pull(image)
    asked, looked = engine.requests
    assert (asked.method, asked.query) == ("POST", {"fromImage": repository, "tag": version})
    assert "X-Registry-Auth" not in asked.headers
    assert unquote(looked.path) == f"/images/{repository}{'@' if ':' in version else ':'}{version}/json"


def test_credentials(engine: FakeEngine, puller: Puller, tmp_path: Path) -> None:
    """Credentials of Docker's configuration are handed to the engine for their registry."""
    secret = base64.b64encode(b"someone:secret").decode()
    config = {"auths": {"registry.example:5000": {"auth": secret}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    engine.answers = pulling()
    puller.pull()
    puller.pull("elsewhere/thing")
    given = json.loads(base64.urlsafe_b64decode(engine.requests[0].headers["X-Registry-Auth"]))
    assert (given["username"], given["password"]) == ("someone", "secret")
    assert "X-Registry-Auth" not in engine.requests[2].headers


def test_reports(engine: FakeEngine, puller: Puller) -> None:
    """What is reported is not too much, but always the last of it."""
    engine.answers = pulling(
        *({"status": "Pulling fs layer", "id": f"layer{number}"} for number in range(100))
    )
    puller.pull()
    assert puller.texts == [
        f"pulling {IMAGE}: 0 of 1 layers",
        f"pulling {IMAGE}: 0 of 100 layers",
    ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(pieces=lines({"error": "manifest unknown"})), PullFailed(IMAGE, "manifest unknown")),
        (refusal(404, "pull access denied for thing"), PullFailed(IMAGE, "pull access denied for thing")),
        (refusal(500, "Get https://registry: no route"), PullFailed(IMAGE, "Get https://registry: no route")),
        (Answer(pieces=lines({"error": "context canceled"})), EngineUnavailable("context canceled")),
        (refusal(503, "try again"), EngineUnavailable("try again")),
    ],
)
def test_failures(engine: FakeEngine, puller: Puller, answer: Answer, expected: FlynnHostError) -> None:
    """Why it failed is told in the engine's words, and whether it is the image or the engine."""
    engine.answers = lambda _request: answer
    with pytest.raises(type(expected)) as raised:
        puller.pull()
    assert repr(raised.value) == repr(expected)


def test_ends_without_image(engine: FakeEngine, puller: Puller) -> None:
    """A pull that ends well has failed all the same if the image is not there."""

    def answers(request: Request) -> Answer:
        if request.path == "/images/create":
            return Answer(pieces=lines({"status": "Pulling from thing", "id": "1.2"}))
        return refusal(404, f"No such image: {IMAGE}")

    engine.answers = answers
    with pytest.raises(PullFailed, match="without having the image"):
        puller.pull()


def test_breaks_off(engine: FakeEngine, puller: Puller) -> None:
    """A stream that breaks off is the engine's fault."""

    def pieces() -> Iterator[bytes]:
        yield from lines({"status": "Pulling fs layer", "id": "a"})
        raise BrokenPipeError

    engine.answers = lambda _request: Answer(pieces=pieces())
    with pytest.raises(EngineUnavailable):
        puller.pull()
    assert puller.pings == 0


def test_silence_in_the_midst(engine: FakeEngine, puller: Puller) -> None:
    """A pull of which nothing more comes has failed, if the engine still answers."""

    def pieces() -> Iterator[bytes]:
        yield from lines({"status": "Pulling fs layer", "id": "a"})
        engine.silence.wait(10)

    engine.answers = lambda _request: Answer(pieces=pieces())
    with pytest.raises(PullFailed, match=r"nothing was received for 0\.3 s"):
        puller.pull()
    assert puller.pings == 1
