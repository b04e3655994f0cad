"""Finds the jobs that people mean: by ID, by the beginning of it, or by HOST-ID."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from flynnhost.cli.cluster_hosts import address_of
from flynnhost.cli.context import Context
from flynnhost.cli.exit_codes import ExitCode
from flynnhost.cli.failures import CommandFailed
from flynnhost.client import calls
from flynnhost.client.address import HostAddress
from flynnhost.client.blocking import BlockingClient
from flynnhost.client.errors import Invalid, NotFound, Refused, Unavailable
from flynnhost.client.values import ActiveJob, Host

_SHOWN = 5
"""How many candidates are told when it is not clear which job is meant."""


@frozen
class FoundJob:
    """A job, and the host to ask about it."""

    id: str
    address: HostAddress
    client: BlockingClient


def find_job(context: Context, reference: str) -> FoundJob:
    """The job that is meant.

    First comes the host that is asked, then the rest of the cluster; a whole ID comes before one that only
    begins like this. Of the jobs of other hosts, only those that have not ended are found, but for
    ``HOST-ID``.

    :raises CommandFailed: when there is none, or several.
    :raises ClientError: when the host can't be asked.
    """
    if not reference:
        # Most likely a shell's variable that was not set. The path of no job is that of the list of all.
        raise CommandFailed("the ID of a job is empty. 'flynn-host ps' lists the jobs.", ExitCode.USAGE)
    here = context.client
    if _has(here, reference):
        return FoundJob(reference, context.address, here)
    local = here.run(calls.jobs())
    found = _matching(local, reference, _ids_of_hosts(local.values()))
    if found:
        return FoundJob(found, context.address, here)
    return _find_elsewhere(context, reference)


def find_jobs(context: Context, references: Iterable[str]) -> list[FoundJob]:
    """The jobs that are meant, each once."""
    found = {(job.address, job.id): job for job in (find_job(context, each) for each in references)}
    return list(found.values())


def _has(client: BlockingClient, job_id: str) -> bool:
    try:
        client.run(calls.job_json(job_id))
    except (NotFound, Invalid):
        return False
    return True


def _ids_of_hosts(jobs: Iterable[ActiveJob]) -> set[str]:
    return {job.host_id for job in jobs}


def _matching(jobs: Iterable[str], reference: str, host_ids: Iterable[str]) -> str | None:
    """The one of these jobs that is meant; those of these hosts may have the host before their ID."""
    jobs = list(jobs)
    wanted = [reference]
    host_id, dash, rest = reference.partition("-")
    if dash and rest and host_id in host_ids:
        wanted.append(rest)
    for each in wanted:
        if each in jobs:
            return each
    candidates = sorted({job for each in wanted if each for job in jobs if job.startswith(each)})
    if len(candidates) > 1:
        raise _ambiguous(reference, candidates)
    return candidates[0] if candidates else None


def _find_elsewhere(context: Context, reference: str) -> FoundJob:
    try:
        hosts = context.client.run(calls.hosts("ids")).hosts
    except Unavailable as e:
        raise _unknown(f"no job {reference} on this host, and no others are known: {e}") from e
    except Refused as e:
        raise _unknown(f"no job {reference} on this host") from e
    by_id = {host.id: host for host in hosts}
    host_id, _, rest = reference.partition("-")
    if rest and host_id in by_id:
        return _on_host(context, by_id[host_id], rest)
    places = {job.id: host for host in hosts for job in host.jobs or ()}
    found = _matching(places, reference, ())
    if found is None:
        raise _unknown(f"no job {reference} in this cluster")
    address = address_of(context, places[found])
    return FoundJob(found, address, context.client_of(address))


def _on_host(context: Context, host: Host, wanted: str) -> FoundJob:
    address = address_of(context, host)
    client = context.client_of(address)
    if _has(client, wanted):
        return FoundJob(wanted, address, client)
    jobs = client.run(calls.jobs())
    found = _matching(jobs, wanted, ())
    if found is None:
        raise _unknown(f"no job {wanted} on host {host.id}")
    return FoundJob(found, address, client)


def _unknown(what: str) -> CommandFailed:
    return CommandFailed(f"{what}. 'flynn-host ps --all --cluster' lists the jobs.", ExitCode.NOT_FOUND)


def _ambiguous(reference: str, candidates: list[str]) -> CommandFailed:
    shown = ", ".join(candidates[:_SHOWN])
    more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
    return CommandFailed(
        f"{reference!r} is the beginning of several jobs: {shown}{more}. Type more of it.", ExitCode.NOT_FOUND
    )
