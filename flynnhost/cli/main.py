"""The flynn-host command: one entry for everything that is done at a shell."""

from __future__ import annotations

import sys

import click

import flynnhost


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(flynnhost.__version__, prog_name="flynn-host")
def main() -> None:
    """Run jobs in containers on this host, as a member of a Flynn cluster."""


@main.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def daemon(options: tuple[str, ...]) -> None:
    """Run this host in the foreground.

    Takes the options of "twistd flynn-host"; "flynn-host daemon --help" lists them.
    """
    from twisted.scripts import twistd  # it chooses the reactor, so not before it is needed

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "flynn-host", *options]
    twistd.run()
