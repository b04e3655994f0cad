"""Connections that die without a word, as when a machine loses its power."""

from __future__ import annotations

import ctypes
import socket
import struct

_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A program for the kernel's packet filter: let 0 bytes of each packet through."""


_SO_ATTACH_FILTER = 26
"""As in ``asm-generic/socket.h``; Python has no name for it."""


def die_silently(client: socket.socket) -> None:
    """Have whatever comes for this socket dropped by the kernel, which then acknowledges nothing either."""
    code = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    program = struct.pack("HL", 1, ctypes.addressof(code))
    client.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
