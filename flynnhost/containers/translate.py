"""What went wrong with the engine, in the terms of ``flynnhost.errors``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
import urllib3.exceptions
from attrs import frozen
from docker.errors import APIError, DockerException

from flynnhost.errors import (
    ContainerNotRunning,
    EngineRefused,
    EngineUnavailable,
    FlynnHostError,
    ImageMissing,
    NameTaken,
    NoSuchContainer,
    PortTaken,
    PullFailed,
)

_NO_ANSWER = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
_SENSELESS_ANSWER = (ValueError, KeyError, TypeError, AttributeError)
_ENGINE_IN_TROUBLE = (
    "context canceled",
    "connection is closing",
    "transport is closing",
    "error while dialing",
    "code = unavailable",
    "ttrpc: closed",
    "containerd.sock",
    "shutting down",
)
_PORT_IN_USE = ("port is already allocated", "address already in use")


@frozen
class Refusal:
    """What the engine answered instead of doing what it was asked.

    :param status: the HTTP status.
    :param words: the engine's explanation.
    """

    status: int
    words: str

    @property
    def engine_in_trouble(self) -> bool:
        """Whether this looks like an engine that can't do anything now."""
        words = self.words.lower()
        return self.status in (502, 503, 504) or any(sign in words for sign in _ENGINE_IN_TROUBLE)


Reading = Callable[[Refusal], FlynnHostError | None]


@contextmanager
def translated(reading: Reading) -> Iterator[None]:
    """Turn everything that docker-py raises in this block into our errors.

    :param reading: what a refusal means here; None if it means nothing special.
    """
    try:
        yield
    except APIError as e:
        raise understood(Refusal(e.status_code or 500, str(e.explanation or e)), reading) from e
    except _SENSELESS_ANSWER as e:  # first, because some of requests' errors are of both kinds
        raise EngineRefused(f"the engine's answer makes no sense: {type(e).__name__} {e}") from e
    except _NO_ANSWER as e:
        raise EngineUnavailable(_root_cause(e)) from e
    except DockerException as e:
        raise EngineRefused(str(e)) from e


def understood(refusal: Refusal, reading: Reading) -> FlynnHostError:
    """The error that a refusal stands for."""
    meaning = reading(refusal)
    if meaning is not None:
        return meaning
    if refusal.engine_in_trouble:
        return EngineUnavailable(refusal.words)
    return EngineRefused(refusal.words)


def explanation(body: bytes) -> str:
    """The engine's words in the body of an answer."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()


def timed_out(error: BaseException | None) -> bool:
    """Whether this is what docker-py raises when nothing came in time."""
    return isinstance(error, requests.Timeout | TimeoutError | urllib3.exceptions.TimeoutError)


def nothing_special(_refusal: Refusal) -> FlynnHostError | None:
    """For requests that know no refusal of their own."""
    return None


def creating(name: str, image: str) -> Reading:
    """What a refusal to create means."""

    def reading(refusal: Refusal) -> FlynnHostError | None:
        words = refusal.words.lower()
        if refusal.status == 404 and "no such image" in words:
            return ImageMissing(image)
        if refusal.status == 409 and "already in use" in words:
            return NameTaken(name)
        return None

    return reading


def starting(container: str) -> Reading:
    """What a refusal to start means."""

    def reading(refusal: Refusal) -> FlynnHostError | None:
        if any(sign in refusal.words for sign in _PORT_IN_USE):
            return PortTaken(refusal.words)
        return _missing(container, refusal)

    return reading


def killing(container: str) -> Reading:
    """What a refusal to send a signal means."""

    def reading(refusal: Refusal) -> FlynnHostError | None:
        if refusal.status in (409, 500) and "is not running" in refusal.words:
            return ContainerNotRunning(container)
        return _missing(container, refusal)

    return reading


def looking_at(container: str) -> Reading:
    """What a refusal to tell of a container means."""
    return lambda refusal: _missing(container, refusal)


def pulling(image: str) -> Reading:
    """What a refusal to pull means."""
    return lambda refusal: None if refusal.engine_in_trouble else PullFailed(image, refusal.words)


def _missing(container: str, refusal: Refusal) -> FlynnHostError | None:
    if refusal.status == 404 and "no such container" in refusal.words.lower():
        return NoSuchContainer(container)
    return None


def _root_cause(error: BaseException) -> str:
    """The words of the error in which a chain of wrapped ones began."""
    if timed_out(error):
        return "no answer in time"
    inner = [arg for arg in error.args if isinstance(arg, BaseException)]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        inner.append(reason)
    if inner:
        return _root_cause(inner[-1])
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
