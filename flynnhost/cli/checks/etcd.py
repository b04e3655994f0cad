"""etcd, asked from here as far as that is possible without its secrets."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from attrs import frozen

from flynnhost.cli.checks.finding import Finding, failed, ok, warning
from flynnhost.cli.checks.subject import Subject

_ASK_WITHIN = 3.0
_NEEDED = (3, 4, 11)
_CLOCK = 2.5  # the Date of an answer is in whole seconds


@frozen
class Member:
    """What a member of etcd says.

    :param error: why it is of no use; empty if it is.
    :param ahead: seconds by which its clock is ahead of the one here, about.
    """

    url: str
    error: str = ""
    version: str = ""
    ahead: float | None = None


def check_etcd(subject: Subject) -> Iterator[Finding]:
    """Whether what keeps the cluster together is there for the host, and is well."""
    status = subject.status
    if status.solo if status is not None else subject.options.solo:
        yield ok("etcd", "is not needed: this host is the whole cluster")
        return
    told = status.etcd if status is not None else None
    urls = told.endpoints if told is not None else subject.options.etcd
    if told is not None and not told.answers:
        yield failed(
            "etcd",
            "does not confirm this host's lease, so the host can't lead or be found",
            "Are most members running ('etcdctl endpoint status --cluster'), and reached from the"
            " host? Its log"
            " tells more; docs/etcd.md says what it means.",
        )
    elif told is not None:
        yield ok("etcd", f"has confirmed this host's lease of {told.lease_ttl:g} s")
    members = ask_members([url for url in urls if url.startswith("http://")])
    if members:
        yield from _members(members, answers=told is not None and told.answers)


def ask_members(urls: Sequence[str]) -> list[Member]:
    """What members say, all asked at once."""
    if not urls:
        return []
    with ThreadPoolExecutor(min(len(urls), 16)) as pool:
        return list(pool.map(ask_member, urls))


def ask_member(url: str, now: Callable[[], float] = time.time) -> Member:
    """What a member says of itself.

    :param now: tells the time here.
    """
    place = urlsplit(url)
    try:
        connection = http.client.HTTPConnection(place.hostname or "", place.port or 2379, timeout=_ASK_WITHIN)
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            body, at = answer.read(100_000), now()
            ahead = _ahead(answer.headers.get("Date", ""), at)
            if answer.status != 200 or json.loads(body).get("health") not in ("true", True):
                return Member(url, f"says that it is not healthy ({_shortened(body)})", ahead=ahead)
            connection.request("GET", "/version")
            version = json.loads(connection.getresponse().read(100_000)).get("etcdserver", "")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as e:
        return Member(url, getattr(e, "strerror", None) or str(e) or type(e).__name__)
    except (ValueError, AttributeError):
        return Member(url, "does not answer as etcd does")
    return Member(url, version=str(version), ahead=ahead)


def _members(members: Sequence[Member], *, answers: bool) -> Iterator[Finding]:
    bad = [member for member in members if member.error]
    good = [member for member in members if not member.error]
    troubles = "; ".join(f"{member.url}: {member.error}" for member in bad)
    if bad and 2 * len(good) <= len(members) and not answers:
        yield failed(
            "etcd members",
            f"{len(bad)} of {len(members)} are of no use: {troubles}",
            "Start them, or correct the --etcd of the host: more than half of them must serve.",
        )
    elif bad:
        yield warning(
            "etcd members",
            f"{len(bad)} of {len(members)} are of no use: {troubles}",
            "The others serve as long as they are more than half: see to these before another one fails.",
        )
    else:
        versions = ", ".join(sorted({member.version for member in good}))
        yield ok("etcd members", f"all {len(good)} are healthy, version {versions}")
    old = [member for member in good if _numbers(member.version) < _NEEDED]
    if old:
        named = ", ".join(f"{member.url} ({member.version})" for member in old)
        yield failed("etcd members", f"too old: {named}", "flynn-host needs etcd 3.4.11 or later.")
    off = [member for member in members if member.ahead is not None and abs(member.ahead) > _CLOCK]
    if off:
        named = ", ".join(f"{member.url} by {member.ahead:+.0f} s" for member in off)
        advice = "Let all machines take the time from the same source: chrony or systemd-timesyncd."
        yield warning("clock", f"those of etcd and of this machine differ: {named}", advice)


def _ahead(date: str, at: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - at
    except (TypeError, ValueError):
        return None


def _shortened(body: bytes) -> str:
    return " ".join(body[:100].decode(errors="replace").split())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".") if part.isdecimal())
