# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Publishing trees: what is signed, what is left alone, what is refused, and what remains after a kill."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nfsverity_proto.record import decode_record, signature_of
from nfsverity_proto.statement import NO_END, File, Kind, decode_statement
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import verify_record
from nfsverity_proto.verifier import Expected, Verifier
from nfsverity_publisher import publication, workers
from nfsverity_publisher.lock import Busy, PublicationError
from nfsverity_publisher.plan import plan
from nfsverity_publisher.publication import RACY, publish
from nfsverity_publisher.transaction import Options, Report
from nfsverity_store.layout import DIRECTORY, Head, StoreError, head_path, read_head
from nfsverity_store.published import open_published
from oracle import merkle
from serving import Keys, fresh_keys, keys

UNIT = 65536


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "d" / "e").mkdir(parents=True)
    (root / "top").write_bytes(b"top")
    (root / "d" / "f").write_bytes(b"x" * (2 * UNIT + 1))
    (root / "d" / "e" / "empty").write_bytes(b"")
    (root / "d" / "e" / "run").write_bytes(b"#!/bin/true\n")
    (root / "d" / "e" / "run").chmod(0o755)
    return root


def sign(root: Path, *below: str, by: Sequence[Keys] = (), **options: object) -> Report:
    signers = [one.signing for one in by or (keys(),)]
    return publish(root, [os.fsencode(path) for path in below or ("",)], signers, Options(**options))  # type: ignore[arg-type]


def records(root: Path) -> dict[bytes, bytes]:
    _, index = open_published(root)
    found = {path: entry.record for path, entry in index.files() if entry.record is not None}
    index.close()
    return found


def claim(root: Path, path: str) -> File:
    statement = decode_statement(decode_record(records(root)[os.fsencode(path)]).statement, Kind.FILE)
    assert isinstance(statement.claim, File)
    return statement.claim


def settle(root: Path) -> None:
    """Until the clock has gone far enough from the last change for `stat` to tell the next one."""
    newest = max(path.lstat().st_ctime_ns for path in (root, *root.rglob("*")))
    while time.time_ns() <= newest + RACY:
        time.sleep(RACY / 4e9)


def check(root: Path, *, by: Keys | None = None) -> None:
    """Every record verifies, and is about what its file holds now."""
    head = read_head(root)
    signer = by or keys()
    for path, record in records(root).items():
        expected = Expected(path, frozenset({head.volume}), None)
        certificates = {signer.signing.certificate.fingerprint: [signer.der]}
        verified = verify_record(
            record, expected, Verifier([TrustEntry(signer.der)], certificates, int(time.time()) + 1)
        )
        content, data = verified.content, (root / os.fsdecode(path)).read_bytes()
        digest = merkle.HASHES[verified.statement.hash][1]
        assert content.tree.size == len(data)
        assert content.tree.root == merkle.tree_hash(digest, merkle.cut(data, 1 << content.tree.unit_log2))
        status = (root / os.fsdecode(path)).stat()
        assert content.mtime.to_ns() == status.st_mtime_ns
        assert verified.file.executable == bool(status.st_mode & stat.S_IXUSR)
        assert verified.file.label == b"tree"


def names_in(root: Path) -> set[str]:
    return {path.name for path in (root / DIRECTORY).iterdir()} - {read_head(root).index}


@pytest.mark.spec("fim-st-3", "fim-st-5", "fim-unit-3")
def test_everything_in_a_tree_is_signed(tree: Path) -> None:
    report = sign(tree)
    assert (report.signed, report.unchanged, report.removed) == (4, 0, 0)
    assert report.bytes_hashed == 3 + 2 * UNIT + 1 + 12
    assert (report.failed, report.skipped) == ([], [])
    assert set(records(tree)) == {b"top", b"d/f", b"d/e/empty", b"d/e/run"}
    assert report.generation == read_head(tree).generation == claim(tree, "top").when.generation
    assert len(report.volume) == 16
    assert claim(tree, "top").when.not_after == NO_END
    assert claim(tree, "top").content.tree.unit_log2 == 16
    assert names_in(tree) == {"head", "lock", "trees"}
    check(tree)


