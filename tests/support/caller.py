"""Somebody who posts a batch and waits for the answer while the test goes on."""

from __future__ import annotations

import http.client
import threading
import time

from tests.support.cluster_rig import NO_ANSWER, post
from tests.support.host_api import Answer
from tests.support.host_process import HostProcess
from tests.support.schedulers import Batch
from tests.support.waiting import wait_until


class Caller:
    """Posts a batch to one host, in a thread.

    :param connection: one to the host that is open already; a new one is made if there is none.
    :ivar answer: what came; None if nothing did yet, or the connection has ended without.
    :ivar took: how many seconds that was after the request.
    """

    def __init__(
        self, host: HostProcess, batch: Batch, connection: http.client.HTTPConnection | None = None
    ) -> None:
        self.batch = batch
        self.answer: Answer | None = None
        self.took = 0.0
        self._host = host
        self._connection = connection
        self._thread = threading.Thread(target=self._thd_post, name="caller", daemon=True)
        self._thread.start()

    @property
    def jobs(self) -> list[str]:
        """The IDs of all jobs that it asks for."""
        return [job["id"] for jobs in self.batch.values() for job in jobs]

    @property
    def waits(self) -> bool:
        """Whether nothing has come yet."""
        return self._thread.is_alive()

    def wait(self, within: float = 60.0) -> None:
        """Wait until it has been answered, or the connection has ended."""
        wait_until(lambda: not self.waits, "an answer, or the end", within)

    def _thd_post(self) -> None:
        began = time.monotonic()
        try:
            self.answer = post(self._host.api, self.batch, connection=self._connection)
        except NO_ANSWER:
            self.answer = None
        self.took = time.monotonic() - began


def open_connection(host: HostProcess) -> http.client.HTTPConnection:
    """A connection to a host on which it has answered before."""
    connection = http.client.HTTPConnection(host.address, host.listen_port, timeout=60)
    connection.request("GET", "/health")
    connection.getresponse().read()
    return connection
