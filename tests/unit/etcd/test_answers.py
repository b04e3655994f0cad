"""What etcd answers, in the words of each version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flynnhost.etcd
from flynnhost.errors import (
    Compacted,
    EtcdRefused,
    EtcdUnavailable,
    FlynnHostError,
    LeaseLost,
    PermissionDenied,
)
from flynnhost.etcd.answers import NoVoter, TokenRefused, key_event, key_value, read_answer, read_error
from flynnhost.keyvalues import KeyEvent, KeyValue

COMPACTED = "etcdserver: mvcc: required revision has been compacted"

MEANINGS: list[tuple[int, int, str, type[FlynnHostError]]] = [
    (500, 2, "context deadline exceeded", EtcdUnavailable),
    (500, 2, "raft proposal dropped", EtcdUnavailable),
    (503, 14, "etcdserver: no leader", EtcdUnavailable),
    (503, 14, "etcdserver: request timed out", EtcdUnavailable),
    (503, 14, "etcdserver: unhealthy cluster", EtcdUnavailable),
    (429, 8, "etcdserver: too many requests", EtcdUnavailable),
    (429, 8, "etcdserver: mvcc: database space exceeded", EtcdRefused),
    (400, 3, "etcdserver: key is not provided", EtcdRefused),
    (400, 3, "etcdserver: request is too large", EtcdRefused),
    (400, 3, "etcdserver: duplicate key given in txn request", EtcdRefused),
    (400, 9, "etcdserver: too many learner members in cluster", EtcdRefused),
    (400, 11, COMPACTED, Compacted),
    (400, 11, "etcdserver: mvcc: required revision is a future revision", EtcdRefused),
    (404, 5, "etcdserver: requested lease not found", LeaseLost),
    (403, 7, "etcdserver: permission denied", PermissionDenied),
    (400, 3, "etcdserver: authentication failed, invalid user ID or password", PermissionDenied),
    (401, 16, "etcdserver: invalid auth token", TokenRefused),
    (400, 3, "etcdserver: user name is empty", TokenRefused),
    (400, 3, "etcdserver: revision of auth store is old", TokenRefused),
    (503, 14, "etcdserver: rpc not supported for learner", NoVoter),
]


def forms(http: int, code: int, text: str) -> list[dict[str, Any]]:
    """An error as versions of etcd word it: 3.4 and 3.5, 3.6 and later; the same in a stream."""
    return [
        {"error": text, "message": text, "code": code},
        {"code": code, "message": text},
        {"code": code, "message": text, "details": []},
        {"error": {"grpc_code": code, "http_code": http, "message": text, "http_status": "x"}},
        {"error": {"code": code, "message": text}},
    ]


@pytest.mark.parametrize(("http", "code", "text", "kind"), MEANINGS)
def test_errors(http: int, code: int, text: str, kind: type[FlynnHostError]) -> None:
    """An error means the same in the words of every version, in an answer and in a stream."""
    for form in forms(http, code, text):
        with pytest.raises(kind):
            read_answer(http, json.dumps(form).encode())
        assert type(read_error(form)) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b"Not Found\n", EtcdRefused),
        (503, b"", EtcdUnavailable),
        (502, b"<html>a proxy's words</html>", EtcdUnavailable),
        (200, b"<html>", EtcdUnavailable),
        (200, b"[]", EtcdUnavailable),
        (200, b"", EtcdUnavailable),
        (500, b"{}", EtcdUnavailable),
        (200, b'{"error":null,"message":"odd"}', EtcdUnavailable),
    ],
)
def test_no_answer_at_all(status: int, body: bytes, kind: type[FlynnHostError]) -> None:
    """What is no answer of etcd is never taken for success."""
    with pytest.raises(kind):
        read_answer(status, body)


def test_an_answer() -> None:
    """An answer is what it says."""
    assert read_answer(200, b'{"header":{"revision":"7"}}') == {"header": {"revision": "7"}}


def test_values() -> None:
    """What is empty or 0 is left out by etcd; numbers come as strings, and some fit into no float."""
    assert key_value({"key": "YQ=="}) == KeyValue(b"a", b"", 0, 0, 0)
    whole = {
        "key": "YQ==",
        "value": "/w==",
        "create_revision": "3",
        "mod_revision": "9007199254740993",
        "version": "2",
        "lease": "7587858243843145478",
    }
    assert key_value(whole) == KeyValue(b"a", b"\xff", 3, 9007199254740993, 2, 7587858243843145478)


def test_events() -> None:
    """A put has no type; a removal has, and what was before only if etcd still knows."""
    assert key_event({"kv": {"key": "YQ=="}}) == KeyEvent(KeyValue(b"a", b"", 0, 0, 0))
    gone = key_event({"type": "DELETE", "kv": {"key": "YQ==", "mod_revision": "4"}})
    assert gone == KeyEvent(KeyValue(b"a", b"", 0, 4, 0), removed=True)
    assert key_event({"type": "DELETE", "kv": {"key": "YQ=="}, "prev_kv": {"key": "YQ=="}}).previous


def test_elections_are_not_left_to_etcd() -> None:
    """etcd's own election tells those whose lease has ended that they lead: nothing here asks it."""
    package = Path(next(iter(flynnhost.etcd.__path__)))
    assert not [path.name for path in package.glob("*.py") if "/campaign" in path.read_text()]
