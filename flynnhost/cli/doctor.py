"""flynn-host doctor."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click
from attrs import asdict

from flynnhost.cli.context import Context, colours_wanted, host_url_option, is_terminal, pass_context
from flynnhost.cli.exit_codes import ExitCode
from flynnhost.cli.output import Format, output_option, show_json
from flynnhost.cli.program import Command

if TYPE_CHECKING:  # what is looked at is imported when it is
    from flynnhost.cli.checks.finding import Finding
    from flynnhost.cli.checks.subject import Subject

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}
_STATE_WIDTH, _NAME_WIDTH = 9, 17


@click.command(
    "doctor",
    cls=Command,
    examples=[
        "flynn-host doctor",
        "flynn-host doctor --quiet",
        "sudo flynn-host doctor --config /etc/flynn-host.json",
    ],
)
@click.option(
    "--config",
    default="",
    type=click.Path(dir_okay=False),
    help="The configuration of a host that does not run, as for 'flynn-host daemon'.",
)
@output_option
@host_url_option
@pass_context
def command(context: Context, config: str, form: Format) -> int:
    """Look for what is wrong with a host and its machine, and say what to do.

    It works for a host that does not run, and sees more as root. With --quiet it tells only of what is wrong.

    The exit code is 1 when something has failed; warnings don't count.
    """
    from flynnhost.cli.checks.finding import State
    from flynnhost.cli.checks.subject import Options, examine
    from flynnhost.errors import InvalidField

    try:
        options = Options.read(config, os.environ)
    except InvalidField as e:
        raise click.UsageError(str(e)) from e
    findings: list[Finding] = []
    for finding in _look(examine(context.address, options)):
        findings.append(finding)
        if form is not Format.JSON and (form is not Format.QUIET or finding.state is not State.OK):
            _show(finding)  # at once: what is gone or hangs takes its time to be found out
    if form is Format.JSON:
        show_json([{**asdict(each), "state": each.state.value} for each in findings])
    elif form is not Format.QUIET:
        click.echo(_summary(findings))
    return ExitCode.FAILED if any(each.state is State.FAILED for each in findings) else ExitCode.DONE


def _look(subject: Subject) -> Iterator[Finding]:
    from flynnhost.cli.checks import cluster, disks, engine, etcd, host, ports
    from flynnhost.cli.checks.finding import found

    looks: Sequence[tuple[str, Callable[[Subject], Iterator[Finding]]]] = [
        ("host", host.check_host),
        ("API port", ports.check_api_port),
        ("address", host.check_external),
        ("engine", engine.check_engine),
        ("iptables", engine.check_iptables),
        ("engine disk", disks.check_engine_disk),
        ("state directory", disks.check_state_dir),
        ("process", host.check_process),
        ("job ports", ports.check_job_ports),
        ("etcd", etcd.check_etcd),
        ("cluster", cluster.check_cluster),
    ]
    for name, look in looks:
        yield from found(name, partial(look, subject))


def _show(finding: Finding) -> None:
    state = finding.state.value.ljust(_STATE_WIDTH)
    if colours_wanted():
        state = click.style(state, fg=_COLOURS[finding.state.value])
    margin = " " * (_STATE_WIDTH + _NAME_WIDTH)
    lines = [*_wrapped(finding.text, len(margin)), *_wrapped(finding.advice, len(margin))]
    click.echo(f"{state}{finding.name.ljust(_NAME_WIDTH)}{lines[0]}")
    for line in lines[1:]:
        click.echo(margin + line)


def _wrapped(text: str, margin: int) -> list[str]:
    """A text as it fits beside a margin; whole where nobody sits who would see that it does not."""
    if not is_terminal(sys.stdout) or not text:
        return [text] if text else []
    width = max(40, min(shutil.get_terminal_size().columns, 130) - margin)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.state.value for finding in findings)
    if not counts["warning"] and not counts["failed"]:
        return "All is well."
    return f"{counts['failed']} failed, {_count(counts['warning'], 'warning')}."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
