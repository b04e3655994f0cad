"""Stands between a host and its engine, and can lose the engine's events and nothing else."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

_CHUNK = 65536


class EngineRelay:
    """A Unix socket that passes everything on to the engine's.

    :param listen: the path of the new socket.
    :param engine: the path of the engine's socket.
    :ivar silent: whether streams of events stay open, with nothing coming any more.
    :ivar refuses: whether requests for events are answered with the end of the connection.
    """

    def __init__(self, listen: Path, engine: Path) -> None:
        self.silent = False
        self.refuses = False
        self.url = f"unix://{listen}"
        self._engine = engine
        self._streams: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(64)
        threading.Thread(target=self._thd_accept, name="relay", daemon=True).start()

    def cut_events(self) -> None:
        """Break off the streams of events, and refuse new ones until ``refuses`` is taken back."""
        self.refuses = True
        with self._lock:
            streams, self._streams = self._streams, []
        for stream in streams:
            _shut(stream)

    def close(self) -> None:
        """Take no new connections."""
        _shut(self._listener)
        self._listener.close()

    def _thd_accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._thd_serve, args=(client,), name="relay", daemon=True).start()

    def _thd_serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine, contextlib.suppress(OSError):
            engine.connect(str(self._engine))
            of_events = threading.Event()
            back = threading.Thread(target=self._thd_back, args=(engine, client, of_events), daemon=True)
            back.start()
            while data := client.recv(_CHUNK):
                if b"/events?" in data.partition(b"\r\n")[0]:
                    if self.refuses:
                        break
                    of_events.set()
                    with self._lock:
                        self._streams.append(client)
                engine.sendall(data)
            _shut(engine)
            _shut(client)
            back.join()

    def _thd_back(self, engine: socket.socket, client: socket.socket, of_events: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(_CHUNK):
                if not (self.silent and of_events.is_set()):
                    client.sendall(data)
        _shut(client)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
