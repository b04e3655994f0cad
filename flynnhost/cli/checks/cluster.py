"""The cluster as the host sees it: who leads, who is there, and what time it is for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from flynnhost.cli.checks.finding import Finding, failed, ok, warning
from flynnhost.cli.checks.subject import ASK_WITHIN, Subject, Told, ask
from flynnhost.client import calls
from flynnhost.client.address import HostAddress
from flynnhost.client.blocking import BlockingClient
from flynnhost.client.errors import ClientError
from flynnhost.client.values import Host, Hosts, Leader

MAX_ASKED = 200
"""How many hosts are asked themselves."""

CLOCKS_APART = 1.0
"""Seconds by which clocks may differ before that is worth a word: times in lists and logs mislead then."""

_AT_A_TIME = 16
_NAMED = 5


def check_cluster(subject: Subject) -> Iterator[Finding]:
    """Who leads, which hosts there are, and whether they agree."""
    if subject.told is None:
        return
    try:
        with BlockingClient(subject.address, ASK_WITHIN) as client:
            leader = client.run(calls.leader())
            hosts = client.run(calls.hosts())
    except ClientError as e:
        advice = "One is elected within seconds if etcd serves and hosts reach it; their logs tell why not."
        yield failed("leader", str(e), advice)
        return
    yield _leads(leader, subject)
    yield _hosts(hosts, subject)
    told = _ask_all(hosts.hosts, subject)
    answered = {host_id: each for host_id, each in told.items() if isinstance(each, Told)}
    yield from _unreached({host_id: each for host_id, each in told.items() if isinstance(each, ClientError)})
    if len(answered) > 1 or not subject.here:
        yield from _clocks(answered)
    if len(answered) > 1:
        yield from _versions(answered)


def _leads(leader: Leader, subject: Subject) -> Finding:
    own = subject.status is not None and subject.status.id == leader.id
    return ok("leader", f"{leader.id} leads{' (this host)' if own else ''}, term {leader.term}")


def _hosts(hosts: Hosts, subject: Subject) -> Finding:
    count = len(hosts.hosts)
    down = [host.id for host in hosts.hosts if host.state == "down"]
    if subject.status is not None and not any(host.id == subject.status.id for host in hosts.hosts):
        advice = "It joins within seconds when it reaches the leader; its log tells why it does not."
        return failed("hosts", "the leader does not know this host", advice)
    if not hosts.complete:
        return warning(
            "hosts", f"{count} have reported, others not yet", "Wait a minute; 'flynn-host list' shows who."
        )
    if down:
        advice = "Look at their machines and logs; 'flynn-host list' shows how they are now."
        return warning("hosts", f"{len(down)} of {count} are down: {_some(down)}", advice)
    return ok("hosts", f"all {count} are up" if count > 1 else "this one alone")


def _ask_all(hosts: Sequence[Host], subject: Subject) -> Mapping[str, Told | ClientError]:
    """What all hosts tell of themselves that are up; of the host itself it is known."""

    def asked(host: Host) -> Told | ClientError:
        try:
            return ask(HostAddress.parse(host.addr))
        except ClientError as e:
            return e

    own = subject.status.id if subject.status is not None else ""
    others = [host for host in hosts if host.id != own and host.addr and host.state != "down"][:MAX_ASKED]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        told: dict[str, Told | ClientError] = dict(
            zip([host.id for host in others], pool.map(asked, others), strict=True)
        )
    if subject.told is not None:
        told[own] = subject.told
    return told


def _unreached(errors: Mapping[str, ClientError]) -> Iterator[Finding]:
    if errors:
        first = next(iter(errors))
        yield warning(
            "hosts",
            f"{len(errors)} can't be asked from here: {_some(list(errors))} ({errors[first]})",
            "Commands about their jobs need that: does a firewall let you through to their"
            " --external addresses?",
        )


def _clocks(told: Mapping[str, Told]) -> Iterator[Finding]:
    ahead = {host_id: each.ahead for host_id, each in told.items() if each.ahead is not None}
    if not ahead:
        return
    doubt = max(told[host_id].give_or_take for host_id in ahead)
    middle = sorted(ahead.values())[len(ahead) // 2] if len(ahead) > 1 else 0.0
    apart = {host_id: value - middle for host_id, value in ahead.items()}
    off = [
        f"{host_id} by {value:+.1f} s"
        for host_id, value in apart.items()
        if abs(value) > CLOCKS_APART + doubt
    ]
    compared = "this machine's" if len(ahead) == 1 else "most others"
    if off:
        advice = "Let all machines take the time from the same source: chrony or systemd-timesyncd."
        yield warning("clock", f"of some hosts it differs from {compared}: {_some(off)}", advice)
    else:
        spread = (
            max(apart.values()) - min(apart.values()) if len(apart) > 1 else abs(next(iter(apart.values())))
        )
        yield ok("clock", f"{'all agree' if len(ahead) > 1 else 'agrees'} within {spread + doubt:.2f} s")


def _versions(told: Mapping[str, Told]) -> Iterator[Finding]:
    by_version: dict[str, list[str]] = {}
    for host_id, each in told.items():
        by_version.setdefault(each.status.version, []).append(host_id)
    if len(by_version) > 1:
        named = "; ".join(
            f"{version or 'unknown'}: {_some(ids)}" for version, ids in sorted(by_version.items())
        )
        yield warning("versions", f"hosts run different ones: {named}", "Bring all to the same one.")


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