def test_what_did_not_change_is_neither_hashed_nor_signed_nor_published(tree: Path) -> None:
    sign(tree)
    settle(tree)
    sign(tree)
    head, before = head_path(tree).read_bytes(), records(tree)
    index = (tree / DIRECTORY / read_head(tree).index).stat()
    report = sign(tree)
    assert (report.signed, report.unchanged, report.removed, report.bytes_hashed) == (0, 4, 0, 0)
    assert (head_path(tree).read_bytes(), records(tree)) == (head, before)
    assert (tree / DIRECTORY / read_head(tree).index).stat() == index
    assert report.generation == read_head(tree).generation


def test_what_was_changed_just_before_it_was_signed_is_hashed_once_more(tree: Path) -> None:
    """The clock of `stat` is coarse: a write in the same tick, of the same length, would not show."""
    for _ in range(20):
        (tree / "top").write_bytes(b"old")
        sign(tree)
        before = (tree / "top").stat()
        (tree / "top").write_bytes(b"new")
        sign(tree)
        check(tree)
        if (tree / "top").stat().st_mtime_ns == before.st_mtime_ns:
            break


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "signed"),
    [
        (lambda path: path.write_bytes(b"other"), 1),
        (lambda path: path.write_bytes(b"pot"), 1),
        (lambda path: os.utime(path, ns=(5, 7)), 1),
        (lambda path: path.chmod(0o755), 1),
        (lambda path: path.chmod(0o600), 0),
        (lambda path: os.link(path, path.with_name("linked")), 1),
        (lambda path: shutil.copy2(path, path.with_name("t")) and os.replace(path.with_name("t"), path), 0),
    ],
    ids=["content", "content-same-size", "mtime", "executable", "mode", "link", "replaced-by-its-copy"],
)
def test_a_new_record_where_it_would_say_something_else(tree: Path, change: Change, signed: int) -> None:
    sign(tree)
    settle(tree)
    sign(tree)
    before = records(tree)
    change(tree / "top")
    report = sign(tree)
    assert (report.signed, report.unchanged) == (signed, len(records(tree)) - signed)
    changed = [path for path, record in records(tree).items() if before.get(path) != record]
    assert len(changed) == signed
    check(tree)


@pytest.mark.spec("fim-gen-1", "fim-gen-2", "fim-gen-4")
def test_generations_grow(tree: Path) -> None:
    sign(tree)
    generations = [claim(tree, "top").when.generation]
    for content in (b"1", b"2", b"3"):
        (tree / "top").write_bytes(content)
        sign(tree)
        generations.append(claim(tree, "top").when.generation)
    assert generations == sorted(set(generations))
    assert claim(tree, "d/f").when.generation == generations[0]


@pytest.mark.spec("fim-gen-1", "fim-gen-2")
def test_a_generation_ahead_of_the_clock_is_passed(tree: Path) -> None:
    sign(tree)
    head = read_head(tree)
    ahead = head.generation + 10**12
    head_path(tree).write_bytes(Head(head.volume, head.label, ahead, head.index).encode())
    (tree / "top").write_bytes(b"new")
    assert sign(tree).generation == ahead + 1


