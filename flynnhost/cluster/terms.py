"""Keeps the terms of leaders growing, whatever becomes of etcd.

A term is the create revision of the winner's key, plus a base. The base is 0 until a host comes that
has heard a higher term than etcd's revisions make: when etcd has lost its data, or a host was a
cluster of its own before. It would refuse all leaders otherwise, as older than what it has heard.
"""

from __future__ import annotations

from attrs import define

from flynnhost.cluster.records import Keys
from flynnhost.errors import EtcdRefused
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import Compare, Found, Put

MAX_TERM = 2**62
"""Terms are kept by journals as 64 bit integers."""


@define(eq=False)
class Terms:
    """The base of all terms, in etcd."""

    _etcd: IEtcd
    _keys: Keys

    async def base(self) -> int:
        """What to add to a revision for a term.

        :raises EtcdUnavailable: and the other errors of ``IEtcd.get``.
        :raises EtcdRefused: also when what is there was not written by a host.
        """
        return _base(await self._etcd.get(self._keys.base))

    async def raise_above(self, heard: int) -> None:
        """See to it that the terms of all who become candidates from now on are higher.

        :param heard: the highest term that this host knows of.
        :raises EtcdUnavailable: and the other errors of ``IEtcd``.
        """
        while True:
            found = await self._etcd.get(self._keys.base)
            if heard <= _base(found) + found.revision:
                return
            as_found = Compare(
                self._keys.base, "mod", "==", found.values[0].mod_revision if found.values else 0
            )
            if (await self._etcd.txn([as_found], [Put(self._keys.base, b"%d" % heard)])).succeeded:
                return


def _base(found: Found) -> int:
    text = found.values[0].value if found.values else b"0"
    if not text.isdigit() or not (base := int(text[:20])) < MAX_TERM:
        raise EtcdRefused(f"the base of terms is {text[:30]!r}, which no host has written")
    return base
