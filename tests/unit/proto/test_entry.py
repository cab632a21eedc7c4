# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nfsverity_proto.entry import (
    DirectoryNode,
    Entry,
    FileNode,
    LinkNode,
    decode_entry,
    encode_entry,
    entry_leaf,
    key_of,
    key_of_path,
)
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.xdr import XdrError
from oracle import volumes
from oracle.xdr import opaque, uint

SHA256 = hash_by_number(1)
# few different bytes, those that the order is about among them, so that parents and names are often alike
NAMES = st.lists(st.sampled_from(b"a-.\x01\x7f\xff0"), min_size=1, max_size=3).map(bytes).filter(
    lambda name: name not in (b".", b"..")
)  # fmt: skip
PATHS = st.lists(NAMES, max_size=3).map(b"/".join)
NODES = (
    st.builds(FileNode, st.booleans(), st.binary(min_size=32, max_size=32))
    | st.builds(LinkNode, st.binary(min_size=1, max_size=8).filter(lambda target: b"\0" not in target))
    | st.just(DirectoryNode())
)
ENTRIES = st.builds(Entry, PATHS, NAMES, NODES)
ODD_ENTRIES = st.builds(Entry, PATHS, NAMES, st.builds(FileNode, st.booleans(), st.binary(max_size=64)))
"""Files whose content may be named by something that is no digest."""


def oracle_of(entry: Entry) -> volumes.Entry:
    match entry.node:
        case FileNode(executable, content):
            return volumes.Entry(entry.parent, entry.name, volumes.FILE, int(executable), content)
        case LinkNode(target):
            return volumes.Entry(entry.parent, entry.name, volumes.LINK, 0, target)
    return volumes.Entry(entry.parent, entry.name, volumes.DIRECTORY)


@given(ENTRIES | ODD_ENTRIES)
def test_an_entry_has_one_encoding(entry: Entry) -> None:
    data = encode_entry(entry)
    assert data == oracle_of(entry).encode()
    assert decode_entry(data) == entry
    for end in range(len(data)):
        with pytest.raises(XdrError):
            decode_entry(data[:end])


def test_an_entry_past_the_bounds_is_not_encoded() -> None:
    for node in (FileNode(True, bytes(65)), FileNode(False, bytes(300)), LinkNode(b""), LinkNode(b"x" * 4096)):
        with pytest.raises(ValueError):
            encode_entry(Entry(b"a", b"b", node))


@pytest.mark.spec("fim-vol-1")
@given(ENTRIES)
def test_the_leaf_is_over_the_encoding(entry: Entry) -> None:
    assert entry_leaf(SHA256, entry) == volumes.merkle.SHA256(b"\x00" + oracle_of(entry).encode())


@pytest.mark.spec("fim-vol-2")
@given(st.lists(ENTRIES, max_size=12))
@example([Entry(b"", b"a", DirectoryNode()), Entry(b"a", b"b", DirectoryNode()), Entry(b"", b"a-b", DirectoryNode()),
          Entry(b"a-b", b"x", DirectoryNode()), Entry(b"a/b", b"x", DirectoryNode())])  # fmt: skip
def test_the_order_is_that_of_the_draft(entries: list[Entry]) -> None:
    mixed = list(entries)
    random.Random(0).shuffle(mixed)
    ordered = [oracle_of(entry) for entry in sorted(mixed, key=lambda entry: entry.key)]
    assert [(e.parent, e.name) for e in ordered] == [
        (e.parent, e.name) for e in volumes.ordered([oracle_of(entry) for entry in entries])
    ]


@pytest.mark.spec("fim-vol-2")
@given(st.sets(PATHS.filter(bool), max_size=16))
def test_a_directory_and_all_below_it_are_neighbours(paths: set[bytes]) -> None:
    whole = {
        path[:at] for path in paths for at in (*(i for i in range(len(path)) if path[i : i + 1] == b"/"), len(path))
    }
    ordered = sorted(whole, key=key_of_path)
    for directory in whole:
        for inside in (
            [path.rpartition(b"/")[0] == directory for path in ordered],
            [path.startswith(directory + b"/") for path in ordered],
        ):
            assert sum(a != b for a, b in zip([False, *inside], [*inside, False], strict=True)) <= 2


def test_the_place_before_all_of_a_directory() -> None:
    assert key_of(b"a/b", b"") < key_of(b"a/b", b"\x01")
    assert key_of(b"a/b", b"") > key_of(b"a", b"\xff" * 255)


@pytest.mark.parametrize(
    "data",
    [
        opaque(b"") + opaque(b"") + uint(3),
        opaque(b"") + opaque(b"..") + uint(3),
        opaque(b"") + opaque(b"a/b") + uint(3),
        opaque(b"/") + opaque(b"b") + uint(3),
        opaque(b"a/") + opaque(b"b") + uint(3),
        opaque(b"a//c") + opaque(b"b") + uint(3),
        opaque(b"a\0c") + opaque(b"b") + uint(3),
        opaque(b"x/" * 255 + b"x") + opaque(b"b") + uint(3),  # 257 names
        opaque((b"x" * 250 + b"/") * 15 + b"x" * 250) + opaque(b"b" * 100) + uint(3),  # 4,116 bytes
        opaque(b"") + opaque(b"b") + uint(0),
        opaque(b"") + opaque(b"b") + uint(4),
        opaque(b"") + opaque(b"b") + uint(2) + opaque(b""),
        opaque(b"") + opaque(b"b") + uint(2) + opaque(b"a\0"),
        opaque(b"") + opaque(b"b") + uint(2) + opaque(b"a" * 4096),
        opaque(b"") + opaque(b"b") + uint(1) + uint(2) + opaque(bytes(32)),
        opaque(b"") + opaque(b"b") + uint(1) + uint(1) + opaque(bytes(65)),
        opaque(b"") + opaque(b"b") + uint(3) + uint(0),
    ],
)
def test_what_is_no_entry(data: bytes) -> None:
    with pytest.raises(XdrError):
        decode_entry(data)
