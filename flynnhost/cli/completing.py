"""What can be typed next, as the host knows it: quickly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from flynnhost.cli.context import Context
from flynnhost.client import calls
from flynnhost.client.blocking import BlockingClient
from flynnhost.client.calls import Call
from flynnhost.client.errors import ClientError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

WITHIN = 0.7
"""Seconds that whoever presses the key waits at the most."""


class JobId(click.types.StringParamType):
    """What names a job. Those of the host can be completed, those that have not ended first."""

    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The IDs of jobs that begin so."""
        found = _ask(ctx, calls.jobs())
        jobs = sorted(found.values() if found else (), key=lambda job: (job.ended, job.id))
        return _beginning((job.id for job in jobs), incomplete)


class HostId(click.types.StringParamType):
    """What names a host. Those of the cluster can be completed."""

    name = "host"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The IDs of hosts that begin so."""
        found = _ask(ctx, calls.hosts())
        return _beginning(sorted(host.id for host in found.hosts) if found else (), incomplete)


TYPES: Mapping[str, click.types.StringParamType] = {
    "job": JobId(),
    "jobs": JobId(),
    "host_id": HostId(),
    "host_ids": HostId(),
}
"""What arguments and options with these names are."""


def host_id_option(command: F) -> F:
    """``--host``, for what concerns one host of the cluster; the command gets it as ``host_id``."""
    return click.option(
        "--host",
        "host_id",
        default="",
        metavar="ID",
        help="The host of the cluster, if it is not the one that is asked.",
    )(command)


def _ask(ctx: click.Context, call: Call[T]) -> T | None:
    context = ctx.find_object(Context) or Context()
    try:
        with BlockingClient(context.address, WITHIN) as client:
            return client.run(call)
    except ClientError:
        return None  # nobody who presses a key wants to read why


def _beginning(ids: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(each) for each in ids if each.startswith(incomplete)]
