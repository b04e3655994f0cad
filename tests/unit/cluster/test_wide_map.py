"""A map for millions of keys does as a map does."""

from __future__ import annotations

import pytest

from flynnhost.cluster.wide_map import WideMap


def test_it_does_as_a_map_does() -> None:
    wide: WideMap[int] = WideMap()
    plain: dict[str, int] = {}
    for number in range(5_000):
        wide[f"k{number}"] = plain[f"k{number}"] = number
    for number in range(0, 5_000, 3):
        del wide[f"k{number}"], plain[f"k{number}"]
    assert len(wide) == len(plain)
    for number in range(5_001):
        key = f"k{number}"
        assert wide.get(key) == plain.get(key)
        assert (key in wide) == (key in plain)
    assert wide.setdefault("k1", 7) == wide["k1"] == 1
    assert wide.setdefault("new", 7) == wide["new"] == 7


def test_what_is_not_there() -> None:
    wide: WideMap[int] = WideMap()
    with pytest.raises(KeyError):
        wide["a"]
    with pytest.raises(KeyError):
        del wide["a"]


def test_no_part_gets_large() -> None:
    """The keys are spread, so that no part takes long to grow."""
    wide: WideMap[int] = WideMap()
    for number in range(100_000):
        wide[f"{number:032x}"] = number
    assert max(map(len, wide._parts)) < 2 * 100_000 / len(wide._parts)
