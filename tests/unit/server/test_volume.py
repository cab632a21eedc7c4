# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A volume that is served: its head, its members, ranges of its entries, and many contents at once."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.entry import Entry, FileNode, key_of
from nfsverity_proto.entry_range import children, entry_at, verify_range
from nfsverity_proto.errors import StatusError
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.member import verify_listed, verify_member
from nfsverity_proto.statement import Tag
from nfsverity_proto.verification import Verified, verify_head
from nfsverity_proto.verifier import Expected, Verifier
from serving import Published, keys, publish_as_volume, publish_tree, serving, session

HASH = hash_by_number(SHA256)
FILES = {"a": b"first", "b/c": b"second" * 20_000, "b/d/e": b"", "b-": b"third", "z": b"last"}


@pytest.fixture
def published(tmp_path: Path) -> Published:
    published = publish_as_volume(tmp_path / "tree", FILES)
    (published.root / "link").symlink_to("a")
    (published.root / "empty").mkdir()
    published.sign_volume()
    return published


async def head_of(opened: Session) -> Verified:
    record = (await opened.call(m.RECORD, m.RecordArgs(m.ROOT_HANDLE, b"", 0))).record
    return verify_head(record, Expected(b"", None, None), Verifier([keys().pin], {}, int(time.time())))


async def status_of(opened: Session, procedure: Any, arguments: Any) -> m.Status:
    with pytest.raises(StatusError) as caught:
        await opened.call(procedure, arguments)
    assert isinstance(caught.value.status, m.Status)
    return caught.value.status


@pytest.mark.spec("fip-head-1", "fip-limits-9", "fip-entries-4")
async def test_the_head_is_the_record_of_the_root(published: Published, tmp_path: Path) -> None:
    with serving(published.root) as server:
        async with session(server) as opened:
            assert (await opened.call(m.LIMITS, None)).capabilities == m.CAP_CORE | m.CAP_DATA | m.CAP_VOLUME
            head = await head_of(opened)
            assert head.head.entries == 9
            known = hashlib.sha256(head.data).digest()
            assert await status_of(opened, m.RECORD, m.RecordArgs(m.ROOT_HANDLE, known, 0)) is m.Status.UNCHANGED
    with serving(publish_tree(tmp_path / "records", {"a": b"a"}).root) as server:
        async with session(server) as opened:
            assert (await opened.call(m.LIMITS, None)).capabilities == m.CAP_CORE | m.CAP_DATA
            assert await status_of(opened, m.RECORD, m.RecordArgs(m.ROOT_HANDLE, b"", 0)) is m.Status.IS_DIRECTORY
            no_head = Tag(SHA256, bytes(32))
            arguments = m.EntriesArgs(no_head, b"", b"", 2)
            assert await status_of(opened, m.ENTRIES, arguments) is m.Status.NOT_SUPPORTED


@pytest.mark.spec("fip-head-1", "fip-poll-1")
async def test_a_poll_for_the_head_ends_with_the_new_one(published: Published) -> None:
    with serving(published.root) as server:
        async with session(server) as opened:
            head = await head_of(opened)
            known = hashlib.sha256(head.data).digest()
            poll = opened.call(m.RECORD, m.RecordArgs(m.ROOT_HANDLE, known, 20_000), wait=20)
            (published.root / "a").write_bytes(b"changed")
            published.sign_volume()
            record = (await poll).record
            assert record != head.data


@pytest.mark.spec("fip-head-2", "fim-member-1", "fim-member-2")
async def test_members(published: Published) -> None:
    with serving(published.root) as server:
        async with session(server) as opened:
            head = await head_of(opened)
            for name, data in FILES.items():
                path = name.encode()
                ok = await opened.call(m.FETCH, m.FetchArgs(m.ROOT_HANDLE, path, m.FETCH_MAX))
                verified = verify_member(ok.record, path, head)
                assert verified.file.path == path
                assert verified.content.tree.size == len(data)
                assert bytes(ok.data) == data
                assert verified.volume == head.volume
                assert verified.when == head.when
                handle = (await opened.resolve(path)).object
                assert (await opened.call(m.RECORD, m.RecordArgs(handle, b"", 0))).record == ok.record
                if data:
                    read = m.ReadArgs(handle, verified.tag, 0, 1, None)
                    assert bytes((await opened.call(m.READ, read)).data) == data[:65536]
            for path in (b"link", b"empty/x", b"b/none"):
                arguments = m.FetchArgs(m.ROOT_HANDLE, path, 0)
                assert await status_of(opened, m.FETCH, arguments) is m.Status.NOT_FOUND


