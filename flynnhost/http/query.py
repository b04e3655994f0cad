"""The parameters behind the question mark, each with its name in every complaint."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from attrs import frozen
from twisted.web.server import Request

from flynnhost.errors import InvalidField

_FLAGS = {"": True, "true": True, "1": True, "false": False, "0": False}
_LARGEST = 2**31 - 1


@frozen
class Query:
    """The query of a request."""

    _values: Mapping[str, list[str]]

    @classmethod
    def of(cls, request: Request) -> Query:
        """The query of this request."""
        # Not request.args: Twisted leaves out what has a name only.
        text = request.uri.partition(b"?")[2].decode("ascii", "replace")
        return cls(parse_qs(text, keep_blank_values=True, errors="surrogateescape"))

    def text(self, name: str) -> str:
        """The value, or nothing.

        :raises InvalidField: when there is more than one, or it is no text.
        """
        values = self._values.get(name, [])
        if len(values) > 1:
            raise InvalidField(name, "is there more than once")
        text = values[0] if values else ""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidField(name, "is not UTF-8") from None
        return text

    def flag(self, name: str, default: bool = False) -> bool:
        """Whether the parameter is there and not false.

        :param default: what it is when it is not there.
        :raises InvalidField: when it is neither true nor false.
        """
        if name not in self._values:
            return default
        value = self.text(name)
        if value not in _FLAGS:
            raise InvalidField(name, f"must be true or false, not {value!r}")
        return _FLAGS[value]

    def count(self, name: str) -> int | None:
        """The number, or None when it is not there.

        :raises InvalidField: when it is not a whole number from 0.
        """
        if name not in self._values:
            return None
        value = self.text(name)
        if not (value.isascii() and value.isdecimal() and len(value) <= 10 and int(value) <= _LARGEST):
            raise InvalidField(name, f"must be a whole number from 0 to {_LARGEST}, not {value!r}")
        return int(value)

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """One of the choices, or None when it is not there.

        :raises InvalidField: when it is something else.
        """
        if name not in self._values:
            return None
        value = self.text(name)
        if value not in choices:
            raise InvalidField(name, f"must be {' or '.join(choices)}, not {value!r}")
        return value
