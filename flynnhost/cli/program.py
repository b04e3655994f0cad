"""The program: its commands, each imported when it is called, and how it ends."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from flynnhost.cli.completing import TYPES
from flynnhost.cli.failures import NobodyReads, exit_code_from


class Command(click.Command):
    """A command whose help ends with examples.

    What has one of the names in ``completing.TYPES`` is completed with the jobs or hosts that there are.

    :param examples: lines as they are typed.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        super().__init__(*args, **more)
        self.examples = examples
        for param in self.params:
            param.type = TYPES.get(param.name or "", param.type)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)


class CommandGroup(Command, click.Group):
    """Commands that belong together, under a name of their own; the help of the group has examples too."""


def prepare_streams() -> None:
    """Let nothing that is opened later stand in for a stream that was closed by whoever started us, nor what
    is written depend on a character that stdout does not have.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    while nowhere <= 2:  # the lowest number that is free is the one that is given
        os.set_inheritable(nowhere, True)
        nowhere = os.open(os.devnull, os.O_RDWR)
    os.close(nowhere)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextlib.contextmanager
def _telling_apart() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as e:
        raise NobodyReads from e


class Program(click.Group):
    """A group of commands that are imported one by one, because a short command has no time for the others.

    :param sections: the titles of the parts of the list of commands, each with its commands and the modules
        in ``flynnhost.cli`` that have them as ``command``.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, str]], **more: Any) -> None:
        super().__init__(*args, **more)
        self._sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return [name for commands in self._sections.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, if there is one of that name."""
        for commands in self._sections.values():
            if cmd_name in commands:
                module = importlib.import_module(f"flynnhost.cli.{commands[cmd_name]}")
                command: click.Command = module.command
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called; one that does not exist is told with those that are like it."""
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            import difflib

            alike = difflib.get_close_matches(args[0], self.list_commands(ctx), 3)
            meant = f"Did you mean {' or '.join(alike)}?" if alike else "--help lists the commands."
            raise click.UsageError(f"there is no command {args[0]!r}. {meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, section by section."""
        width = max(len(name) for name in self.list_commands(ctx))
        limit = formatter.width - width - 6
        for title, names in self._sections.items():
            commands = ((name, self.get_command(ctx, name)) for name in names)
            rows = [(name.ljust(width), found.get_short_help_str(limit)) for name, found in commands if found]
            with formatter.section(title):
                formatter.write_dl(rows)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """See ``click.BaseCommand``: this is where help is written."""
        with _telling_apart():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was called."""
        with _telling_apart():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the program; in standalone mode, end it with its exit code."""

        def run() -> Any:
            return super(Program, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        prepare_streams()
        sys.exit(exit_code_from(run))
