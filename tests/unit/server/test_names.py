# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Handles, paths, listings and attributes: what is served, and what never is."""

from __future__ import annotations

import os
import shutil
import socket as sockets
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_proto import messages as m
from nfsverity_proto.messages import Attributes, FileType, Status
from nfsverity_proto.statement import Time
from nfsverity_server import handles
from serving import Published, publish_tree
from unit.server.raw import Raw
from unit.server.running import Running, running

NAMES = [b"a", b"a-b", b"a.c", b"b"]
"""Of the directory `names`, in byte order."""


def resolve(client: Raw, path: bytes, base: bytes = b"") -> object:
    return client.call(m.RESOLVE, m.ResolveArgs(base, path))


def found(client: Raw, path: bytes, base: bytes = b"") -> m.ResolveOk:
    result = resolve(client, path, base)
    assert isinstance(result, m.ResolveOk), (path, result)
    return result


def listing(client: Raw, directory: bytes = b"", count: int = 1024) -> list[m.Entry]:
    """All entries of a directory, however many calls it takes."""
    entries: list[m.Entry] = []
    while True:
        after = entries[-1].name if entries else b""
        result = client.call(m.READDIR, m.ReaddirArgs(directory, after, count))
        assert isinstance(result, m.ReaddirOk)
        assert len(result.entries) <= count
        assert result.entries or result.eof
        entries += result.entries
        if result.eof:
            return entries


def times(path: Path) -> Time:
    return Time.from_ns(path.stat().st_mtime_ns)


@pytest.mark.spec("fip-handle-2", "fip-resolve-5")
def test_the_empty_handle_and_the_empty_path(client: Raw, published: Published) -> None:
    root = found(client, b"")
    assert root.object == b""
    assert root.attributes == client.call(m.GETATTR, m.GetattrArgs(b""))
    handle = client.handle(b"d/run")
    assert found(client, b"", handle).object == handle
    assert found(client, b"run", client.handle(b"d")).object == handle
    assert found(client, b"d/run", found(client, b"").object).object == handle


@pytest.mark.spec("fip-attr-1")
def test_attributes(client: Raw, all_server: Running, published: Published) -> None:
    root = published.root
    assert found(client, b"d").attributes == Attributes(FileType.DIRECTORY, False, False, 0, times(root / "d"))
    assert found(client, b"top").attributes == Attributes(FileType.FILE, True, False, 15, times(root / "top"))
    assert found(client, b"d/run").attributes.executable
    with all_server.client() as all_client:
        unsigned = Attributes(FileType.FILE, False, False, 8, times(root / "unsigned"))
        assert found(all_client, b"unsigned").attributes == unsigned
        assert found(all_client, b"unsigned-directory").attributes.type is FileType.DIRECTORY


def test_attributes_are_those_of_storage(client: Raw, published: Published) -> None:
    handle = client.handle(b"top")
    (published.root / "top").write_bytes(b"longer than it was signed")
    (published.root / "top").chmod(0o755)
    expected = Attributes(FileType.FILE, True, True, 25, times(published.root / "top"))
    assert client.call(m.GETATTR, m.GetattrArgs(handle)) == expected
    assert {entry.name: entry.attributes for entry in listing(client)}[b"top"] == expected


@pytest.mark.spec("fip-resolve-2", "fip-status-2")
@pytest.mark.parametrize(
    "path",
    [b"/", b"/top", b"top/", b"d//run", b".", b"..", b"d/../top", b"./top", b"d/.", b"t\0p", b"n" * 256,
     b"/".join([b"n"] * 257)],
)  # fmt: skip
@pytest.mark.parametrize("base", [b"", b"nonsense"])
def test_paths_that_are_none(client: Raw, path: bytes, base: bytes) -> None:
    assert resolve(client, path, base) is Status.INVALID
    assert client.call(m.FETCH, m.FetchArgs(base, path, 0)) is Status.INVALID


