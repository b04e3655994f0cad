"""What can go wrong for a client, one class for each decision that it can take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from flynnhost.errors import FlynnHostError


class ClientError(FlynnHostError):
    """The root of all errors that a client raises on purpose."""


@frozen
class BadAddress(ClientError):
    """This is not where a host's API can be."""

    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.text!r} is not the address of a host: {self.reason}"


@frozen
class HostUnreachable(ClientError):
    """No connection to the host could be made, or it broke before the answer.

    After that it is not known whether what was asked for was done.

    :param url: the host.
    :param reason: what happened, in words.
    """

    url: str
    reason: str

    def __str__(self) -> str:
        return f"can't reach {self.url}: {self.reason}"


@frozen
class NoAnswer(ClientError):
    """The host has not answered in time. Whether what was asked for was done is not known."""

    url: str
    within: float

    def __str__(self) -> str:
        return f"no answer from {self.url} within {self.within:g} s"


@frozen
class BadAnswer(ClientError):
    """What came is not what the API has."""

    url: str
    reason: str

    def __str__(self) -> str:
        return f"{self.url} does not answer as a flynn-host does: {self.reason}"


@frozen
class BrokenOff(ClientError):
    """A stream has ended before its end."""

    what: str

    def __str__(self) -> str:
        return self.what


@frozen
class StreamFailed(ClientError):
    """The host has ended a stream with an error.

    :param reason: the host's words; ``fell behind`` for one who reads too slowly.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class Resync(ClientError):
    """The events after the given one are not kept any more: begin again with a snapshot."""

    def __str__(self) -> str:
        return "some events are not kept any more: begin again with a snapshot"


@frozen
class AttachFailed(ClientError):
    """The host could not attach, or not to the end.

    :param reason: the host's words.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


# --- what the host has refused -------------------------------------------------


@frozen
class Refused(ClientError):
    """The host has answered with an error.

    :param status: the status of HTTP.
    :param code: what it is, for programs.
    :param message: what it is, for people.
    :param detail: what it is about, if the host says so: ``field``, ``job_id``, ``host_id``, ``outcomes``.
    :param retry: whether the same request may succeed later.
    :param retry_after: in how many seconds to try; None when the host does not say.
    """

    status: int
    code: str
    message: str
    detail: Mapping[str, Any] = field(factory=dict)
    retry: bool = False
    retry_after: float | None = None

    def __str__(self) -> str:
        return self.message


class NotFound(Refused):
    """There is no such job, host or path."""


class Conflict(Refused):
    """The ID is taken by something else, or the job is not in a state in which this can be done."""


class Invalid(Refused):
    """The request is not acceptable."""

    @property
    def field(self) -> str:
        """The path of what is wrong with it; empty when the host does not say."""
        return str(self.detail.get("field", ""))


class Gone(Refused):
    """What was asked for is not there any more."""


class Unauthorized(Refused):
    """The host asks for credentials, or for others."""


class Unavailable(Refused):
    """The host, or the cluster, can't do this now. Nothing was done."""


class Unknown(Refused):
    """A deadline passed at the host before the work was known to be done: it may have been done."""


class Failure(Refused):
    """A failure of the host."""

    @property
    def incident(self) -> str:
        """What to look for in the host's log; empty when the host does not say."""
        return str(self.detail.get("incident", ""))


_BY_STATUS: Mapping[int, type[Refused]] = {
    400: Invalid,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    405: NotFound,
    406: Invalid,
    409: Conflict,
    410: Gone,
    413: Invalid,
    415: Invalid,
    429: Unavailable,
    503: Unavailable,
    504: Unknown,
}


def refused(
    status: int,
    code: str,
    message: str,
    detail: Mapping[str, Any],
    *,
    retry: bool = False,
    retry_after: float | None = None,
) -> Refused:
    """The error for an answer of this status."""
    kind = _BY_STATUS.get(status, Failure if status >= 500 else Refused)
    return kind(status, code, message, detail, retry, retry_after)
