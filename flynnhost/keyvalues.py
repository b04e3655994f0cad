"""Keys and values of etcd, and what can be asked of it; ``interfaces.IEtcd`` takes and gives these."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen


@frozen
class KeyValue:
    """A key with its value.

    :param create_revision: of the change that made the key, after the last time it was not there.
    :param mod_revision: of its last change.
    :param version: how often it was changed since it was made, counted from 1.
    :param lease: the lease whose end removes it; 0 for none.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@frozen
class KeyRange:
    """Some keys: those from ``start`` to before ``end``.

    :param end: empty for the one key ``start``; a zero byte for all keys from ``start`` on.
    """

    start: bytes
    end: bytes = b""

    @classmethod
    def prefix(cls, prefix: bytes) -> KeyRange:
        """All keys that begin with these bytes; all keys there are, for none."""
        # etcd has no empty keys, so that all of them are after a zero byte.
        stem = prefix.rstrip(b"\xff")
        return cls(prefix or b"\0", stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0")

    def __contains__(self, key: bytes) -> bool:
        if not self.end:
            return key == self.start
        return self.start <= key and (self.end == b"\0" or key < self.end)


def _key_range(keys: KeyRange | bytes) -> KeyRange:
    return KeyRange(keys) if isinstance(keys, bytes) else keys


@frozen
class Get:
    """To read keys.

    :param limit: how many at the most; 0 for all.
    :param revision: as they were at this revision; 0 for now.
    :param serializable: whatever one member knows will do, which may be old. Without it, the
        answer has everything that was acknowledged to anyone before the question.
    :param min_mod_revision: only the keys changed at or after this revision; 0 for all. The
        count is of all the keys nevertheless.
    """

    keys: KeyRange = field(converter=_key_range)
    limit: int = 0
    revision: int = 0
    sort_by: Literal["key", "version", "create", "mod", "value"] = "key"
    descending: bool = False
    keys_only: bool = False
    count_only: bool = False
    serializable: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0


@frozen
class Put:
    """To give a key a value.

    :param lease: whose end removes the key; 0 takes it off the lease that it had.
    :param previous: whether to tell what it was before.
    """

    key: bytes
    value: bytes
    lease: int = 0
    previous: bool = False


@frozen
class Delete:
    """To remove keys.

    :param previous: whether to tell what they were.
    """

    keys: KeyRange = field(converter=_key_range)
    previous: bool = False


@frozen
class Compare:
    """A condition on a key.

    :param target: what of the key is compared. A key that is not there has the version and
        the revisions 0; a condition on its value never holds.
    :param value: bytes for ``value``, else a number.
    """

    key: bytes
    target: Literal["version", "create", "mod", "value"]
    operator: Literal["==", "!=", "<", ">"]
    value: int | bytes


@frozen
class Found:
    """What was read.

    :param count: of all keys of the range, also those kept out by ``limit``.
    :param revision: of the whole store at the time.
    """

    values: tuple[KeyValue, ...]
    count: int
    revision: int


@frozen
class Stored:
    """A value was stored, at this revision."""

    revision: int
    previous: KeyValue | None = None


@frozen
class Removed:
    """So many keys were removed, at this revision."""

    count: int
    revision: int
    previous: tuple[KeyValue, ...] = ()


@frozen
class TxnResult:
    """What came of a transaction: whether all conditions held, and what its operations gave, in order."""

    succeeded: bool
    revision: int
    results: tuple[Found | Stored | Removed, ...] = ()


@frozen
class KeyEvent:
    """A key was changed or removed.

    :param kv: as it is now; of a removed key only ``key`` and ``mod_revision`` mean something.
    :param previous: as it was before, None if it was not there or etcd has forgotten.
    """

    kv: KeyValue
    removed: bool = False
    previous: KeyValue | None = None


@frozen
class Grant:
    """A new lease, with the seconds it lasts; these may be more than were asked for."""

    lease: int
    ttl: int


@frozen
class LeaseState:
    """What is left of a lease.

    :param remaining: whole seconds until it ends.
    :param ttl: how long it lasts each time that it is kept alive.
    :param keys: that end with it; empty unless asked for.
    """

    remaining: int
    ttl: int
    keys: tuple[bytes, ...] = ()


@frozen
class EtcdMember:
    """A member of the etcd cluster. One that was never started has no name.

    :param learner: whether it has no vote yet.
    """

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool = False


@frozen
class EtcdStatus:
    """What one member says of itself.

    :param leader: the ID of the member that leads etcd; 0 for none.
    """

    member: int
    version: str
    leader: int
    revision: int
    raft_term: int
    db_size_bytes: int
