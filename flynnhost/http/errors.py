"""The one table from what went wrong to what the client is told."""

from __future__ import annotations

import uuid
from typing import Any

from attrs import frozen
from klein import Klein
from msgspec import UNSET
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from flynnhost import errors
from flynnhost.http.connection import cut
from flynnhost.http.encode import encode_json
from flynnhost.http.wire_types import WireError

log = Logger()

#: Seconds after which a client is told to try again.
_RETRY_AFTER = b"1"


@frozen
class _Answer:
    status: int
    code: str
    retry: bool = False


_BUSY = _Answer(503, "not_ready", retry=True)
_CONFLICT = _Answer(409, "conflict")
_NO_OBJECT = _Answer(404, "object_not_found")
_UNKNOWN = _Answer(500, "unknown_error")

_TABLE: dict[type[BaseException], _Answer] = {
    errors.BadSyntax: _Answer(400, "syntax_error"),
    errors.InvalidField: _Answer(400, "validation_error"),
    errors.UnknownJob: _NO_OBJECT,
    errors.UnknownHost: _NO_OBJECT,
    errors.UnknownAttribute: _NO_OBJECT,
    errors.JobConflict: _CONFLICT,
    errors.HostNotReady: _CONFLICT,
    errors.DuplicateHost: _CONFLICT,
    errors.JobNotRunning: _CONFLICT,
    errors.StaleTerm: _CONFLICT,
    errors.EngineRefused: _CONFLICT,
    errors.OutputGone: _Answer(410, "gone"),
    errors.NotReady: _BUSY,
    errors.JournalFailed: _BUSY,
    errors.EngineUnavailable: _BUSY,
    errors.NoLeader: _Answer(503, "no_leader", retry=True),
    errors.TooManyRequests: _Answer(429, "ratelimited", retry=True),
    errors.TookTooLong: _Answer(504, "timeout", retry=True),
    # Whoever asked is still there, so it was not they who cancelled: the host is stopping.
    CancelledError: _BUSY,
}

_HTTP_CODES = {
    400: "validation_error",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
}


def json_errors(app: Klein) -> None:
    """Make an application answer every error in the one shape."""

    @app.handle_errors(Exception)  # type: ignore[arg-type]  # Klein names our first parameter
    def answer(_resource: object, request: Request, failure: Failure) -> bytes:
        return answer_failure(request, failure)


def answer_failure(request: Request, failure: Failure) -> bytes:
    """Prepare the answer to a request that failed.

    :return: the body to write. When the answer was under way already, the connection is
        cut instead, for the client to see that something is missing.
    """
    if request.startedWriting:
        log.failure("While answering {path}", failure, path=_path(request))
        cut(request)
        return b""
    error = failure.value or Exception()
    if isinstance(error, HTTPException):
        return _answer_http(request, error)
    answer = next((_TABLE[cls] for cls in type(error).__mro__ if cls in _TABLE), _UNKNOWN)
    if answer is _UNKNOWN:
        return _answer_unknown(request, failure)
    message = "the host is stopping" if isinstance(error, CancelledError) else str(error)
    return _write(request, answer, message, _detail(error))


def error_body(code: str, message: str, *, retry: bool = False, detail: Any = UNSET) -> bytes:
    """An error in its JSON shape."""
    return encode_json(WireError(code=code, message=message, retry=retry, detail=detail))


def retry_later(request: Request, message: str, detail: Any) -> bytes:
    """Prepare the answer of a host that can't work now."""
    return _write(request, _BUSY, message, detail)


_NAMED = ("field", "job_id", "host_id", "attribute")


def _detail(error: BaseException) -> Any:
    """What a program wants to know of the error: which field, job or host it is about."""
    if isinstance(error, errors.TookTooLong):
        return {"outcomes": dict(error.outcomes)} if error.outcomes else UNSET
    named = {name: getattr(error, name) for name in _NAMED if hasattr(error, name)}
    return named or UNSET


def _answer_http(request: Request, error: HTTPException) -> bytes:
    status = error.code or 500
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        request.setHeader(b"Allow", ", ".join(sorted(error.valid_methods)).encode())
    message = {404: "there is nothing at this path", 405: "this path does not have that method"}.get(status)
    answer = _Answer(status, _HTTP_CODES.get(status, "unknown_error"))
    return _write(request, answer, message or error.description or error.name)


def _answer_unknown(request: Request, failure: Failure) -> bytes:
    incident = uuid.uuid4().hex[:12]
    log.failure(
        "Incident {incident}: {method} {path} failed",
        failure,
        incident=incident,
        method=request.method.decode("ascii", "replace"),
        path=_path(request),
    )
    return _write(request, _UNKNOWN, "Something went wrong", {"incident": incident})


def _path(request: Request) -> str:
    return request.path.decode("ascii", "replace")


def _write(request: Request, answer: _Answer, message: str, detail: Any = UNSET) -> bytes:
    body = error_body(answer.code, message, retry=answer.retry, detail=detail)
    request.setResponseCode(answer.status)
    if answer.retry:
        request.setHeader(b"Retry-After", _RETRY_AFTER)
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", str(len(body)).encode())
    return body