@pytest.mark.spec("fip-entries-1", "fip-entries-3", "fip-entries-5")
@pytest.mark.parametrize("count", [2, 3, 1024])
async def test_entries_around_every_place(published: Published, count: int) -> None:
    whole: list[Entry] = []
    with serving(published.root) as server:
        async with session(server) as opened:
            head = await head_of(opened)
            found = (await opened.call(m.ENTRIES, m.EntriesArgs(head.tag, b"", b"", 1024))).range
            verify_range(head.head, HASH, found)
            whole = list(found.entries)
            assert [entry.path for entry in whole] == [
                b"a",
                b"b",
                b"b-",
                b"empty",
                b"link",
                b"z",
                b"b/c",
                b"b/d",
                b"b/d/e",
            ]
            places = [(b"", b""), (b"b", b""), (b"b/d", b"")]
            places += [(b"b", b"zz"), (b"none", b"x"), (b"zz", b"x"), (b"empty", b"none")]
            for parent, name in [*places, *((entry.parent, entry.name) for entry in whole)]:
                found = (await opened.call(m.ENTRIES, m.EntriesArgs(head.tag, parent, name, count))).range
                verify_range(head.head, HASH, found)
                below = sum(entry.key < key_of(parent, name) for entry in whole)
                first = max(below - 1, 0)
                assert (found.first, list(found.entries)) == (first, whole[first : first + count])
                if name:
                    due = next((entry for entry in whole if (entry.parent, entry.name) == (parent, name)), None)
                    assert entry_at(head.head, found, key_of(parent, name)) == due
                else:
                    listed, _ = children(head.head, found, parent, b"")
                    due_names = [entry.name for entry in whole if entry.parent == parent]
                    assert [entry.name for entry in listed] == due_names[: len(listed)]
            other = Tag(SHA256, bytes(32))
            assert await status_of(opened, m.ENTRIES, m.EntriesArgs(other, b"", b"", 2)) is m.Status.CHANGED
            (published.root / "a").write_bytes(b"changed")
            published.sign_volume()
            assert await status_of(opened, m.ENTRIES, m.EntriesArgs(head.tag, b"", b"", 2)) is m.Status.CHANGED
            assert await status_of(opened, m.BULK, m.BulkArgs(head.tag, b"", b"", 2, 0)) is m.Status.CHANGED


@pytest.mark.spec("fip-entries-2", "fip-bulk-2")
@pytest.mark.parametrize(
    ("parent", "name", "count", "most"),
    [
        (b"/", b"a", 2, 0),
        (b"", b"..", 2, 0),
        (b"", b"a/b", 2, 0),
        (b"", b"a", 1, 0),
        (b"", b"a", 1025, 0),
        (b"", b"a", 2, 2**21 + 1),
    ],
)
async def test_what_is_invalid(published: Published, parent: bytes, name: bytes, count: int, most: int) -> None:
    with serving(published.root) as server:
        async with session(server) as opened:
            tag = (await head_of(opened)).tag
            arguments = m.BulkArgs(tag, parent, name, count, most)
            assert await status_of(opened, m.BULK, arguments) is m.Status.INVALID
            if most <= m.BULK_MAX:
                assert await status_of(opened, m.ENTRIES, m.EntriesArgs(tag, parent, name, count)) is m.Status.INVALID


@pytest.mark.spec("fip-bulk-1", "fip-bulk-3", "fip-bulk-4", "fip-bulk-5")
@pytest.mark.parametrize("most", [0, 5, 12, m.BULK_MAX])
async def test_bulk(published: Published, most: int) -> None:
    with serving(published.root) as server:
        async with session(server) as opened:
            head = await head_of(opened)
            ok = await opened.call(m.BULK, m.BulkArgs(head.tag, b"", b"", 1024, most))
            verify_range(head.head, HASH, ok.range)
            assert len(ok.items) == len(ok.range.entries) == head.head.entries
            at = 0
            for entry, item in zip(ok.range.entries, ok.items, strict=True):
                if not isinstance(entry.node, FileNode):
                    assert item == m.BulkItem(b"", 0)
                    continue
                verified = verify_listed(item.statement, entry, head)
                data = FILES[os.fsdecode(entry.path)]
                assert verified.content.tree.size == len(data)
                assert item.length in (0, len(data))
                if len(data) <= 5 and most == m.BULK_MAX:
                    assert item.length == len(data)
                assert bytes(ok.data[at : at + item.length]) == data[: item.length]
                at += item.length
            assert at == len(ok.data) <= most
            if most == m.BULK_MAX:
                assert at == sum(map(len, FILES.values()))


async def test_bulk_leaves_out_what_is_gone_or_has_another_size(published: Published) -> None:
    (published.root / "a").unlink()
    (published.root / "z").write_bytes(b"longer than before")
    (published.root / "b").rename(published.root / "elsewhere")
    (published.root / "b").symlink_to("elsewhere")
    with serving(published.root) as server:
        async with session(server) as opened:
            head = await head_of(opened)
            ok = await opened.call(m.BULK, m.BulkArgs(head.tag, b"", b"", 1024, m.BULK_MAX))
            assert bytes(ok.data) == FILES["b-"]


async def test_a_long_listing_is_cut_where_its_bytes_are_too_many(tmp_path: Path) -> None:
    directory = "/".join("d" * 255 for _ in range(12))
    published = publish_as_volume(tmp_path / "tree", {f"{directory}/{i:0>255}": b"" for i in range(400)})
    with serving(published.root) as server:
        async with session(server) as opened:
            head = await head_of(opened)
            place = directory.encode()
            ok = await opened.call(m.ENTRIES, m.EntriesArgs(head.tag, place, b"", 1024))
            verify_range(head.head, HASH, ok.range)
            assert 200 < len(ok.range.entries) < 400
