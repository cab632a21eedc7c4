# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signing again what changed in a file, and only that."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.record import decode_record, encode_record
from nfsverity_proto.statement import File, Kind, decode_statement
from nfsverity_publisher import workers
from nfsverity_publisher.lock import PublicationError
from nfsverity_publisher.publication import publish
from nfsverity_publisher.transaction import Change, Options, Report
from nfsverity_store import update
from nfsverity_store.kept import kept_tree
from nfsverity_store.layout import DIRECTORY, TREES, read_head
from nfsverity_store.published import open_published
from oracle import merkle
from serving import Keys, fresh_keys, keys

UNIT = 4096
LARGE = 1100 * UNIT
"""A file of which the tree is a file of its own."""


def sign(root: Path, *changed: tuple[int, int | None], by: Sequence[Keys] = (), **options: object) -> Report:
    """Sign the file `f`, of which only `changed` is said to be another."""
    signers = [one.signing for one in by or (keys(),)]
    given = Options(unit_log2=12, changed=changed, **options)  # type: ignore[arg-type]
    return publish(root, [b"f"], signers, given)


def published(root: Path) -> tuple[File, bytes, bytes]:
    """What is said of the file `f`, and its whole kept tree; with the record."""
    _, index = open_published(root)
    entry = index.by_path(b"f")
    index.close()
    assert entry is not None
    assert entry.record is not None
    statement = decode_statement(decode_record(entry.record).statement, Kind.FILE)
    assert isinstance(statement.claim, File)
    tree = statement.claim.content.tree
    nodes = kept_tree(root, hash_by_number(statement.hash), tree, entry.tree)
    assert nodes is not None
    levels = range(nodes.shape.height + 1) if nodes.shape.units else ()
    return statement.claim, b"".join(nodes.run(h, 0, nodes.shape.width(h)) for h in levels), entry.record


def check(root: Path) -> None:
    """Record and kept tree are those of hashing all, in another place and by the oracle."""
    claim, tree, _ = published(root)
    with tempfile.TemporaryDirectory(dir=root.parent) as directory:
        other = Path(directory) / root.name
        other.mkdir()
        shutil.copy2(root / "f", other / "f")
        publish(other, [b"f"], [keys().signing], Options(unit_log2=12, volume=claim.volume))
        whole, whole_tree, _ = published(other)
    assert (claim.content, tree) == (whole.content, whole_tree)
    units = merkle.cut((root / "f").read_bytes(), UNIT)
    assert claim.content.tree.root == merkle.tree_hash(merkle.SHA256, units)


