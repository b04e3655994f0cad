"""What people type of a job: sizes, variables, ports, paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from flynnhost.client.values import Mount, Port, Volume

_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_CPUS = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,9}))?|\.([0-9]{1,9})")

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_PART = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(ms|s|m|h|d)")
_DURATION = re.compile(f"(?:{_PART.pattern}){{1,5}}")
_NANOSECONDS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}

_INT64_MAX = 2**63 - 1


class BadText(ValueError):
    """This is not what it is to be; the error says why."""


def size(text: str) -> int:
    """Bytes: ``512m``, ``1.5g``, ``64k``, ``1000``; units are powers of 1024.

    :raises BadText: when it is something else.
    """
    found = _SIZE.fullmatch(text.strip())
    value = _scaled(found[1], found[2], _UNITS[found[3].lower()]) if found else 0
    if not 0 < value <= _INT64_MAX:
        raise BadText(f"{text!r} is no size; it is to be like 512m or 1.5g, and above 0")
    return value


def cpus(text: str) -> int:
    """Thousandths of a core: ``0.5``, ``2``.

    :raises BadText: when it is something else.
    """
    found = _CPUS.fullmatch(text.strip())
    value = _scaled(found[1] or "0", found[2] or found[3], 1000) if found else 0
    if value <= 0:
        raise BadText(f"{text!r} is no number of cores; it is to be like 0.5 or 2, and at least 0.001")
    return value


def duration(text: str) -> int:
    """Nanoseconds: ``30``, ``30s``, ``1.5m``, ``500ms``, ``1h30m``, ``2d``.

    :raises BadText: when it is something else.
    """
    text = text.strip()
    with_unit = f"{text}s" if _SECONDS.fullmatch(text) else text
    value = sum(_scaled(part[1], part[2], _NANOSECONDS[part[3]]) for part in _PART.finditer(with_unit))
    if not _DURATION.fullmatch(with_unit) or value > _INT64_MAX:
        raise BadText(f"{text!r} is no length of time; it is to be like 30s or 5m")
    return value


def _scaled(whole: str, fraction: str | None, unit: int) -> int:
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def pair(text: str) -> tuple[str, str]:
    """A name and a value: ``NAME=VALUE``.

    :raises BadText: when it is something else.
    """
    name, sign, value = text.partition("=")
    if not (sign and name):
        raise BadText(f"{text!r} is to be NAME=VALUE")
    return name, value


def variables(texts: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Variables: ``NAME=VALUE``, or ``NAME`` for one of our own, which is left out when we don't have it.

    :raises BadText: when one is something else.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or "\0" in text:
            raise BadText(f"{text!r} is to be NAME=VALUE, or NAME of a variable that is set here")
        if sign:
            found[name] = value
        elif name in environ:
            found[name] = environ[name]
    return found


def variables_of_file(content: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables in a file: one on each line, without quotes; lines that are empty or begin with # are
    passed over.

    :raises BadText: when a line is something else; it tells which.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(content.removeprefix("\ufeff").split("\n"), 1):
        text = line.lstrip().removesuffix("\r")
        if text and not text.startswith("#"):
            try:
                found |= variables([text], environ)
            except BadText as e:
                raise BadText(f"line {number}: {e}") from None
    return found


def port(text: str) -> Port:
    """A port: ``8080``, ``53/udp``, ``0`` for one that the host chooses.

    :raises BadText: when it is something else.
    """
    number, slash, proto = text.partition("/")
    proto = proto.lower() if slash else "tcp"
    if number.isascii() and number.isdecimal() and len(number) <= 5 and proto in ("tcp", "udp"):
        if int(number) <= 65535:
            return Port(int(number), proto)
    elif ":" in text:
        raise BadText(f"{text!r}: a port is the same in the job and on its host, so give one number")
    raise BadText(f"{text!r} is no port; it is to be like 8080, 53/udp, or 0 for one that the host chooses")


def uid(text: str) -> int:
    """A user, by number.

    :raises BadText: when it is something else.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise BadText(f"{text!r} is no user: it is to be a number, like 1000")
    return int(text)


def volume(text: str) -> Mount | Volume:
    """A path of the host or a volume at a path of the container: ``/HOST/PATH:/PATH``, ``NAME:/PATH``;
    ``:ro`` behind it lets it only be read.

    :raises BadText: when it is something else.
    """
    source, *rest = text.split(":")
    mode = rest[1] if len(rest) == 2 else "rw"
    if not (1 <= len(rest) <= 2 and source and rest[0].startswith("/") and mode in ("ro", "rw")):
        raise BadText(f"{text!r} is to be NAME:/PATH or /HOST/PATH:/PATH, with :ro behind it to only read")
    writeable = mode == "rw"
    if source.startswith("/"):
        return Mount(location=rest[0], target=source, writeable=writeable)
    if "/" in source or source in (".", ".."):
        raise BadText(f"{text!r}: a path of the host is to begin with /, for it may be another machine")
    return Volume(target=rest[0], volume=source, writeable=writeable)
