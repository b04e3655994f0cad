"""All that a host answers with streams and attachments, as data that a client can carry out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from attrs import field, frozen
from msgspec import Struct

from flynnhost.client.calls import path, target

EVENTS = "text/event-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
TEXT = "text/plain"

WITHIN = 45.0
"""Seconds for the headers, which may come by way of the leader."""

SILENCE = 75.0
"""Seconds after which a stream of events that brings no sign of life is taken for broken."""

_STDOUT, _STDERR, _STDIN, _LOGS, _STREAM = 1, 2, 4, 8, 16


@frozen
class Streamed:
    """A request that is answered with a stream.

    :param accept: the type of the stream.
    :param silence: seconds in which something must come, again and again; None if it may be silent.
    """

    path: str
    accept: str
    query: Mapping[str, str] = field(factory=dict)
    silence: float | None = None
    within: float = WITHIN

    @property
    def target(self) -> str:
        """The path with the query."""
        return target(self.path, self.query)


def job_events(job_id: str | None = None, *, snapshot: bool = False) -> Streamed:
    """The events of the host's jobs, or of one.

    :param snapshot: first an event for each job that is there.
    """
    where = "/host/jobs" if job_id is None else path("host", "jobs", job_id)
    return Streamed(where, EVENTS, _flag("snapshot", snapshot), SILENCE)


def host_events(*, snapshot: bool = False) -> Streamed:
    """Hosts that come and go.

    :param snapshot: first an event for each host that is there.
    """
    return Streamed("/cluster/events", EVENTS, _flag("snapshot", snapshot), SILENCE)


@frozen
class LogQuery:
    """What is wanted of a job's output.

    :param follow: what is written from now on too, to the end of the job.
    :param tail: only so many of the last lines of what was written so far.
    :param since: only what was written from this time on, RFC 3339, or after the line with this ID.
    """

    follow: bool = False
    tail: int | None = None
    since: str = ""
    stdout: bool = True
    stderr: bool = True

    def parameters(self) -> dict[str, str]:
        """The query of the request."""
        only = {} if self.stdout and self.stderr else {"stream": "stdout" if self.stdout else "stderr"}
        tail = {} if self.tail is None else {"tail": str(self.tail)}
        since = {"since": self.since} if self.since else {}
        return {**_flag("follow", self.follow), **tail, **since, **only}


def log_frames(job_id: str, query: LogQuery) -> Streamed:
    """A job's output, in frames that tell which stream each piece is of."""
    return Streamed(path("host", "jobs", job_id, "log"), MULTIPLEXED, query.parameters())


def log_text(job_id: str, query: LogQuery) -> Streamed:
    """A job's output, as it is."""
    return Streamed(path("host", "jobs", job_id, "log"), TEXT, query.parameters())


def log_events(job_id: str, query: LogQuery) -> Streamed:
    """A job's output, line by line, each with its time and an ID to go on after."""
    return Streamed(path("host", "jobs", job_id, "log"), EVENTS, query.parameters())


def _flag(name: str, value: bool) -> dict[str, str]:
    return {name: "true"} if value else {}


# --- attachments ------------------------------------------------------------------


@frozen
class Attachable:
    """A request that is answered with an attachment: frames in both directions.

    :param within: seconds for the answer, after which frames may come whenever they like.
    """

    path: str
    body: bytes
    query: Mapping[str, str] = field(factory=dict)
    within: float = WITHIN

    @property
    def target(self) -> str:
        """The path with the query."""
        return target(self.path, self.query)


class _Attach(Struct, omit_defaults=True):
    job_id: str
    flags: int
    height: int = 0
    width: int = 0


class _Exec(Struct, omit_defaults=True):
    cmd: tuple[str, ...]
    env: Mapping[str, str] = {}
    tty: bool = False
    stdin: bool = False
    user: str = ""
    working_dir: str = ""
    height: int = 0
    width: int = 0


def attach(
    job_id: str,
    *,
    stdin: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    logs: bool = False,
    stream: bool = True,
    wait: bool = True,
    size: tuple[int, int] = (0, 0),
) -> Attachable:
    """Be at a job's standard streams.

    :param logs: with what was written so far.
    :param stream: with what is written from now on, and the exit status.
    :param wait: for a job that is not there yet, for a while.
    :param size: lines and columns of the terminal, if there is one.
    """
    flags = {_STDIN: stdin, _STDOUT: stdout, _STDERR: stderr, _LOGS: logs, _STREAM: stream}
    body = _Attach(job_id, sum(flag for flag, wanted in flags.items() if wanted), *size)
    return Attachable("/attach", msgspec.json.encode(body), {} if wait else {"wait": "false"})


def exec_(
    job_id: str,
    cmd: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    tty: bool = False,
    stdin: bool = False,
    user: str = "",
    working_dir: str = "",
    size: tuple[int, int] = (0, 0),
) -> Attachable:
    """Run a command in a running job, and be at its standard streams."""
    body = _Exec(tuple(cmd), dict(env or {}), tty, stdin, user, working_dir, *size)
    return Attachable(path("host", "jobs", job_id, "exec"), msgspec.json.encode(body))