@pytest.mark.spec("fip-resolve-3", "fip-resolve-4", "fip-fetch-5")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"none", Status.NOT_FOUND),
        (b"d/none", Status.NOT_FOUND),
        (b"none/top", Status.NOT_FOUND),
        (b"top/x", Status.NOT_DIRECTORY),
        (b"d/run/x/y", Status.NOT_DIRECTORY),
        (b"none/x/top", Status.NOT_FOUND),
        (b"n" * 255, Status.NOT_FOUND),
        (b"/".join([b"n"] * 256), Status.NOT_FOUND),
    ],
)
def test_paths_that_lead_nowhere(client: Raw, path: bytes, status: Status) -> None:
    assert resolve(client, path) is status
    assert client.call(m.FETCH, m.FetchArgs(b"", path, 0)) is status


@pytest.mark.spec("fip-resolve-3", "fip-fetch-5")
def test_a_path_below_a_file_that_is_the_base(client: Raw) -> None:
    handle = client.handle(b"top")
    assert resolve(client, b"x", handle) is Status.NOT_DIRECTORY
    assert client.call(m.FETCH, m.FetchArgs(handle, b"x", 0)) is Status.NOT_DIRECTORY


@pytest.mark.spec("fip-resolve-1")
@pytest.mark.parametrize("path", [b"TOP", b"Top", b"d/RUN", b"\xc3\xa9"])
def test_names_are_bytes(client: Raw, path: bytes, published: Published) -> None:
    """Neither case is folded, nor is e with an accent (here decomposed) the same as one character."""
    published.write({"e\u0301": b"decomposed"})
    published.sign()
    assert found(client, b"e\xcc\x81")
    assert resolve(client, path) is Status.NOT_FOUND


NEVER = [
    b"link", b"out", b"directory-link", b"directory-link/run", b"fifo", b"socket", b".nfsverity", b".nfsverity/head",
    b".nfsverity/trees", b"d/.nfsverity", b"link/x", b"fifo/x", b"out/x",
]  # fmt: skip


@pytest.mark.spec("fip-server-3", "fip-server-4", "fip-server-5", "fip-server-6", "fip-resolve-4", "fip-dir-5")
@pytest.mark.parametrize("show_all", [False, True])
def test_what_is_never_served(published: Published, show_all: bool) -> None:
    with running(published.root, show_all=show_all) as server, server.client() as client:
        with sockets.socket(sockets.AF_UNIX) as special:
            special.bind(os.path.relpath(published.root / "socket"))
        for path in NEVER:
            assert resolve(client, path) is Status.NOT_FOUND, path
            assert client.call(m.FETCH, m.FetchArgs(b"", path, 0)) is Status.NOT_FOUND, path
        assert not {entry.name for entry in listing(client)} & set(NEVER)


NO_PATHS = [b"../outside", b"d/../../outside", b"/etc/passwd", b".", b"d//run", b"top/"]


@pytest.mark.spec("fip-handle-6", "fip-handle-5", "fip-server-3", "fip-server-6")
@pytest.mark.parametrize(
    "path", [*NEVER, b"../outside", b"d/../../outside", b"/etc/passwd", b".", b"", b"d//run", b"unsigned"]
)
def test_handles_that_were_never_made(server: Running, client: Raw, path: bytes) -> None:
    """Made as the server would make them, for what it would not."""
    handle = b"\1" + server.service.catalog.head.volume + path
    _, _, tag = client.file(b"big")
    assert client.call(m.GETATTR, m.GetattrArgs(handle)) is Status.BAD_HANDLE
    assert client.call(m.READDIR, m.ReaddirArgs(handle, b"", 1)) is Status.BAD_HANDLE
    assert client.call(m.RECORD, m.RecordArgs(handle, b"", 0)) is Status.BAD_HANDLE
    assert client.call(m.READ, m.ReadArgs(handle, tag, 0, 1, None)) is Status.BAD_HANDLE
    assert client.call(m.TREE, m.TreeArgs(handle, tag, 0, 0, 1)) is Status.BAD_HANDLE
    assert client.call(m.PROOF, m.ProofArgs(handle, tag, 0, 0, 1)) is Status.BAD_HANDLE
    assert client.call(m.FETCH, m.FetchArgs(handle, b"", 0)) is Status.BAD_HANDLE
    assert client.call(m.PLAIN, m.PlainArgs(handle, 0, 1)) is Status.BAD_HANDLE
    assert client.call(m.REVOCATION, m.RevocationArgs(handle, b"")) is Status.BAD_HANDLE
    assert resolve(client, b"", handle) is Status.BAD_HANDLE