def test_rehash_finds_a_change_that_stat_does_not_tell(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(tree)
    settle(tree)
    sign(tree)
    old = (tree / "top").stat()
    with (tree / "top").open("r+b") as file:
        file.write(b"TOP")
    # As a file system would that lost the change of the times.
    _, index = open_published(tree)
    known = index.by_path(b"top")
    index.close()
    assert known is not None
    assert known.seen is not None
    now = (tree / "top").stat()
    with sqlite3.connect(tree / DIRECTORY / read_head(tree).index) as db:
        db.execute("UPDATE entry SET mtime = ?, ctime = ? WHERE name = x'746f70'", (now.st_mtime_ns, now.st_ctime_ns))
    db.close()
    assert old.st_size == now.st_size
    assert sign(tree).unchanged == 4
    report = sign(tree, rehash=True)
    assert (report.signed, report.unchanged, report.bytes_hashed) == (1, 3, 3 + 2 * UNIT + 1 + 12)
    check(tree)
    assert sign(tree, rehash=True).signed == 0


def test_files_that_went_lose_their_records(tree: Path) -> None:
    sign(tree)
    shutil.rmtree(tree / "d" / "e")
    (tree / "top").unlink()
    (tree / "top").symlink_to("d/f")
    report = sign(tree)
    assert (report.removed, report.signed, report.unchanged) == (3, 0, 1)
    assert report.skipped == [(b"top", "symbolic link")]
    assert set(records(tree)) == {b"d/f"}
    shutil.rmtree(tree / "d")
    assert sign(tree).removed == 1
    _, index = open_published(tree)
    assert index.children(1) == []
    index.close()


def test_a_file_and_a_directory_change_places(tree: Path) -> None:
    sign(tree)
    shutil.rmtree(tree / "d")
    (tree / "d").write_bytes(b"now a file")
    (tree / "top").unlink()
    (tree / "top").mkdir()
    (tree / "top" / "f").write_bytes(b"now a directory")
    report = sign(tree)
    assert (report.signed, report.removed) == (2, 4)
    assert set(records(tree)) == {b"d", b"top/f"}
    check(tree)


def test_links_and_special_files_are_named_and_not_signed(tree: Path) -> None:
    (tree / "link").symlink_to("top")
    (tree / "d" / "out").symlink_to("/etc")
    os.mkfifo(tree / "d" / "fifo")
    report = sign(tree)
    assert sorted(report.skipped) == [
        (b"d/fifo", "special file"), (b"d/out", "symbolic link"), (b"link", "symbolic link"),
    ]  # fmt: skip
    assert len(records(tree)) == 4


def test_parts_of_a_tree(tree: Path) -> None:
    sign(tree, "d/e/run")
    assert set(records(tree)) == {b"d/e/run"}
    sign(tree, "d/e", "top")
    assert set(records(tree)) == {b"d/e/run", b"d/e/empty", b"top"}
    (tree / "d" / "f").unlink()
    (tree / "d" / "e" / "run").unlink()
    assert sign(tree, "top").removed == 0
    assert sign(tree, "d/e").removed == 1
    check(tree)


def test_names_that_are_no_text(tree: Path) -> None:
    name = b"\xff\xfe \n\x01"
    path = os.path.join(os.fsencode(tree), b"d", name)
    try:
        with open(path, "wb") as file:
            file.write(b"odd")
    except OSError:
        pytest.skip("this file system has only names that are UTF-8")
    sign(tree)
    assert b"d/" + name in records(tree)
    check(tree)


def test_ten_thousand_names_in_a_directory(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(10_000):
        (root / f"{number:05}").write_bytes(b"%d" % number)
    assert sign(root).signed == 10_000
    settle(root)
    (root / "05000").write_bytes(b"changed")
    report = sign(root)
    assert report.signed == 1
    found = records(root)
    assert len(found) == 10_000
    assert len(set(found.values())) == 10_000


def test_a_path_that_is_too_deep_is_a_failure_of_that_path(tree: Path) -> None:
    at = os.open(tree, os.O_RDONLY)
    for _ in range(257):
        os.mkdir(b"n", dir_fd=at)
        below = os.open(b"n", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    report = sign(tree)
    assert [path for path, _ in report.failed] == [b"/".join([b"n"] * 257)]
    assert report.signed == 4


UNPRIVILEGED = """
    import encodings.idna, os, sys
    from pathlib import Path
    from nfsverity_publisher import publication, workers
    from nfsverity_publisher.keys import load_signing_key
    root = Path(sys.argv[1])
    key = load_signing_key(Path(sys.argv[2]), Path(sys.argv[3]))
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    report = publication.publish(root, [b""], [key], publication.Options())
    print(report.signed, report.unchanged, report.removed, sorted(path.decode() for path, _ in report.failed))
"""


def test_what_cannot_be_read_is_named_and_keeps_its_record(tmp_path: Path) -> None:
    """The publisher runs as somebody whom the tree belongs to, and who may not read all of it."""
    key, certificate = keys().write(tmp_path)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "tree"
        (root / "d").mkdir(parents=True)
        for name in ("top", "d/f", "other"):
            (root / name).write_bytes(b"first")
        sign(root)
        before = records(root)
        settle(root)
        (root / "top").write_bytes(b"new")
        (root / "other").write_bytes(b"new")
        for path in (Path(directory), root, *root.rglob("*")):
            os.chmod(path, 0o755 if path.is_dir() else 0o644)
            if os.geteuid() == 0:
                os.chown(path, 65534, 65534)
        (root / "top").chmod(0)
        (root / "d").chmod(0)
        script = [sys.executable, "-c", textwrap.dedent(UNPRIVILEGED), str(root), str(key), str(certificate)]
        result = subprocess.run(script, timeout=60, check=True, capture_output=True, text=True)
        (root / "d").chmod(0o755)
        assert result.stdout == "1 0 0 ['d', 'top']\n"
        after = records(root)
        assert after.pop(b"other") != before.pop(b"other")
        assert after == before


class Meanwhile:
    """A progress that changes a file the first time it hears of it."""

    def __init__(self, change: Callable[[], object]) -> None:
        self.change: Callable[[], object] | None = change

    def __call__(self, path: bytes, count: int) -> None:
        if path == b"d/f" and self.change is not None:
            self.change()
            self.change = None


@pytest.mark.spec("fim-st-4")
@pytest.mark.parametrize("size", [0, 1, 2 * UNIT + 1, 2 * UNIT + 2])
@pytest.mark.parametrize("first", [True, False], ids=["new", "known"])
def test_a_file_that_changes_while_it_is_signed_gets_no_record(tree: Path, size: int, first: bool) -> None:
    before = None
    if not first:
        sign(tree)
        before = records(tree)[b"d/f"]
        (tree / "d" / "f").write_bytes(b"y" * (2 * UNIT + 1))
    meanwhile = Meanwhile(lambda: (tree / "d" / "f").write_bytes(b"z" * size))
    report = publish(tree, [b""], [keys().signing], Options(), meanwhile)
    assert [path for path, _ in report.failed] == [b"d/f"]
    assert "changed while it was being signed" in report.failed[0][1] or "shorter" in report.failed[0][1]
    assert records(tree).get(b"d/f") == before
    assert sign(tree).signed == 1
    check(tree)


def test_two_keys_sign_one_record(tree: Path) -> None:
    other = fresh_keys("ecdsa-p256", "other")
    sign(tree, by=[keys(), other])
    for one in (keys(), other):
        check(tree, by=one)
    attestations = decode_record(records(tree)[b"top"]).attestations
    assert {signature_of(a).signer for a in attestations} == {
        one.signing.certificate.fingerprint for one in (keys(), other)
    }
    settle(tree)
    assert sign(tree, by=[other, keys()]).signed == 0
    assert sign(tree, by=[other]).signed == 4
    with pytest.raises(PublicationError, match="once"):
        sign(tree, by=[other, other])
    with pytest.raises(PublicationError):
        publish(tree, [b""], [], Options())


@pytest.mark.spec("fim-st-3")
def test_another_signer_another_end_other_algorithms(tree: Path) -> None:
    sign(tree)
    settle(tree)
    sign(tree)
    every_byte = 3 + 2 * UNIT + 1 + 12
    report = sign(tree, not_after=2**39)
    assert (report.signed, report.bytes_hashed) == (4, 0)
    for by in (fresh_keys(name="another"), keys()):  # nobody signs what another one has seen (fim-st-3)
        report = sign(tree, by=[by])
        assert (report.signed, report.bytes_hashed) == (4, every_byte)
    report = sign(tree, not_after=2**40)
    assert (report.signed, report.bytes_hashed) == (4, 0)
    assert claim(tree, "top").when.not_after == 2**40
    assert sign(tree, not_after=2**40).signed == 0
    assert sign(tree, not_after=2**40, hash=0x10000, unit_log2=12).signed == 4
    assert sign(tree, not_after=2**40).signed == 0, "what is not asked for stays as it is"
    check(tree)
    assert claim(tree, "d/f").content.tree.unit_log2 == 12
    assert sign(tree).signed == 4
    assert claim(tree, "top").when.not_after == NO_END
    check(tree)


@pytest.mark.spec("fim-path-1")
def test_the_volume_is_kept_or_given(tree: Path) -> None:
    volume = sign(tree, volume=bytes(range(16))).volume
    assert volume == bytes(range(16))
    assert sign(tree).volume == volume
    with pytest.raises(PublicationError, match="another volume"):
        sign(tree, "top", volume=b"v" * 16)
    report = sign(tree, volume=b"v" * 16)
    assert (report.signed, read_head(tree).volume) == (4, b"v" * 16)
    check(tree)


@pytest.mark.spec("fim-path-1")
def test_volumes_are_random(tmp_path: Path) -> None:
    volumes = set()
    for name in "abc":
        (tmp_path / name).mkdir()
        volumes.add(sign(tmp_path / name).volume)
    assert len(volumes) == 3


def test_kept_trees_come_and_go_with_their_files(tree: Path) -> None:
    """Of a file of more than 1,024 units the tree is a file. Those of the publication before stay for one more."""

    def trees() -> int:
        return len(list((tree / DIRECTORY / "trees").iterdir()))

    (tree / "large").write_bytes(b"a" * (4096 * 1100))
    sign(tree, unit_log2=12)
    assert trees() == 1
    (tree / "large").write_bytes(b"b" * (4096 * 1100))
    sign(tree)
    assert trees() == 2
    (tree / "large").unlink()
    sign(tree)
    assert trees() == 1
    (tree / "top").write_bytes(b"x")
    sign(tree)
    assert trees() == 0


@pytest.mark.parametrize("kind", ["by-name", "hard-link", "copy"])
def test_a_tree_that_holds_the_key_is_refused(tree: Path, tmp_path: Path, kind: str) -> None:
    key = tmp_path / "me.key"
    key.write_bytes(keys().private)
    if kind == "by-name":
        key = tree / "d" / "me.key"
        key.write_bytes(keys().private)
    elif kind == "hard-link":
        os.link(key, tree / "d" / "other-name")
    else:
        shutil.copy(key, tree / "d" / "other-name")
    with pytest.raises(PublicationError, match="private key"):
        publish(tree, [b""], [keys().signing], Options(), None, [key])
    assert not (tree / DIRECTORY).exists()


def test_a_nested_publication_is_an_error_that_names_both(tree: Path) -> None:
    sign(tree / "d" / "e")
    with pytest.raises(PublicationError) as error:
        sign(tree)
    assert str(tree / DIRECTORY) in str(error.value)
    assert str(tree / "d" / "e" / DIRECTORY) in str(error.value)
    assert not (tree / DIRECTORY).exists()


def test_a_metadata_directory_that_is_a_link_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tree / DIRECTORY).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PublicationError, match="symbolic link"):
        sign(tree)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_damaged_metadata_is_an_error(tree: Path) -> None:
    sign(tree)
    (tree / DIRECTORY / read_head(tree).index).write_bytes(b"nonsense")
    with pytest.raises(StoreError):
        sign(tree)
    head_path(tree).write_bytes(b"nonsense")
    with pytest.raises(StoreError, match="damaged"):
        sign(tree)


def test_one_publisher_at_a_time(tree: Path) -> None:
    class Second(Exception):
        pass

    def progress(path: bytes, count: int) -> None:
        with pytest.raises(PublicationError, match="another process is signing"):
            sign(tree)
        raise Second

    with pytest.raises(Second):
        publish(tree, [b""], [keys().signing], Options(), progress)


class TestWaiting:
    """For another publisher, which is told to be there when the waiting begins."""

    def test_the_next_one_begins_when_the_first_is_done(self, tree: Path) -> None:
        (tree / DIRECTORY).mkdir()
        lock = (tree / DIRECTORY / "lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        said: list[int] = []

        def waiting() -> None:
            said.append(1)
            lock.close()

        report = publish(tree, [b""], [keys().signing], Options(wait=60), waiting=waiting)
        assert (report.signed, said) == (4, [1])
        check(tree)

    def test_not_for_longer_than_was_said(self, tree: Path) -> None:
        sign(tree)
        said: list[int] = []
        with (tree / DIRECTORY / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Busy, match="another process is signing"):
                publish(tree, [b""], [keys().signing], Options(wait=0.2), waiting=lambda: said.append(1))
        assert said == [1]

    def test_a_first_publication_that_failed_meanwhile_leaves_no_lock_on_nothing(self, tree: Path) -> None:
        """It takes its directory away, and with it the lock that is waited for."""
        (tree / DIRECTORY).mkdir()
        lock = (tree / DIRECTORY / "lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)

        def waiting() -> None:
            shutil.rmtree(tree / DIRECTORY)
            lock.close()

        assert publish(tree, [b""], [keys().signing], Options(wait=60), waiting=waiting).signed == 4
        check(tree)
        with (tree / DIRECTORY / "lock").open("rb") as again:
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @pytest.mark.parametrize("taken", ["before", "after"])
    def test_a_lock_that_is_removed_while_it_is_taken_is_taken_again(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch, taken: str
    ) -> None:
        real, removed = fcntl.flock, list[int]()

        def flock(fd: int, operation: int) -> None:
            if not removed:
                removed.append(fd)
                shutil.rmtree(tree / DIRECTORY)
                if taken == "after":
                    (tree / DIRECTORY).mkdir()
                    (tree / DIRECTORY / "lock").touch()
            real(fd, operation)

        monkeypatch.setattr(fcntl, "flock", flock)
        assert sign(tree, wait=60).signed == 4
        assert names_in(tree) == {"head", "lock", "trees"}
        check(tree)


@pytest.mark.spec("fim-upd-1")
@pytest.mark.parametrize("published", [False, True], ids=["first", "later"])
def test_a_publication_that_fails_changes_nothing(tree: Path, published: bool) -> None:
    if published:
        sign(tree)
        (tree / "d" / "f").write_bytes(b"y" * UNIT)
    before = records(tree) if published else None

    def progress(path: bytes, count: int) -> None:
        if path == b"d/f":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tree, [b""], [keys().signing], Options(), progress)
    if published:
        assert records(tree) == before
        assert names_in(tree) == {"head", "lock", "trees"}
    else:
        assert not (tree / DIRECTORY).exists()


@pytest.mark.spec("fim-upd-1")
@pytest.mark.parametrize("published", [False, True], ids=["first", "later"])
def test_what_is_published_stays_so_whatever_comes_after(
    tree: Path, published: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt, or a full disk, between the new head and the end."""
    if published:
        sign(tree)
        (tree / "d" / "f").write_bytes(b"y" * UNIT)
    real, heads = os.replace, list[str]()

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        if target == head_path(tree):
            heads.append(target.name)
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        sign(tree)
    monkeypatch.undo()
    assert heads == ["head"]
    assert len(records(tree)) == 4
    check(tree)
    sign(tree)
    check(tree)


def test_a_publication_that_fails_leaves_no_tree_behind(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "large").write_bytes(b"a" * (4096 * 1100))
    sign(tree, unit_log2=12)
    kept = set((tree / DIRECTORY / "trees").iterdir())
    (tree / "large").write_bytes(b"b" * (4096 * 1100))

    def fsync(fd: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="no room"):
        sign(tree)
    assert names_in(tree) == {"head", "lock", "trees"}
    assert set((tree / DIRECTORY / "trees").iterdir()) == kept


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from nfsverity_publisher import publication, workers
    from nfsverity_publisher.keys import load_signing_key
    root, key, certificate, where = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if where == "hashing":
        progress = die
    else:
        progress, calls = None, []
        real = getattr(os, where)
        def counting(*arguments):
            calls.append(arguments)
            if len(calls) == int(sys.argv[5]):
                die()
            return real(*arguments)
        setattr(os, where, counting)
    publication.publish(root, [b""], [load_signing_key(key, certificate)], publication.Options(unit_log2=12), progress)
"""


@pytest.mark.spec("fim-upd-1")
@pytest.mark.parametrize("published", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    "where", [("hashing",), ("replace", "1"), ("replace", "2"), ("fsync", "1"), ("fsync", "4"), ("fsync", "5")]
)
def test_killed_at_any_moment(tree: Path, tmp_path: Path, where: tuple[str, ...], published: bool) -> None:
    """Readers have the old publication, or the new one; the next run completes it and cleans up."""
    key, certificate = keys().write(tmp_path)
    if published:
        sign(tree, unit_log2=12)
    before = records(tree) if published else {}
    (tree / "large").write_bytes(os.urandom(4096 * 1100))
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(tree), str(key), str(certificate), *where]
    assert subprocess.run(script, timeout=60).returncode == -signal.SIGKILL
    assert not published or head_path(tree).exists()
    if head_path(tree).exists():
        assert records(tree) == before or b"large" in records(tree)
    sign(tree, unit_log2=12)
    check(tree)
    settle(tree)
    (tree / "top").write_bytes(b"again")
    sign(tree)
    assert {name for name in names_in(tree) if not name.startswith("index-")} == {"head", "lock", "trees"}
    assert len([name for name in names_in(tree) if name.startswith("index-")]) <= 1
    assert len(list((tree / DIRECTORY / "trees").iterdir())) == 1
    check(tree)


def test_a_sparse_tebibyte_is_signed_in_seconds(tree: Path) -> None:
    """With the test's own time limit as the bound: reading it would take minutes."""
    with (tree / "sparse").open("wb") as file:
        file.truncate(2**40)
    report = sign(tree, "sparse")
    assert not report.failed
    content = claim(tree, "sparse").content
    zero = merkle.SHA256(b"\0" + bytes(UNIT))
    for _ in range(24):
        zero = merkle.SHA256(b"\1" + zero + zero)
    assert (content.tree.size, content.tree.root) == (2**40, zero)
    (kept,) = (tree / DIRECTORY / "trees").iterdir()
    assert kept.stat().st_blocks * 512 < 4 * 2**20


@pytest.mark.spec("fim-upd-1")
class TestReplacement:
    """Content and record are ready before either is put in place."""

    def replace(self, tree: Path, source: Path, path: str = "top", **options: object) -> Report:
        return sign(tree, path, replacement=source, **options)

    @pytest.mark.parametrize("path", ["top", "d/f", "d/new"])
    def test_a_file_from_outside_the_tree(self, tree: Path, tmp_path: Path, path: str) -> None:
        sign(tree)
        source = tmp_path / "source"
        source.write_bytes(b"r" * (3 * UNIT + 1))
        source.chmod(0o755)
        seen: list[bytes | None] = []
        target = tree / path

        def progress(at: bytes, count: int) -> None:
            assert at == os.fsencode(path)
            seen.append(target.read_bytes() if target.exists() else None)

        before = target.read_bytes() if target.exists() else None
        signers = [keys().signing]
        report = publish(tree, [os.fsencode(path)], signers, Options(replacement=source), progress)
        assert seen
        assert set(seen) == {before}, "it stays until all is ready"
        assert report.signed == 1
        assert not source.exists()
        assert claim(tree, path).executable
        assert claim(tree, path).content.tree.size == 3 * UNIT + 1
        check(tree)

    def test_the_first_of_a_tree(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "source").write_bytes(b"first")
        ((root, below),) = plan([tmp_path / "tree" / "f"], new=True).items()
        assert (root, below) == (tmp_path / "tree", [b"f"])
        assert self.replace(root, tmp_path / "source", "f").signed == 1
        check(root)

    def test_only_what_changed_of_it_is_hashed(self, tree: Path, tmp_path: Path) -> None:
        sign(tree)
        shutil.copy2(tree / "d" / "f", tmp_path / "source")
        with (tmp_path / "source").open("r+b") as file:
            file.write(b"new")
        report = self.replace(tree, tmp_path / "source", "d/f", changed=((0, 3),))
        assert (report.bytes_hashed, report.whole) == (2 * UNIT + 1, [])
        check(tree)

    def test_a_large_one_is_hashed_by_several_processes(
        self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers, "PARALLEL_MIN", UNIT)
        (tmp_path / "source").write_bytes(os.urandom(3 * UNIT))
        self.replace(tree, tmp_path / "source", jobs=2)
        check(tree)

    def test_the_same_content_again_is_moved_too(self, tree: Path, tmp_path: Path) -> None:
        sign(tree)
        shutil.copy2(tree / "top", tmp_path / "source")
        report = self.replace(tree, tmp_path / "source")
        assert (report.signed, report.unchanged) == (0, 1)
        assert not (tmp_path / "source").exists()
        check(tree)

    @pytest.mark.parametrize("kind", ["missing", "link", "directory", "key", "elsewhere", "over-a-directory"])
    def test_what_cannot_be_moved_changes_nothing(self, tree: Path, tmp_path: Path, kind: str) -> None:
        sign(tree)
        before, source, path = records(tree), tmp_path / "source", "top"
        if kind == "link":
            source.symlink_to(tree / "d" / "f")
        elif kind == "directory":
            source.mkdir()
        elif kind == "key":
            source.write_bytes(keys().private)
        elif kind == "elsewhere":
            source = Path("/proc/self/status")
            if source.stat().st_dev == tree.stat().st_dev:
                pytest.skip("one file system has all")
        elif kind == "over-a-directory":
            source.write_bytes(b"new")
            path = "d"
        key = tmp_path / "me.key"
        key.write_bytes(keys().private)
        with pytest.raises((PublicationError, OSError)):
            publish(tree, [os.fsencode(path)], [keys().signing], Options(replacement=source), None, [key])
        assert (tree / "top").read_bytes() == b"top"
        assert records(tree) == before
        assert names_in(tree) == {"head", "lock", "trees"}
        check(tree)

    def test_an_interrupt_between_the_two_comes_after_them(
        self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sign(tree)
        (tmp_path / "source").write_bytes(b"new")
        real = os.rename

        def rename(*arguments: object, **options: object) -> None:
            real(*arguments, **options)  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            self.replace(tree, tmp_path / "source")
        monkeypatch.undo()
        assert (tree / "top").read_bytes() == b"new"
        check(tree)

    def test_a_file_that_changes_while_it_is_signed_is_not_moved(self, tree: Path, tmp_path: Path) -> None:
        sign(tree)
        source = tmp_path / "source"
        source.write_bytes(b"new")

        def progress(path: bytes, count: int) -> None:
            source.write_bytes(b"newer")

        with pytest.raises(workers.Changed):
            publish(tree, [b"top"], [keys().signing], Options(replacement=source), progress)
        assert source.read_bytes() == b"newer"
        check(tree)


@pytest.mark.parametrize("algorithm", ["ed25519"])
def test_a_record_is_small(tmp_path: Path, algorithm: str) -> None:
    root = tmp_path / "tree-label"
    path = "usr/share/doc/integrity/worked/README.md"
    assert len(path) == 40
    (root / path).parent.mkdir(parents=True)
    (root / path).write_bytes(b"x")
    sign(root)
    assert len(records(root)[os.fsencode(path)]) <= 320


class TestPlan:
    def test_a_directory_is_its_own_root(self, tree: Path) -> None:
        assert plan([tree]) == {tree: [b""]}

    def test_a_lone_file_is_published_in_its_directory(self, tree: Path) -> None:
        assert plan([tree / "d" / "f"]) == {tree / "d": [b"f"]}

    def test_the_root_is_found_upward(self, tree: Path) -> None:
        sign(tree)
        assert plan([tree / "d" / "e", tree / "top"]) == {tree: [b"d/e", b"top"]}
        assert plan([tree / "d" / "e" / "run"]) == {tree: [b"d/e/run"]}

    def test_relative_paths(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tree / "d")
        assert plan([Path(".")]) == {tree / "d": [b""]}
        assert plan([Path("..")]) == {tree: [b""]}
        assert plan([Path("e/../f")]) == {tree / "d": [b"f"]}

    def test_what_is_below_another_path_is_part_of_it(self, tree: Path) -> None:
        assert plan([tree / "d", tree, tree / "d" / "f"]) == {tree: [b""]}
        assert plan([tree / "d" / "e" / "run", tree / "d"]) == {tree / "d": [b""]}
        sign(tree, "top")
        assert plan([tree / "d" / "e", tree / "d" / "f", tree / "d"]) == {tree: [b"d"]}

    def test_several_trees(self, tmp_path: Path) -> None:
        for name in "ab":
            (tmp_path / name).mkdir()
        assert plan([tmp_path / "b", tmp_path / "a"]) == {tmp_path / "a": [b""], tmp_path / "b": [b""]}

    def test_a_root_in_a_root(self, tree: Path) -> None:
        sign(tree / "d")
        shutil.copytree(tree / "d" / DIRECTORY, tree / DIRECTORY)
        with pytest.raises(PublicationError) as error:
            plan([tree / "d" / "f"])
        assert str(tree / DIRECTORY) in str(error.value)
        assert str(tree / "d" / DIRECTORY) in str(error.value)
        shutil.rmtree(tree / DIRECTORY)
        with pytest.raises(PublicationError, match="inside"):
            plan([tree, tree / "d"])

    def test_what_cannot_be_signed(self, tree: Path) -> None:
        sign(tree)
        (tree / "link").symlink_to("top")
        with pytest.raises(PublicationError, match="neither a file nor a directory"):
            plan([tree / "link"])
        with pytest.raises(PublicationError, match="metadata"):
            plan([tree / DIRECTORY / "head"])
        with pytest.raises(FileNotFoundError):
            plan([tree / "none"])


def test_the_only_syncs_are_at_the_end(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index, the new head, the two directories, and the one with the head once more: not one for each file."""
    count = 0
    fsync = os.fsync

    def counting(fd: int) -> None:
        nonlocal count
        count += 1
        fsync(fd)

    monkeypatch.setattr(publication.os, "fsync", counting)
    sign(tree)
    assert count == 5
