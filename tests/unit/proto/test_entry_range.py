# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, Key, entry_leaf, key_of
from nfsverity_proto.entry_range import (
    ENTRY_RANGE,
    RANGE_ENTRIES_MAX,
    EntryRange,
    children,
    entry_at,
    prove_range,
    verify_range,
)
from nfsverity_proto.errors import Malformed, Mismatch
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.statement import NO_END, Volume, When
from nfsverity_proto.tree import levels
from nfsverity_proto.xdr import Codec
from oracle import merkle, volumes

from .test_entry import ENTRIES, NAMES, PATHS, oracle_of

SHA256 = hash_by_number(1)
CODEC: Codec[EntryRange] = Codec(ENTRY_RANGE)
WHEN = When(1, 0, NO_END)


class Whole:
    """A volume with all its entries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)
        self.levels = list(levels(SHA256, [entry_leaf(SHA256, entry) for entry in self.entries]))
        root = volumes.root(merkle.SHA256, [oracle_of(entry) for entry in self.entries])
        self.volume = Volume(bytes(16), b"label", WHEN, len(self.entries), root)

    def node(self, level: int, index: int) -> bytes:
        return self.levels[level][index]

    def range(self, first: int, end: int) -> EntryRange:
        return prove_range(self.volume, self.node, self.entries.__getitem__, first, end)

    def around(self, key: Key, most: int) -> EntryRange:
        """From the last entry below `key` on, as a server answers."""
        below = sum(entry.key < key for entry in self.entries)
        first = max(below - 1, 0)
        return self.range(first, min(first + most, len(self.entries)))


def ordered(entries: Sequence[Entry]) -> list[Entry]:
    """In order, each place once."""
    return sorted({entry.key: entry for entry in entries}.values(), key=lambda entry: entry.key)


VOLUMES = st.lists(ENTRIES, max_size=12).map(ordered).map(Whole)


@given(VOLUMES, st.data())
def test_any_range_is_that_of_the_oracle_and_folds(whole: Whole, data: st.DataObject) -> None:
    count = len(whole.entries)
    first = data.draw(st.integers(0, max(count - 1, 0)))
    end = data.draw(st.integers(min(first + 1, count), count))
    found = whole.range(first, end)
    expected = volumes.range_of(merkle.SHA256, [oracle_of(entry) for entry in whole.entries], first, end)
    assert CODEC.encode(found) == expected
    assert CODEC.decode(expected) == found
    verify_range(whole.volume, SHA256, found)


@pytest.mark.spec("fim-range-1")
@given(VOLUMES.filter(lambda whole: len(whole.entries) > 1), st.data())
def test_no_other_entry_folds(whole: Whole, data: st.DataObject) -> None:
    count = len(whole.entries)
    first = data.draw(st.integers(0, count - 1))
    found = whole.range(first, data.draw(st.integers(first + 1, count)))
    at = data.draw(st.integers(0, len(found.entries) - 1))
    other = data.draw(ENTRIES.filter(lambda entry: entry != found.entries[at]))
    entries = (*found.entries[:at], other, *found.entries[at + 1 :])
    with pytest.raises(Mismatch):
        verify_range(whole.volume, SHA256, replace(found, entries=entries))
    if len(found.entries) > 1:  # reordered, and one of them left out
        with pytest.raises(Mismatch):
            verify_range(whole.volume, SHA256, replace(found, entries=found.entries[::-1]))
        with pytest.raises((Mismatch, ValueError)):
            verify_range(whole.volume, SHA256, replace(found, entries=found.entries[:-1]))
    with pytest.raises((Mismatch, ValueError)):
        verify_range(whole.volume, SHA256, replace(found, first=found.first + 1))


def test_what_is_refused_before_anything_is_hashed() -> None:
    whole = Whole(ordered([Entry(b"", b"%d" % i, DirectoryNode()) for i in range(5)]))
    found = whole.range(1, 3)
    for bad in (
        replace(found, proof=found.proof[:-32]),
        replace(found, proof=found.proof + bytes(32)),
        replace(found, proof=found.proof[:-1]),
        replace(found, first=4),
        replace(found, first=2**64 - 1),
        EntryRange(0, (), b""),
        EntryRange(1, (), b""),
    ):
        with pytest.raises(ValueError):
            verify_range(whole.volume, SHA256, bad)


def test_a_volume_without_entries() -> None:
    whole = Whole([])
    verify_range(whole.volume, SHA256, whole.range(0, 0))
    assert entry_at(whole.volume, whole.range(0, 0), key_of(b"", b"a")) is None
    assert children(whole.volume, whole.range(0, 0), b"", b"") == ([], True)
    with pytest.raises(Mismatch):
        verify_range(replace(whole.volume, root=bytes(32)), SHA256, EntryRange(0, (), b""))
    with pytest.raises(ValueError):
        verify_range(whole.volume, SHA256, EntryRange(0, (), bytes(32)))


@pytest.mark.spec("fim-range-2")
@pytest.mark.parametrize(
    "names",
    [(b"b", b"a"), (b"a", b"a"), (b"a", b"b", b"b", b"c"), (b"a", b"c", b"b")],
    ids=lambda names: b"".join(names),
)
def test_a_publisher_who_signed_entries_out_of_order(names: Sequence[bytes]) -> None:
    whole = Whole([Entry(b"", name, DirectoryNode()) for name in names])
    with pytest.raises(Malformed):
        verify_range(whole.volume, SHA256, whole.range(0, len(names)))


def test_a_publisher_who_names_content_by_something_else() -> None:
    whole = Whole([Entry(b"", b"a", FileNode(False, bytes(31)))])
    with pytest.raises(Malformed):
        verify_range(whole.volume, SHA256, whole.range(0, 1))


@pytest.mark.spec("fim-range-3")
@given(VOLUMES, PATHS, NAMES, st.integers(0, 12), st.integers(0, 12))
def test_absence_is_shown_by_both_neighbours_only(
    whole: Whole, parent: bytes, name: bytes, first: int, length: int
) -> None:
    key = key_of(parent, name)
    present = next((entry for entry in whole.entries if entry.key == key), None)
    assert entry_at(whole.volume, whole.around(key, 3), key) == present
    first = min(first, max(len(whole.entries) - 1, 0))
    end = min(first + max(length, 1), len(whole.entries))
    try:
        found = entry_at(whole.volume, whole.range(first, end), key)
    except ValueError:  # then it is not in the range, and a place next to the range
        assert present is None or not first <= whole.entries.index(present) < end
        assert (first and whole.entries[first].key > key) or (
            end < len(whole.entries) and whole.entries[end - 1].key < key
        )
    else:
        assert found == present


@pytest.mark.spec("fim-range-4")
@given(VOLUMES, PATHS, st.integers(2, 5))
def test_pages_give_all_of_a_directory(whole: Whole, parent: bytes, most: int) -> None:
    listed: list[Entry] = []
    after, is_last = b"", False
    while not is_last:
        page = whole.around(key_of(parent, after), most + 1)  # one of them may be the one before
        found, is_last = children(whole.volume, page, parent, after)
        assert found or is_last
        listed += found
        after = listed[-1].name if listed else b""
    assert listed == [entry for entry in whole.entries if entry.parent == parent]


@pytest.mark.spec("fim-range-4")
@given(VOLUMES.filter(lambda whole: bool(whole.entries)), PATHS, NAMES | st.just(b""), st.data())
def test_no_range_hides_an_entry_of_a_directory(whole: Whole, parent: bytes, after: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(whole.entries) - 1))
    end = data.draw(st.integers(first + 1, len(whole.entries)))
    due = [entry for entry in whole.entries if entry.parent == parent and entry.name > after]
    try:
        found, is_last = children(whole.volume, whole.range(first, end), parent, after)
    except ValueError:
        return
    assert list(found) == due if is_last else list(found) == due[: len(found)]


def test_the_bounds_of_a_range() -> None:
    entries = tuple(Entry(b"", b"%04d" % i, DirectoryNode()) for i in range(RANGE_ENTRIES_MAX + 1))
    with pytest.raises(ValueError):
        CODEC.encode(EntryRange(0, entries, b""))
    with pytest.raises(ValueError):
        CODEC.encode(EntryRange(0, entries[1:], bytes(8193)))
    assert len(CODEC.decode(CODEC.encode(EntryRange(0, entries[1:], bytes(8192)))).entries) == RANGE_ENTRIES_MAX
