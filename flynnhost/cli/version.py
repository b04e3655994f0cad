"""flynn-host version."""

from __future__ import annotations

from typing import Any

import click

import flynnhost
from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.output import Format, output_option, show_json, show_rows
from flynnhost.cli.program import Command
from flynnhost.client import calls
from flynnhost.client.errors import ClientError


@click.command("version", cls=Command, examples=["flynn-host version", "flynn-host version --client"])
@click.option("--client", "only_client", is_flag=True, help="Only of this program; no host is asked.")
@output_option
@host_url_option
@pass_context
def command(context: Context, only_client: bool, form: Format) -> None:
    """Show the versions of this program and of the host.

    When the host can't be asked the version of this program is shown all the same, and the exit code is 3.
    """
    told: dict[str, Any] = {"client": {"version": flynnhost.__version__}}
    problem: ClientError | None = None
    if not only_client:
        try:
            status = context.client.run(calls.host_facts())
            told["host"] = {"version": status.version, "id": status.id, "url": context.address.url}
        except ClientError as e:
            problem = e
    if form is Format.JSON:
        show_json(told)
    elif form is Format.QUIET:
        for each in told.values():
            click.echo(each["version"])
    else:
        show_rows([_row(name, each) for name, each in told.items()])
    if problem is not None:
        raise problem


def _row(name: str, told: dict[str, Any]) -> list[str]:
    return [name, told["version"], f"{told['id']} at {told['url']}" if "id" in told else ""]
