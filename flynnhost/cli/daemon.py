"""flynn-host daemon."""

from __future__ import annotations

import sys

import click


@click.command(
    "daemon",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> None:
    """Run this host in the foreground.

    Takes the options of "twistd flynn-host"; "flynn-host daemon --help" lists them.
    """
    from twisted.scripts import twistd  # it chooses the reactor, so not before it is needed

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "flynn-host", *options]
    twistd.run()
