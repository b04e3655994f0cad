"""What a host and its leader say to each other on their session, and how it is written.

Messages are JSON objects with a ``type``. A job is sent in its canonical form, in which the leader
also keeps it, so that it is encoded once on its whole way. What may be long is sent in several
messages of bounded size, so that signs of life wait behind none of them for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec
from msgspec import Struct

from flynnhost.errors import (
    FlynnHostError,
    InvalidField,
    JobConflict,
    JournalFailed,
    NotReady,
    StaleTerm,
)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""The longest message that is read: more than any job has bytes."""

CHUNK_BYTES = 128 * 1024
"""After so many bytes of jobs a message is not made longer."""

CHUNK_JOBS = 200
"""After so many jobs neither."""

MAX_PAST = 1_000
"""Of how many jobs that have ended a host tells at the most."""

BEAT = 5.0
"""Seconds between two signs of life, of either side."""

BEATS_MISSED = 3
"""After how many of these one that has sent nothing is taken to be gone."""


class _Message(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """The base of all messages."""


# --- from the host -----------------------------------------------------------


class Hello(_Message, frozen=True, tag="hello"):
    """A host introduces itself; always the first message.

    :param instance: what tells the host from another that was given the same ID.
    :param session: grows with each session of the same process; the highest one counts.
    :param boot: what tells this process from earlier ones of the host.
    :param resources: what the machine has: memory in bytes, cpu in thousandths of a core.
    :param draining: whether the host is to get no more jobs.
    :param addr: where the host's HTTP API is reached, as ``HOST:PORT``.
    """

    host_id: str
    instance: str
    boot: str
    session: int
    highest_term: int
    attributes: dict[str, str]
    resources: dict[str, int] = {}
    draining: bool = False
    addr: str = ""


class Report(_Message, frozen=True, tag="report"):
    """Some of the host's active jobs.

    :param last: whether these were all.
    """

    jobs: list[msgspec.Raw]
    last: bool


class EndedBefore(_Message, frozen=True, tag="ended_before"):
    """Jobs that had ended when the host began to report, to be sent before the last of its report.

    :param job_ids: the latest first, as many as the leader wants to know or as the host does.
    :param all: whether these were all.
    """

    job_ids: list[str]
    all: bool


class Accepted(_Message, frozen=True, tag="accepted"):
    """The jobs of a request are on disk; where each of them is."""

    request: int
    statuses: list[int]


class Checked(_Message, frozen=True, tag="checked"):
    """The jobs of a request could be taken, and are kept until it is said what is to become of them."""

    request: int


class Refused(_Message, frozen=True, tag="refused"):
    """The jobs of a request were not taken.

    :param error: one of the names in ``REFUSALS``.
    :param details: the values of the error.
    """

    request: int
    error: str
    details: list[str | int]


class Created(_Message, frozen=True, tag="created"):
    """The host has a job, whoever sent it."""

    job: msgspec.Raw


class Ended(_Message, frozen=True, tag="ended"):
    """A job has ended.

    :param taken: False for one that was reported, and was not taken after all.
    """

    job_id: str
    taken: bool = True


class Draining(_Message, frozen=True, tag="draining"):
    """Whether the host is to get no more jobs has changed."""

    draining: bool


class Attributes(_Message, frozen=True, tag="attributes"):
    """The host's attributes have changed; these are all of them."""

    attributes: dict[str, str]


# --- from the leader ---------------------------------------------------------


class Welcome(_Message, frozen=True, tag="welcome"):
    """The host is to report now.

    :param beat: seconds between two signs of life, of either side.
    :param past: of how many jobs that have ended the leader wants to know.
    """

    term: int
    beat: float
    past: int = 0


class Submit(_Message, frozen=True, tag="submit"):
    """Jobs to be taken, all or none.

    :param check: only look whether they could be.
    :param last: whether these were all of the request.
    """

    request: int
    term: int
    jobs: list[msgspec.Raw]
    check: bool = False
    last: bool = True


class Take(_Message, frozen=True, tag="take"):
    """The jobs of a request, which were checked, are to be taken."""

    request: int
    term: int


class Drop(_Message, frozen=True, tag="drop"):
    """The jobs of a request, which were checked, are to be forgotten."""

    request: int


class SetDraining(_Message, frozen=True, tag="set_draining"):
    """The host is to get no more jobs, or some again. It answers when that is on disk."""

    request: int
    term: int
    draining: bool


class Campaign(_Message, frozen=True, tag="campaign"):
    """The host is to try for a free slot among those who may be elected."""


class Bye(_Message, frozen=True, tag="bye"):
    """The session ends.

    :param reason: in words.
    :param retry: whether another one may succeed.
    """

    reason: str
    retry: bool


# --- from both ---------------------------------------------------------------


class Beat(_Message, frozen=True, tag="beat"):
    """A sign of life."""


FromHost: TypeAlias = (
    Hello
    | Report
    | EndedBefore
    | Accepted
    | Checked
    | Refused
    | Created
    | Ended
    | Draining
    | Attributes
    | Beat
)
FromLeader: TypeAlias = Welcome | Submit | Take | Drop | SetDraining | Campaign | Bye | Beat

_encoder = msgspec.json.Encoder()
_from_host = msgspec.json.Decoder(FromHost)
_from_leader = msgspec.json.Decoder(FromLeader)


def encode(message: FromHost | FromLeader) -> bytes:
    """A message as it is sent."""
    return _encoder.encode(message)


def decode_from_host(data: bytes) -> FromHost:
    """A host's message.

    :raises InvalidField: when it is none.
    """
    try:
        message: FromHost = _from_host.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise InvalidField("message", f"can't be read: {e}") from e
    return message


def decode_from_leader(data: bytes) -> FromLeader:
    """A leader's message.

    :raises InvalidField: when it is none.
    """
    try:
        message: FromLeader = _from_leader.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise InvalidField("message", f"can't be read: {e}") from e
    return message


def chunked(jobs: Iterable[bytes]) -> Iterator[list[msgspec.Raw]]:
    """Encoded jobs in lists of bounded size. At least one, which may be empty."""
    chunk: list[msgspec.Raw] = []
    size = 0
    for job in jobs:
        if chunk and (size + len(job) > CHUNK_BYTES or len(chunk) >= CHUNK_JOBS):
            yield chunk
            chunk, size = [], 0
        chunk.append(msgspec.Raw(job))
        size += len(job)
    yield chunk


# --- refusals ----------------------------------------------------------------

REFUSALS: dict[str, tuple[type[FlynnHostError], tuple[str, ...]]] = {
    "invalid_field": (InvalidField, ("field", "reason")),
    "job_conflict": (JobConflict, ("job_id", "reason")),
    "stale_term": (StaleTerm, ("term", "highest")),
    "journal_failed": (JournalFailed, ("reason",)),
    "not_ready": (NotReady, ("reason",)),
}
"""How a host says that it has not taken jobs, by name, with the values that go with it."""


def refusal(request: int, error: Exception) -> Refused | None:
    """The message that tells of an error; None if it is not one that says that nothing was taken."""
    for name, (kind, fields) in REFUSALS.items():
        if type(error) is kind:
            return Refused(request, name, [getattr(error, each) for each in fields])
    return None


def refusal_error(refused: Refused) -> FlynnHostError:
    """The error that a host told of.

    :raises InvalidField: when there is no such error.
    """
    kind, fields = REFUSALS.get(refused.error, (None, ()))
    if kind is None or len(fields) != len(refused.details):
        raise InvalidField("error", f"{refused.error!r} is not a refusal")
    return kind(*refused.details)
