"""One check for each option: what may be said of it, and what it becomes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flynnhost.attributes import MAX_ATTRIBUTES, check_name, check_value
from flynnhost.errors import InvalidField

HOST_ID = re.compile(r"[A-Za-z0-9_.]{1,63}")
"""A host's ID; without a dash, because ``HOSTID-JOBID`` is split at the first one."""


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value or not _is_unicode(value):
        raise InvalidField(name, f"must be a text, not {value!r}")
    return value


def _is_unicode(text: str) -> bool:
    """Whether this can be sent to others; what an operator types need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _flag(name: str) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise InvalidField(name, f"must be true or false, not {value!r}")
        return value

    return check


def _address(name: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        try:
            return str(ipaddress.ip_address(_text(name, value)))
        except ValueError as e:
            raise InvalidField(name, f"must be an IP address, not {value!r}") from e

    return check


def _external(value: object) -> str:
    text = _address("external")(value)
    address = ipaddress.ip_address(text)
    if address.is_unspecified or address.is_multicast:
        raise InvalidField("external", f"must be an address at which this host can be reached, not {value!r}")
    return text


def _host_id(value: object) -> str:
    text = _text("id", value)
    if "-" in text:
        raise InvalidField("id", f"must have no dash: job IDs are HOST-UUID, so {text!r} would be ambiguous")
    if not HOST_ID.fullmatch(text):
        raise InvalidField("id", f"must be 1 to 63 letters, digits, dots and underscores, not {text!r}")
    return text


def _attributes(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise InvalidField("attributes", f"must be an object of texts, not {value!r}")
    for key, item in value.items():
        try:
            check_value(item, f"the value of {check_name(key, 'a name')!r}")
        except InvalidField as e:
            raise InvalidField("attributes", f"must be an object of texts: {e}") from e
    if len(value) > MAX_ATTRIBUTES:
        raise InvalidField("attributes", f"must not be more than {MAX_ATTRIBUTES}")
    return value


def _state_dir(value: object) -> Path:
    return Path(_text("state-dir", value)).absolute()


def _listen(value: object) -> tuple[str, ...]:
    listed = _list(value)
    if not listed or not all(isinstance(item, str) for item in listed):
        raise InvalidField("listen", f"must be one or more endpoint descriptions, not {value!r}")
    return tuple(_text("listen", item) for item in listed)


def _docker(value: object) -> str:
    text = _text("docker", value)
    if not text.startswith(("unix://", "tcp://")):
        raise InvalidField("docker", f"must begin with unix:// or tcp://, not {text!r}")
    return text


def _ports(value: object) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value) if isinstance(value, str) else None
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise InvalidField("ports", f"must be FROM-TO within 1-65535, not {value!r}")
    return first, last


def _number(name: str, first: int, last: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        # On the command line it is a text; Python refuses to read very long numbers.
        number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
        if not isinstance(number, int) or isinstance(number, bool) or not first <= number <= last:
            raise InvalidField(name, f"must be a number from {first} to {last}, not {value!r}")
        return number

    return check


def _etcd(value: object) -> tuple[str, ...]:
    """URLs, as a list or in one text with commas; what each of them says is for the client of etcd to see."""
    listed: Sequence[object] = value.split(",") if isinstance(value, str) else _list(value)
    urls = [item.strip() if isinstance(item, str) else item for item in listed]
    if not urls or not all(isinstance(url, str) and url for url in urls):
        raise InvalidField("etcd", f"must be URLs with commas between them, not {value!r}")
    return tuple(_text("etcd", url) for url in urls)


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


def _file(name: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        return str(Path(_text(name, value)).absolute())

    return check


CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "external": _external,
    "bind": _address("bind"),
    "id": _host_id,
    "attributes": _attributes,
    "state-dir": _state_dir,
    "listen": _listen,
    "docker": _docker,
    "ports": _ports,
    "force": _flag("force"),
    "solo": _flag("solo"),
    "max-starts": _number("max-starts", 1, 1000),
    "output-size": _number("output-size", 1, 100_000),
    "output-files": _number("output-files", 2, 100),
    "etcd": _etcd,
    "etcd-ca": _file("etcd-ca"),
    "etcd-cert": _file("etcd-cert"),
    "etcd-key": _file("etcd-key"),
    "etcd-user": partial(_text, "etcd-user"),
    "etcd-password-file": _file("etcd-password-file"),
    "lease-ttl": _number("lease-ttl", 2, 300),
}
