"""Removing containers, outside of what is measured."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import docker
from docker.errors import APIError, NotFound

from benchmarks.arrivals import WITHIN

_AT_ONCE = 4


def remove_containers(client: docker.APIClient, names: Iterable[str]) -> None:
    """Remove containers by force, several at the same time."""

    def remove(name: str) -> None:
        try:
            client.remove_container(name, force=True, v=True)
        except NotFound:
            pass
        except APIError as e:
            if "already in progress" not in str(e.explanation):
                raise

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(remove, names))


def wait_until_gone(client: docker.APIClient, label: str) -> None:
    """Return when there is no container of this label."""
    deadline = time.monotonic() + WITHIN
    while left := client.containers(all=True, filters={"label": [label]}):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(left)} containers of {label} are still there after {WITHIN:g} s")
        time.sleep(0.1)
