# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is published of a volume is what an oracle makes of the tree, whichever way it came about."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_proto.hashes import BLAKE3, SHA256, hash_by_number
from nfsverity_proto.record import decode_record, encode_record
from nfsverity_proto.statement import Kind, Volume, decode_statement, encode_statement
from nfsverity_publisher import directory, volume_workers
from nfsverity_publisher.found import FILES_MAX
from nfsverity_publisher.keys import SigningKey, load_signing_key
from nfsverity_publisher.lock import PublicationError
from nfsverity_publisher.new_key import make_key
from nfsverity_publisher.transaction import Options, Report
from nfsverity_publisher.volume import publish_volume, renew
from nfsverity_publisher.volume_part import VolumePart
from nfsverity_publisher.volume_workers import ENTRIES
from nfsverity_store.layout import DIRECTORY, StoreError, file_digest, head_path, read_head
from nfsverity_store.volume_index import VolumeEntry, VolumeIndex
from nfsverity_store.volume_nodes import VolumeNodes
from oracle import merkle, volumes
from oracle.records import Statement

HASH = hash_by_number(SHA256)
UNIT_LOG2 = 12


def made_key(folder: Path, name: str) -> SigningKey:
    private, certificate = make_key(name, "ed25519", 365)
    (folder / "key").write_bytes(private)
    (folder / "crt").write_bytes(certificate)
    return load_signing_key(folder / "key", folder / "crt")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return made_key(tmp_path_factory.mktemp("keys"), "publisher")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return made_key(tmp_path_factory.mktemp("keys"), "other")


