"""A host's slot in the election."""

from __future__ import annotations

from attrs import frozen

from flynnhost.cluster.records import Keys
from flynnhost.etcd.lease import Lease
from flynnhost.etcd.mirror import Mirror
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import Compare, Put


@frozen
class Candidacy:
    """A slot that this host holds, for as long as its lease lasts.

    :param revision: the create revision of its key.
    """

    key: bytes
    revision: int
    lease: Lease

    @property
    def ours(self) -> Compare:
        """The condition that the slot is held still."""
        return Compare(self.key, "create", "==", self.revision)

    def is_held(self, slots: Mirror) -> bool:
        """Whether the slot is ours as far as a mirror of all slots says, which may be behind."""
        own = slots.values.get(self.key)
        return slots.revision < self.revision or (own is not None and own.create_revision == self.revision)

    def wins(self, slots: Mirror) -> bool:
        """Whether the slot is the oldest. Ask only when it is held."""
        if slots.revision < self.revision:
            return False
        return min(kv.create_revision for kv in slots.values.values()) == self.revision


async def claim(etcd: IEtcd, keys: Keys, host_id: str, lease: Lease, slots: int) -> Candidacy | None:
    """Take a free slot. None if there is none.

    :param slots: how many there are.
    :raises EtcdTrouble: when it can't be taken now.
    :raises LeaseLost: when there is no such lease.
    """
    while True:
        found = await etcd.get(keys.candidates)
        for kv in found.values:
            if kv.lease == lease.id:  # an earlier try, of which no answer came
                return Candidacy(kv.key, kv.create_revision, lease)
        taken = {kv.key for kv in found.values}
        free = next((slot for slot in map(keys.candidate, range(slots)) if slot not in taken), None)
        if free is None:
            return None
        result = await etcd.txn([Compare(free, "create", "==", 0)], [Put(free, host_id.encode(), lease.id)])
        if result.succeeded:
            return Candidacy(free, result.revision, lease)
