"""Asks the Docker engine, as the environment names it, for what the set-up needs.

usage: engine.py state IMAGE           exit 0: it has the image, 3: it lacks the image, 1: no answer
       engine.py wait SECONDS PID      until it answers, or the process is gone
       engine.py pull IMAGE
       engine.py import IMAGE TARFILE  makes an image of a file system
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import docker
import docker.errors
import requests.exceptions

NO_ANSWER = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
LACKS_IMAGE = 3


def _connect() -> docker.APIClient:
    client = docker.DockerClient.from_env(timeout=10).api
    client.ping()
    return client


def _reason(error: BaseException) -> str:
    """The innermost words of a failure, which are the ones that tell."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error)


def state(image: str) -> int:
    """Whether the engine answers, and has the image."""
    try:
        client = _connect()
    except NO_ANSWER as error:
        print(_reason(error))
        return 1
    try:
        client.inspect_image(image)
    except docker.errors.ImageNotFound:
        return LACKS_IMAGE
    return 0


def wait(seconds: str, pid: str) -> int:
    """Wait for the engine to answer, as long as its process is there."""
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline and Path("/proc", pid).exists():
        try:
            _connect()
        except NO_ANSWER:
            time.sleep(0.1)
        else:
            return 0
    return 1


def pull(image: str) -> int:
    """Have the engine fetch an image."""
    name, _, tag = image.partition(":")
    try:
        _connect().pull(name, tag=tag)
    except NO_ANSWER as error:
        print(_reason(error))
        return 1
    return 0


def import_image(image: str, tar_file: str) -> int:
    """Make an image from a tar file of its file system."""
    name, _, tag = image.partition(":")
    _connect().import_image_from_file(tar_file, repository=name, tag=tag, changes=['CMD ["sh"]'])
    return 0


COMMANDS: dict[str, Callable[..., int]] = {"state": state, "wait": wait, "pull": pull, "import": import_image}

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]))
