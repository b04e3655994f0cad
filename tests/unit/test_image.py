"""What an artifact's URL means."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flynnhost.image import ImageReference, parse_image

ID = "0123456789abcdef" * 4
HUB = "https://registry.hub.docker.com"


@pytest.mark.parametrize(
    ("url", "reference"),
    [
        ("busybox", "busybox:latest"),
        ("busybox:1.36", "busybox:1.36"),
        ("docker://busybox", "busybox:latest"),
        ("docker://flynn/etcd:v1", "flynn/etcd:v1"),
        ("localhost:5000/a/b_c__d.e--f", "localhost:5000/a/b_c__d.e--f:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("Registry.Example.com/a:T_a.g-1", "Registry.Example.com/a:T_a.g-1"),
        (f"a@sha256:{ID}", f"a@sha256:{ID}"),
        (f"a:t@sha256:{ID}", f"a:t@sha256:{ID}"),
        (f"{HUB}?name=busybox", "busybox:latest"),
        (f"{HUB}?name=flynn/etcd&tag=v1", "flynn/etcd:v1"),
        (f"{HUB}/v1/?name=flynn/etcd&tag=", "flynn/etcd:latest"),
        ("https://index.docker.io?name=a&other=b", "a:latest"),
        ("https://r.example.com:5000/v1?name=a/b&tag=x", "r.example.com:5000/a/b:x"),
        ("https://r.example.com?name=a%2Fb", "r.example.com/a/b:latest"),
    ],
)
def test_references(url: str, reference: str) -> None:
    """An image that a registry has, always with a tag or a digest."""
    assert parse_image(url) == ImageReference(reference)


@pytest.mark.parametrize(
    ("url", "reference"),
    [
        (ID, f"sha256:{ID}"),
        (f"sha256:{ID}", f"sha256:{ID}"),
        (f"docker://{ID}", f"sha256:{ID}"),
        (f"{HUB}?name=flynn/etcd&id={ID}", ID),
        (f"{HUB}?id={ID[:12]}", ID[:12]),
        (f"{HUB}?id=sha256:{ID}", f"sha256:{ID}"),
    ],
)
def test_ids(url: str, reference: str) -> None:
    """An image that the engine must have already."""
    assert parse_image(url) == ImageReference(reference, pullable=False)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must not be empty"),
        ("a" * 1025, "must not be longer"),
        ("a" * 300, "more than 255"),
        ("Busybox", "lower case"),
        (f"{HUB}?name=Busybox", "lower case"),
        ("a:b:c", "is not an image reference"),
        ("a b", "is not an image reference"),
        ("a\n", "is not an image reference"),
        ("busybox:ä", "is not an image reference"),
        ("/a", "is not an image reference"),
        ("-a", "is not an image reference"),
        ("a@sha256:123", "is not an image reference"),
        ("docker://", "is not an image reference"),
        ("http://h?name=a", "must be an image reference, docker://"),
        ("file:///etc/passwd", "must be an image reference, docker://"),
        (HUB, "name or id"),
        (f"{HUB}?tag=x", "name or id"),
        (f"{HUB}?name=a&name=b", "more than once"),
        (f"{HUB}?name=a&tag=b:c", "is not an image reference"),
        (f"{HUB}?name=a;b", "is not an image reference"),
        (f"{HUB}?id=../x", "is no image ID"),
        (f"{HUB}?id=abc", "is no image ID"),
        ("https://user:secret@h?name=a", "user name or password"),
        ("https://?name=a", "no proper registry host"),
        ("https://h h?name=a", "no proper registry host"),
        ("https://[::1?name=a", "is not a proper URL"),
        (f"{HUB}?name", "is not a proper URL"),
        (f"{HUB}?" + "&".join(f"a{n}=b" for n in range(100)), "is not a proper URL"),
    ],
)
def test_refusals(url: str, reason: str) -> None:
    """What is no image is refused with the reason, and without any secret."""
    with pytest.raises(ValueError, match=reason) as caught:
        parse_image(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["a-" * 511, "a" * 1023 + "!", "a." * 511, "a/" * 511, "a_" * 511, "1" * 1000 + ":", "a:" * 500]
)
def test_time(url: str) -> None:
    """No text takes long."""
    began = time.process_time()
    with pytest.raises(ValueError, match=r"is not an image reference|more than 255"):
        parse_image(url)
    assert time.process_time() - began < 0.1


@given(st.text() | st.text("a:/@.-_%?&=[]", max_size=20).map(lambda text: "https://h" + text))
def test_any_text(text: str) -> None:
    """Any text is an image, or refused in words."""
    try:
        assert parse_image(text).reference
    except ValueError as e:
        assert str(e)
