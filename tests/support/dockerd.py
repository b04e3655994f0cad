"""A Docker engine of one's own: started, paused, killed and cleaned up after by a test run."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from pathlib import Path

import docker
import psutil
from attrs import define, field

from tests.support.busybox import IMAGE, busybox_tar
from tests.support.waiting import wait_until

_numbers = itertools.count()


def missing() -> str:
    """What keeps this machine from running an engine of one's own; empty if nothing does."""
    if os.geteuid() != 0:
        return "only root can start dockerd"
    for program, package in (("dockerd", "docker.io"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            return f"there is no {program}: apt-get install {package}"
    if not Path("/bin/busybox").exists():
        return "there is no /bin/busybox: apt-get install busybox-static"
    return ""


@define(eq=False)
class Dockerd:
    """A private dockerd with everything it makes below one directory.

    Several run side by side: each has a bridge, a network and a containerd namespace of its
    own. It does without iptables, because engines clear each other's rules; published ports
    are passed on by Docker's proxies.

    :param directory: a new one, which is removed at the end.
    :param options: more arguments for dockerd.
    """

    directory: Path
    options: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)
    _bridge: str = field(init=False)
    _network: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        number = next(_numbers)
        self._bridge = f"fh{os.getpid()}-{number}"
        self._network = _free_network(os.getpid() + number)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / "docker.sock"

    @property
    def url(self) -> str:
        """Where it listens, as a URL."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None, "dockerd was not started"
        return self._process.pid

    def client(self, timeout: float = 60.0) -> docker.APIClient:
        """A new docker-py client of it; close it after use."""
        return docker.APIClient(self.url, timeout=timeout)

    def start(self) -> None:
        """Start it and wait until it answers. It has ``busybox:latest`` then."""
        self._make_bridge()
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, f"dockerd, which says:\n{self.last_words()}", within=60)
        client = self.client()
        try:
            load_busybox(client)
        finally:
            client.close()

    def pause(self) -> None:
        """Let it hang."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after ``pause``."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would. Its containers stay, until it is started again."""
        containerd = self._containerd()
        self._end(signal.SIGKILL, within=10)
        # It dies with dockerd, but not at once, and the next dockerd would count on it.
        wait_until(lambda: all(map(_is_dead, containerd)), "the end of containerd", within=10)
        (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM, within=30)

    def last_words(self) -> str:
        """The end of its log."""
        log = self.directory / "dockerd.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else "nothing"

    def destroy(self) -> None:
        """End it and remove everything it has made, whatever state it is in."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.go_on()
            self._remove_containers()
            with contextlib.suppress(AssertionError):
                self._end(signal.SIGTERM, within=10)
            self._end(signal.SIGKILL, within=10)
        self._kill_what_is_left()
        self._unmount()
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _command(self) -> list[str]:
        arguments = {
            "data-root": self.directory / "data",
            "exec-root": self.directory / "exec",
            "pidfile": self.directory / "docker.pid",
            "host": self.url,
            "bridge": self._bridge,
            "containerd-namespace": self._bridge,
            "containerd-plugins-namespace": f"{self._bridge}-plugins",
            "iptables": "false",
            "ip6tables": "false",
            "log-level": "warn",
            "shutdown-timeout": "3",
        }
        return ["dockerd", *(f"--{name}={value}" for name, value in arguments.items()), *self.options]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"dockerd ended:\n{self.last_words()}"
        try:
            client = self.client(timeout=5)
            try:
                return bool(client.ping())
            finally:
                client.close()
        except (docker.errors.DockerException, OSError):
            return False

    def _end(self, number: signal.Signals, within: float) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            wait_until(lambda: self._process is None or self._process.poll() is not None, "its end", within)
        self.socket.unlink(missing_ok=True)

    def _make_bridge(self) -> None:
        if not Path("/sys/class/net", self._bridge).exists():
            for command in (
                ["ip", "link", "add", self._bridge, "type", "bridge"],
                ["ip", "address", "add", f"{self._network}.1/24", "dev", self._bridge],
                ["ip", "link", "set", self._bridge, "up"],
            ):
                subprocess.run(command, check=True, capture_output=True)

    def _remove_containers(self) -> None:
        with contextlib.suppress(docker.errors.DockerException, OSError):
            client = self.client(timeout=20)
            try:
                for container in client.containers(all=True):
                    client.remove_container(container["Id"], force=True, v=True)
            finally:
                client.close()

    def _kill_what_is_left(self) -> None:
        """The containerd, its shims and their containers; all of them name our directory."""
        left = [process for process in psutil.process_iter() if self._is_ours(process)]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                left += [child for child in process.children(recursive=True) if child not in left]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)

    def _containerd(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [each for each in psutil.Process(self.pid).children() if each.name() == "containerd"]
        return []

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            line = process.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return False
        if not line or Path(line[0]).name not in ("dockerd", "containerd", "containerd-shim-runc-v2"):
            return False
        return any(f"{self.directory}/" in argument for argument in line)

    def _unmount(self) -> None:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        below = [line.split()[4] for line in mounts if line.split()[4].startswith(f"{self.directory}/")]
        for place in sorted(below, reverse=True):
            subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)


def load_busybox(client: docker.APIClient) -> None:
    """Give an engine the image ``busybox:latest`` unless it has it."""
    if not client.images(name=IMAGE):
        name, _, tag = IMAGE.partition(":")
        changes = ['CMD ["sh"]', "ENV PATH=/bin"]
        client.import_image_from_data(busybox_tar(), repository=name, tag=tag, changes=changes)


def _is_dead(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _free_network(seed: int) -> str:
    """The first three numbers of a network that this machine has no route to yet."""
    routes = subprocess.run(["ip", "-4", "route"], check=True, capture_output=True, text=True).stdout
    for offset in range(256):
        network = f"10.{208 + (seed + offset) // 256 % 32}.{(seed + offset) % 256}"
        if f"{network}." not in routes:
            return network
    raise AssertionError("no network is free for a bridge")
