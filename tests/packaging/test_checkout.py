"""What somebody finds in a checkout: texts, locks and set-up scripts that say what is so."""

from __future__ import annotations

import configparser
import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "etc" / "setup"
LOCKS = ("requirements.txt", "requirements-test.txt")


def locked(name: str) -> dict[str, str]:
    """The exact version of each package of a lock."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {str(canonicalize_name(name)): version for name, version in pairs}


def wanted(section: str, key: str) -> list[Requirement]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return [Requirement(line) for line in config[section][key].strip().splitlines()]


class TestLocks:
    @pytest.mark.parametrize("name", LOCKS)
    def test_hold_nothing_but_exact_versions(self, name: str) -> None:
        """So nothing in them says where packages come from."""
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        strange = [line for line in lines[1:] if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.+]*", line)]
        assert strange == []

    @pytest.mark.parametrize("name", LOCKS)
    def test_satisfy_what_we_depend_on(self, name: str) -> None:
        versions = locked(name)
        needed = wanted("options", "install_requires")
        if name == "requirements-test.txt":
            needed += wanted("options.extras_require", "dev")
        for requirement in needed:
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement

    def test_what_runs_is_what_was_tested(self) -> None:
        assert locked("requirements.txt").items() <= locked("requirements-test.txt").items()


class TestTexts:
    @pytest.mark.parametrize("command", ["make run", "make test"])
    @pytest.mark.parametrize("document", ["README.md", "docs/development.md"])
    def test_documents_tell_how_to_begin(self, document: str, command: str) -> None:
        assert command in (ROOT / document).read_text(encoding="utf-8")

    @pytest.mark.parametrize("document", ["README.md", "docs/development.md"])
    def test_links_lead_somewhere(self, document: str) -> None:
        path = ROOT / document
        links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
        assert [link for link in links if not (path.parent / link).exists()] == []

    def test_documents_name_only_goals_that_exist(self) -> None:
        goals = set(re.findall(r"^([a-z-]+)(?: [a-z]+)?:", (ROOT / "Makefile").read_text(), flags=re.M)) | {
            "lint"
        }
        for document in ("README.md", "docs/development.md"):
            named = re.findall(r"`make ([a-z-]+)", (ROOT / document).read_text(encoding="utf-8"))
            assert set(named) <= goals, document

    def test_license_is_the_whole_apache_license(self) -> None:
        text = (ROOT / "LICENSE").read_text(encoding="utf-8")
        assert "Version 2.0, January 2004" in text
        assert "END OF TERMS AND CONDITIONS" in text

    def test_changelog_fragments_are_of_kinds_that_are_known(self) -> None:
        """A fragment of another kind would be left out of the changelog without a word."""
        config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
        kinds = "feature|bugfix|doc|removal|misc"
        fragments = [path for path in (ROOT / config["directory"]).iterdir() if path.name != ".gitignore"]
        strange = [path.name for path in fragments if not re.fullmatch(rf".+\.({kinds})\.md", path.name)]
        assert strange == []
        assert [path.name for path in fragments if not path.read_text(encoding="utf-8").strip()] == []


def run_script(name: str, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a set-up script on a machine that has only these programs."""
    return subprocess.run(
        ["/bin/bash", str(SETUP / name), *arguments],
        env={"PATH": str(path), "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of the programs that any machine has; none of them installs anything."""
    for name in ("dirname", "grep", "mkdir", "tail", "printf"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    return tmp_path


def add(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/bash\n{script}\n")
    (programs / name).chmod(0o755)


class TestPackages:
    MISSING = ("python=python3", "nosuchprogram=nosuchpackage", "/no/such/file=otherpackage")

    def test_nothing_is_asked_for_when_nothing_is_missing(self, programs: Path) -> None:
        done = run_script("packages.sh", "grep=grep", "/bin/bash=bash", path=programs)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_elsewhere_than_on_debian_it_says_what_is_needed(self, programs: Path) -> None:
        add(programs, "id", "echo 0")
        done = run_script("packages.sh", "nosuchprogram=nosuchpackage", path=programs)
        assert done.returncode == 1
        assert "nosuchpackage" in done.stderr
        assert "not a Debian machine" in done.stderr

    def test_who_is_not_root_is_told_the_command(self, programs: Path) -> None:
        add(programs, "id", "echo 1000")
        add(programs, "apt-get", "exit 99")
        done = run_script("packages.sh", *self.MISSING[1:], path=programs)
        assert done.returncode == 1
        assert "apt-get install --no-install-recommends nosuchpackage otherpackage\n" in done.stderr

    def test_root_gets_what_is_missing_installed(self, programs: Path, tmp_path: Path) -> None:
        add(programs, "id", "echo 0")
        add(programs, "apt-get", f'echo "$@" >>{tmp_path}/calls')
        done = run_script("packages.sh", *self.MISSING[1:], path=programs)
        assert done.returncode == 0
        assert done.stdout == "==> installing Debian packages: nosuchpackage otherpackage\n"
        update, install = (tmp_path / "calls").read_text().splitlines()
        assert update.endswith("update")
        assert install.endswith("install -y --no-install-recommends nosuchpackage otherpackage")

    def test_what_apt_said_is_shown_when_it_failed(self, programs: Path) -> None:
        add(programs, "id", "echo 0")
        add(programs, "apt-get", 'case "$*" in *install*) echo no such thing; exit 100;; esac')
        done = run_script("packages.sh", *self.MISSING[1:], path=programs)
        assert done.returncode == 1
        assert "no such thing" in done.stderr


@pytest.mark.parametrize(
    "script", [*sorted(SETUP.glob("*.sh")), ROOT / ".ci" / "run"], ids=lambda path: path.name
)
def test_scripts_can_be_run(script: Path) -> None:
    """All but the one that is there to be sourced."""
    runnable = bool(script.stat().st_mode & stat.S_IXUSR)
    assert runnable == (script.name != "common.sh")
