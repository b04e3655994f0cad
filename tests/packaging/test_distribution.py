"""What we hand out: a source distribution and, made from it, a wheel that works where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import flynnhost

ROOT = Path(__file__).resolve().parents[2]
DIST_INFO = f"flynn_host-{flynnhost.__version__}.dist-info"
NOT_SOURCE = shutil.ignore_patterns(".*_cache", ".git", ".venv", ".run", "build", "dist", "*.egg-info")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both distributions, made from a copy of the checkout as it is, litter included."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    (source / "twisted" / "plugins" / "dropin.cache").write_bytes(b"litter")
    made = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the commands of a new environment that has the wheel.

    What the wheel depends on is lent from the environment of the tests; its
    own .pth files don't count there, so the checkout is not on the path.
    """
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False)
    (site,) = (home / "lib").glob("python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(home / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    return home / "bin"


def output(installed: Path, *command: str) -> str:
    """What a command of that environment prints, far from the checkout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(installed / command[0]), *command[1:]],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_has_exactly_our_code(wheel: Path) -> None:
    """The package and our plugin's one file: nothing else of Twisted's, and no litter."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(DIST_INFO)}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "flynnhost").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == package | {"twisted/plugins/flynn_host_plugin.py"}


def test_metadata_tells_what_it_is(wheel: Path) -> None:
    metadata = message_from_bytes(zipfile.ZipFile(wheel).read(f"{DIST_INFO}/METADATA"))
    assert metadata["Name"] == "flynn-host"
    assert metadata["Version"] == flynnhost.__version__
    assert metadata["License"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"


def test_every_dependency_has_a_lower_bound(wheel: Path) -> None:
    metadata = message_from_bytes(zipfile.ZipFile(wheel).read(f"{DIST_INFO}/METADATA"))
    unbounded = [line for line in metadata.get_all("Requires-Dist", []) if ">=" not in line]
    assert unbounded == []


def test_source_distribution_has_what_is_needed_to_work_on_it(dist: Path) -> None:
    (found,) = dist.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "LICENSE",
        "Makefile",
        "README.md",
        "docs/development.md",
        "etc/setup/run.sh",
        "requirements-test.txt",
        "requirements.txt",
        "tests/packaging/test_distribution.py",
        "twisted/plugins/flynn_host_plugin.py",
    }
    assert needed <= names
    assert [name for name in names if name.endswith((".pyc", "dropin.cache"))] == []
    assert [name for name in names if name.startswith("twisted/") and name.endswith("__init__.py")] == []


def test_twistd_knows_the_installed_plugin(installed: Path) -> None:
    twistd = "from twisted.scripts.twistd import run; run()"
    assert "\n    flynn-host " in output(installed, "python", "-c", twistd, "--help")


def test_the_command_says_its_version(installed: Path) -> None:
    assert output(installed, "flynn-host", "--version") == f"flynn-host, version {flynnhost.__version__}\n"


def test_the_command_lists_its_subcommands(installed: Path) -> None:
    assert "\n  daemon " in output(installed, "flynn-host", "--help")


def test_daemon_takes_the_options_of_twistd(installed: Path) -> None:
    assert "--state-dir" in output(installed, "flynn-host", "daemon", "--help")
