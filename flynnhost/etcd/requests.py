"""Our requests as txaioetcd's, which knows how etcd wants them put."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import txaioetcd

from flynnhost.keyvalues import Compare, Delete, Get, KeyRange, Put


def key_set(keys: KeyRange) -> txaioetcd.KeySet:
    """Some keys. Never as a prefix: what txaioetcd makes of those is wrong for some bytes."""
    return txaioetcd.KeySet(keys.start, range_end=keys.end or None)


def range_request(query: Get) -> dict[str, Any]:
    """The body of a request to read."""
    op = txaioetcd.OpGet(
        key_set(query.keys),
        count_only=query.count_only,
        keys_only=query.keys_only,
        limit=query.limit,
        max_create_revision=query.max_create_revision,
        min_create_revision=query.min_create_revision,
        min_mod_revision=query.min_mod_revision,
        revision=query.revision,
        serializable=query.serializable,
        **_sorting(query),
    )
    body: dict[str, Any] = op._marshal()["request_range"]
    if query.max_mod_revision:
        body["max_mod_revision"] = query.max_mod_revision
    return body


def _sorting(query: Get) -> dict[str, str]:
    if query.sort_by == "key" and not query.descending:
        return {}  # so it is anyway, and asked to sort, etcd reads all keys even if few are wanted
    return {"sort_order": "DESCEND" if query.descending else "ASCEND", "sort_target": query.sort_by.upper()}


class _Range(txaioetcd.Op):  # type: ignore[misc]
    """A read within a transaction, with all that txaioetcd leaves out."""

    def __init__(self, query: Get) -> None:
        super().__init__()
        self._query = query

    def _marshal(self) -> dict[str, Any]:
        return {"request_range": range_request(self._query)}


def operation(op: Get | Put | Delete, client: txaioetcd.Client) -> txaioetcd.Op:
    """Something to be done in a transaction."""
    if isinstance(op, Put):
        lease = txaioetcd.Lease(client, None, 0, op.lease) if op.lease else None
        return txaioetcd.OpSet(op.key, op.value, lease=lease, return_previous=op.previous)
    if isinstance(op, Delete):
        return txaioetcd.OpDel(key_set(op.keys), return_previous=op.previous)
    return _Range(op)


def comparison(compare: Compare) -> txaioetcd.Comp:
    """A condition of a transaction."""
    kinds = {
        "version": txaioetcd.CompVersion,
        "create": txaioetcd.CompCreated,
        "mod": txaioetcd.CompModified,
        "value": txaioetcd.CompValue,
    }
    return kinds[compare.target](compare.key, compare.operator, compare.value)


def transaction(
    client: txaioetcd.Client,
    compares: Sequence[Compare],
    success: Sequence[Get | Put | Delete],
    failure: Sequence[Get | Put | Delete],
) -> dict[str, Any]:
    """The body of a request for a transaction."""
    txn = txaioetcd.Transaction(
        compare=[comparison(each) for each in compares],
        success=[operation(each, client) for each in success],
        failure=[operation(each, client) for each in failure],
    )
    body: dict[str, Any] = txn._marshal()
    return body
