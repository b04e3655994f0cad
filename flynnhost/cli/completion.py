"""flynn-host completion."""

from __future__ import annotations

import click

from flynnhost.cli.failures import CommandFailed
from flynnhost.cli.program import Command

_VARIABLE = "_FLYNN_HOST_COMPLETE"


@click.command(
    "completion",
    cls=Command,
    examples=[
        'eval "$(flynn-host completion bash)"    # in ~/.bashrc',
        'eval "$(flynn-host completion zsh)"     # in ~/.zshrc, after compinit',
        "flynn-host completion fish > ~/.config/fish/completions/flynn-host.fish",
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that lets a shell complete commands, options, jobs and hosts."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise CommandFailed(f"nothing is known of the shell {shell}")
    try:
        script = kind(ctx.find_root().command, {}, "flynn-host", _VARIABLE).source()
    except RuntimeError as e:  # a bash that is too old
        raise CommandFailed(str(e)) from e
    click.echo(script)
