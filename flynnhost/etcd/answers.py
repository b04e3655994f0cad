"""Reading what etcd answers: its errors, which every version words differently, and its values."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from flynnhost.errors import (
    Compacted,
    EtcdRefused,
    EtcdUnavailable,
    FlynnHostError,
    LeaseLost,
    PermissionDenied,
)
from flynnhost.keyvalues import EtcdMember, Found, KeyEvent, KeyValue, Removed, Stored, TxnResult

Json = Mapping[str, Any]

# Of gRPC. What is in none of these may be better at another member, or a little later:
# "context deadline exceeded", for one, comes as UNKNOWN.
_NOT_FOUND = 5
_DENIED = 7
_RESOURCE_EXHAUSTED = 8
_OUT_OF_RANGE = 11
_REFUSED = frozenset({3, 6, 9, _NOT_FOUND, _OUT_OF_RANGE, 12})

_TOKEN_REFUSED = ("invalid auth token", "user name is empty", "auth store is old")
_DENIED_TEXTS = ("permission denied", "invalid user ID or password", "user name is empty")


@frozen
class TokenRefused(FlynnHostError):
    """etcd wants to know (again) who we are."""

    reason: str


@frozen
class NoVoter(FlynnHostError):
    """The member has no vote, and answers next to nothing."""

    reason: str


def read_answer(status: int, body: bytes) -> Json:
    """The answer to a request that has one.

    :raises FlynnHostError: what etcd says is wrong.
    """
    try:
        answer = json.loads(body)
    except ValueError as e:
        text = body[:200].decode("utf-8", "replace").strip()
        if status in (400, 404, 405, 501):
            raise EtcdRefused(f"HTTP {status} {text} (is this etcd 3.4 or later?)") from e
        raise EtcdUnavailable(f"HTTP {status} {text}") from e
    if not isinstance(answer, dict):
        raise EtcdUnavailable(f"HTTP {status} with an answer that is no object")
    if status != 200 or "error" in answer:
        raise read_error(answer, status)
    return answer


def read_error(answer: Json, status: int = 200) -> FlynnHostError:
    """The error in an answer or a frame, whichever version of etcd it is from."""
    inner = answer.get("error")
    about: Json = inner if isinstance(inner, dict) else answer
    code = about.get("code", about.get("grpc_code", 0))
    text = str(about.get("message") or about.get("error") or f"HTTP {status}")
    return error_of(code if isinstance(code, int) else 0, text)


def error_of(code: int, text: str) -> FlynnHostError:
    """What an error of etcd means for us.

    :param code: of gRPC, 0 if it is not known.
    """
    if any(each in text for each in _TOKEN_REFUSED):
        return TokenRefused(text)
    if code == _DENIED or any(each in text for each in _DENIED_TEXTS):
        return PermissionDenied(text)
    if "for learner" in text:
        return NoVoter(text)
    if code == _OUT_OF_RANGE and "compacted" in text:
        return Compacted()
    if code == _NOT_FOUND and "lease not found" in text:
        return LeaseLost(0)
    if code in _REFUSED or (code == _RESOURCE_EXHAUSTED and "space exceeded" in text):
        return EtcdRefused(text)
    return EtcdUnavailable(text)


# --- values -------------------------------------------------------------------
# txaioetcd drops the leases of keys and the type of events, so that these are read here.


def key_value(obj: Json) -> KeyValue:
    """A key with its value; etcd leaves out what is empty or 0."""
    return KeyValue(
        base64.b64decode(obj.get("key", "")),
        base64.b64decode(obj.get("value", "")),
        int(obj.get("create_revision", 0)),
        int(obj.get("mod_revision", 0)),
        int(obj.get("version", 0)),
        int(obj.get("lease", 0)),
    )


def key_event(obj: Json) -> KeyEvent:
    """A change of a key."""
    previous = key_value(obj["prev_kv"]) if "prev_kv" in obj else None
    return KeyEvent(key_value(obj["kv"]), obj.get("type") == "DELETE", previous)


def revision_of(obj: Json) -> int:
    """The revision of the store at the time of the answer."""
    return int(obj.get("header", {}).get("revision", 0))


def found(obj: Json, revision: int) -> Found:
    """What a range gave."""
    return Found(tuple(map(key_value, obj.get("kvs", ()))), int(obj.get("count", 0)), revision)


def stored(obj: Json, revision: int) -> Stored:
    """What a put gave."""
    return Stored(revision, key_value(obj["prev_kv"]) if "prev_kv" in obj else None)


def removed(obj: Json, revision: int) -> Removed:
    """What a deletion gave."""
    return Removed(int(obj.get("deleted", 0)), revision, tuple(map(key_value, obj.get("prev_kvs", ()))))


def txn_result(obj: Json) -> TxnResult:
    """What a transaction gave."""
    revision = revision_of(obj)
    readers: dict[str, Callable[[Json, int], Found | Stored | Removed]] = {
        "response_range": found,
        "response_put": stored,
        "response_delete_range": removed,
    }
    results = [
        readers[kind](answer, revision)
        for response in obj.get("responses", ())
        for kind, answer in response.items()
    ]
    return TxnResult(bool(obj.get("succeeded", False)), revision, tuple(results))


def member(obj: Json) -> EtcdMember:
    """A member of the cluster."""
    return EtcdMember(
        int(obj["ID"]),
        obj.get("name", ""),
        tuple(obj.get("peerURLs", ())),
        tuple(obj.get("clientURLs", ())),
        bool(obj.get("isLearner", False)),
    )
