"""JSON answers of any size: small ones at once, large ones in slices as the client takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from flynnhost.http.outflow import Outflow

#: Up to this size, an answer is made in one go and has a Content-Length.
_AT_ONCE_BYTES = 64 * 1024

#: Seconds without progress after which a reader is given up.
_STALL_LIMIT = 60


def set_json(request: Request) -> None:
    """Say that the answer is JSON."""
    request.setHeader(b"Content-Type", b"application/json")


def json_body(request: Request, body: bytes) -> bytes:
    """An answer that is there already."""
    set_json(request)
    request.setHeader(b"Content-Length", str(len(body)).encode())
    return body


def empty_body(request: Request) -> bytes:
    """Success, and nothing to say of it."""
    request.setHeader(b"Content-Length", b"0")
    return b""


async def json_list(request: Request, clock: IReactorTime, items: Iterable[Iterable[bytes]]) -> bytes | None:
    """Answer with a list.

    :param items: each value of the list, as the pieces of its JSON.
    """
    return await _send(request, clock, _enclosed(b"[", items, b"]"))


async def json_value(request: Request, clock: IReactorTime, pieces: Iterator[bytes]) -> bytes | None:
    """Answer with one value.

    :param pieces: of its JSON.
    """
    return await _send(request, clock, pieces)


async def json_map(
    request: Request, clock: IReactorTime, items: Iterable[tuple[bytes, Iterable[bytes]]]
) -> bytes | None:
    """Answer with a map.

    :param items: each key with its value, as JSON and the pieces of its JSON.
    """
    pairs = (chain([key + b":"], value) for key, value in items)
    return await _send(request, clock, _enclosed(b"{", pairs, b"}"))


def _enclosed(opening: bytes, items: Iterable[Iterable[bytes]], closing: bytes) -> Iterator[bytes]:
    yield opening
    separator = b""
    for item in items:
        yield separator
        yield from item
        separator = b","
    yield closing


async def _send(request: Request, clock: IReactorTime, pieces: Iterator[bytes]) -> bytes | None:
    head: list[bytes] = []
    size = 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > _AT_ONCE_BYTES:
            break
    else:
        return json_body(request, b"".join(head))
    set_json(request)
    out = Outflow(request, clock, stall_limit=_STALL_LIMIT)
    over = out.when_over()
    out.start(chain(head, pieces))
    out.end()
    await over
    return None
