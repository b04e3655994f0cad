"""A job as JSON: as it is posted, sent, kept and told, everywhere the same.

Reading is strict: no unknown fields, no wrong types; null only where Go's encoder sends it.
Writing leaves out what has its default. Rules beyond types are in ``flynnhost.http.decode``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

_INT64_MAX = 2**63 - 1

LONGEST = _INT64_MAX
"""Nanoseconds of the longest duration that Go's programs know."""

PortNumber = Annotated[int, Meta(ge=0, le=65535)]
UserId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Amount = Annotated[int, Meta(ge=1, le=_INT64_MAX)]
Count = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
Nanoseconds = Annotated[int, Meta(ge=0, le=LONGEST)]
StopTimeout = Annotated[int, Meta(ge=0, le=3600 * 10**9)]


class WireArtifact(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Where a job's image comes from."""

    url: str = ""
    type: str = ""


class WireQuantity(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What a job asks of one resource."""

    request: Amount | None = None
    limit: Amount | None = None


class WireResources(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What a job asks of the host."""

    memory: WireQuantity | None = None
    cpu: WireQuantity | None = None
    max_fd: WireQuantity | None = None
    max_procs: WireQuantity | None = None


class WireMount(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A path of the host seen in the container."""

    location: str = ""
    target: str = ""
    writeable: bool = False


class WireVolume(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A named volume seen in the container."""

    target: str = ""
    volume: str = ""
    writeable: bool = False


class WireCheck(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """How a service's health is found out; durations in nanoseconds."""

    type: str = ""
    interval: Nanoseconds = 0
    threshold: Count = 0
    kill_down: bool = False
    start_timeout: Nanoseconds = 0
    path: str = ""
    host: str = ""
    match: str = ""
    status: Annotated[int, Meta(ge=0, le=999)] = 0
    #: Flynn's clients know the field above by this name only.
    flynn_status: Annotated[int, Meta(ge=0, le=999)] = msgspec.field(default=0, name="status.omitempty")


class WireService(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The service under which a port is registered."""

    name: str = ""
    create: bool = False
    check: WireCheck | None = None


class WirePort(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A port of a job."""

    port: PortNumber = 0
    proto: str = ""
    service: WireService | None = None


class WireConfig(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """How a job's container is set up."""

    tty: bool = False
    stdin: bool = False
    data: bool = False
    host_network: bool = False
    disable_log: bool = False
    entry_point: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: dict[str, str] | None = None
    mounts: list[WireMount] | None = None
    volumes: list[WireVolume] | None = None
    ports: list[WirePort] | None = None
    working_dir: str = ""
    uid: UserId | None = None
    stop_timeout: StopTimeout | None = None


class WireJob(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A job as it is asked for."""

    id: str = ""
    metadata: dict[str, str] | None = None
    artifact: WireArtifact | None = None
    resources: WireResources | None = None
    config: WireConfig | None = None
    resurrect: bool = False
