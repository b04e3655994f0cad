"""A job's container configuration from the wire: every value checked, and written in the one way."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from typing import TypeVar

from flynnhost.canonical import to_nanoseconds, to_seconds
from flynnhost.errors import InvalidField
from flynnhost.names import SERVICE_NAME, VOLUME_NAME
from flynnhost.wire_job import WireCheck, WireConfig, WireMount, WirePort, WireService, WireVolume

_CHECK_TYPES = ("tcp", "http", "https")

W = TypeVar("W")


def check_config(wire: WireConfig) -> None:
    """Check all values, and write them as ``canonical.to_wire`` does.

    :raises InvalidField: for the first one that can't be accepted; the path begins in the configuration.
    """
    if wire.working_dir and not wire.working_dir.startswith("/"):
        raise InvalidField("working_dir", "must be an absolute path")
    if wire.mounts:
        _each("mounts", wire.mounts, _check_mount)
    if wire.volumes:
        _each("volumes", wire.volumes, _check_volume)
    if wire.mounts or wire.volumes:
        _check_places(wire.mounts or [], wire.volumes or [])
    if wire.env:
        check_env(wire.env)
    if wire.ports:
        _check_ports(wire.ports)
    # What is empty is left out.
    wire.entry_point = wire.entry_point or None
    wire.cmd = wire.cmd or None
    wire.env = wire.env or None
    wire.mounts = wire.mounts or None
    wire.volumes = wire.volumes or None
    wire.ports = wire.ports or None


def _each(name: str, wires: Iterable[W], check: Callable[[W], None]) -> None:
    for index, wire in enumerate(wires):
        try:
            check(wire)
        except InvalidField as e:
            raise e.under(f"{name}[{index}]") from None


def check_env(env: dict[str, str]) -> None:
    """Check variables.

    :raises InvalidField: for the first one that can't be accepted.
    """
    for name in env:
        if not name:
            raise InvalidField("env", "must not have an empty name")
        if "=" in name:
            raise InvalidField(f"env.{name}", "must not have = in its name")


def _check_mount(wire: WireMount) -> None:
    _check_container_path("location", wire.location)
    _check_path("target", wire.target)


def _check_volume(wire: WireVolume) -> None:
    _check_container_path("target", wire.target)
    if not VOLUME_NAME.fullmatch(wire.volume):
        raise InvalidField("volume", f"{wire.volume!r} is not a volume name: {VOLUME_NAME.pattern}")


def _check_places(mounts: list[WireMount], volumes: list[WireVolume]) -> None:
    """Refuse two things at one place of the container."""
    places = [(f"mounts[{index}].location", mount.location) for index, mount in enumerate(mounts)]
    places += [(f"volumes[{index}].target", volume.target) for index, volume in enumerate(volumes)]
    taken = set()
    for name, place in places:
        if place in taken:
            raise InvalidField(name, f"{place} is taken already")
        taken.add(place)


def _check_container_path(name: str, path: str) -> None:
    _check_path(name, path)
    if path == "/":
        raise InvalidField(name, "must not be the root of the container")


def _check_path(name: str, path: str) -> None:
    if not path.startswith("/"):
        raise InvalidField(name, "must be an absolute path")
    # A path of POSIX may begin with two slashes; nobody means that here.
    if path.startswith("//") or posixpath.normpath(path) != path:
        raise InvalidField(
            name, f"must be written in its shortest form: {posixpath.normpath('/' + path.lstrip('/'))}"
        )


def _check_ports(ports: list[WirePort]) -> None:
    _each("ports", ports, _check_port)
    seen = set()
    for index, port in enumerate(ports):
        if port.port and (port.port, port.proto) in seen:
            raise InvalidField(f"ports[{index}].port", f"{port.port}/{port.proto} is there more than once")
        seen.add((port.port, port.proto))


def _check_port(wire: WirePort) -> None:
    wire.proto = wire.proto or "tcp"
    if wire.proto not in ("tcp", "udp"):
        raise InvalidField("proto", f"must be tcp or udp, not {wire.proto!r}")
    if wire.service is not None:
        _check_service(wire.service)


def _check_service(wire: WireService) -> None:
    if not SERVICE_NAME.fullmatch(wire.name):
        raise InvalidField("service.name", f"{wire.name!r} is not a service name: {SERVICE_NAME.pattern}")
    if wire.check is not None:
        _check_check(wire.check)


def _check_check(wire: WireCheck) -> None:
    if wire.type not in ("", *_CHECK_TYPES):
        raise InvalidField(
            "service.check.type", f"must be one of {', '.join(_CHECK_TYPES)}, not {wire.type!r}"
        )
    wire.type = wire.type or "tcp"
    wire.interval = to_nanoseconds(to_seconds(wire.interval))
    wire.start_timeout = to_nanoseconds(to_seconds(wire.start_timeout))
    wire.flynn_status = wire.flynn_status or wire.status
    wire.status = 0
