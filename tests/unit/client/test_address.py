"""The forms in which a host's address is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flynnhost.client.address import HostAddress, from_environment
from flynnhost.client.errors import BadAddress


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://10.0.0.1:2113", "10.0.0.1", 2113),
        ("http://10.0.0.1:2113/", "10.0.0.1", 2113),
        ("HTTP://node-1.example", "node-1.example", 1113),
        ("node:80", "node", 80),
        ("node", "node", 1113),
        ("[::1]:1114", "::1", 1114),
        ("http://[2001:DB8::1]", "2001:db8::1", 1113),
    ],
)
def test_forms(text: str, host: str, port: int) -> None:
    assert HostAddress.parse(text) == HostAddress(host, port)


@pytest.mark.parametrize(
    "text",
    ["", "https://h", "h:0", "h:65536", "h:", "::1", "[::g]:1", "h/x", "http://u@h", "a b"],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(BadAddress):
        HostAddress.parse(text)


def test_environment() -> None:
    assert from_environment({}) == HostAddress("127.0.0.1", 1113)
    assert from_environment({"FLYNN_HOST_URL": ""}) == HostAddress("127.0.0.1", 1113)
    assert from_environment({"FLYNN_HOST_URL": "h:5"}) == HostAddress("h", 5)
    with pytest.raises(BadAddress):
        from_environment({"FLYNN_HOST_URL": "ftp://h"})


@given(st.text())
def test_any_text(text: str) -> None:
    """It is an address that means the same when it is written again, or refused."""
    try:
        address = HostAddress.parse(text)
    except BadAddress:
        return
    assert HostAddress.parse(address.url) == address
    assert HostAddress.parse(address.netloc) == address
