"""What a client sends and what it wants back: Content-Type, Accept and Prefer."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.web.server import Request
from werkzeug.exceptions import NotAcceptable, UnsupportedMediaType

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


def negotiate(request: Request, *offers: str) -> str:
    """Which of the offers to answer with: events if they are asked for by name, else the first
    that the client takes.

    :raises NotAcceptable: when it takes none.
    """
    wanted = _wanted(request)
    if wanted is not None and EVENTS in offers and EVENTS in wanted:
        return EVENTS
    for offer in offers:
        kind = offer.partition("/")[0]
        if wanted is None or not wanted.isdisjoint({offer, f"{kind}/*", "*/*"}):
            return offer
    raise NotAcceptable(f"this path answers with {' or '.join(offers)}")


def _wanted(request: Request) -> set[str] | None:
    """The media ranges that the client takes; None if it does not say."""
    elements = list(_elements(request, b"accept"))
    wanted = set()
    for element in elements:
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        if not any(_is_zero(parameter) for parameter in parameters):
            wanted.add(name)
    return wanted if elements else None


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.") and value.strip() != ""


def check_json_body(request: Request) -> None:
    """Refuse a body that does not call itself JSON.

    :raises UnsupportedMediaType: if so.
    """
    content_type = request.requestHeaders.getRawHeaders(b"content-type", [b""])[-1]
    if content_type.partition(b";")[0].strip().lower() != JSON.encode():
        raise UnsupportedMediaType(f"the body must be {JSON}")


def prefers_minimal(request: Request) -> bool:
    """Whether the client would rather have a short answer."""
    for preference in _elements(request, b"prefer"):
        name, _, value = preference.partition(";")[0].partition("=")
        if (name.strip().lower(), value.strip().strip('"').lower()) == ("return", "minimal"):
            return True
    return False


def _elements(request: Request, header: bytes) -> Iterator[str]:
    for line in request.requestHeaders.getRawHeaders(header, []):
        for element in line.decode("latin-1").split(","):
            if element.strip():
                yield element
