"""The flynn-host command: one entry for everything that is done at a shell."""

from __future__ import annotations

import click

import flynnhost
from flynnhost.cli.context import host_url_option
from flynnhost.cli.program import Program

_SECTIONS = {
    "Jobs": {
        "ps": "ps",
        "run": "run",
        "attach": "attach",
        "exec": "exec_command",
        "log": "log",
        "stop": "stop",
        "signal": "signal_command",
        "inspect": "inspect_command",
        "wait": "wait",
        "events": "events",
    },
    "Hosts": {
        "list": "hosts",
        "leader": "leader",
        "attributes": "attributes",
        "drain": "drain",
        "undrain": "undrain",
        "doctor": "doctor",
    },
    "This host": {
        "daemon": "daemon",
        "version": "version",
        "completion": "completion",
    },
}


@click.group(
    cls=Program,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 host unreachable, 4 not found, 5 conflict, "
    "6 not now, 125 job not started, 126 and 127 its program can't be run, 128+N signal N, "
    "else the job's own. "
    "'flynn-host COMMAND --help' has examples.",
)
@click.version_option(flynnhost.__version__, prog_name="flynn-host")
@host_url_option
def main() -> None:
    """Run jobs in containers on this host, as a member of a Flynn cluster."""
