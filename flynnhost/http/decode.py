"""From the bytes of a request to jobs, with every value checked.

The jobs of a batch are encoded anew at once, in the form in which all else works with them.

What is wrong is always an ``InvalidField`` with the path of the field as the sender
wrote it, or a ``BadSyntax``. Rules that need more than the job itself are not here.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from flynnhost.canonical import encode_wire, from_wire
from flynnhost.encoded import EncodedJobs, ListedJobs
from flynnhost.errors import BadSyntax, InvalidField
from flynnhost.http.decode_config import check_config
from flynnhost.http.wire_errors import BODY, DECODING_ERRORS, decoding_error, find_nul
from flynnhost.image import parse_image
from flynnhost.model import Job
from flynnhost.names import JOB_ID
from flynnhost.wire_job import WireArtifact, WireConfig, WireJob, WireQuantity, WireResources

_batches = msgspec.json.Decoder(dict[str, list[msgspec.Raw] | None] | None)
_jobs = msgspec.json.Decoder(WireJob)


class _WireDraining(Struct, forbid_unknown_fields=True):
    draining: bool


class _WireAttribute(Struct, forbid_unknown_fields=True):
    value: str


_attribute = msgspec.json.Decoder(_WireAttribute)
_draining = msgspec.json.Decoder(_WireDraining)

MAX_JOB_BYTES = 512 * 1024
"""The largest job. No process could be given more in arguments and environment by far."""

MAX_BATCH_JOBS = 100_000
"""The most jobs of one batch."""

#: How much is decoded in one step: some milliseconds' work.
_STEP_JOBS = 500
_STEP_BYTES = 256 * 1024

_SPACE = b" \t\r\n"

#: The only way to write a NUL in JSON.
_NUL = b"\\u0000"


def decode_batch(body: bytes) -> dict[str, EncodedJobs]:
    """The jobs for each host of a batch, in the order of the sender.

    :raises InvalidField: for the first value that can't be accepted.
    :raises BadSyntax: when the body is no JSON.
    """
    batch: dict[str, EncodedJobs] = {}
    for _ in decode_batch_stepwise(body, batch):
        pass
    return batch


def decode_batch_stepwise(body: bytes, into: dict[str, EncodedJobs]) -> Iterator[None]:
    """``decode_batch`` for large batches: between steps, the caller can let others have a turn.

    :param into: where each step puts what it has decoded.
    """
    try:
        batch = _batches.decode(_not_empty(body)) or {}
    except DECODING_ERRORS as e:
        raise decoding_error(e, body) from None
    count = sum(len(raws or ()) for raws in batch.values())
    if count > MAX_BATCH_JOBS:
        raise InvalidField(BODY, f"must not have more than {MAX_BATCH_JOBS} jobs, but has {count}")
    has_nul = _NUL in body
    left_jobs, left_bytes = _STEP_JOBS, _STEP_BYTES - len(body) // 16
    for host_id, raws in batch.items():
        _check_host_id(host_id)
        if raws is None:
            raise InvalidField(host_id, "must be a list, not null")
        jobs = into[host_id] = ListedJobs([], [])
        for index, raw in enumerate(raws):
            if left_jobs <= 0 or left_bytes <= 0:
                yield
                left_jobs, left_bytes = _STEP_JOBS, _STEP_BYTES
            left_jobs -= 1
            left_bytes -= _size(raw)
            wire = _host_job(host_id, index, raw, has_nul)
            jobs.add(wire.id, encode_wire(wire))


async def decode_batch_in_turns(clock: IReactorTime, body: bytes) -> dict[str, EncodedJobs]:
    """The same as ``decode_batch``, however large the batch is, while others have their turn."""
    batch: dict[str, EncodedJobs] = {}
    for _ in decode_batch_stepwise(body, batch):
        await deferLater(clock, 0)
    return batch


def decode_job(body: bytes, job_id: str) -> Job:
    """The job that is sent to an URL with its ID; the body may leave the ID out.

    :raises InvalidField: for the first value that can't be accepted.
    :raises BadSyntax: when the body is no JSON.
    """
    wire = _read_job(_not_empty(body).rstrip(_SPACE), _NUL in body)
    if wire.id not in ("", job_id):
        raise InvalidField("id", f"must be {job_id!r} as in the URL, not {wire.id!r}")
    wire.id = job_id
    _check_job(wire)
    return from_wire(wire)


def decode_draining(body: bytes) -> bool:
    """Whether a host is to get no more jobs.

    :raises InvalidField: when the body does not say so.
    :raises BadSyntax: when the body is no JSON.
    """
    try:
        return _draining.decode(_not_empty(body)).draining
    except DECODING_ERRORS as e:
        raise decoding_error(e, body) from None


def decode_attribute(body: bytes) -> str:
    """The value that an attribute is to have.

    :raises InvalidField: when the body does not say so.
    :raises BadSyntax: when the body is no JSON.
    """
    try:
        return _attribute.decode(_not_empty(body)).value
    except DECODING_ERRORS as e:
        raise decoding_error(e, body) from None


def _not_empty(body: bytes) -> bytes:
    if not body:
        raise BadSyntax("is empty")
    return body


def _check_host_id(host_id: str) -> None:
    if not host_id:
        raise InvalidField(BODY, "must not have an empty host ID")
    if "-" in host_id or "\0" in host_id:
        raise InvalidField(host_id, "is not a host ID: it must not hold a dash or NUL")


def _host_job(host_id: str, index: int, raw: msgspec.Raw, has_nul: bool) -> WireJob:
    try:
        wire = _read_job(raw, has_nul)
        _check_job(wire)
    except InvalidField as e:
        where = f"{host_id}[{index}]"
        raise (InvalidField(where, e.reason) if e.field == BODY else e.under(where)) from None
    return wire


def _size(data: bytes | msgspec.Raw) -> int:
    return memoryview(data).nbytes


def _read_job(data: bytes | msgspec.Raw, has_nul: bool) -> WireJob:
    if _size(data) > MAX_JOB_BYTES:
        raise InvalidField(BODY, f"must not be larger than {MAX_JOB_BYTES} bytes")
    try:
        wire = _jobs.decode(data)
        # One search of the whole body spares a look at every string.
        nul = find_nul(msgspec.json.decode(data)) if has_nul else None
    except DECODING_ERRORS as e:
        raise decoding_error(e, data) from None
    if nul is not None:
        raise InvalidField(nul.lstrip("."), "must not hold a NUL character")
    return wire


def _check_job(wire: WireJob) -> None:
    """Check all values, and write them as ``canonical.to_wire`` does.

    :raises InvalidField: for the first one that can't be accepted.
    """
    if not JOB_ID.fullmatch(wire.id):
        reason = f"{wire.id!r} is not a job ID: {JOB_ID.pattern}" if wire.id else "must not be empty"
        raise InvalidField("id", reason)
    if wire.config is None:
        wire.config = WireConfig()
    else:
        try:
            check_config(wire.config)
        except InvalidField as e:
            raise e.under("config") from None
    _check_artifact(wire.artifact)
    if wire.resources is not None and not _check_resources(wire.resources):
        wire.resources = None
    wire.metadata = wire.metadata or None


def _check_artifact(wire: WireArtifact | None) -> None:
    if wire is None:
        raise InvalidField("artifact.url", "must not be empty")
    if wire.type not in ("", "docker"):
        raise InvalidField("artifact.type", f"must be docker, not {wire.type!r}")
    wire.type = "docker"
    try:
        parse_image(wire.url)
    except ValueError as e:
        raise InvalidField("artifact.url", str(e)) from None


def _check_resources(wire: WireResources) -> bool:
    """Check what is asked for. Tells whether anything is."""
    wire.memory = _checked_quantity("memory", wire.memory)
    wire.cpu = _checked_quantity("cpu", wire.cpu)
    wire.max_fd = _checked_quantity("max_fd", wire.max_fd)
    wire.max_procs = _checked_quantity("max_procs", wire.max_procs)
    return bool(wire.memory or wire.cpu or wire.max_fd or wire.max_procs)


def _checked_quantity(name: str, wire: WireQuantity | None) -> WireQuantity | None:
    if wire is None or (wire.request is None and wire.limit is None):
        return None
    if wire.request is not None and wire.limit is not None and wire.request > wire.limit:
        raise InvalidField(f"resources.{name}.request", f"must not be above the limit of {wire.limit}")
    return wire
