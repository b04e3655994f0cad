"""From the bytes of a request to whom to attach, or what to run in a job, with every value checked."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from attrs import evolve
from msgspec import Meta, Struct

from flynnhost.errors import BadSyntax, InvalidField
from flynnhost.http.decode_config import check_env
from flynnhost.http.wire_errors import DECODING_ERRORS, decoding_error, find_nul
from flynnhost.interfaces import AttachQuery, ExecSpec
from flynnhost.names import JOB_ID

STDOUT, STDERR, STDIN, LOGS, STREAM, INIT_LOG = 1, 2, 4, 8, 16, 32
"""The flags of an attach request, as Flynn numbers them."""

_ALL = STDOUT | STDERR | STDIN | LOGS | STREAM | INIT_LOG

Size = Annotated[int, Meta(ge=0, le=65535)]

T = TypeVar("T")


class _WireAttach(Struct, forbid_unknown_fields=True, gc=False):
    job_id: str = ""
    flags: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    height: Size = 0
    width: Size = 0


class _WireExec(Struct, forbid_unknown_fields=True, gc=False):
    cmd: list[str] | None = None
    env: dict[str, str] | None = None
    tty: bool = False
    stdin: bool = False
    user: str = ""
    working_dir: str = ""
    height: Size = 0
    width: Size = 0


_attach = msgspec.json.Decoder(_WireAttach)
_exec = msgspec.json.Decoder(_WireExec)


def decode_attach(body: bytes) -> AttachQuery:
    """Whom to attach to what.

    :raises InvalidField: for the first value that can't be accepted.
    :raises BadSyntax: when the body is no JSON.
    """
    wire = _read(_attach, body)
    if not JOB_ID.fullmatch(wire.job_id):
        reason = f"{wire.job_id!r} is not a job ID: {JOB_ID.pattern}" if wire.job_id else "must not be empty"
        raise InvalidField("job_id", reason)
    flags = wire.flags
    if flags & ~_ALL:
        raise InvalidField("flags", f"has bits that mean nothing: {flags & ~_ALL}")
    if not flags & (STDOUT | STDERR | STDIN):
        raise InvalidField("flags", "must have one of stdout (1), stderr (2) and stdin (4)")
    return AttachQuery(
        job_id=wire.job_id,
        stdin=bool(flags & STDIN),
        stdout=bool(flags & STDOUT),
        stderr=bool(flags & STDERR),
        logs=bool(flags & LOGS),
        stream=bool(flags & STREAM),
        height=wire.height,
        width=wire.width,
    )


def on_this_host(query: AttachQuery, host_id: str, known: bool) -> AttachQuery:
    """The query with the job's own ID, if it was given with that of this host before it.

    :param known: whether there is a job of the ID as it is.
    """
    job_id = query.job_id.removeprefix(f"{host_id}-")
    return query if known or not JOB_ID.fullmatch(job_id) else evolve(query, job_id=job_id)


def decode_exec(body: bytes) -> ExecSpec:
    """What to run.

    :raises InvalidField: for the first value that can't be accepted.
    :raises BadSyntax: when the body is no JSON.
    """
    wire = _read(_exec, body)
    if not wire.cmd:
        raise InvalidField("cmd", "must not be empty")
    if not wire.cmd[0]:
        raise InvalidField("cmd[0]", "must not be empty")
    check_env(wire.env or {})
    if wire.working_dir and not wire.working_dir.startswith("/"):
        raise InvalidField("working_dir", "must be an absolute path")
    return ExecSpec(
        cmd=tuple(wire.cmd),
        env=wire.env or {},
        tty=wire.tty,
        stdin=wire.stdin,
        user=wire.user,
        working_dir=wire.working_dir,
        height=wire.height,
        width=wire.width,
    )


def _read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    if not body:
        raise BadSyntax("is empty")
    try:
        wire = decoder.decode(body)
        nul = find_nul(msgspec.json.decode(body))
    except DECODING_ERRORS as e:
        raise decoding_error(e, body) from None
    if nul is not None:
        raise InvalidField(nul.lstrip("."), "must not hold a NUL character")
    return wire
