"""Which member is asked first."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from flynnhost.errors import InvalidField
from flynnhost.etcd.connect import EtcdSettings, connect
from flynnhost.etcd.endpoints import Endpoint, Endpoints, parse_endpoints
from flynnhost.etcd.tls import Tls, TlsFiles
from flynnhost.keyvalues import KeyRange
from tests.support.etcd_tls import CLIENT, Authority

A, B, C = (Endpoint("http", name, 2379) for name in "abc")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoints(clock: Clock) -> Endpoints:
    numbers = iter((0.1, 0.2, 0.3) * 10)
    return Endpoints(clock, (A, B, C), lambda: next(numbers))


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://10.0.0.1:2379", Endpoint("http", "10.0.0.1", 2379)),
        ("https://etcd.example.com", Endpoint("https", "etcd.example.com", 2379)),
        ("http://[::1]:4001/", Endpoint("http", "::1", 4001)),
    ],
)
def test_parsed(url: str, endpoint: Endpoint) -> None:
    """URLs are understood as operators write them, and written so that they are understood again."""
    assert parse_endpoints([url, url]) == (endpoint,)
    assert parse_endpoints([endpoint.url]) == (endpoint,)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.1:2379",
        "ftp://h:1",
        "http://",
        "http://h:99999",
        "http://h:x",
        "http://h/v3",
        "http://u:p@h:1",
        "http://h?x",
    ],
)
def test_not_parsed(url: str) -> None:
    """What is no endpoint is refused, saying which one."""
    with pytest.raises(InvalidField) as caught:
        parse_endpoints(["http://good", url])
    assert caught.value.field == "endpoints[1]"
    with pytest.raises(InvalidField):
        parse_endpoints([])


def test_the_good_one_is_remembered(endpoints: Endpoints) -> None:
    """The member that answered last is asked first."""
    assert endpoints.in_order() == (A, B, C)
    endpoints.answered(C)
    assert endpoints.in_order() == (C, A, B)
    endpoints.answered(B)
    assert endpoints.in_order() == (B, A, C)


def test_bad_ones_rest(clock: Clock, endpoints: Endpoints) -> None:
    """A member that failed is asked last for a while, longer for each failure in a row."""
    endpoints.answered(A)
    endpoints.failed(A)
    assert endpoints.in_order() == (B, C, A)
    clock.advance(0.6)
    assert endpoints.in_order() == (A, B, C)
    endpoints.failed(A)
    clock.advance(0.6)
    assert endpoints.in_order() == (B, C, A)
    clock.advance(0.5)
    assert endpoints.in_order() == (A, B, C)
    for _ in range(50):
        endpoints.failed(A)
    clock.advance(29)
    assert endpoints.in_order() == (B, C, A)
    clock.advance(2)
    assert endpoints.in_order() == (A, B, C)
    endpoints.failed(A)
    endpoints.answered(A)
    assert endpoints.in_order() == (A, B, C)


def test_useless_ones_rest_long(clock: Clock, endpoints: Endpoints) -> None:
    """A learner, which answers that it serves nothing, is left alone for long."""
    endpoints.failed(A, useless=True)
    clock.advance(29)
    assert endpoints.in_order() == (B, C, A)


def test_all_bad(clock: Clock, endpoints: Endpoints) -> None:
    """When all have failed, the one that has rested most is asked first."""
    for each in (B, A, C):
        endpoints.failed(each)
        clock.advance(0.1)
    assert endpoints.in_order() == (B, A, C)


def test_others(endpoints: Endpoints) -> None:
    """The members can be replaced; a removed one is asked no more, and what is known of the others stays."""
    endpoints.answered(A)
    endpoints.failed(B)
    d = Endpoint("http", "d", 2379)
    endpoints.replace((B, d))
    assert endpoints.in_order() == (d, B)
    endpoints.failed(A)
    endpoints.answered(A)
    assert endpoints.in_order() == (d, B)


def test_hosts_spread(clock: Clock) -> None:
    """Different hosts begin with different members."""
    first = {Endpoints(clock, (A, B, C), random.Random(seed).random).in_order()[0] for seed in range(30)}
    assert first == {A, B, C}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (b"", KeyRange(b"\0", b"\0")),
        (b"a", KeyRange(b"a", b"b")),
        (b"a\xff", KeyRange(b"a\xff", b"b")),
        (b"\xfe\xff\xff", KeyRange(b"\xfe\xff\xff", b"\xff")),
        (b"\xff\xff", KeyRange(b"\xff\xff", b"\0")),
    ],
)
def test_prefixes(prefix: bytes, expected: KeyRange) -> None:
    """A prefix ends before the next key that does not begin so, whatever its last byte is."""
    assert KeyRange.prefix(prefix) == expected


@pytest.mark.parametrize(
    ("files", "field"),
    [
        (lambda d: TlsFiles(ca=str(d / "none")), "ca"),
        (lambda d: TlsFiles(ca=str(d / "empty")), "ca"),
        (lambda d: TlsFiles(ca=str(d / "garbage")), "ca"),
        (lambda d: TlsFiles(certificate=str(d / "me.pem")), "key"),
        (lambda d: TlsFiles(certificate=str(d / "me.pem"), key=str(d / "none")), "key"),
        (lambda d: TlsFiles(certificate=str(d / "empty"), key=str(d / "empty")), "certificate"),
        (lambda d: TlsFiles(certificate=str(d / "me.pem"), key=str(d / "other.key")), "certificate"),
    ],
)
def test_files_of_no_use(tmp_path: Path, files: Callable[[Path], TlsFiles], field: str) -> None:
    """What is wrong with a certificate is known when the client is made, and which file it is."""
    authority = Authority(tmp_path)
    authority.vouch("me", CLIENT)
    authority.vouch("other", CLIENT)
    (tmp_path / "empty").touch()
    (tmp_path / "garbage").write_bytes(b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    with pytest.raises(InvalidField) as caught:
        Tls(files(tmp_path))
    assert caught.value.field == field
    with pytest.raises(InvalidField):
        settings: Any = EtcdSettings(("https://h",), files(tmp_path))
        connect(Clock(), settings)
