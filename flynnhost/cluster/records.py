"""What the cluster keeps in etcd: where, and in what form.

``hosts/ID`` is there while the host is, ``candidates/N`` while the host that holds the slot may
lead, and ``leader`` while somebody leads. Each is on the lease of the host that wrote it.
``members/ID`` stays when the host is gone, until a leader has given it up, and ``base`` for ever.
"""

from __future__ import annotations

from attrs import frozen

from flynnhost.keyvalues import KeyRange


@frozen
class HostRecord:
    """A host that is there.

    :param addr: where its HTTP API is reached, as ``HOST:PORT``.
    :param instance: what tells it from another host that was given the same ID.
    """

    id: str
    addr: str
    instance: str


@frozen
class LeaderRecord:
    """The host that leads.

    :param term: the create revision of its candidate's key.
    :param since: when it was elected, as RFC 3339 text; empty if the record does not say.
    """

    id: str
    addr: str
    term: int
    since: str = ""


@frozen
class Keys:
    """Where a cluster keeps its records.

    :param prefix: of all keys of the cluster.
    """

    prefix: bytes = b"/flynn-host/"

    @property
    def hosts(self) -> KeyRange:
        """The records of all hosts."""
        return KeyRange.prefix(self.prefix + b"hosts/")

    @property
    def members(self) -> KeyRange:
        """The records of all hosts that are there, or are waited for."""
        return KeyRange.prefix(self.prefix + b"members/")

    @property
    def candidates(self) -> KeyRange:
        """The slots of all candidates."""
        return KeyRange.prefix(self.prefix + b"candidates/")

    @property
    def leader(self) -> bytes:
        """The leader's record."""
        return self.prefix + b"leader"

    @property
    def base(self) -> bytes:
        """What is added to revisions for terms; see ``Terms``."""
        return self.prefix + b"base"

    def host(self, host_id: str) -> bytes:
        """A host's record."""
        return self.prefix + b"hosts/" + host_id.encode()

    def member(self, host_id: str) -> bytes:
        """A host's record that outlives it."""
        return self.prefix + b"members/" + host_id.encode()

    def candidate(self, slot: int) -> bytes:
        """A candidate's slot."""
        return self.prefix + b"candidates/%d" % slot
