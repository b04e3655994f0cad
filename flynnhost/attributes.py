"""What may be said of a host for schedulers: names with values, of bounded number and size."""

from __future__ import annotations

from flynnhost.errors import InvalidField

MAX_ATTRIBUTES = 250
"""How many a host may have."""

MAX_NAME_BYTES = 250
"""The longest name, in UTF-8."""

MAX_VALUE_BYTES = 4000
"""The longest value, in UTF-8; it may be empty."""


def check_name(name: object, field: str) -> str:
    """The name of an attribute.

    :param field: what the error is to name.
    :raises InvalidField: when it is none.
    """
    text = _text(name, field, MAX_NAME_BYTES)
    if not text:
        raise InvalidField(field, "must not be empty")
    return text


def check_value(value: object, field: str) -> str:
    """The value of an attribute.

    :param field: what the error is to name.
    :raises InvalidField: when it is none.
    """
    return _text(value, field, MAX_VALUE_BYTES)


def _text(value: object, field: str, longest: int) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise InvalidField(field, f"must be a text, not {value!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as e:
        raise InvalidField(field, f"must be a text in Unicode, not {value!r}") from e
    if size > longest:
        raise InvalidField(field, f"must not have more than {longest} bytes, but has {size}")
    return value
