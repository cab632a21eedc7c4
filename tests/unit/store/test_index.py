# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The index and the head: what was put is found, damage is told, and readers turn to the newer one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_store.index import ROOT_ID, FileRow, Index, Seen
from nfsverity_store.layout import (
    DIRECTORY,
    Head,
    NotPublished,
    StoreError,
    find_root,
    head_path,
    read_head,
)
from nfsverity_store.published import open_published

SEEN = Seen(5, -1, 2**62, 2**63 - 1)


def row(parent: int, name: bytes, **changes: object) -> FileRow:
    values: dict[str, object] = {
        "seen": SEEN, "executable": True, "hash": 1, "unit_log2": 16, "terms": b"t", "kept": None,
        "record": b"record of " + name, "tree": None,
    }  # fmt: skip
    return FileRow(parent, name, **(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index-1", writable=True)
    index.create()
    index.begin()
    yield index
    index.close()


def publish(root: Path, head: Head) -> None:
    (root / DIRECTORY).mkdir(exist_ok=True)
    index = Index(root / DIRECTORY / head.index, writable=True)
    index.create()
    index.close()
    head_path(root).write_bytes(head.encode())


@pytest.mark.parametrize("generation", [str(2**64 - 1), "9" * 30, "-1", 1e400])
def test_a_generation_out_of_range(tmp_path: Path, generation: str | float) -> None:
    path = head_path(tmp_path)
    path.parent.mkdir()
    path.write_text(json.dumps(json.loads(HEAD.encode()) | {"generation": generation}))
    with pytest.raises(StoreError, match="is damaged"):
        read_head(tmp_path)
    path.write_text("[" * 4000)
    with pytest.raises(StoreError, match="is damaged"):
        read_head(tmp_path)


def test_a_head_of_another_format_is_told(tmp_path: Path) -> None:
    path = head_path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(HEAD.encode().replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(StoreError, match="is of format 2; this program knows 1 and 3: remove this file, and sign"):
        read_head(tmp_path)


HEAD = Head(bytes(range(16)), b"label\xff", 2**63 + 7, "index-7")


def test_what_was_put_is_found(index: Index) -> None:
    a = index.put_directory(ROOT_ID, b"a")
    b = index.put_directory(a, b"b")
    index.put_files([row(b, b"\xff.txt"), row(ROOT_ID, b"top", tree=b"tree", executable=False)])
    found = index.by_path(b"a/b/\xff.txt")
    assert found is not None
    assert (found.record, found.seen, found.executable, found.tree) == (b"record of \xff.txt", SEEN, True, None)
    assert index.path_of(found) == b"a/b/\xff.txt"
    assert [(path, entry.tree) for path, entry in index.files()] == [(b"a/b/\xff.txt", None), (b"top", b"tree")]
    assert index.by_path(b"a/c") is None
    assert index.by_path(b"top/x") is None
    assert index.put_directory(ROOT_ID, b"a") == a


def test_a_second_record_replaces_the_first(index: Index) -> None:
    index.put_files([row(ROOT_ID, b"f", tree=b"tree", kept="k")])
    first = index.by_path(b"f")
    index.put_files([row(ROOT_ID, b"f", record=b"new", seen=Seen(1, 2, 3, 4))])
    second = index.by_path(b"f")
    assert first is not None
    assert second is not None
    assert (second.id, second.record, second.tree, second.seen) == (first.id, b"new", None, Seen(1, 2, 3, 4))
    assert index.kept_name(second.id) is None
    index.touch(second.id, Seen(1, 9, 9, 9))
    assert index.known(ROOT_ID)[b"f"].seen == Seen(1, 9, 9, 9)


def test_removing_takes_all_that_is_below(index: Index) -> None:
    a = index.put_directory(ROOT_ID, b"a")
    index.put_files([row(a, b"1"), row(index.put_directory(a, b"b"), b"2", kept="k2"), row(ROOT_ID, b"3", kept="k3")])
    assert index.kept_trees() == {"k2", "k3"}
    assert index.remove(a) == 2
    assert [path for path, _ in index.files()] == [b"3"]
    assert index.kept_trees() == {"k3"}


def test_a_directory_where_a_file_was(index: Index) -> None:
    index.put_files([row(ROOT_ID, b"x")])
    index.put_files([row(index.put_directory(ROOT_ID, b"x"), b"y")])
    assert [path for path, _ in index.files()] == [b"x/y"]


def test_what_is_known_of_a_directory(index: Index) -> None:
    a = index.put_directory(ROOT_ID, b"a")
    index.put_files([row(ROOT_ID, b"f", hash=7, unit_log2=12, terms=b"x")])
    known = index.known(ROOT_ID)
    assert sorted(known) == [b"a", b"f"]
    assert (known[b"a"].id, known[b"a"].is_file) == (a, False)
    f = known[b"f"]
    assert (f.is_file, f.seen, f.executable, f.hash, f.unit_log2, f.terms) == (True, SEEN, True, 7, 12, b"x")


@given(st.sets(st.binary(min_size=1, max_size=4).filter(lambda name: b"/" not in name), max_size=12), st.binary())
@settings(max_examples=30)
def test_names_come_in_byte_order(names: set[bytes], after: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        index = Index(Path(directory) / "index", writable=True)
        index.create()
        index.begin()
    index.put_files(row(ROOT_ID, name) for name in names)
    expected = sorted(name for name in names if name > after)
    assert index.names(ROOT_ID, after, -1) == [(name, True) for name in expected]
    assert [name for name, _ in index.names(ROOT_ID, after, 3)] == expected[:3]
    assert [entry.name for entry in index.children(ROOT_ID, after, 3)] == expected[:3]
    index.close()


def test_the_head_says_what_was_written(tmp_path: Path) -> None:
    publish(tmp_path, HEAD)
    head, index = open_published(tmp_path)
    assert head == HEAD
    assert index.by_path(b"") is not None
    index.close()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"format": "1"}, {"volume": "00"}, {"volume": None}, {"label": "%"}, {"label": ""},
        {"generation": "x"}, {"index": "../index-7"}, {"index": "head"},
    ],
)  # fmt: skip
def test_a_head_that_is_not_one(tmp_path: Path, change: dict[str, object]) -> None:
    publish(tmp_path, HEAD)
    head_path(tmp_path).write_text(json.dumps(json.loads(HEAD.encode()) | change))
    with pytest.raises(StoreError, match="head"):
        read_head(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b"x" * 5000])
