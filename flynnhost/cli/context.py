"""What commands have in common: the host they ask, and what they write to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from attrs import define, field

from flynnhost.client.address import VARIABLE, HostAddress, from_environment
from flynnhost.client.blocking import BlockingClient

F = TypeVar("F", bound=Callable[..., Any])


@define(eq=False)
class Context:
    """What a command is given.

    :param host_url: the host as it was named on the command line; empty if it was not.
    """

    host_url: str = ""
    _clients: dict[HostAddress, BlockingClient] = field(init=False, factory=dict)

    @property
    def address(self) -> HostAddress:
        """The host to ask.

        :raises BadAddress: when it was named wrongly.
        """
        return HostAddress.parse(self.host_url) if self.host_url else from_environment(os.environ)

    @property
    def client(self) -> BlockingClient:
        """What asks that host, for commands that wait for one answer after the other."""
        return self.client_of(self.address)

    def client_of(self, address: HostAddress) -> BlockingClient:
        """What asks some host."""
        if address not in self._clients:
            self._clients[address] = BlockingClient(address)
        return self._clients[address]

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()


pass_context = click.make_pass_decorator(Context, ensure=True)
"""Gives a command the ``Context`` as its first argument."""


def host_url_option(command: F) -> F:
    """``--host-url``, which every command has that asks a host."""
    return click.option(
        "--host-url",
        "-H",
        metavar="URL",
        expose_value=False,
        callback=_take_host_url,
        help=f"The host to ask; {VARIABLE} names another one than that of this machine too.",
    )(command)


def _take_host_url(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    context = ctx.ensure_object(Context)
    ctx.call_on_close(context.close)
    if value:
        context.host_url = value


def colours_wanted(stream: Any = None) -> bool:
    """Whether what is written there may have colours: only a terminal has them, and nobody said NO_COLOR."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal(sys.stdout if stream is None else stream)


def is_terminal(stream: Any) -> bool:
    """Whether somebody sits there."""
    if stream is None:  # whoever started us had closed it
        return False
    try:
        return bool(stream.isatty())
    except ValueError:  # closed
        return False
