"""What an operator says of a host: on the command line, in a file, or not at all."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from flynnhost.errors import InvalidField

HOST_ID = re.compile(r"[A-Za-z0-9_.]{1,63}")
"""A host's ID; without a dash, because ``HOSTID-JOBID`` is split at the first one."""

DEFAULT_DOCKER = "unix:///var/run/docker.sock"


@frozen
class Settings:
    """One host's settings. The names are those of the options, with ``_`` for ``-``.

    :param external: the address at which this host and its containers are reached.
    :param bind: the address on which jobs' ports are published; empty for all.
    :param listen: Twisted endpoint descriptions of the HTTP API.
    :param docker: the URL of the Docker engine.
    :param ports: the first and the last port that jobs can be given.
    :param force: end what an earlier instance of this host booted.
    :param solo: this host is the whole cluster.
    :param max_starts: how many jobs are created and started at the same time.
    """

    external: str
    id: str
    bind: str = ""
    attributes: Mapping[str, str] = field(factory=dict)
    state_dir: Path = Path("/var/lib/flynn-host")
    listen: tuple[str, ...] = ("tcp:1113",)
    docker: str = DEFAULT_DOCKER
    ports: tuple[int, int] = (55000, 65535)
    force: bool = False
    solo: bool = False
    max_starts: int = 4


def settings(
    given: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    hostname: Callable[[], str] = socket.gethostname,
    default_address: Callable[[], str] | None = None,
) -> Settings:
    """The settings that follow from what was given, on the command line and in a file.

    :param given: by the name of the option; ``config`` names a file with more of the same,
        which is overruled by everything else that is given.
    :raises InvalidField: naming the option.
    """
    filed = _from_file(given["config"]) if given.get("config") else {}
    merged = {name: value for name, value in {**filed, **given}.items() if name != "config"}
    merged["attributes"] = {**filed.get("attributes", {}), **_attributes(given.get("attributes", {}))}
    if "docker" not in merged:
        merged["docker"] = _docker_host(environ) or DEFAULT_DOCKER
    if "id" not in merged:
        merged["id"] = id_of_host_name(hostname())
    if "external" not in merged:
        merged["external"] = (default_address or address_of_default_route)()
    return Settings(**{name.replace("-", "_"): _CHECKS[name](value) for name, value in merged.items()})


def id_of_host_name(name: str) -> str:
    """The ID that a host has for want of a better one: its name up to the first dot, without dashes.

    :raises InvalidField: when nothing remains that could be one.
    """
    host_id = name.partition(".")[0].replace("-", "")
    if not HOST_ID.fullmatch(host_id):
        raise InvalidField("id", f"must be given: none can be made of this host's name, {name!r}")
    return host_id


def address_of_default_route() -> str:
    """This host's address towards the rest of the world. Nothing is sent.

    :raises InvalidField: when there is no default route.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address kept for examples, RFC 5737
        except OSError as e:
            raise InvalidField("external", "must be given: this host has no default route") from e
        address: str = probe.getsockname()[0]
        return address


def attribute(text: str) -> tuple[str, str]:
    """A pair from ``KEY=VALUE``.

    :raises InvalidField: when it is none.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidField("attribute", f"must be KEY=VALUE, not {text!r}")
    return key, value


def _from_file(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as e:
        raise InvalidField("config", f"{path} can't be read: {e.strerror}") from e
    except ValueError as e:
        raise InvalidField("config", f"{path} is not JSON: {e}") from e
    except RecursionError as e:
        raise InvalidField("config", f"{path} is nested too deeply") from e
    if not isinstance(content, dict):
        raise InvalidField("config", f"{path} must hold a JSON object")
    for name, value in content.items():
        if name not in _CHECKS:
            known = ", ".join(sorted(_CHECKS))
            raise InvalidField("config", f"{path} has the unknown key {name!r}; known are {known}")
        try:
            _CHECKS[name](value)
        except InvalidField as e:
            raise InvalidField(f"config {path}: {e.field}", e.reason) from e
    return content


def _docker_host(environ: Mapping[str, str]) -> str:
    url = environ.get("DOCKER_HOST", "")
    try:
        return _docker(url) if url else ""
    except InvalidField as e:
        raise InvalidField("docker", f"must be given, because DOCKER_HOST is of no use: it {e.reason}") from e


# --- one check for each option ------------------------------------------------


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
        if not key or not isinstance(item, str) or not (_is_unicode(key) and _is_unicode(item)):
            raise InvalidField("attributes", f"must be an object of texts, not {key!r}: {item!r}")
    return value


def _state_dir(value: object) -> Path:
    return Path(_text("state-dir", value)).absolute()


def _listen(value: object) -> tuple[str, ...]:
    listed: Sequence[object] = value if isinstance(value, list) else [value]
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


def _max_starts(value: object) -> int:
    # On the command line it is a text; Python refuses to read very long numbers.
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 1000:
        raise InvalidField("max-starts", f"must be a number from 1 to 1000, not {value!r}")
    return number


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
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
    "max-starts": _max_starts,
}
