"""What people type of a job, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flynnhost.cli import job_texts
from flynnhost.cli.detach_keys import KEYS, DetachKeys
from flynnhost.cli.foreground import not_started
from flynnhost.cli.job_texts import BadText
from flynnhost.cli.log import moment
from flynnhost.client.values import ActiveJob, Job, Mount, Port, Status, Volume


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("512m", 512 << 20),
        ("1.5g", 3 << 29),
        ("64K", 65536),
        ("1000", 1000),
        ("2GiB", 2 << 30),
        ("1kb", 1024),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert job_texts.size(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1m", "m", "1.m", "1e3", "0.0001k", "9" * 15 + "t", "1 x"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(BadText, match="is no size"):
        job_texts.size(text)


@pytest.mark.parametrize(("text", "value"), [("0.5", 500), ("2", 2000), (".25", 250), ("1.0005", 1000)])
def test_cpus(text: str, value: int) -> None:
    assert job_texts.cpus(text) == value


@pytest.mark.parametrize("text", ["", "0", ".", "0.0001", "-1", "half", "1,5"])
def test_no_cpus(text: str) -> None:
    with pytest.raises(BadText):
        job_texts.cpus(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("1.5m", 90),
        ("500ms", 0.5),
        ("1h", 3600),
        ("0", 0),
        ("1h30m", 5400),
        ("2d", 172800),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert job_texts.duration(text) == seconds * 1e9


def test_ports() -> None:
    assert job_texts.port("8080") == Port(8080, "tcp")
    assert job_texts.port("53/UDP") == Port(53, "udp")
    assert job_texts.port("0") == Port(0, "tcp")
    for text in ("", "65536", "-1", "80/sctp", "http", "80/"):
        with pytest.raises(BadText, match="is no port"):
            job_texts.port(text)
    with pytest.raises(BadText, match="the same in the job and on its host"):
        job_texts.port("80:8080")


def test_users() -> None:
    assert (job_texts.uid("0"), job_texts.uid("1000")) == (0, 1000)
    for text in ("", "root", "-1", "0:0", "1.5", "\u0661"):
        with pytest.raises(BadText, match="is to be a number, like 1000"):
            job_texts.uid(text)


def test_volumes() -> None:
    assert job_texts.volume("data:/data") == Volume(target="/data", volume="data", writeable=True)
    assert job_texts.volume("/srv:/data:ro") == Mount(location="/data", target="/srv", writeable=False)
    for text in ("", "/data", "data:", "data:data", "a:/b:x", "a:/b:ro:c", ":/b"):
        with pytest.raises(BadText):
            job_texts.volume(text)
    for text in ("./x:/data", "x/y:/data", "..:/data"):
        with pytest.raises(BadText, match="is to begin with /"):
            job_texts.volume(text)


def test_variables() -> None:
    environ = {"HOME": "/root"}
    assert job_texts.variables(["A=1", "B=", "C=x=y", "HOME", "NONE"], environ) == {
        "A": "1",
        "B": "",
        "C": "x=y",
        "HOME": "/root",
    }
    with pytest.raises(BadText):
        job_texts.variables(["=1"], {})


def test_file_of_variables() -> None:
    content = '# all of it\r\n\nA=1\r\n  B="q" \nHOME\n#C=1\n'
    assert job_texts.variables_of_file(content, {"HOME": "/"}) == {"A": "1", "B": '"q" ', "HOME": "/"}
    with pytest.raises(BadText, match="line 2: '=x'"):
        job_texts.variables_of_file("A=1\n=x", {})


READERS = (
    job_texts.size,
    job_texts.cpus,
    job_texts.duration,
    job_texts.port,
    job_texts.volume,
    job_texts.pair,
)


@given(
    read=st.sampled_from(READERS),
    text=st.one_of(st.text(), st.from_regex(r"[0-9.:/kmg=-]{0,20}", fullmatch=True)),
)
def test_any_text(read: Any, text: str) -> None:
    """It is accepted, or refused with a reason; and numbers are as a host takes them."""
    try:
        value = read(text)
    except BadText as e:
        assert str(e)
        return
    if isinstance(value, int):
        assert 0 <= value < 2**63


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]))


@given(st.dictionaries(NAMES, VALUES))
def test_variables_come_back(given_ones: dict[str, str]) -> None:
    texts = [f"{name}={value}" for name, value in given_ones.items()]
    assert job_texts.variables(texts, {}) == given_ones
    assert job_texts.variables_of_file("\n".join(texts), {}) == given_ones


def test_moments() -> None:
    assert moment("2026-01-31T12:00:00Z") == "2026-01-31T12:00:00Z"
    assert moment("2026-01-31T12:00:00.5+02:00") == "2026-01-31T10:00:00.500000Z"
    assert moment("10m").endswith("Z")
    for text in ("yesterday", "", "999999999d", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-12:00"):
        with pytest.raises(BadText, match="is no time like"):
            moment(text)


@pytest.mark.parametrize("text", ["", "s", "1h30", "1m 1s", "-1", "1x", "\u0663", "999999999h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(BadText, match="is no length of time"):
        job_texts.duration(text)


@given(st.lists(st.binary(max_size=5)), st.binary(max_size=5))
def test_detach_keys_are_found_however_they_come(pieces: list[bytes], last: bytes) -> None:
    """All that was typed before is passed on, and nothing is lost when they don't come."""
    keys = DetachKeys()
    passed = b""
    typed = b"".join([*pieces, last])
    for piece in [*pieces, last]:
        some, leave = keys.feed(piece)
        passed += some
        if leave:
            assert KEYS in typed
            assert passed == typed.partition(KEYS)[0]
            return
    assert KEYS not in typed
    held = KEYS[:1] if typed.endswith(KEYS[:1]) else b""
    assert passed + held == typed


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ('exec: "nope": executable file not found in $PATH', 127),
        ("stat /nope: no such file or directory", 127),
        ("permission denied: unknown", 126),
        ("manifest unknown", 125),
        ("", 125),
    ],
)
def test_codes_of_jobs_that_could_not_be_started(reason: str, code: int) -> None:
    error = not_started(ActiveJob(Job("j1"), status=Status.FAILED, error=reason))
    assert error.code == code
    assert str(error).startswith("job j1 could not be started: ")
