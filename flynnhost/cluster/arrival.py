"""What a host says of itself when it joins the cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from attrs import field, frozen

from flynnhost.cluster.stored import Placed


@frozen
class Arrival:
    """A host that joins, or reports anew.

    :param jobs: which go on.
    :param draining: whether it is to get no more jobs.
    :param resources: what its machine has: memory in bytes, cpu in thousandths of a core.
    :param addr: where its HTTP API is reached, as ``HOST:PORT``; empty if that is not known.
    :param instance: what tells the host from another that was given the same ID; empty for one that
        is told by its link only.
    :param ended: the IDs of jobs that have ended, of which there may have been more.
    :param ended_are_all: whether there were none.
    """

    host_id: str
    attributes: Mapping[str, str] = field(factory=dict)
    jobs: Iterable[Placed] = ()
    instance: str = ""
    ended: Collection[str] = ()
    ended_are_all: bool = True
    draining: bool = False
    resources: Mapping[str, int] = field(factory=dict)
    addr: str = ""