def expected(root: Path) -> list[volumes.Entry]:
    """Every entry that the tree should have, in order, by the draft's text alone."""
    found = []
    for above, directories, files in os.walk(os.fsencode(root)):
        if os.fsencode(DIRECTORY) in directories:
            directories.remove(os.fsencode(DIRECTORY))
        parent = os.path.relpath(above, os.fsencode(root))
        parent = b"" if parent == b"." else parent
        for name in (*directories, *files):
            path = os.path.join(above, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                found.append(volumes.Entry(parent, name, volumes.LINK, 0, os.readlink(path)))
            elif stat.S_ISDIR(status.st_mode):
                found.append(volumes.Entry(parent, name, volumes.DIRECTORY))
            elif stat.S_ISREG(status.st_mode):
                digest = merkle.SHA256(content_statement(Path(os.fsdecode(path)), status))
                executable = int(bool(status.st_mode & stat.S_IXUSR))
                found.append(volumes.Entry(parent, name, volumes.FILE, executable, digest))
    return volumes.ordered(found)


def content_statement(path: Path, status: os.stat_result) -> bytes:
    data = path.read_bytes()
    seconds, nseconds = divmod(status.st_mtime_ns, 10**9)
    root = merkle.tree_hash(merkle.SHA256, merkle.cut(data, 1 << UNIT_LOG2))
    return Statement(kind=1, seconds=seconds, nseconds=nseconds, size=len(data), root=root).encode()


def check(root: Path) -> Volume:
    """That everything published of the tree is what it should be."""
    head = read_head(root)
    assert head.nodes is not None
    index = VolumeIndex(root / DIRECTORY / head.index)
    record, number = index.head()
    assert number == SHA256
    claim = decode_statement(decode_record(record).statement, Kind.VOLUME).claim
    assert isinstance(claim, Volume)
    due = expected(root)
    assert claim.root == volumes.root(merkle.SHA256, due)
    assert claim.entries == len(due)
    assert (claim.volume, claim.label, claim.when.generation) == (head.volume, head.label, head.generation)
    rows = list(index.all())
    assert [row.position for row in rows] == list(range(len(due)))
    assert [(row.parent, row.name, int(row.type)) for row in rows] == [(e.parent, e.name, e.type) for e in due]
    nodes = VolumeNodes(root / DIRECTORY / head.nodes, HASH, len(due))
    assert nodes.leaves(0, len(due)) == [merkle.SHA256(b"\0" + entry.encode()) for entry in due]
    for row in rows:
        if row.is_file and row.tree.shape.units > 1 and row.kept is None:
            assert index.tree(row.tree.root, row.unit_log2) is not None
    nodes.close()
    index.close()
    left = {path.name for path in (root / DIRECTORY).iterdir()} - {"lock", "head", "trees", head.index, head.nodes}
    assert len([name for name in left if name.startswith("index-")]) <= 1, left  # that of the publication before
    assert len([name for name in left if name.startswith("nodes-")]) <= 1, left
    return claim


def sign(root: Path, key: SigningKey, *below: bytes, jobs: int = 1, **options: object) -> Report:
    chosen = Options(unit_log2=UNIT_LOG2, jobs=jobs, **options)  # type: ignore[arg-type] # as they are
    return publish_volume(root, below or [b""], [key], chosen)


def sign_while(root: Path, key: SigningKey, path: bytes, change: Callable[[], object], **options: object) -> Report:
    """Something else changes what there is, once, when a file has been read."""
    changes = [change]

    def progress(read: bytes, count: int) -> None:
        if read == path and changes:
            changes.pop()()

    chosen = Options(unit_log2=UNIT_LOG2, **options)  # type: ignore[arg-type] # as they are
    return publish_volume(root, [b""], [key], chosen, progress)


def row_of(root: Path, path: bytes) -> VolumeEntry | None:
    with contextlib.closing(VolumeIndex(root / DIRECTORY / read_head(root).index)) as index:
        return index.by_path(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a-b").mkdir()
    (root / "empty").mkdir()
    for name, data in {
        "a/b/deep": b"deep", "a/x": b"x" * 5000, "a-b/y": b"", "z": b"z" * 100_000, "a.c": b"dot",
    }.items():  # fmt: skip
        (root / name).write_bytes(data)
    (root / "a/x").chmod(0o755)
    (root / "link").symlink_to("a/x")
    (root / "out").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    os.link(root / "z", root / "a/hard")
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff\n name"))).write_bytes(b"odd")
    return root


@pytest.mark.spec("fim-vol-1", "fim-vol-2", "fim-vol-3", "fim-vol-4")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_tree(tree: Path, key: SigningKey, jobs: int) -> None:
    report = sign(tree, key, jobs=jobs)
    claim = check(tree)
    assert (report.signed, report.unchanged, report.entries) == (7, 0, claim.entries)
    assert claim.entries == 7 + 3 + 4
    assert report.bytes_hashed == 4 + 5000 + 100_000 * 2 + 3 + 3


def test_again_changes_nothing_but_what_changed(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    before = read_head(tree)
    settle(tree, key)
    assert read_head(tree).volume == before.volume
    head = read_head(tree)
    report = sign(tree, key)
    assert (report.signed, report.unchanged, report.bytes_hashed) == (0, 7, 0)
    assert read_head(tree) == head
    (tree / "a/b/deep").write_bytes(b"other")
    report = sign(tree, key)
    assert (report.signed, report.unchanged, report.bytes_hashed) == (1, 6, 5)
    assert read_head(tree).generation > head.generation
    check(tree)


@pytest.mark.parametrize("path", ["a/b/deep", "top"])
def test_one_file_leaves_all_others_unchanged(tree: Path, key: SigningKey, path: str) -> None:
    (tree / "top").write_bytes(b"beside directories")
    sign(tree, key)
    settle(tree, key)
    (tree / path).write_bytes(b"other")
    report = sign(tree, key, path.encode())
    assert (report.signed, report.unchanged) == (1, 7)
    check(tree)


def settle(tree: Path, key: SigningKey) -> None:
    """Until no file is so new that it is read again."""
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, ns=(10**18, 10**18))
    while sign(tree, key).bytes_hashed:
        pass


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_gone_or_is_something_else_now(tree: Path, key: SigningKey, jobs: int) -> None:
    sign(tree, key)
    shutil.rmtree(tree / "a")
    (tree / "a").symlink_to("z")
    (tree / "z").unlink()
    (tree / "z").mkdir()
    (tree / "z/new").write_bytes(b"new")
    (tree / "link").unlink()
    (tree / "empty").rmdir()
    report = sign(tree, key, jobs=jobs)
    assert report.removed == 4  # a/b/deep, a/x, a/hard and z
    check(tree)


def test_only_what_is_named(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    (tree / "a/x").write_bytes(b"changed, but not named")
    (tree / "a/b/deep").write_bytes(b"changed and named")
    report = sign(tree, key, b"a/b/deep")
    assert report.signed == 1
    with pytest.raises(AssertionError):
        check(tree)
    sign(tree, key, b"a/x")
    check(tree)
    (tree / "new/below").mkdir(parents=True)
    (tree / "new/below/file").write_bytes(b"1")
    (tree / "new/other").write_bytes(b"2")
    assert sign(tree, key, b"new").signed == 2
    check(tree)
    (tree / "lone/down").mkdir(parents=True)
    (tree / "lone/down/file").write_bytes(b"3")
    assert sign(tree, key, b"lone/down/file", b"a.c").signed == 1
    check(tree)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_not_named_stays_though_it_is_gone(tree: Path, key: SigningKey, jobs: int) -> None:
    sign(tree, key)
    before = check(tree).entries
    (tree / "a/x").unlink()
    (tree / "link").unlink()
    shutil.rmtree(tree / "a/b")
    (tree / "a-b/y").unlink()
    (tree / "a-b").rmdir()
    (tree / "a-b").write_bytes(b"a file now")
    (tree / "z").write_bytes(b"changed and named")
    (tree / "a/new").write_bytes(b"new, and named")
    report = sign(tree, key, b"z", b"a/new", jobs=jobs)
    assert (report.signed, report.removed, report.entries) == (2, 0, before + 1)
    for path in (b"a/x", b"link", b"a/b", b"a/b/deep", b"a-b", b"a-b/y", b"a/new"):
        assert row_of(tree, path) is not None, path
    assert sign(tree, key, jobs=jobs).removed == 3
    check(tree)


def test_a_lone_file_of_a_folder(tree: Path, key: SigningKey) -> None:
    assert sign(tree, key, b"a/b/deep").signed == 1
    index = VolumeIndex(tree / DIRECTORY / read_head(tree).index)
    assert [entry.path for entry in index.all()] == [b"a", b"a/b", b"a/b/deep"]
    index.close()


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_a_directory_of_many_files(tree: Path, key: SigningKey, jobs: int) -> None:
    """More than one process hashes at once, and among them what is no file any more, and what stays as it was."""
    many = tree / "a" / "many"
    (many / "sub").mkdir(parents=True)
    for number in range(3 * FILES_MAX):
        (many / f"{number:05}").write_bytes(b"%d" % number)
    (many / "00700").write_bytes(b"large" * 10_000)
    (many / "sub" / "below").write_bytes(b"below")
    (many / "link").symlink_to("00001")
    (many / "00800").chmod(0o755)
    report = sign(tree, key, jobs=jobs)
    assert (report.signed, report.unchanged, report.failed) == (7 + 3 * FILES_MAX + 1, 0, [])
    check(tree)
    for number in range(0, 3 * FILES_MAX, 2):
        (many / f"{number:05}").write_bytes(b"again %d" % number)
    for number in range(1, 3 * FILES_MAX, 500):
        (many / f"{number:05}").unlink()
    report = sign(tree, key, jobs=jobs)
    assert (report.signed, report.removed) == (3 * FILES_MAX // 2, 3)
    check(tree)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes have what is replaced here, though other tests may have left a thread."""
    if sys.platform != "linux":
        pytest.skip("elsewhere processes are always started anew")
    monkeypatch.setattr(volume_workers, "start_method", lambda: "fork")


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("known", [False, True])
def test_files_of_many_that_cannot_be_read(
    tree: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """The last ones, which are left for another process."""
    for number in range(FILES_MAX + 10):
        (tree / f"many{number:05}").write_bytes(b"%d" % number)
    if known:
        sign(tree, key)
        before = check(tree).entries
    opened = directory.open_file

    def fails(name: bytes, above: int) -> int:
        if name.endswith(b"0505"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(name, above)

    monkeypatch.setattr(directory, "open_file", fails)
    report = sign(tree, key, jobs=2, rehash=True)
    assert report.failed == [(b"many00505", "Permission denied")]
    row = row_of(tree, b"many00505")
    assert (row is not None) == known
    if known:
        assert check(tree).entries == before


def test_a_process_that_is_killed_ends_it(tree: Path, key: SigningKey) -> None:
    for number in range(4 * FILES_MAX):
        (tree / f"many{number:05}").write_bytes(b"%d" % number)

    def progress(path: bytes, count: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(OSError, match="a process that hashed files ended early") as caught:
        publish_volume(tree, [b""], [key], Options(jobs=2), progress)
    assert not isinstance(caught.value, BrokenPipeError)
    assert not (tree / DIRECTORY).exists()
    assert sign(tree, key, jobs=2).signed == 7 + 4 * FILES_MAX


@pytest.mark.parametrize("jobs", [1, 3])
def test_content_that_several_processes_find(tree: Path, key: SigningKey, jobs: int) -> None:
    """Its tree is kept once, and for as long as a file has it."""
    for number in range(100):
        above = tree / f"d{number:03}"
        above.mkdir()
        (above / "same").write_bytes(b"same" * 5_000)
        (above / "own").write_bytes(b"%05d" % number * 2_000)
    sign(tree, key, jobs=jobs)
    check(tree)
    root = merkle.tree_hash(merkle.SHA256, merkle.cut(b"same" * 5_000, 1 << UNIT_LOG2))

    def kept() -> int:
        with contextlib.closing(sqlite3.connect(tree / DIRECTORY / read_head(tree).index)) as index:
            assert index.execute("SELECT count(*) FROM tree WHERE root = ?", (root,)).fetchone()[0] <= 1
            return int(index.execute("SELECT count(*) FROM tree").fetchone()[0])

    assert kept() == 1 + 100 + 2  # those of "a/x" and "z"
    for number in range(100):
        (tree / f"d{number:03}" / "own").unlink()
        if number:
            (tree / f"d{number:03}" / "same").unlink()
    sign(tree, key, jobs=jobs)
    check(tree)
    assert kept() == 1 + 2
    shutil.rmtree(tree / "d000")
    sign(tree, key, jobs=jobs)
    check(tree)
    assert kept() == 2


@pytest.mark.usefixtures("forked")
def test_a_process_that_cannot_put_what_it_found_ends_it(
    tree: Path, key: SigningKey, other: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves what was published, and nothing else. By another key, nothing of it is taken over."""
    sign(tree, key)
    before = sorted((tree / DIRECTORY).rglob("*"))

    def fails(*_: object) -> None:
        raise StoreError("there is no room")

    monkeypatch.setattr(VolumePart, "finish", fails)
    with pytest.raises(StoreError, match="there is no room"):
        sign(tree, other, jobs=2)
    assert sorted((tree / DIRECTORY).rglob("*")) == before
    monkeypatch.undo()
    sign(tree, other, jobs=2)
    check(tree)


@pytest.mark.parametrize("what", ["fifo", "view", "empty"])
def test_a_part_of_the_index_that_somebody_replaces_is_told(
    tree: Path, key: SigningKey, other: SigningKey, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    sign(tree, key)
    head = read_head(tree)
    take_in = VolumeIndex.take_in_part

    def replaced(index: VolumeIndex, part: Path) -> None:
        part.unlink()
        if what == "fifo":
            os.mkfifo(part)
        else:
            with contextlib.closing(VolumeIndex(part, writable=True)) as made:
                made.create()
        if what == "view":
            with contextlib.closing(sqlite3.connect(part)) as altered:
                altered.execute("DROP TABLE tree")
                altered.execute(
                    "CREATE VIEW tree AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
                    " SELECT i AS root, i AS unit_log2, i AS nodes FROM n"
                )
        take_in(index, part)

    monkeypatch.setattr(VolumeIndex, "take_in_part", replaced)
    due = {"fifo": "no regular file", "view": "has not the tables", "empty": r"was altered: it has \d+ entries"}[what]
    with pytest.raises(StoreError, match=due):
        sign(tree, other, jobs=2)
    assert read_head(tree) == head


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_ended_leaves_no_trees(tree: Path, key: SigningKey, jobs: int) -> None:
    """Ctrl-C in the second large file: the tree of the first one was written."""
    with (tree / "a/large").open("wb") as file:
        file.truncate(2**26)
        file.write(b"kept")
    sign(tree, key)
    before = sorted((tree / DIRECTORY).rglob("*"))
    for name in ("a-b/large", "empty/large"):
        with (tree / name).open("wb") as file:
            file.truncate(2**26)
            file.write(name.encode())
    read: set[bytes] = set()

    def progress(path: bytes, count: int) -> None:
        if path.endswith(b"/large"):
            read.add(path)
        if len(read) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_volume(tree, [b""], [key], Options(unit_log2=UNIT_LOG2, jobs=jobs), progress)
    assert sorted((tree / DIRECTORY).rglob("*")) == before


def test_a_tree_file_that_becomes_something_else_is_told(tree: Path, key: SigningKey) -> None:
    """It is made early and synced at the end: a FIFO would be waited for there."""
    with (tree / "large").open("wb") as file:
        file.truncate(2**26)

    def replace_it() -> None:
        (path,) = (tree / DIRECTORY / "trees").iterdir()
        path.unlink()
        os.mkfifo(path)

    with pytest.raises(StoreError, match=r"sha256-12-\w+ is no regular file"):
        sign_while(tree, key, b"z", replace_it)


def test_a_head_that_is_a_link_to_nothing_has_nothing_removed(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    before = sorted((tree / DIRECTORY).rglob("*"))
    head_path(tree).unlink()
    head_path(tree).symlink_to("nowhere")
    with pytest.raises(StoreError, match="no regular file"):
        sign(tree, key)
    assert sorted((tree / DIRECTORY).rglob("*")) == before


def test_who_gives_and_who_answers_do_not_wait_for_each_other(tree: Path, key: SigningKey) -> None:
    """Paths that are long: a pipe holds neither what is given at once nor what is answered."""
    at = tree
    for _ in range(14):
        at = at / ("d" * 250)
        at.mkdir()
    for number in range(ENTRIES + 500):
        (at / f"{number:05}{'n' * 200}").mkdir()
    report = sign(tree, key, jobs=2)
    assert (report.failed, report.directories) == ([], 4 + 14 + ENTRIES + 500)


@pytest.mark.parametrize("jobs", [1, 2])
def test_large_files_have_their_trees_kept(tree: Path, key: SigningKey, jobs: int) -> None:
    with (tree / "a/large").open("wb") as file:
        file.write(os.urandom(2**20))
        file.truncate(2**26 + 5)
    sign(tree, key, jobs=jobs)
    head = read_head(tree)
    index = VolumeIndex(tree / DIRECTORY / head.index)
    entry = index.by_path(b"a/large")
    assert entry is not None
    assert entry.kept is not None
    assert (tree / DIRECTORY / "trees" / entry.kept).exists()
    index.close()
    check(tree)
    (tree / "a/large").unlink()
    sign(tree, key)
    sign(tree, key, not_after=2**40)
    assert not list((tree / DIRECTORY / "trees").iterdir())


def test_a_file_that_cannot_be_signed_keeps_what_it_had(tree: Path, key: SigningKey) -> None:
    """It changes while it is read."""
    sign(tree, key)
    before = check(tree).entries
    report = sign_while(tree, key, b"z", lambda: (tree / "z").write_bytes(b"other"), rehash=True)
    assert [path for path, _ in report.failed] == [b"z"]
    row = row_of(tree, b"z")
    assert row is not None
    assert row.tree.size == 100_000
    (tree / "z").write_bytes(b"z" * 100_000)
    sign(tree, key)
    assert check(tree).entries == before


@pytest.mark.spec("fim-st-3")
def test_under_another_hash_nothing_is_kept(tree: Path, key: SigningKey) -> None:
    """Neither what is not named, nor what cannot be read."""
    sign(tree, key)
    with pytest.raises(PublicationError, match="another hash is for all of the tree"):
        sign(tree, key, b"z", hash=BLAKE3)
    report = sign_while(tree, key, b"z", lambda: (tree / "z").write_bytes(b"other"), hash=BLAKE3)
    assert [path for path, _ in report.failed] == [b"z"]
    assert row_of(tree, b"z") is None


def test_a_private_key_in_the_tree_is_refused(tmp_path: Path, key: SigningKey) -> None:
    private, certificate = make_key("other", "ed25519", 1)
    (tmp_path / "k").write_bytes(private)
    (tmp_path / "c").write_bytes(certificate)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "copy").write_bytes(private)
    with pytest.raises(PublicationError, match="copy is the private key"):
        publish_volume(
            tree, [b""], [load_signing_key(tmp_path / "k", tmp_path / "c")], Options(), None, [tmp_path / "k"]
        )
    assert not (tree / DIRECTORY).exists()


@pytest.mark.spec("fim-gen-6")
def test_other_terms_sign_the_head_alone(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    first = check(tree)
    settle(tree, key)
    report = sign(tree, key, not_after=2**40)
    second = check(tree)
    assert report.bytes_hashed == 0
    assert second.when.not_after == 2**40
    assert second.volume == first.volume
    assert second.when.generation > first.when.generation


def test_an_empty_tree(tmp_path: Path, key: SigningKey) -> None:
    assert sign(tmp_path, key).entries == 0
    assert check(tmp_path).root == merkle.SHA256(b"")
    (tmp_path / "a").write_bytes(b"a")
    sign(tmp_path, key)
    check(tmp_path)
    (tmp_path / "a").unlink()
    sign(tmp_path, key)
    check(tmp_path)


NAMES = st.sampled_from(["a", "a-b", "a.c", "b", "a0"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
EDITS = st.lists(
    st.tuples(st.sampled_from(["file", "link", "directory", "remove", "executable"]), PATHS, st.binary(max_size=3)),
    max_size=8,
)


def edit(root: Path, what: str, path: Path, data: bytes) -> None:
    for above in reversed(path.relative_to(root).parents[:-1]):
        if (root / above).is_symlink() or (root / above).is_file():
            (root / above).unlink()
    if path.is_dir() and not path.is_symlink():
        if what in ("directory", "executable"):
            return
        shutil.rmtree(path)
    elif path.is_symlink() or (path.exists() and what != "executable"):
        path.unlink()
    if what == "remove":
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    match what:
        case "file":
            path.write_bytes(data * 3000)
        case "link":
            path.symlink_to(data.hex() or "x")
        case "directory":
            path.mkdir()
        case "executable" if path.is_file():
            path.chmod(0o755)


@pytest.mark.spec("fim-vol-2")
@settings(max_examples=25, deadline=None)
@given(st.lists(EDITS, min_size=1, max_size=3), st.sampled_from([1, 1, 1, 2]))
def test_any_edits(key: SigningKey, rounds: list[list[tuple[str, str, bytes]]], jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for edits in rounds:
            for what, path, data in edits:
                edit(root, what, root / path, data)
            sign(root, key, jobs=jobs)
            check(root)


def test_errors_leave_the_publication_before(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    head = read_head(tree)
    (tree / "a" / "b" / DIRECTORY).mkdir()
    (tree / "z").write_bytes(b"new")
    with pytest.raises(PublicationError, match="inside the published tree"):
        sign(tree, key)
    assert read_head(tree) == head
    (tree / "a" / "b" / DIRECTORY).rmdir()
    sign(tree, key)
    check(tree)


def test_a_damaged_head_is_told(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    path = tree / DIRECTORY / read_head(tree).index
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match=r"cannot be read|is damaged"):
        sign(tree, key)


def alter(tree: Path, statement: str, *values: object) -> None:
    """The index, and with it what the head file says of it: as whoever can write there may do."""
    head = read_head(tree)
    path = tree / DIRECTORY / head.index
    with contextlib.closing(sqlite3.connect(path)) as index, index:
        assert index.execute(statement, values).rowcount == 1
    head_path(tree).write_bytes(replace(head, digest=file_digest(path)).encode())


@pytest.mark.spec("fim-ext-4")
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE directory SET seen = zeroblob(32) WHERE parent = x'61'",
        "UPDATE directory SET count = count + 1 WHERE parent = x'61'",
        "UPDATE directory SET count = 'many' WHERE parent = x'61'",
        "UPDATE directory SET units = units + 1 WHERE parent = x'61'",
        "UPDATE directory SET first = first + 1 WHERE parent = x'61'",
        "UPDATE directory SET first = NULL WHERE parent = x'61'",
        "UPDATE directory SET parent = x'7878' WHERE parent = x'61'",
        "DELETE FROM directory WHERE parent = x'61'",
        "INSERT INTO directory VALUES (x'7878', 0, 1, 0, zeroblob(32))",
    ],
)
def test_notes_that_are_not_those_of_the_head_are_not_used(
    tree: Path, key: SigningKey, statement: str, jobs: int
) -> None:
    sign(tree, key)
    settle(tree, key)
    alter(tree, statement)
    (tree / "z").write_bytes(b"new")
    with pytest.raises(PublicationError, match="sign all of the tree"):
        sign(tree, key, b"z")
    report = sign(tree, key, jobs=jobs)
    assert [path for path, _ in report.whole] == [b""]
    assert report.unchanged == 0
    check(tree)


@pytest.mark.spec("fim-ext-4")
def test_a_changed_file_that_the_index_says_is_as_it_was_is_signed_as_it_is(tree: Path, key: SigningKey) -> None:
    """Though its directory is read again, as another file in it has changed."""
    sign(tree, key)
    settle(tree, key)
    before = os.stat(tree / "a/b/deep")
    (tree / "a/b/deep").write_bytes(b"DEEP")
    os.utime(tree / "a/b/deep", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tree / "a/b/beside").write_bytes(b"new")
    after = os.stat(tree / "a/b/deep")
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    alter(tree, "UPDATE entry SET ctime = ? WHERE name = ?", after.st_ctime_ns, b"deep")
    report = sign(tree, key)
    assert [path for path, _ in report.whole] == [b""]
    check(tree)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE entry SET type = 9 WHERE name = x'64656570'", "is damaged: it has entries of no type"),
        ("UPDATE head SET record = 'abc'", "has a head that is none"),
        ("UPDATE head SET record = 7", "has a head that is none"),
    ],
)
def test_what_is_not_understood_is_told(tree: Path, key: SigningKey, statement: str, says: str) -> None:
    sign(tree, key)
    settle(tree, key)
    alter(tree, statement)
    head = read_head(tree)
    with pytest.raises(StoreError, match=says):
        sign(tree, key)
    (tree / "z").write_bytes(b"new")
    with pytest.raises(StoreError, match=says):
        sign(tree, key)
    assert read_head(tree) == head


def test_one_damaged_signature_of_two_is_made_anew(tree: Path, key: SigningKey, other: SigningKey) -> None:
    keys = [key, other]

    def both() -> Report:
        return publish_volume(tree, [b""], keys, Options(unit_log2=UNIT_LOG2))

    both()
    while both().bytes_hashed:
        pass
    head = read_head(tree)
    both()
    assert read_head(tree) == head
    path = tree / DIRECTORY / head.index
    with contextlib.closing(VolumeIndex(path, writable=True)) as index:
        data, number = index.head()
        index.put_head(data[:-1] + bytes([data[-1] ^ 1]), number)
    head_path(tree).write_bytes(replace(head, digest=file_digest(path)).encode())
    assert both().bytes_hashed == 0
    assert read_head(tree).generation > head.generation


@pytest.mark.parametrize("column", ["unit_log2 = 1 << 40", "size = 'abc'", "root = 'abc'", "mtime = 1e300"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_number_that_is_none_is_altered(tree: Path, key: SigningKey, column: str, jobs: int) -> None:
    sign(tree, key)
    settle(tree, key)
    alter(tree, f"UPDATE entry SET {column} WHERE name = x'7a'")
    with (tree / "z").open("ab") as file:
        file.write(b"more")
    with pytest.raises(PublicationError, match="sign all of the tree"):
        sign(tree, key, b"z", appended=True)
    assert [path for path, _ in sign(tree, key, jobs=jobs).whole] == [b""]
    check(tree)


@pytest.mark.spec("fim-st-3")
@pytest.mark.parametrize("field", ["volume", "label", "generation"])
def test_a_head_file_that_names_another_volume_is_not_signed(tree: Path, key: SigningKey, field: str) -> None:
    sign(tree, key)
    head = read_head(tree)
    values = {"volume": bytes(16), "label": b"other", "generation": 2**64 - 2}
    head_path(tree).write_bytes(replace(head, **{field: values[field]}).encode())
    for work in (lambda: sign(tree, key), lambda: renew(tree, [key], Options())):
        with pytest.raises(PublicationError, match="another volume, label or generation than the head that was signed"):
            work()


@pytest.mark.spec("fim-st-3")
def test_what_is_damaged_is_not_renewed(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    settle(tree, key)
    digest = read_head(tree).digest
    alter(tree, "UPDATE entry SET root = zeroblob(32) WHERE name = x'64656570'")
    head_path(tree).write_bytes(replace(read_head(tree), digest=digest).encode())
    with pytest.raises(PublicationError, match="sign all of the tree"):
        renew(tree, [key], Options(not_after=2**40))
    sign(tree, key)
    check(tree)


@pytest.mark.parametrize("part", ["head", "index", "nodes"])
@pytest.mark.parametrize("what", ["fifo", "link", "directory"])
def test_a_part_that_is_no_file_is_told(tree: Path, key: SigningKey, part: str, what: str, tmp_path: Path) -> None:
    """What waits for a writer would be waited for, and what is elsewhere is not of the tree."""
    sign(tree, key)
    settle(tree, key)
    head = read_head(tree)
    path = tree / DIRECTORY / {"head": "head", "index": head.index, "nodes": str(head.nodes)}[part]
    path.rename(tmp_path / "elsewhere")
    if what == "fifo":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    if part == "nodes":  # found out before it is used, and made anew
        assert [path for path, _ in sign(tree, key).whole] == [b""]
        assert len(list((tree / DIRECTORY).glob("nodes-*"))) == 2
        return
    with pytest.raises(StoreError, match="is no regular file"):
        sign(tree, key)


def test_nothing_outside_is_removed_or_written(tree: Path, key: SigningKey, tmp_path: Path) -> None:
    sign(tree, key)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "letter").write_bytes(b"precious")
    shutil.rmtree(tree / DIRECTORY / "trees")
    (tree / DIRECTORY / "trees").symlink_to(outside)
    (tree / "z").write_bytes(b"new")
    with pytest.raises(PublicationError, match="trees is a symbolic link: remove it"):
        sign(tree, key)
    (tree / DIRECTORY / "trees").unlink()
    (tree / DIRECTORY / "head.new").symlink_to(outside / "letter")
    sign(tree, key)
    check(tree)
    assert (outside / "letter").read_bytes() == b"precious"
    (tree / DIRECTORY / "lock").unlink()
    (tree / DIRECTORY / "lock").symlink_to(outside / "made")
    with pytest.raises(PublicationError, match="lock is a symbolic link: remove it"):
        sign(tree, key)
    assert [path.name for path in outside.iterdir()] == ["letter"]


@pytest.mark.spec("fim-ext-4")
def test_what_was_signed_without_notes_is_read_again(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    settle(tree, key)
    head = read_head(tree)
    with contextlib.closing(VolumeIndex(tree / DIRECTORY / head.index, writable=True)) as index:
        record, number = index.head()
        statement = decode_statement(decode_record(record).statement, Kind.VOLUME)
        bare = encode_statement(replace(statement, extensions=()))
        index.put_head(encode_record(bare, [key.sign(bare)]), number)
    head_path(tree).write_bytes(replace(head, digest=None).encode())
    report = sign(tree, key)
    assert [path for path, _ in report.whole] == [b""]
    check(tree)


@pytest.mark.spec("fim-ext-4")
def test_notes_are_those_of_the_same_volume(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    settle(tree, key)
    with pytest.raises(PublicationError, match="of another volume: sign all of the tree"):
        sign(tree, key, b"z", volume=bytes(16))
    report = sign(tree, key, volume=bytes(16))
    assert (report.unchanged, [why for _, why in report.whole]) == (
        0,
        ["what was published before is of another volume"],
    )
    assert check(tree).volume == bytes(16)


@pytest.mark.spec("fim-ext-4")
def test_a_head_that_was_renewed_has_the_notes_of_the_one_before(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    settle(tree, key)
    renew(tree, [key], Options(not_after=2**40))
    report = sign(tree, key, not_after=2**40)
    assert (report.signed, report.unchanged, report.bytes_hashed, report.whole) == (0, 7, 0, [])


@pytest.mark.spec("fim-st-3")
def test_damage_in_what_did_not_change_is_found(tree: Path, key: SigningKey) -> None:
    sign(tree, key)
    settle(tree, key)
    with contextlib.closing(sqlite3.connect(tree / DIRECTORY / read_head(tree).index)) as index, index:
        assert index.execute("UPDATE entry SET place = 7 WHERE name = ?", (b"deep",)).rowcount == 1
    assert [path for path, _ in sign(tree, key).whole] == [b""]
    check(tree)


@pytest.mark.spec("fim-st-3")
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_somebody_put_into_the_metadata_is_not_signed_again(tree: Path, key: SigningKey, jobs: int) -> None:
    sign(tree, key)
    settle(tree, key)
    other = HASH.digest(b"\0what the thief wants signed")
    with contextlib.closing(sqlite3.connect(tree / DIRECTORY / read_head(tree).index)) as index, index:
        assert index.execute("UPDATE entry SET root = ? WHERE name = ?", (other, b"deep")).rowcount == 1
    report = sign(tree, key, jobs=jobs)
    assert [path for path, _ in report.whole] == [b""]
    check(tree)
    settle(tree, key)
    nodes = tree / DIRECTORY / str(read_head(tree).nodes)
    nodes.write_bytes(other + nodes.read_bytes()[len(other) :])
    (tree / "a.c").write_bytes(b"changed")
    sign(tree, key, jobs=jobs)
    check(tree)


@pytest.mark.spec("fim-st-3")
@pytest.mark.parametrize("name", [b"deep", b"y", b"z"])
@pytest.mark.parametrize("read", [b"a/b/beside", b"early", b"z.new"])
def test_what_is_altered_while_the_tree_is_gone_through_is_not_signed(
    tree: Path, key: SigningKey, name: bytes, read: bytes
) -> None:
    """Before the rows of a directory are read or after: rows that are used are those that were verified."""
    sign(tree, key)
    settle(tree, key)
    index = tree / DIRECTORY / read_head(tree).index
    other = HASH.digest(b"\0what the thief wants signed")

    def alter() -> None:
        with contextlib.closing(sqlite3.connect(index)) as opened, opened:
            assert opened.execute("UPDATE entry SET root = ? WHERE name = ?", (other, name)).rowcount == 1

    for path in ("a/b/beside", "a-b/early", "early", "z.new"):
        (tree / path).write_bytes(b"new")
    sign_while(tree, key, read, alter)
    due = expected(tree)
    head = read_head(tree)
    with contextlib.closing(VolumeIndex(tree / DIRECTORY / head.index)) as opened:
        claim = decode_statement(decode_record(opened.head()[0]).statement, Kind.VOLUME).claim
    assert isinstance(claim, Volume)
    assert claim.root == volumes.root(merkle.SHA256, due)


@pytest.mark.spec("fim-st-3", "fim-ext-4")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET type = 7 WHERE name = ?",
        "UPDATE entry SET size = -1 WHERE name = ?",
        "UPDATE entry SET size = 'much' WHERE name = ?",
        "UPDATE entry SET root = NULL WHERE name = ?",
        "UPDATE entry SET unit_log2 = 63 WHERE name = ?",
        "UPDATE entry SET name = CAST(name AS TEXT) WHERE name = ?",
        "UPDATE entry SET name = zeroblob(300) WHERE name = ?",
        "DELETE FROM entry WHERE name = ?",
        "UPDATE entry SET parent = x'7878' WHERE name = ?",
    ],
)
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("hidden", [False, True])
def test_rows_that_nobody_has_put_are_not_taken_over(
    tree: Path, key: SigningKey, statement: str, jobs: int, hidden: bool
) -> None:
    """Where the head file says that the index is another, and where it does not."""
    sign(tree, key)
    settle(tree, key)
    digest = read_head(tree).digest
    alter(tree, statement, b"deep")
    if not hidden:
        head_path(tree).write_bytes(replace(read_head(tree), digest=digest).encode())
    (tree / "a" / "b" / "beside").write_bytes(b"new")
    with pytest.raises(PublicationError, match="sign all of the tree"):
        sign(tree, key, b"a/b/beside")
    report = sign(tree, key, jobs=jobs)
    assert [path for path, _ in report.whole] == [b""]
    assert report.unchanged == 0
    check(tree)


@pytest.mark.spec("fim-st-3")
def test_another_key_signs_what_it_has_seen(tree: Path, key: SigningKey, other: SigningKey) -> None:
    sign(tree, key)
    settle(tree, key)
    with pytest.raises(PublicationError, match="sign all of the tree"):
        sign(tree, other, b"z")
    assert sign(tree, other).bytes_hashed > 100_000
    check(tree)
