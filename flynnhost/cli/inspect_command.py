"""flynn-host inspect."""

from __future__ import annotations

from typing import Any

import click

from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.finding import find_jobs
from flynnhost.cli.output import show_json
from flynnhost.cli.program import Command
from flynnhost.client import calls

REDACTED = "(redacted)"


@click.command(
    "inspect",
    cls=Command,
    examples=["flynn-host inspect web", "flynn-host inspect --redact-env web | jq .job.config.env"],
)
@click.argument("jobs", metavar="ID...", nargs=-1, required=True)
@click.option("--redact-env", is_flag=True, help="Hide the values of the environment.")
@host_url_option
@pass_context
def command(context: Context, jobs: tuple[str, ...], redact_env: bool) -> None:
    """Show all there is to know of jobs, as JSON.

    One job is an object, as the API tells it; several are a list of them.
    """
    told = [found.client.run(calls.job_json(found.id)) for found in find_jobs(context, jobs)]
    if redact_env:
        told = [redacted(each) for each in told]
    show_json(told[0] if len(jobs) == 1 else told)


def redacted(told: Any) -> Any:
    """The same, with nothing of the environment but its names."""
    config = told.get("job", {}).get("config", {})
    if config.get("env"):
        config["env"] = dict.fromkeys(config["env"], REDACTED)
    return told