@pytest.mark.spec("fip-handle-5")
@pytest.mark.parametrize("change", ["first", "volume", "last", "shorter", "longer"])
def test_a_handle_that_was_changed(client: Raw, change: str) -> None:
    handle = bytearray(client.handle(b"top"))
    if change in ("first", "volume", "last"):
        handle[{"first": 0, "volume": 5, "last": -1}[change]] ^= 1
    changed = bytes(handle[:-1] if change == "shorter" else handle + b"x" if change == "longer" else handle)
    assert client.call(m.GETATTR, m.GetattrArgs(changed)) is Status.BAD_HANDLE


@pytest.mark.spec("fip-server-4", "fip-handle-6", "fip-handle-5")
@pytest.mark.parametrize("show_all", [False, True])
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_link_put_where_an_object_was(published: Published, tmp_path: Path, what: str, show_all: bool) -> None:
    """A handle that was good, and a directory on the way, are looked at again."""
    root = published.root
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root / "d", elsewhere)
    with running(root, show_all=show_all) as server, server.client() as client:
        handle, directory, (_, _, tag) = client.handle(b"d/run"), client.handle(b"d"), client.file(b"d/run")
        moved = root / "d" / "run" if what == "file" else root / "d"
        os.rename(moved, tmp_path / "moved")
        moved.symlink_to(elsewhere / "run" if what == "file" else elsewhere)
        assert client.call(m.READ, m.ReadArgs(handle, tag, 0, 1, None)) is Status.BAD_HANDLE
        assert client.call(m.RECORD, m.RecordArgs(handle, b"", 0)) is Status.BAD_HANDLE
        assert resolve(client, b"d/run") is Status.NOT_FOUND
        if what == "directory":
            assert client.call(m.READDIR, m.ReaddirArgs(directory, b"", 9)) is Status.BAD_HANDLE
            assert resolve(client, b"run", directory) is Status.BAD_HANDLE
        else:
            assert resolve(client, b"run", directory) is Status.NOT_FOUND


@pytest.mark.spec("fip-handle-5", "fip-resolve-4", "fip-dir-5", "fip-dir-4")
def test_an_object_that_is_gone(client: Raw, published: Published) -> None:
    handle = client.handle(b"names/b")
    (published.root / "names" / "b").unlink()
    assert client.call(m.GETATTR, m.GetattrArgs(handle)) is Status.BAD_HANDLE
    assert client.call(m.RECORD, m.RecordArgs(handle, b"", 0)) is Status.BAD_HANDLE
    assert resolve(client, b"names/b") is Status.NOT_FOUND
    directory = client.handle(b"names")
    assert [entry.name for entry in listing(client, directory)] == NAMES[:-1]
    assert client.call(m.READDIR, m.ReaddirArgs(directory, b"", 3)).eof
    assert client.call(m.READDIR, m.ReaddirArgs(directory, b"a.c", 3)) == m.ReaddirOk((), True)
    (published.root / "names" / "b").mkdir()
    assert client.call(m.GETATTR, m.GetattrArgs(handle)) is Status.BAD_HANDLE
    assert resolve(client, b"names/b/x") is Status.NOT_FOUND


