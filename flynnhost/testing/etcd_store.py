"""What the etcd in memory keeps: keys with their past, and leases. It knows no network and no clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, field

from flynnhost.errors import Compacted, EtcdRefused, LeaseLost
from flynnhost.keyvalues import (
    Compare,
    Delete,
    Found,
    Get,
    Grant,
    KeyEvent,
    KeyRange,
    KeyValue,
    LeaseState,
    Put,
    Removed,
    Stored,
    TxnResult,
)

Operation = Get | Put | Delete

_FIRST_LEASE = 2**62 + 1  # etcd's own don't fit into a float either

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda is_, value: bool(is_ == value),
    "!=": lambda is_, value: bool(is_ != value),
    "<": lambda is_, value: bool(is_ < value),
    ">": lambda is_, value: bool(is_ > value),
}


@define(eq=False)
class _Lease:
    ttl: int
    ends_at: float
    keys: set[bytes] = field(factory=set)


@define(eq=False)
class EtcdStore:
    """The keys, all they ever were, and the leases.

    :param min_ttl: seconds that each lease lasts at least.
    :ivar revision: of the last change.
    :ivar compacted: revisions before this one are forgotten.
    :ivar changed: is called with each revision's events.
    """

    min_ttl: int = 2
    changed: Callable[[Sequence[KeyEvent]], None] = lambda _events: None
    revision: int = field(init=False, default=1)
    compacted: int = field(init=False, default=0)
    _keys: dict[bytes, KeyValue] = field(init=False, factory=dict)
    _history: dict[int, tuple[KeyEvent, ...]] = field(init=False, factory=dict)
    _leases: dict[int, _Lease] = field(init=False, factory=dict)
    _next_lease: int = field(init=False, default=_FIRST_LEASE)

    # --- keys -----------------------------------------------------------------

    def txn(
        self, compares: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]
    ) -> TxnResult:
        """See ``IEtcd.txn``."""
        self._check([*success, *failure])
        _check_overlaps(success)
        _check_overlaps(failure)
        succeeded = all(map(self._holds, compares))
        events: list[KeyEvent] = []
        revision = self.revision + 1
        results = [self._do(each, revision, events) for each in (success if succeeded else failure)]
        self._commit(events)
        # All that is done at once is done at one revision, which is known only now.
        done = tuple(_at(each, self.revision) for each in results)
        return TxnResult(succeeded, self.revision, done)

    def events_since(self, revision: int, keys: KeyRange) -> list[tuple[KeyEvent, ...]]:
        """What happened to the keys at and after a revision, one tuple for each revision.

        :raises Compacted: when some of that is forgotten.
        """
        if revision < self.compacted:
            raise Compacted(self.compacted)
        past = (self._history.get(each, ()) for each in range(revision, self.revision + 1))
        return [mine for events in past if (mine := events_of(events, keys))]

    def compact(self, revision: int) -> None:
        """Forget what was before a revision."""
        if revision > self.revision:
            raise EtcdRefused("mvcc: required revision is a future revision")
        if revision <= self.compacted:
            raise Compacted(self.compacted)
        self.compacted = revision
        self._history = {each: events for each, events in self._history.items() if each >= revision}

    def _check(self, operations: Iterable[Operation]) -> None:
        for each in operations:
            if not (each.key if isinstance(each, Put) else each.keys.start):
                raise EtcdRefused("etcdserver: key is not provided")
            if isinstance(each, Put) and each.lease and each.lease not in self._leases:
                raise LeaseLost(each.lease)
            if isinstance(each, Get):
                if each.revision > self.revision:
                    raise EtcdRefused("etcdserver: mvcc: required revision is a future revision")
                if 0 < each.revision < self.compacted:
                    raise Compacted()

    def _holds(self, compare: Compare) -> bool:
        kv = self._keys.get(compare.key)
        if compare.target == "value":
            return kv is not None and _OPERATORS[compare.operator](kv.value, compare.value)
        has = 0
        if kv is not None:
            targets = {"version": kv.version, "create": kv.create_revision, "mod": kv.mod_revision}
            has = targets[compare.target]
        return _OPERATORS[compare.operator](has, compare.value)

    def _do(self, operation: Operation, revision: int, events: list[KeyEvent]) -> Found | Stored | Removed:
        if isinstance(operation, Put):
            return self._put(operation, revision, events)
        if isinstance(operation, Delete):
            return self._delete(operation, revision, events)
        return self._get(operation)

    def _get(self, query: Get) -> Found:
        there = self._keys if not query.revision else self._as_it_was(query.revision)
        of_range = [there[key] for key in sorted(there) if key in query.keys]
        wanted = [kv for kv in of_range if _passes(kv, query)]
        name = {"create": "create_revision", "mod": "mod_revision"}.get(query.sort_by, query.sort_by)
        wanted.sort(key=lambda kv: getattr(kv, name), reverse=query.descending)
        if query.limit:
            wanted = wanted[: query.limit]
        if query.count_only:
            wanted = []
        if query.keys_only:
            wanted = [KeyValue(kv.key, b"", *_numbers(kv)) for kv in wanted]
        return Found(tuple(wanted), len(of_range), self.revision)

    def _as_it_was(self, revision: int) -> dict[bytes, KeyValue]:
        there = dict(self._keys)
        for each in range(self.revision, revision, -1):
            for event in self._history.get(each, ()):
                if event.previous is None:
                    there.pop(event.kv.key, None)
                else:
                    there[event.kv.key] = event.previous
        return there

    def _put(self, put: Put, revision: int, events: list[KeyEvent]) -> Stored:
        was = self._keys.get(put.key)
        if was is not None and was.lease in self._leases:
            self._leases[was.lease].keys.discard(put.key)
        if put.lease:
            self._leases[put.lease].keys.add(put.key)
        created, version = (was.create_revision, was.version + 1) if was else (revision, 1)
        kv = KeyValue(put.key, put.value, created, revision, version, put.lease)
        self._keys[put.key] = kv
        events.append(KeyEvent(kv, previous=was))
        return Stored(revision, was if put.previous else None)

    def _delete(self, delete: Delete, revision: int, events: list[KeyEvent]) -> Removed:
        gone = [self._keys.pop(key) for key in sorted(self._keys) if key in delete.keys]
        for kv in gone:
            if kv.lease in self._leases:
                self._leases[kv.lease].keys.discard(kv.key)
            events.append(KeyEvent(KeyValue(kv.key, b"", 0, revision, 0), removed=True, previous=kv))
        return Removed(len(gone), revision, tuple(gone) if delete.previous else ())

    def _commit(self, events: Sequence[KeyEvent]) -> None:
        if events:
            self.revision += 1
            self._history[self.revision] = tuple(events)
            self.changed(tuple(events))

    # --- leases ---------------------------------------------------------------

    @property
    def leases(self) -> int:
        """How many leases there are."""
        return len(self._leases)

    def grant(self, ttl: int, now: float) -> Grant:
        """See ``IEtcd.grant``."""
        lease, self._next_lease = self._next_lease, self._next_lease + 1
        ttl = max(ttl, self.min_ttl)
        self._leases[lease] = _Lease(ttl, now + ttl)
        return Grant(lease, ttl)

    def keep_alive(self, lease: int, now: float) -> int:
        """See ``IEtcd.keep_alive_once``."""
        found = self._leases.get(lease)
        if found is None or found.ends_at <= now:
            raise LeaseLost(lease)
        found.ends_at = now + found.ttl
        return found.ttl

    def time_to_live(self, lease: int, keys: bool, now: float) -> LeaseState:
        """See ``IEtcd.time_to_live``."""
        found = self._leases.get(lease)
        if found is None or found.ends_at <= now:
            raise LeaseLost(lease)
        return LeaseState(int(found.ends_at - now), found.ttl, tuple(sorted(found.keys)) if keys else ())

    def revoke(self, lease: int) -> None:
        """See ``IEtcd.revoke``."""
        found = self._leases.pop(lease, None)
        if found is not None:
            events: list[KeyEvent] = []
            for key in sorted(found.keys):
                self._delete(Delete(key), self.revision + 1, events)
            self._commit(events)

    def expire(self, now: float) -> None:
        """End the leases whose time is over."""
        for lease in [lease for lease, each in self._leases.items() if each.ends_at <= now]:
            self.revoke(lease)

    def extend_all(self, now: float) -> None:
        """Let every lease last its whole time again, as a new leader of etcd does."""
        for each in self._leases.values():
            each.ends_at = now + each.ttl

    def next_end(self) -> float | None:
        """When the first of the leases ends; None if there is none."""
        return min((each.ends_at for each in self._leases.values()), default=None)


def events_of(events: Iterable[KeyEvent], keys: KeyRange) -> tuple[KeyEvent, ...]:
    """Those of the events that are about these keys."""
    return tuple(event for event in events if event.kv.key in keys)


def _passes(kv: KeyValue, query: Get) -> bool:
    return (
        kv.mod_revision >= query.min_mod_revision
        and kv.create_revision >= query.min_create_revision
        and kv.mod_revision <= (query.max_mod_revision or kv.mod_revision)
        and kv.create_revision <= (query.max_create_revision or kv.create_revision)
    )


def _numbers(kv: KeyValue) -> tuple[int, int, int, int]:
    return kv.create_revision, kv.mod_revision, kv.version, kv.lease


def _at(result: Found | Stored | Removed, revision: int) -> Found | Stored | Removed:
    if isinstance(result, Found):
        return Found(result.values, result.count, revision)
    if isinstance(result, Stored):
        return Stored(revision, result.previous)
    return Removed(result.count, revision, result.previous)


def _check_overlaps(operations: Sequence[Operation]) -> None:
    puts = [each.key for each in operations if isinstance(each, Put)]
    deleted = [each.keys for each in operations if isinstance(each, Delete)]
    if len(set(puts)) < len(puts) or any(key in keys for key in puts for keys in deleted):
        raise EtcdRefused("etcdserver: duplicate key given in txn request")
