"""Which part of a job's output a request is for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from attrs import evolve
from twisted.web.server import Request

from flynnhost.errors import InvalidField
from flynnhost.http.query import Query
from flynnhost.interfaces import LogQuery
from flynnhost.log_position import LogPosition

_SECONDS = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,9}))?")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|[+ -][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID_FORM = re.compile(r"[0-9]+-[0-9]+-.*")


def log_query(request: Request) -> LogQuery:
    """What the query and the headers say. An ID, in ``since`` or ``Last-Event-ID``, is that of the event
    to continue after.

    :raises InvalidField: when a parameter has no proper value.
    """
    query = Query.of(request)
    only = query.choice("stream", ("stdout", "stderr"))
    wanted = LogQuery(
        stdout=only != "stderr",
        stderr=only != "stdout",
        follow=query.flag("follow"),
        tail=query.count("tail"),
    )
    since = query.text("since")
    if since:
        if _ID_FORM.fullmatch(since) and not _TIME.fullmatch(since):
            return evolve(wanted, after=LogPosition.parse(since, "since"))
        return evolve(wanted, since_ns=_nanoseconds(since))
    last = request.requestHeaders.getRawHeaders(b"last-event-id", [b""])[-1].decode("latin-1")
    return evolve(wanted, after=LogPosition.parse(last, "Last-Event-ID")) if last else wanted


def _nanoseconds(text: str) -> int:
    """The time in a text, in nanoseconds since 1970."""
    seconds = _SECONDS.fullmatch(text)
    if seconds is not None:
        return int(seconds[1]) * 1_000_000_000 + int((seconds[2] or "").ljust(9, "0"))
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        # A plus sign in a query is read as a space unless it was escaped.
        zone = found[3].upper().replace("Z", "+00:00").replace(" ", "+")
        since_epoch = datetime.fromisoformat(f"{found[1].upper()}{zone}") - _EPOCH
    except (ValueError, OverflowError):
        raise InvalidField(
            "since",
            f"must be a time (RFC 3339, or seconds since 1970) or the ID of an event, not {text[:100]!r}",
        ) from None
    whole = since_epoch // timedelta(seconds=1)
    return max(0, whole) * 1_000_000_000 + (int((found[2] or "").ljust(9, "0")) if whole >= 0 else 0)
