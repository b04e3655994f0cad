"""flynn-host log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from flynnhost.cli import words
from flynnhost.cli.context import Context, host_url_option, pass_context
from flynnhost.cli.finding import FoundJob, find_job
from flynnhost.cli.job_texts import BadText, duration
from flynnhost.cli.new_job import Text
from flynnhost.cli.program import Command
from flynnhost.client.streams import LogQuery


def moment(text: str) -> str:
    """A time, RFC 3339 in UTC: one that was given like this, or so long ago: ``10m``, ``1h``.

    :raises BadText: when it is neither.
    """
    try:
        ago = duration(text)
    except BadText:
        pass
    else:
        return _written(words.now() - timedelta(microseconds=ago // 1000))
    try:
        time = datetime.fromisoformat(text)
        return _written(time if time.tzinfo else time.astimezone())
    except (ValueError, OverflowError):
        raise BadText(f"{text!r} is no time like 2026-01-31T12:00:00Z, nor so long ago as 10m") from None


def _written(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


@click.command(
    "log",
    cls=Command,
    examples=[
        "flynn-host log web",
        "flynn-host log --follow --tail 20 web",
        "flynn-host log --since 10m web",
    ],
)
@click.argument("job", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written, until the job ends.")
@click.option("--tail", "-n", type=click.IntRange(0), help="Only so many of the last lines.")
@click.option("--since", type=Text("TIME", moment), help="Only from a time on, or so long ago.")
@click.option("--stdout", "only_stdout", is_flag=True, help="Only what went to stdout.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Only what went to stderr.")
@click.option("--timestamps", "-t", is_flag=True, help="The time before each line.")
@host_url_option
@pass_context
def command(
    context: Context,
    /,
    job: str,
    follow: bool,
    tail: int | None,
    since: str | None,
    only_stdout: bool,
    only_stderr: bool,
    timestamps: bool,
) -> int:
    """Show what a job wrote: its stdout on stdout, its stderr on stderr."""
    query = LogQuery(
        follow=follow,
        tail=tail,
        since=since or "",
        stdout=only_stdout or not only_stderr,
        stderr=only_stderr or not only_stdout,
    )
    found = find_job(context, job)
    from flynnhost.cli.in_reactor import in_reactor

    context.close()
    return in_reactor(lambda reactor, _: _show(reactor, found, query, timestamps))


async def _show(reactor: Any, found: FoundJob, query: LogQuery, timestamps: bool) -> int:
    from flynnhost.cli.outlet import Outlet
    from flynnhost.client.attach import STDERR
    from flynnhost.client.client import Client

    client = Client(reactor, found.address)
    outlets = {False: Outlet(reactor, 1), True: Outlet(reactor, 2)}
    try:
        if timestamps:
            async for line in client.log_lines(found.id, query):
                written = b"%b %b\n" % (line.time.encode(), line.content)
                await outlets[line.stream == "stderr"].write(written)
            return 0
        log = await client.log(found.id, query)
        async for stream, data in log:
            await outlets[stream == STDERR].write(data)
    finally:
        for outlet in outlets.values():
            outlet.close()
        await client.close()
    return 0
