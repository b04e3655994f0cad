"""Where in a job's output a reader is, to go on from there later."""

from __future__ import annotations

import re
from datetime import datetime

from attrs import frozen

from flynnhost.errors import InvalidField

_FORM = re.compile(r"([0-9]{23})-([12])-([0-9]{1,9})-([0-9a-f]{8})(p?)")


@frozen
class LogPosition:
    """The place of one entry of a job's output: a line, or a piece of a long one.

    As a text it is the ID of the entry, of which nobody else needs to know what is in it.

    :param stamp: when it was written, in RFC 3339 with nine decimals, in UTC.
    :param stream: 1 for stdout, 2 for stderr.
    :param index: how many entries of the stream with this very stamp come before it.
    :param check: the CRC-32 of its data.
    :param partial: whether its line goes on in the next entry of the stream.
    """

    stamp: bytes
    stream: int
    index: int
    check: int
    partial: bool

    def __str__(self) -> str:
        digits = self.stamp.translate(None, b"-T:.Z").decode("ascii")
        return f"{digits}-{self.stream}-{self.index}-{self.check:08x}{'p' if self.partial else ''}"

    @classmethod
    def parse(cls, text: str, field: str) -> LogPosition:
        """The position of which this is the text.

        :param field: where the text was found.
        :raises InvalidField: naming the field, if it is none.
        """
        found = _FORM.fullmatch(text)
        stamp = "" if found is None else _stamp(found[1])
        if found is None or not stamp:
            raise InvalidField(field, f"must be the ID of an event of this output, not {text[:100]!r}")
        _, stream, index, check, partial = found.groups()
        return cls(stamp.encode("ascii"), int(stream), int(index), int(check, 16), bool(partial))


def _stamp(digits: str) -> str:
    """The stamp of which these are the digits; nothing if there is no such time."""
    seconds = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{digits[12:14]}"
    try:
        datetime.fromisoformat(seconds)
    except ValueError:
        return ""
    return f"{seconds}.{digits[14:]}Z"
