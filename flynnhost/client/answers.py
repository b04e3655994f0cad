"""From the answers of hosts to values, and to errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from attrs import field, frozen

from flynnhost.client.errors import BadAnswer, Refused, refused

T = TypeVar("T")

MAX_ERROR_BYTES = 1024 * 1024
"""How much of an error is read."""


@frozen
class Answer:
    """A whole answer.

    :param url: who has given it.
    :param headers: by their names in lower case.
    """

    url: str
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)

    def as_value(self, kind: type[T]) -> T:
        """What the body says.

        :raises BadAnswer: when it does not say such a thing.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise BadAnswer(self.url, str(e)) from e

    def checked(self) -> Answer:
        """The same answer, if it is a success.

        :raises Refused: when it is an error.
        :raises BadAnswer: when it is not like any answer of a host.
        """
        if self.status == 200:
            return self
        raise self.error()

    def error(self) -> Refused | BadAnswer:
        """The error that this answer is."""
        try:
            told = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told = None
        if not isinstance(told, dict) or not isinstance(told.get("code"), str):
            return BadAnswer(self.url, f"status {self.status} without an error of flynn-host")
        detail = told.get("detail")
        return refused(
            self.status,
            told["code"],
            str(told.get("message") or told["code"]),
            detail if isinstance(detail, dict) else {} if detail is None else {"detail": detail},
            retry=told.get("retry") is True,
            retry_after=_seconds(self.headers.get("retry-after", "")),
        )


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdecimal() else None


Read = Callable[[Answer], T]
"""Makes a value of an answer."""


def as_value(kind: type[T]) -> Read[T]:
    """Reads successes of this type."""
    return lambda answer: answer.checked().as_value(kind)


def nothing(answer: Answer) -> None:
    """Reads successes that say nothing."""
    answer.checked()


def as_json(answer: Answer) -> Any:
    """Reads successes as plain lists and dictionaries, with all there is in them."""
    return answer.checked().as_value(object)
