"""A job's container configuration from the wire, with every value checked."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from typing import TypeVar

from flynnhost.errors import InvalidField
from flynnhost.http.wire_types import WireCheck, WireConfig, WireMount, WirePort, WireService, WireVolume
from flynnhost.model import ContainerConfig, HealthCheck, Mount, Port, PortService, VolumeBinding
from flynnhost.names import SERVICE_NAME, VOLUME_NAME

_NANOSECONDS = 10**9
_CHECK_TYPES = ("tcp", "http", "https")

_DEFAULTS = ContainerConfig()

W = TypeVar("W")
T = TypeVar("T")


def to_config(wire: WireConfig | None) -> ContainerConfig:
    """The configuration.

    :raises InvalidField: for the first value that can't be accepted; the path begins in it.
    """
    if wire is None:
        return _DEFAULTS
    if wire.working_dir and not wire.working_dir.startswith("/"):
        raise InvalidField("working_dir", "must be an absolute path")
    mounts = _each("mounts", wire.mounts, _to_mount) if wire.mounts else ()
    volumes = _each("volumes", wire.volumes, _to_volume) if wire.volumes else ()
    if mounts or volumes:
        _check_places(mounts, volumes)
    return ContainerConfig(
        tty=wire.tty,
        stdin=wire.stdin,
        data=wire.data,
        host_network=wire.host_network,
        disable_log=wire.disable_log,
        entry_point=wire.entry_point or (),
        cmd=wire.cmd or (),
        env=_to_env(wire.env) if wire.env else {},
        mounts=mounts,
        volumes=volumes,
        ports=_to_ports(wire.ports) if wire.ports else (),
        working_dir=wire.working_dir,
        uid=wire.uid,
        stop_timeout=None if wire.stop_timeout is None else wire.stop_timeout / _NANOSECONDS,
    )


def _each(name: str, wires: Iterable[W], convert: Callable[[W], T]) -> tuple[T, ...]:
    values = []
    for index, wire in enumerate(wires):
        try:
            values.append(convert(wire))
        except InvalidField as e:
            raise e.under(f"{name}[{index}]") from None
    return tuple(values)


def _to_env(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if not name:
            raise InvalidField("env", "must not have an empty name")
        if "=" in name:
            raise InvalidField(f"env.{name}", "must not have = in its name")
    return env


def _to_mount(wire: WireMount) -> Mount:
    _check_container_path("location", wire.location)
    _check_path("target", wire.target)
    return Mount(wire.location, wire.target, wire.writeable)


def _to_volume(wire: WireVolume) -> VolumeBinding:
    _check_container_path("target", wire.target)
    if not VOLUME_NAME.fullmatch(wire.volume):
        raise InvalidField("volume", f"{wire.volume!r} is not a volume name: {VOLUME_NAME.pattern}")
    return VolumeBinding(wire.target, wire.volume, wire.writeable)


def _check_places(mounts: tuple[Mount, ...], volumes: tuple[VolumeBinding, ...]) -> None:
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


def _to_ports(wires: list[WirePort]) -> tuple[Port, ...]:
    ports = _each("ports", wires, _to_port)
    seen = set()
    for index, port in enumerate(ports):
        if port.port and (port.port, port.proto) in seen:
            raise InvalidField(f"ports[{index}].port", f"{port.port}/{port.proto} is there more than once")
        seen.add((port.port, port.proto))
    return ports


def _to_port(wire: WirePort) -> Port:
    proto = wire.proto or "tcp"
    if proto not in ("tcp", "udp"):
        raise InvalidField("proto", f"must be tcp or udp, not {proto!r}")
    return Port(wire.port, proto, None if wire.service is None else _to_service(wire.service))


def _to_service(wire: WireService) -> PortService:
    if not SERVICE_NAME.fullmatch(wire.name):
        raise InvalidField("service.name", f"{wire.name!r} is not a service name: {SERVICE_NAME.pattern}")
    return PortService(wire.name, wire.create, None if wire.check is None else _to_check(wire.check))


def _to_check(wire: WireCheck) -> HealthCheck:
    if wire.type not in ("", *_CHECK_TYPES):
        raise InvalidField(
            "service.check.type", f"must be one of {', '.join(_CHECK_TYPES)}, not {wire.type!r}"
        )
    return HealthCheck(
        type=wire.type or "tcp",
        interval=wire.interval / _NANOSECONDS,
        threshold=wire.threshold,
        kill_down=wire.kill_down,
        start_timeout=wire.start_timeout / _NANOSECONDS,
        path=wire.path,
        host=wire.host,
        match=wire.match,
        status=wire.flynn_status or wire.status,
    )