def test_a_head_that_is_nonsense(tmp_path: Path, data: bytes) -> None:
    publish(tmp_path, HEAD)
    head_path(tmp_path).write_bytes(data)
    with pytest.raises(StoreError):
        read_head(tmp_path)


def test_no_head_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotPublished):
        open_published(tmp_path)


def test_an_index_that_is_nonsense(tmp_path: Path) -> None:
    publish(tmp_path, HEAD)
    (tmp_path / DIRECTORY / HEAD.index).write_bytes(b"nonsense that is no database")
    with pytest.raises(StoreError):
        open_published(tmp_path)


def test_an_index_that_is_empty(tmp_path: Path) -> None:
    publish(tmp_path, HEAD)
    (tmp_path / DIRECTORY / HEAD.index).write_bytes(b"")
    with pytest.raises(StoreError, match="has not the tables that an index has"):
        open_published(tmp_path)


@pytest.mark.parametrize(
    "more",
    [
        (
            "DROP TABLE certificate; CREATE VIEW certificate AS WITH RECURSIVE endless(n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM endless) SELECT x'00' AS digest, n AS der FROM endless"
        ),
        "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM entry; END",
        "CREATE TABLE other (a)",
        "DROP INDEX kept",
    ],
)
def test_an_index_with_what_nobody_puts_there_is_not_asked(tmp_path: Path, more: str) -> None:
    """A view could go on for ever."""
    publish(tmp_path, HEAD)
    with contextlib.closing(sqlite3.connect(tmp_path / DIRECTORY / HEAD.index)) as connection:
        connection.executescript(more)
    with pytest.raises(StoreError, match="has not the tables that an index has"):
        open_published(tmp_path)


def test_an_index_that_is_missing(tmp_path: Path) -> None:
    publish(tmp_path, HEAD)
    (tmp_path / DIRECTORY / HEAD.index).unlink()
    with pytest.raises(StoreError):
        open_published(tmp_path)


def test_an_index_that_is_open_is_not_written(tmp_path: Path) -> None:
    publish(tmp_path, HEAD)
    _, index = open_published(tmp_path)
    with pytest.raises(StoreError):
        index.put_files([row(ROOT_ID, b"f")])
    index.close()
    assert sorted(path.name for path in (tmp_path / DIRECTORY).iterdir()) == ["head", "index-7"]
    with sqlite3.connect(tmp_path / DIRECTORY / HEAD.index) as db:
        assert db.execute("SELECT count(*) FROM entry").fetchone() == (1,)
    db.close()


def test_the_nearest_root_upward(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_root(deep) is None
    publish(tmp_path, HEAD)
    assert find_root(deep) == tmp_path
    publish(tmp_path / "a", HEAD)
    assert find_root(deep) == tmp_path / "a"
