"""Where a job is to run, and how it gets there."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from flynnhost.cli.cluster_hosts import address_of
from flynnhost.cli.context import Context
from flynnhost.client import calls
from flynnhost.client.address import HostAddress
from flynnhost.client.calls import Call
from flynnhost.client.values import Job


@frozen
class Place:
    """A host for a job.

    :param asked: the host to send the job to.
    :param at: the host that the job is on then.
    """

    asked: HostAddress
    at: HostAddress
    host_id: str = ""

    def creating(self, job: Job) -> Call[Any]:
        """What sends it there; the same again does nothing more."""
        return calls.commit_jobs({self.host_id: [job]}) if self.host_id else calls.run_job(job)


def place(context: Context, host_id: str | None) -> Place:
    """The host of this ID, by way of the leader; without an ID, the host that is asked.

    :raises ClientError: when there is no such host.
    """
    address = context.address
    if not host_id or context.client.run(calls.host_status()).get("id") == host_id:
        return Place(address, address)
    host = context.client.run(calls.host(host_id))
    return Place(address, address_of(context, host), host_id)