def write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.fixture(params=[20 * UNIT + 7, LARGE + 7], ids=["in-the-index", "of-its-own"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A signed file, with a short last unit; its tree is in the index, or a file of its own."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "f").write_bytes(os.urandom(request.param))
    sign(root)
    return root


def test_a_change_costs_its_units_and_the_ends_of_the_rest(tree: Path) -> None:
    write(tree / "f", 5 * UNIT + 1, b"changed")
    report = sign(tree, (5 * UNIT + 1, 7))
    size = (tree / "f").stat().st_size
    assert (report.signed, report.bytes_hashed, report.whole) == (1, 2 * UNIT + 7, [])
    assert report.changes == [Change(b"f", size, size, [(5 * UNIT, UNIT)])]
    check(tree)
    check(tree)


def test_an_append_costs_what_is_new_and_the_unit_that_it_begins_in(tree: Path) -> None:
    size = (tree / "f").stat().st_size
    with (tree / "f").open("ab") as file:
        file.write(b"n" * (2 * UNIT))
    report = sign(tree, appended=True)
    assert report.bytes_hashed == 2 * UNIT + 7 + 7 + 2 * UNIT  # the new; what the short unit held; both ends
    assert report.changes == [Change(b"f", size, size + 2 * UNIT, [(size - 7, 2 * UNIT + 7)])]
    assert report.whole == []
    check(tree)


def test_a_cut_costs_the_last_unit(tree: Path) -> None:
    os.truncate(tree / "f", 10 * UNIT + 9)
    report = sign(tree, (10 * UNIT + 9, None))
    assert (report.bytes_hashed, report.whole) == (9 + 2 * UNIT, [])
    check(tree)


def test_what_is_named_is_looked_at_even_where_stat_tells_nothing(tree: Path) -> None:
    """As after writes to a mapping, whose times may come later."""
    status = (tree / "f").stat()
    while True:  # until the record is one of the file as `stat` has it
        if sign(tree).bytes_hashed == 0:
            break
    write(tree / "f", 0, b"mapped")
    os.utime(tree / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
    report = sign(tree, (0, 6))
    assert (report.signed, report.whole) == (1, [])
    check(tree)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["change", "append", "cut", "hole"]),
            st.integers(0, 1200 * UNIT),
            st.integers(1, 200 * UNIT),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_one_update_after_the_other(edits: list[tuple[str, int, int]]) -> None:
    """From empty on, across the size from which a tree has a file of its own, and back."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "tree"
        root.mkdir()
        path = root / "f"
        path.write_bytes(b"")
        sign(root)
        for kind, offset, length in edits:
            size = path.stat().st_size
            if kind == "change":
                write(path, offset, os.urandom(length))
                report = sign(root, (offset, length))
            elif kind == "append":
                write(path, size, os.urandom(length))
                report = sign(root, appended=True)
            elif kind == "cut":
                os.truncate(path, min(offset, size))
                report = sign(root, (min(offset, size), None))
            else:
                os.truncate(path, size + length + offset)
                report = sign(root, appended=True)
            assert report.whole == []
            check(root)


@pytest.mark.spec("fim-keep-1", "fim-keep-4")
class TestHashedInWhole:
    """What cannot be taken over is not, and why is said."""

    def refused(self, tree: Path, why: str, *changed: tuple[int, int | None], **options: object) -> None:
        report = sign(tree, *changed, **options)  # type: ignore[arg-type]
        assert [path for path, _ in report.whole] == [b"f"]
        assert why in report.whole[0][1]
        assert report.bytes_hashed >= (tree / "f").stat().st_size
        check(tree)

    def test_a_file_that_was_never_signed(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "f").write_bytes(bytes(3 * UNIT))
        self.refused(tmp_path / "tree", "not signed before", (0, 1))

    def test_a_tree_that_is_missing(self, tree: Path) -> None:
        self.forget(tree)
        write(tree / "f", 0, b"new")
        self.refused(tree, "missing", (0, 3))
        write(tree / "f", 0, b"old")
        assert sign(tree, (0, 3)).whole == [], "there is one again"

    def forget(self, tree: Path) -> None:
        import sqlite3

        for path in (tree / DIRECTORY / TREES).iterdir():
            path.unlink()
        with sqlite3.connect(tree / DIRECTORY / read_head(tree).index) as db:
            db.execute("UPDATE entry SET tree = NULL")
        db.close()

    @pytest.mark.parametrize("cut", [True, False], ids=["shorter", "other-bytes"])
    def test_a_tree_that_is_damaged(self, tree: Path, cut: bool) -> None:
        import sqlite3

        for path in (tree / DIRECTORY / TREES).iterdir():
            path.write_bytes(path.read_bytes()[:-1] if cut else os.urandom(path.stat().st_size))
        with sqlite3.connect(tree / DIRECTORY / read_head(tree).index) as db:
            other = "substr(tree, 2)" if cut else "randomblob(length(tree))"
            db.execute(f"UPDATE entry SET tree = {other} WHERE tree IS NOT NULL")
        db.close()
        write(tree / "f", 0, b"new")
        self.refused(tree, "missing" if cut else "damaged", (0, 3))

    def test_a_record_by_another_key(self, tree: Path) -> None:
        """What somebody else vouched for is not vouched for by this key without a look at it."""
        report = sign(tree, (0, 3), by=[fresh_keys(name="another")])
        assert report.whole == [(b"f", "the record that it has is not by a key that signs now")]

    @pytest.mark.parametrize("what", ["signature", "path"])
    def test_a_record_that_does_not_verify(self, tree: Path, what: str) -> None:
        import sqlite3

        _, _, data = published(tree)
        record = decode_record(data)
        if what == "signature":
            data = encode_record(record.statement.replace(b"tree", b"eert", 1), list(record.attestations))
        else:
            (tree / "g").write_bytes(b"x" * (21 * UNIT))
            publish(tree, [b"g"], [keys().signing], Options(unit_log2=12))
            _, index = open_published(tree)
            other = index.by_path(b"g")
            index.close()
            assert other is not None
            assert other.record is not None
            data = other.record
        with sqlite3.connect(tree / DIRECTORY / read_head(tree).index) as db:
            db.execute("UPDATE entry SET record = ? WHERE name = x'66'", (data,))
        db.close()
        self.refused(tree, "not by a key", (0, 3))

    def test_other_algorithms(self, tree: Path) -> None:
        report = sign(tree, (0, 3), hash=8)
        assert report.whole == [(b"f", "its hash or its unit size is to be another")]
        units = merkle.cut((tree / "f").read_bytes(), UNIT)
        assert published(tree)[0].content.tree.root == merkle.tree_hash(merkle.HASHES[8][1], units)

    def test_a_file_that_became_shorter_was_not_appended_to(self, tree: Path) -> None:
        os.truncate(tree / "f", UNIT)
        self.refused(tree, "shorter", appended=True)

    @pytest.mark.spec("fim-keep-3")
    def test_a_file_that_was_begun_anew(self, tree: Path) -> None:
        """A log that was rotated by copying and cutting, and is longer again."""
        size = (tree / "f").stat().st_size
        (tree / "f").write_bytes(os.urandom(size + UNIT))
        self.refused(tree, "bytes 0 to 4096 changed too", appended=True)


@pytest.mark.spec("fim-keep-3")
def test_a_wrong_word_that_does_not_show_is_a_record_that_does_not_fit(tree: Path) -> None:
    """What the help and the draft say of it; signing all of it again puts it right."""
    write(tree / "f", 5 * UNIT, b"named")
    write(tree / "f", 9 * UNIT, b"not named")
    report = sign(tree, (5 * UNIT, 5))
    assert report.whole == []
    units = merkle.cut((tree / "f").read_bytes(), UNIT)
    assert published(tree)[0].content.tree.root != merkle.tree_hash(merkle.SHA256, units)
    report = sign(tree, rehash=True)
    assert [change.ranges for change in report.changes] == [[(9 * UNIT, UNIT)]]
    check(tree)


def test_what_changed_is_found_where_all_is_hashed(tree: Path) -> None:
    size = (tree / "f").stat().st_size
    for unit in (0, 3, 4, 12):
        write(tree / "f", unit * UNIT + 9, b"changed")
    with (tree / "f").open("ab") as file:
        file.write(b"more")
    report = sign(tree)
    expected = [(0, UNIT), (3 * UNIT, 2 * UNIT), (12 * UNIT, UNIT), (size - 7, 11)]
    assert report.changes == [Change(b"f", size, size + 4, expected)]
    assert sign(tree).changes == []


def test_what_changed_is_not_known_without_the_tree_before(tree: Path) -> None:
    TestHashedInWhole().forget(tree)
    size = (tree / "f").stat().st_size
    write(tree / "f", 0, b"new")
    assert sign(tree).changes == [Change(b"f", size, size, None)]


def test_what_changed_is_told_of_one_file_only(tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "d" / "g").write_bytes(b"g")
    for below in ([b""], [b"d"], [b"f", b"d/g"], [b"gone"]):
        with pytest.raises(PublicationError, match="one file only"):
            publish(tree, below, [keys().signing], Options(changed=((0, 1),)))


def test_a_large_append_is_hashed_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "f").write_bytes(os.urandom(LARGE + 7))
    sign(root)
    with (root / "f").open("ab") as file:
        file.write(os.urandom(3000 * UNIT))
    monkeypatch.setattr(workers, "PARALLEL_MIN", 2000 * UNIT)
    calls = []
    real = workers.runs
    monkeypatch.setattr(workers, "runs", lambda *arguments: calls.append(arguments[-2:]) or real(*arguments))
    report = sign(root, appended=True, jobs=2)
    assert calls == [(2, 5)]
    assert report.whole == []
    check(root)


def test_where_the_system_cannot_copy_a_tree_it_is_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "f").write_bytes(os.urandom(LARGE))
    sign(root)
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    monkeypatch.setattr(update, "COPY", 1000)
    for number in range(3):
        write(root / "f", number * 100 * UNIT, b"new")
        with (root / "f").open("ab") as file:
            file.write(b"more")
        assert sign(root, (number * 100 * UNIT, 3)).whole == []
        check(root)
