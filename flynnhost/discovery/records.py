"""What service discovery keeps in etcd: where, and in what form.

A service is there if its record is, whatever else there may be of it. Its instances are each on
the lease of whoever registered them. If its leader is chosen by hand, a key has the ID of an
instance, which need not be there. Whatever a service's users want to share is its meta. Nothing
else is kept: an instance's index is the create revision of its key, that of the meta the revision
of its last change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

from attrs import Attribute, field, frozen

from flynnhost.errors import InvalidField
from flynnhost.keyvalues import KeyRange
from flynnhost.names import SERVICE_NAME

LeaderType = Literal["oldest", "manual"]

_PROTO = re.compile(r"[a-z0-9]+")
_ADDR = re.compile(r"(\[[^\s\[\]]+\]|[^\s:\[\]]+):([0-9]{1,5})")
_INSTANCE_ID = re.compile(r"[0-9a-f]{32}")


@frozen
class ServiceRecord:
    """A service that there is.

    :param leader_type: whether its oldest instance leads, or the one that was named.
    """

    leader_type: LeaderType


def _check_addr(_: object, __: Attribute[Any], value: str) -> None:
    found = _ADDR.fullmatch(value)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise InvalidField("addr", f"must be HOST:PORT, not {value!r}")


def _check_proto(_: object, __: Attribute[Any], value: str) -> None:
    if not _PROTO.fullmatch(value):
        raise InvalidField("proto", f"must be of a-z and 0-9, not {value!r}")


@frozen
class Instance:
    """One instance of a service.

    :param addr: where it is reached, as ``HOST:PORT``.
    :param proto: how it is spoken to: ``tcp``, ``udp``, ``http`` and so on.
    :param meta: what is said of it.
    """

    addr: str = field(validator=_check_addr)
    proto: str = field(default="tcp", validator=_check_proto)
    meta: Mapping[str, str] = field(factory=dict)

    @property
    def id(self) -> str:
        """What tells it from the service's other instances."""
        return hashlib.md5(f"{self.proto}-{self.addr}".encode(), usedforsecurity=False).hexdigest()


@frozen
class ServiceKeys:
    """Where a cluster keeps its services. All that belongs to a service begins alike.

    Names are checked; one that can't be fails with ``InvalidField``.

    :param prefix: of all keys of the cluster.
    """

    prefix: bytes

    @property
    def all(self) -> KeyRange:
        """Everything of all services."""
        return KeyRange.prefix(self.prefix + b"services/")

    def everything(self, service: str) -> KeyRange:
        """Everything of a service."""
        return KeyRange.prefix(self._of(service, b""))

    def record(self, service: str) -> bytes:
        """The service's ``ServiceRecord``."""
        return self._of(service, b"service")

    def meta(self, service: str) -> bytes:
        """The service's meta, as it was given."""
        return self._of(service, b"meta")

    def leader(self, service: str) -> bytes:
        """The ID of the instance that leads, if that is chosen by hand."""
        return self._of(service, b"leader")

    def instances(self, service: str) -> KeyRange:
        """All the service's instances."""
        return KeyRange.prefix(self._of(service, b"instances/"))

    def instance(self, service: str, instance_id: str) -> bytes:
        """An ``Instance`` of the service."""
        if not _INSTANCE_ID.fullmatch(instance_id):
            raise InvalidField("id", f"must be 32 hex digits, not {instance_id!r}")
        return self._of(service, b"instances/" + instance_id.encode())

    def _of(self, service: str, what: bytes) -> bytes:
        if not SERVICE_NAME.fullmatch(service):
            raise InvalidField("service", f"must be of a-z, 0-9 and -, not {service!r}")
        return b"%sservices/%s/%s" % (self.prefix, service.encode(), what)
