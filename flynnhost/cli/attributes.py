"""flynn-host attributes."""

from __future__ import annotations

from collections.abc import Sequence

import click

from flynnhost.cli import cluster_hosts
from flynnhost.cli.completing import host_id_option
from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.exit_codes import ExitCode
from flynnhost.cli.failures import CommandFailed
from flynnhost.cli.output import Column, Format, Listing, output_option, show_json
from flynnhost.cli.program import Command, CommandGroup
from flynnhost.client import calls
from flynnhost.client.blocking import BlockingClient


@click.group(
    "attributes",
    cls=CommandGroup,
    examples=[
        "flynn-host attributes get",
        "flynn-host attributes set zone=a disk=ssd",
        "flynn-host attributes rm disk --host h2",
    ],
)
def command() -> None:
    """Tell or change what is said of a host for schedulers.

    What is set or removed here goes before what the host's options say, and outlives its restarts.
    """


@command.command("get", cls=Command, examples=["flynn-host attributes get", "flynn-host attributes get zone"])
@click.argument("name", required=False)
@host_id_option
@output_option
@host_url_option
@pass_context
def get(context: Context, name: str | None, host_id: str, form: Format) -> None:
    """Show all attributes of a host, or the value of one.

    The exit code is 4 when the host has no attribute of that name.
    """
    found = _client(context, host_id).run(calls.attributes())
    if name is None:
        if form is Format.JSON:
            show_json(found)
        else:
            Listing(_COLUMNS, lambda pair: pair[0], list).show(sorted(found.items()), form)
    elif name not in found:
        raise CommandFailed(
            f"the host has no attribute {name!r}; 'flynn-host attributes get' lists those it has",
            ExitCode.NOT_FOUND,
        )
    elif form is Format.JSON:
        show_json(found[name])
    else:
        click.echo(found[name])


@command.command("set", cls=Command, examples=["flynn-host attributes set zone=a disk=ssd --host h2"])
@click.argument("pairs", nargs=-1, required=True, metavar="NAME=VALUE...")
@host_id_option
@host_url_option
@pass_context
def set_(context: Context, pairs: tuple[str, ...], host_id: str) -> None:
    """Set attributes of a host.

    Each is on the host's disk, one after the other, when this ends.
    """
    wanted = [_pair(text) for text in pairs]
    client = _client(context, host_id)
    for name, value in wanted:
        client.run(calls.set_attribute(name, value))


@command.command("rm", cls=Command, examples=["flynn-host attributes rm disk"])
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@host_id_option
@host_url_option
@pass_context
def rm(context: Context, names: tuple[str, ...], host_id: str) -> None:
    """Remove attributes of a host, also such as its options say.

    The exit code is 4 when the host has no attribute of a name.
    """
    client = _client(context, host_id)
    for name in names:
        client.run(calls.remove_attribute(name))


def _client(context: Context, host_id: str) -> BlockingClient:
    return cluster_hosts.client_of_host(context, host_id) if host_id else context.client


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


_COLUMNS: Sequence[Column[tuple[str, str]]] = [
    Column("NAME", lambda pair: pair[0]),
    Column("VALUE", lambda pair: pair[1]),
]
