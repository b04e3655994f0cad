"""The one shape of errors."""

from __future__ import annotations

from typing import Any

from flynnhost.testing.http_connection import Answer


def assert_error(answer: Answer, status: int, code: str, retry: bool = False) -> dict[str, Any]:
    """The error that this answer is, which must be whole and of this kind."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json
    assert set(error) in ({"code", "message", "retry"}, {"code", "message", "retry", "detail"})
    assert (error["code"], error["retry"]) == (code, retry)
    assert error["message"]
    assert ("retry-after" in answer.headers) == retry
    return error
