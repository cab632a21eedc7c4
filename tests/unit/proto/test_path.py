# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.path import check_name, check_path, join_path, split_path

NOT_NAMES = [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"\0", b"x" * 256]
ODD_NAMES = [b"...", b".a", b"a.", b" ", b"\xff\xfe", b"\xc3\xa9", b"e\xcc\x81", b"-", b"\n", b"x" * 255, b"a\\b"]

names = st.binary(min_size=1, max_size=255).filter(lambda name: not ({0, 47} & set(name)) and name not in (b".", b".."))


@pytest.mark.spec("fim-path-2", "fim-path-7")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_other_bytes_are_a_name(name: bytes) -> None:
    assert check_name(name) == name
    assert split_path(name) == (name,)


@pytest.mark.spec("fim-path-2")
@pytest.mark.parametrize("name", NOT_NAMES)
def test_what_is_no_name_is_refused_alone_and_anywhere_in_a_path(name: bytes) -> None:
    with pytest.raises(ValueError):
        check_name(name)
    if name != b"a/b":
        for path in (b"a/" + name, name + b"/a", b"a/" + name + b"/b"):
            with pytest.raises(ValueError):
                split_path(path)


@pytest.mark.spec("fim-path-3")
@given(st.lists(names, max_size=15).map(tuple))
def test_a_path_is_its_names(parts: tuple[bytes, ...]) -> None:
    path = b"/".join(parts)
    if len(path) > 4095:
        with pytest.raises(ValueError):
            split_path(path)
        return
    assert split_path(path) == parts
    assert join_path(*parts) == path
    assert join_path(b"", path, b"") == path


@given(st.binary(max_size=40))
def test_any_bytes_are_a_path_or_raise_the_one_error(path: bytes) -> None:
    try:
        found = split_path(path)
    except ValueError:
        return
    assert b"/".join(found) == path
    assert all(check_name(name) for name in found)


@pytest.mark.spec("fim-path-3")
@pytest.mark.parametrize(("length", "good"), [(4095, True), (4096, False)])
def test_the_length_of_a_path(length: int, good: bool) -> None:
    path = b"/".join([b"x" * 255] * 16)[:4095] + b"x" * (length - 4095)
    assert len(path) == length
    if good:
        assert len(split_path(path)) == 16
    else:
        with pytest.raises(ValueError, match="4096 bytes"):
            split_path(path)


@pytest.mark.spec("fim-path-3")
@pytest.mark.parametrize(("depth", "good"), [(256, True), (257, False)])
def test_the_depth_of_a_path(depth: int, good: bool) -> None:
    path = b"/".join([b"d"] * depth)
    if good:
        assert len(split_path(path)) == depth
    else:
        with pytest.raises(ValueError, match="257 names"):
            split_path(path)


def test_the_empty_path_has_no_names() -> None:
    assert split_path(b"") == ()
    assert join_path() == b""


def test_what_joins_to_no_path_is_refused() -> None:
    for parts in ((b"a", b".."), (b"a/", b"b"), (b"x" * 255,) * 17):
        with pytest.raises(ValueError):
            join_path(*parts)


def accepts(path: bytes) -> bool:
    try:
        return bool(split_path(path))
    except ValueError:
        return False


@pytest.mark.spec("fim-path-3")
@given(
    st.lists(st.sampled_from([b"/", b"a", b"b", b".", b"..", b"\0", b"\xff", b"x" * 255]), max_size=12).map(b"".join)
    | st.integers(254, 258).map(lambda depth: b"/".join([b"a"] * depth))
    | st.integers(4090, 4100).map(lambda length: (b"x" * 254 + b"/") * (length // 255) + b"y" * (length % 255))
)
def test_a_path_is_checked_as_it_is_split(path: bytes) -> None:
    for _ in range(2):  # the second time, what is above the last name is known
        if accepts(path):
            check_path(path)
        else:
            with pytest.raises(ValueError):
                check_path(path)