LONG = "/".join(["a-name-of-thirty-bytes-and-more"] * 30)
DEEP = "/".join("n" * (1 + n % 3) for n in range(255))


@pytest.mark.spec("fip-handle-3")
@pytest.mark.parametrize("show_all", [False, True])
def test_handles_survive_restarts_and_publications(published: Published, show_all: bool) -> None:
    published.write({LONG: b"long", DEEP: b"deep", LONG + "-other": b"other"})
    published.sign()
    paths = [b"top", b"d", b"d/e/deep", LONG.encode(), DEEP.encode(), os.path.dirname(LONG).encode()]
    if show_all:
        published.write({LONG + "-unsigned": b"long and unsigned"})
        paths += [b"unsigned", b"unsigned-directory/u", LONG.encode() + b"-unsigned"]
    with running(published.root, show_all=show_all) as server, server.client() as client:
        made = {path: found(client, path) for path in paths}
        assert max(len(each.object) for each in made.values()) <= 128
        assert len({each.object for each in made.values()}) == len(paths)
    published.write({"new": b"new"})
    published.sign("new")
    with running(published.root, show_all=show_all) as server, server.client() as client:
        for path, before in made.items():
            assert client.call(m.GETATTR, m.GetattrArgs(before.object)) == before.attributes, path
        for path, before in made.items():
            assert found(client, path).object == before.object
    shutil.rmtree(published.root / ".nfsverity")
    published.sign(volume=server.service.catalog.head.volume)
    with running(published.root, show_all=show_all) as server, server.client() as client:
        for before in made.values():
            assert client.call(m.GETATTR, m.GetattrArgs(before.object)).mtime == before.attributes.mtime


@pytest.mark.spec("fip-handle-4")
def test_a_handle_stands_for_what_replaced_its_file(client: Raw, published: Published) -> None:
    handle, old, _ = client.file(b"top")
    published.replace("top", b"another file")
    assert client.call(m.GETATTR, m.GetattrArgs(handle)).size == 12
    published.sign()
    _, new, tag = client.file(b"top")
    assert client.handle(b"top") == handle
    assert new.when.generation > old.when.generation
    assert bytes(client.call(m.READ, m.ReadArgs(handle, tag, 0, 1, None)).data) == b"another file"


def test_handles_of_another_volume_are_bad(client: Raw, published: Published) -> None:
    handle = client.handle(b"top")
    published.sign(volume=b"another volume..")
    assert client.call(m.GETATTR, m.GetattrArgs(handle)) is Status.BAD_HANDLE
    assert client.handle(b"top") != handle


name = st.binary(min_size=1, max_size=60).filter(lambda name: name not in (b".", b"..") and not set(name) & set(b"/\0"))


@given(st.lists(name, min_size=1, max_size=120), st.lists(name, max_size=3), st.data())
@settings(max_examples=60)
def test_a_handle_is_decoded_to_its_path(names: list[bytes], others: list[bytes], data: st.DataObject) -> None:
    while len(b"/".join(names)) > 4095:
        names.pop()
    path, volume = b"/".join(names), b"v" * 16

    def in_directory(above: object) -> list[bytes]:
        at = len(above)  # type: ignore[arg-type]
        return [*others, names[at]] if list(above) == names[:at] and at < len(names) else []  # type: ignore[call-overload]

    handle = handles.encode(volume, path)
    assert len(handle) <= 128
    assert handles.decode(volume, handle, in_directory) == path
    if handles.is_long(handle):
        bad = bytearray(handle)
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
        with pytest.raises(handles.BadHandle):
            handles.decode(volume, bytes(bad), in_directory)


