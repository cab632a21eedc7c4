# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.glob import Pattern, covered

NAMES = st.text("ab*", min_size=1, max_size=3).filter(lambda name: "**" not in name)
PATTERNS = st.lists(st.just("**") | NAMES, min_size=1, max_size=4).map("/".join)
PATHS = st.lists(st.binary(min_size=1, max_size=4).map(lambda name: name.replace(b"/", b"a")), min_size=1, max_size=5)
SHORT = [
    "/".join(names).encode() for count in (1, 2, 3) for names in itertools.product(("a", "b", "ab", "ba"), repeat=count)
]


def expression(pattern: str) -> re.Pattern[bytes]:
    """The same, for the library's engine."""
    names = pattern.split("/")
    text = ""
    for place, name in enumerate(names):
        last = place == len(names) - 1
        if name == "**":
            text += "[^/]+(?:/[^/]+)*" if last else "(?:[^/]+/)*"
        else:
            text += "[^/]*".join(map(re.escape, name.split("*"))) + ("" if last else "/")
    return re.compile(text.encode(), re.DOTALL)


@given(PATTERNS, PATHS.map(b"/".join) | st.sampled_from(SHORT))
def test_a_pattern_fits_what_its_expression_fits(pattern: str, path: bytes) -> None:
    assert Pattern(pattern).fits(path) == (expression(pattern).fullmatch(path) is not None)


@pytest.mark.parametrize(
    ("pattern", "fit", "others"),
    [
        ("a", ["a"], ["b", "a/a", "aa", ""]),
        ("*", ["a", ".a"], ["a/b"]),
        ("*.so", [".so", "a.so"], ["a/b.so", "a.so.1"]),
        ("lib/*.so*", ["lib/a.so", "lib/a.so.1"], ["lib/a/b.so", "lib"]),
        ("**", ["a", "a/b"], [""]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab/c"]),
        ("**/a", ["a", "b/a", "b/c/a"], ["ba", "a/b"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a", "ab", "a/xb"]),
        ("**/a/**", ["a/b", "x/a/b"], ["a", "x/a"]),
        ("a?[b]", ["a?[b]"], ["axb"]),
        (r"\*\\", ["*\\"], ["x\\"]),
    ],
)
def test_what_fits(pattern: str, fit: list[str], others: list[str]) -> None:
    assert [path for path in [*fit, *others] if Pattern(pattern).fits(path.encode())] == fit


def test_bytes_that_are_no_text_and_text_that_is_not_ascii() -> None:
    assert Pattern(r"\xff\xC3*").fits(b"\xff\xc3\x00\x80")
    accent = "\N{LATIN SMALL LETTER E WITH ACUTE}"
    assert Pattern(accent).fits(accent.encode())
    assert not Pattern(accent).fits(accent.encode("latin-1"))


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/../b",
        "a**",
        "**a",
        r"a\b",
        "a\\",
        r"\x00",
        r"\x2f",
        "a\0",
        "\ud800",
        "a" * 20_000,
    ],
)
def test_what_no_path_fits_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError):
        Pattern(pattern)


def test_no_pattern_takes_long() -> None:
    assert not Pattern("**/" * 12 + "*a" * 100).fits(b"a/" * 200 + b"a" * 100 + b"b")


@given(PATTERNS, st.lists(PATTERNS, min_size=1, max_size=2))
def test_what_is_covered_fits(narrow: str, wide: list[str]) -> None:
    if covered(Pattern(narrow), [Pattern(text) for text in wide]):
        assert [path for path in SHORT if expression(narrow).fullmatch(path)] == [
            path
            for path in SHORT
            if expression(narrow).fullmatch(path) and any(expression(text).fullmatch(path) for text in wide)
        ]


@pytest.mark.parametrize(
    ("narrow", "wide", "is_covered"),
    [
        ("a", ["a"], True),
        ("a", ["b"], False),
        ("a/b", ["**"], True),
        ("**", ["*"], False),
        ("*", ["**"], True),
        ("bin/*", ["bin/**"], True),
        ("bin/**", ["bin/*"], False),
        ("bin/**", ["bin/*", "bin/*/**"], True),
        ("*.so", ["*o"], True),
        ("*o", ["*.so"], False),
        ("**/a/b", ["**/b"], True),
        ("a*", ["*a"], False),
        ("**", ["**/**"], True),
    ],
)
def test_what_is_covered(narrow: str, wide: list[str], is_covered: bool) -> None:
    assert covered(Pattern(narrow), [Pattern(text) for text in wide]) == is_covered
