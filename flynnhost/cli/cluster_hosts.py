"""The hosts of the cluster, seen from a command."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from flynnhost.cli.context import Context
from flynnhost.cli.exit_codes import ExitCode, exit_code_of
from flynnhost.cli.failures import CommandFailed
from flynnhost.client import calls
from flynnhost.client.address import HostAddress
from flynnhost.client.blocking import BlockingClient
from flynnhost.client.errors import ClientError
from flynnhost.client.values import ActiveJob, Host, Leader

_AT_A_TIME = 16


def address_of(context: Context, host: Host) -> HostAddress:
    """Where the API of a host is.

    :raises CommandFailed: when that is not known.
    :raises ClientError: when it can't be asked for.
    """
    if host.addr:
        return HostAddress.parse(host.addr)
    if context.client.run(calls.host_status()).get("id") == host.id:
        return context.address
    leader: Leader = context.client.run(calls.leader())
    if leader.id == host.id and leader.addr:
        return HostAddress.parse(leader.addr)
    raise CommandFailed(
        f"it is not known where the API of host {host.id} is; name it with --host-url",
        code=ExitCode.UNREACHABLE,
    )


def client_of_host(context: Context, host_id: str) -> BlockingClient:
    """What asks the host of an ID itself.

    :raises CommandFailed: when it is not known where that is, or the host is down.
    :raises ClientError: when it can't be asked for.
    """
    host = context.client.run(calls.host(host_id))
    if host.state == "down":
        raise CommandFailed(
            f"host {host_id} is down; 'flynn-host list' shows the others", ExitCode.UNREACHABLE
        )
    return context.client_of(address_of(context, host))


def jobs_of_all(context: Context) -> tuple[list[ActiveJob], Exception | None]:
    """The jobs of all hosts that can be reached, and why there may be more."""
    known = context.client.run(calls.hosts())
    missing = [] if known.complete else ["some hosts have not reported to the leader yet"]
    code: int = ExitCode.UNREACHABLE
    asked: dict[str, Future[list[ActiveJob]]] = {}
    jobs: list[ActiveJob] = []
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for host in known.hosts:
            try:
                asked[host.id] = pool.submit(_jobs_at, address_of(context, host))
            except CommandFailed as e:
                missing.append(str(e))
    for host_id, answer in asked.items():
        try:
            jobs += answer.result()
        except ClientError as e:
            missing.append(f"host {host_id} is missing: {e}")
            code = exit_code_of(e)
    return jobs, CommandFailed("; ".join(missing), code) if missing else None


def _jobs_at(address: HostAddress) -> list[ActiveJob]:
    with BlockingClient(address) as client:
        return list(client.run(calls.jobs()).values())