class TestListings:
    @pytest.mark.spec("fip-dir-1", "fip-dir-3", "fip-dir-4")
    @pytest.mark.parametrize("show_all", [False, True])
    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 1024])
    def test_pages(self, published: Published, show_all: bool, count: int) -> None:
        with running(published.root, show_all=show_all) as server, server.client() as client:
            directory = client.handle(b"names")
            assert [entry.name for entry in listing(client, directory, count)] == NAMES
            result = client.call(m.READDIR, m.ReaddirArgs(directory, b"", count))
            assert ([entry.name for entry in result.entries], result.eof) == (NAMES[:count], count >= 4)

    @pytest.mark.spec("fip-dir-1")
    @pytest.mark.parametrize("show_all", [False, True])
    @pytest.mark.parametrize("after", [b"", b"a", b"a-", b"a-b", b"aa", b"b", b"c", b"\xff" * 255, b"/", b"\0"])
    def test_after_what_need_not_exist(self, published: Published, after: bytes, show_all: bool) -> None:
        with running(published.root, show_all=show_all) as server, server.client() as client:
            result = client.call(m.READDIR, m.ReaddirArgs(client.handle(b"names"), after, 9))
            assert [entry.name for entry in result.entries] == [name for name in NAMES if name > after]

    @pytest.mark.spec("fip-dir-5", "fip-server-6")
    def test_a_listing_has_what_resolve_finds(self, client: Raw, all_server: Running) -> None:
        expected = {b"top", b"empty", b"big", b"d", b"names"}
        entries = {entry.name: entry for entry in listing(client)}
        assert set(entries) == expected
        with all_server.client() as all_client:
            all_entries = {entry.name: entry for entry in listing(all_client)}
            assert set(all_entries) == expected | {b"unsigned", b"unsigned-directory"}
            for path, entry in all_entries.items():
                assert found(all_client, path) == m.ResolveOk(entry.object, entry.attributes)
            assert [entry.name for entry in listing(all_client, all_entries[b"unsigned-directory"].object)] == [b"u"]
        for path, entry in entries.items():
            assert found(client, path) == m.ResolveOk(entry.object, entry.attributes)
        assert resolve(client, b"unsigned") is Status.NOT_FOUND

    @pytest.mark.spec("fip-dir-2", "fip-status-2")
    @pytest.mark.parametrize("count", [0, 1025, 2**32 - 1])
    @pytest.mark.parametrize("directory", [b"", b"nonsense"])
    def test_counts_that_are_not_allowed(self, client: Raw, count: int, directory: bytes) -> None:
        assert client.call(m.READDIR, m.ReaddirArgs(directory, b"", count)) is Status.INVALID

    def test_a_file_has_no_listing(self, client: Raw) -> None:
        assert client.call(m.READDIR, m.ReaddirArgs(client.handle(b"top"), b"", 1)) is Status.NOT_DIRECTORY

    @pytest.mark.spec("fip-dir-1", "fip-dir-4")
    def test_many_names_some_of_them_gone(self, tmp_path: Path) -> None:
        """Whole pages of the index are gone: still there is an entry in each reply, and no gap."""
        files = {f"{number:04}": b"x" for number in range(3000)}
        published = publish_tree(tmp_path / "tree", files)
        for number in [*range(100, 2500), 2999]:
            (published.root / f"{number:04}").unlink()
        with running(published.root) as server, server.client() as client:
            left = [*range(100), *range(2500, 2999)]
            assert [int(entry.name) for entry in listing(client, count=64)] == left
            assert [int(entry.name) for entry in listing(client)] == left


@pytest.mark.parametrize("show_all", [False, True])
def test_names_that_are_no_text(published: Published, show_all: bool) -> None:
    odd = os.fsdecode(b"\xff\xfe \n")
    try:
        published.write({odd: b"odd"})
    except OSError:
        pytest.skip("this file system has only names that are UTF-8")
    published.sign()
    with running(published.root, show_all=show_all) as server, server.client() as client:
        assert found(client, b"\xff\xfe \n").attributes.size == 3
        assert b"\xff\xfe \n" in {entry.name for entry in listing(client)}
