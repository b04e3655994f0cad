"""Rules that import-linter can't check: it sees Twisted only as a whole, and wants each module named."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ROOT / "flynnhost"


def imported(source: str) -> Iterator[str]:
    """Every dotted name that the source imports, whichever way it is written."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(forbidden: str, *, allowed: tuple[str, ...] = (), within: tuple[str, ...] = ("",)) -> list[str]:
    """The modules of the product that import what they may not.

    :param forbidden: a dotted name, with all that is below it.
    :param allowed: the only files and folders that may import it.
    :param within: the files and folders the rule is about.
    """
    found = []
    for path in sorted(PRODUCT.rglob("*.py")):
        place = path.relative_to(PRODUCT)
        if any(place.is_relative_to(name) for name in allowed):
            continue
        if not any(place.is_relative_to(name) for name in within):
            continue
        names = imported(path.read_text(encoding="utf-8"))
        if any(f"{name}.".startswith(f"{forbidden}.") for name in names):
            found.append(str(place))
    return found


def test_the_reactor_is_handed_in() -> None:
    """Only where the service tree is put together, and in commands, is the global reactor known."""
    assert offenders("twisted.internet.reactor", allowed=("tap.py", "cli")) == []


@pytest.mark.parametrize("forbidden", ["twisted.web", "klein"])
def test_the_host_and_the_cluster_know_nothing_of_http_servers(forbidden: str) -> None:
    assert offenders(forbidden, within=("agent", "cluster")) == []


def test_what_all_share_knows_none_of_those_who_share_it() -> None:
    """The seams, and the modules at the top of the package, use no other package of it, but for those
    that put all together.
    """
    together = ("tap.py", "host.py", "facts.py", "member.py")
    shared = ("interfaces", *(path.name for path in PRODUCT.glob("*.py") if path.name not in together))
    packages = [path.parent.name for path in PRODUCT.glob("*/__init__.py")]
    packages.remove("interfaces")
    assert {
        name: found for name in packages if (found := offenders(f"flynnhost.{name}", within=shared))
    } == {}


def test_the_model_does_no_io() -> None:
    """What is only values and rules imports nothing that could reach the world."""
    pure = ("model.py", "errors.py", "image.py", "names.py")
    for forbidden in ("os", "socket", "subprocess", "pathlib", "twisted.internet", "twisted.web"):
        assert offenders(forbidden, within=pure) == []


@pytest.mark.parametrize(
    "source",
    [
        "from twisted.internet import reactor",
        "from twisted.internet import defer, reactor as r",
        "import twisted.internet.reactor",
        "from twisted.internet.reactor import callLater",
        "def f():\n    from twisted.internet import reactor",
    ],
)
def test_every_way_to_import_the_reactor_is_seen(source: str) -> None:
    assert any(f"{name}.".startswith("twisted.internet.reactor.") for name in imported(source))


def test_importing_from_beside_the_reactor_is_fine() -> None:
    names = list(imported("from twisted.internet.interfaces import IReactorTime"))
    assert names == ["twisted.internet.interfaces.IReactorTime"]
