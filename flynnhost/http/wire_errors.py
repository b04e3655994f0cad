"""From the words of the JSON decoder to a field's path and what is wrong with it.

All this runs on the failure path only: the decoder names neither the keys of maps nor
the unknown field in its path, so both are looked up in the message and the data.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from flynnhost.errors import BadSyntax, FlynnHostError, InvalidField

#: What can go wrong in decoding; the order of the classes does not matter.
DECODING_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

#: The field that is named when the whole body is wrong.
BODY = "body"

_anything = msgspec.json.Decoder(msgspec.Raw)

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`| (>=|<=) (-?\d+))")
_WORDS = {
    "int": "an integer",
    "float": "a fraction",
    "str": "a string",
    "bool": "a boolean",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_BOUNDS = {">=": "at least", "<=": "at most"}


def decoding_error(error: Exception, data: bytes | msgspec.Raw) -> FlynnHostError:
    """The error to raise for one of ``DECODING_ERRORS``.

    :param data: what was being decoded; paths begin there.
    """
    if isinstance(error, RecursionError):
        return BadSyntax("is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return BadSyntax("is not UTF-8")
    if not isinstance(error, msgspec.ValidationError):
        return BadSyntax(f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}")
    try:
        # What is no JSON is told as such, also if a wrong field comes before the place.
        _anything.decode(data)
    except DECODING_ERRORS as e:
        return decoding_error(e, data)
    what, _, path = str(error).rpartition(" - at `$")
    if not what:
        what, path = str(error), ""
    return _invalid_field(what, _real_path(path.removesuffix("`"), data))


def _invalid_field(what: str, path: str) -> InvalidField:
    unknown = _UNKNOWN.fullmatch(what)
    if unknown:
        return InvalidField(f"{path}.{unknown[1]}".lstrip("."), "is not a known field")
    return InvalidField(path or BODY, _reason(what))


def _reason(what: str) -> str:
    found = _EXPECTED.fullmatch(what)
    if found is None:
        return "is out of range" if "out of range" in what else f"is not accepted: {what}"
    expected = " or ".join(_WORDS.get(part, part) for part in found[1].split(" | "))
    if found[2]:
        return f"must be {expected}, not {_WORDS.get(found[2], found[2])}"
    return f"must be {_BOUNDS[found[3]]} {found[4]}"


def _real_path(path: str, data: bytes | msgspec.Raw) -> str:
    """The path with each ``[...]`` replaced by the key that it stands for."""
    if "[...]" not in path:
        return path.lstrip(".")
    try:
        value = msgspec.json.decode(data)
    except DECODING_ERRORS:
        return path.lstrip(".")
    steps: list[str] = []
    for step in _STEP.finditer(path):
        # The map of hosts holds lists; every map further in holds strings.
        key = _key(step, value, str if steps else list)
        value = value[key]
        steps.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    return "".join(steps).lstrip(".")


def _key(step: re.Match[str], value: dict[str, Any], proper: type) -> str | int:
    if step[1] is not None:
        return step[1]
    if step[2] is not None:
        return int(step[2])
    return next(key for key, item in value.items() if not isinstance(item, proper))


def find_nul(value: Any) -> str | None:
    """The path of a string with a NUL in it, if there is one."""
    if isinstance(value, str):
        return "" if "\0" in value else None
    if isinstance(value, dict):
        for key, item in value.items():
            if "\0" in key:
                return f".{key}"
            found = find_nul(item)
            if found is not None:
                return f".{key}{found}"
    if isinstance(value, list):
        for index, item in enumerate(value):
            found = find_nul(item)
            if found is not None:
                return f"[{index}]{found}"
    return None
