# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A verified file is an ordinary binary file object: it does what a local file does, or raises."""

from __future__ import annotations

import csv
import gc
import io
import os
import random
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import nfsverity
from nfsverity import Mismatch, Presentation
from nfsverity._loop import wait_for
from nfsverity_proto.errors import Stale
from serving import Published, Served, keys, publish_tree, serving

SIZE = 5 * 2**20 + 7
CONTENT = random.Random(1).randbytes(SIZE)
TEXT = "".join(f"line {number} \N{GREEK SMALL LETTER ALPHA}\r\n" for number in range(20_000))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("file") / "tree"
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(50):
            archive.writestr(f"d/{number}", CONTENT[number * 1000 : number * 5000])
    with tarfile.open(root / "a.tar.gz", "w:gz") as archive:
        for number in range(50):
            info = tarfile.TarInfo(f"d/{number}")
            info.size = number * 1000
            archive.addfile(info, io.BytesIO(CONTENT[: number * 1000]))
    files = {"large": CONTENT, "empty": b"", "one": b"1", "text": TEXT.encode(), "tiny.bin": CONTENT[:10]}
    return publish_tree(root, files)


@pytest.fixture(scope="module")
def served(published: Published) -> Iterator[Served]:
    with serving(published.root, update_window=0.0) as served:
        yield served


@pytest.fixture
def tree(served: Served) -> Iterator[nfsverity.Tree]:
    with nfsverity.open_tree(served.url, trust=[keys().pin]) as tree:
        yield tree


def test_zipfile(tree: nfsverity.Tree, published: Published) -> None:
    with tree.open("a.zip") as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        with zipfile.ZipFile(published.root / "a.zip") as local:
            assert archive.namelist() == local.namelist()
            for name in archive.namelist():
                assert archive.read(name) == local.read(name)
    with tree.open("tiny.bin") as file:
        assert not zipfile.is_zipfile(file)


def test_tarfile(tree: nfsverity.Tree, tmp_path: Path) -> None:
    with tree.open("a.tar.gz") as file, tarfile.open(fileobj=file) as archive:
        for number in range(50):
            member = archive.extractfile(f"d/{number}")
            assert member is not None
            assert member.read() == CONTENT[: number * 1000]
    with tree.open("a.tar.gz") as file, tarfile.open(fileobj=file, mode="r|gz") as archive:
        assert len(list(archive)) == 50


@pytest.mark.parametrize("how", list(Presentation))
@pytest.mark.parametrize("length", [0, 1000, 65536, 3 * 2**20])
def test_copyfileobj(tree: nfsverity.Tree, tmp_path: Path, how: Presentation, length: int) -> None:
    with tree.open("large", presentation=how) as file, (tmp_path / "copy").open("wb") as copy:
        shutil.copyfileobj(file, copy, length)
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_text(tree: nfsverity.Tree) -> None:
    with io.TextIOWrapper(tree.open("text"), encoding="utf-8", newline="") as text:
        assert text.read() == TEXT
        text.seek(0)
        assert text.readline() == "line 0 \N{GREEK SMALL LETTER ALPHA}\r\n"
        at = text.tell()
        assert sum(1 for _ in csv.reader(text)) == 19_999
        text.seek(at)
        assert text.readline().startswith("line 1 ")
    with tree.open("text") as file:
        assert list(file) == TEXT.encode().splitlines(keepends=True)


def test_what_a_file_says_of_itself(tree: nfsverity.Tree, served: Served) -> None:
    with tree.open("large") as file:
        assert isinstance(file, io.BufferedReader)
        assert file.name == f"{served.url}large"
        assert file.size == SIZE
        assert file.verified.file.path == b"large"
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert not file.isatty()
        with pytest.raises(OSError, match="fileno"):
            file.fileno()
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            file.truncate()


def test_a_closed_file(tree: nfsverity.Tree) -> None:
    file = tree.open("large")
    raw = file.raw
    file.close()
    file.close()
    assert file.closed
    for use in (file.read, file.tell, raw.tell, raw.readall, lambda: file.seek(0), lambda: raw.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_the_raw_file_fills_what_it_is_given(tree: nfsverity.Tree) -> None:
    """From one end of the file to the other: in order it goes on ahead, and elsewhere it looks at once."""
    file = tree.open("large")
    raw = file.raw
    buffer = bytearray(300_000)
    found = bytearray()
    while count := raw.readinto(buffer):
        assert count == len(buffer) or len(found) + count == SIZE
        found += buffer[:count]
    assert bytes(found) == CONTENT
    raw.seek(-5, os.SEEK_END)
    assert raw.read(10) == CONTENT[-5:]
    assert raw.readinto(memoryview(buffer)[:0]) == 0
    file.close()


class LikeALocalFile(RuleBasedStateMachine):
    """Whatever is done with it, and whatever comes out: the same as with the file itself."""

    url: str
    root: Path

    @initialize(name=st.sampled_from(["large", "empty", "one"]), how=st.sampled_from(list(Presentation)))
    def open(self, name: str, how: Presentation) -> None:
        self.tree = nfsverity.open_tree(self.url, trust=[keys().pin])
        self.file = self.tree.open(name, presentation=how)
        self.local = (self.root / name).open("rb")
        self.size = (self.root / name).stat().st_size

    @rule(length=st.integers(-1, 2_000_000))
    def read(self, length: int) -> None:
        assert self.file.read(length) == self.local.read(length)

    @rule(length=st.integers(0, 2_000_000))
    def read1(self, length: int) -> None:
        found = self.file.read1(length)
        assert found == self.local.read(len(found))
        if length and not found:
            assert self.local.read(1) == b""

    @rule(length=st.integers(0, 2_000_000))
    def readinto(self, length: int) -> None:
        mine, theirs = bytearray(length), bytearray(length)
        assert self.file.readinto(mine) == self.local.readinto(theirs)
        assert mine == theirs

    @rule(length=st.integers(-1, 100_000))
    def readline(self, length: int) -> None:
        assert self.file.readline(length) == self.local.readline(length)

    @rule(offset=st.integers(-SIZE - 10, SIZE + 10), whence=st.sampled_from([0, 1, 2, 5]))
    def seek(self, offset: int, whence: int) -> None:
        outcomes = []
        for file in (self.file, self.local):
            try:
                outcomes.append(file.seek(offset, whence))
            except (OSError, ValueError) as error:
                outcomes.append((type(error), getattr(error, "errno", None)))
        assert outcomes[0] == outcomes[1]

    @rule()
    def tell(self) -> None:
        assert self.file.tell() == self.local.tell()

    @rule()
    def peek(self) -> None:
        found = self.file.peek(1)
        assert bool(found) == bool(self.local.peek(1))
        at = self.local.tell()
        assert found == self.local.read(len(found))
        self.local.seek(at)

    def teardown(self) -> None:
        if hasattr(self, "tree"):
            self.file.close()
            self.local.close()
            self.tree.close()


def test_it_is_like_a_local_file(served: Served, published: Published) -> None:
    class Machine(LikeALocalFile):
        url, root = served.url, published.root

    run_state_machine_as_test(
        Machine, settings=hypothesis_settings(max_examples=60, stateful_step_count=15, deadline=None)
    )


# threads


def test_many_threads_read_many_files(tree: nfsverity.Tree, published: Published) -> None:
    names = ["large", "text", "a.zip", "one", "empty"]

    def read(index: int) -> None:
        name = names[index % len(names)]
        expected = (published.root / name).read_bytes()
        with tree.open(name) as file:
            at = random.Random(index).randrange(len(expected) + 1)
            file.seek(at)
            assert file.read(100_000) == expected[at : at + 100_000]
        assert tree.read(name) == expected

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(60)))


def test_threads_that_read_one_file_share_its_position(tree: nfsverity.Tree) -> None:
    """As with a local file: each byte is read once."""
    with tree.open("large") as file, ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: file.read(10_000), range(SIZE // 10_000 + 1)))
    assert sorted(parts) == sorted(CONTENT[at : at + 10_000] for at in range(0, SIZE, 10_000))


# errors


@pytest.fixture
def spoiled(published: Published) -> Iterator[None]:
    path = published.root / "large"
    path.write_bytes(CONTENT[: 3 * 2**20] + b"\0" + CONTENT[3 * 2**20 + 1 :])
    yield
    path.write_bytes(CONTENT)


def read_all(file: io.RawIOBase | io.BufferedReader, size: int, found: bytearray) -> None:
    while data := file.read(size):
        found += data


@pytest.mark.spec("fip-client-13", "fip-client-15", "fim-read-1")
@pytest.mark.usefixtures("spoiled")
@pytest.mark.parametrize("size", [1000, 2**18, 700_000])
def test_a_bad_byte_raises_and_is_never_delivered(tree: nfsverity.Tree, size: int) -> None:
    bad = 3 * 2**20
    with tree.open("large") as file:
        found = bytearray()
        with pytest.raises(Mismatch) as raised:
            read_all(file, size, found)
        assert raised.value.offset == bad
        assert len(found) <= bad
        assert bytes(found) == CONTENT[: len(found)]
        raw = file.raw
        for _ in range(3):  # an error is no end of the file
            raw.seek(bad)
            with pytest.raises(Mismatch):
                raw.read(1)
        file.seek(bad + 2**20)
        assert file.read(10) == CONTENT[bad + 2**20 :][:10], "what is good can still be read"


@pytest.mark.usefixtures("spoiled")
def test_reading_on_after_an_error_raises_again(tree: nfsverity.Tree) -> None:
    """Where spans were under way ahead: their end by an error is not the end of the file."""
    file = tree.open("large")
    found = bytearray()
    with pytest.raises(Mismatch):
        read_all(file.raw, 2**18, found)
    for _ in range(3):
        with pytest.raises(Mismatch):
            read_all(file.raw, 2**18, found)
    assert 2**20 < len(found) <= 3 * 2**20
    assert bytes(found) == CONTENT[: len(found)]
    file.close()


def test_who_knows_the_end_stays_with_the_version(tmp_path: Path) -> None:
    published = publish_tree(tmp_path / "tree", {"f": CONTENT})
    with serving(published.root) as served, nfsverity.open_tree(served.url, trust=[keys().pin]) as tree:
        files = [tree.open("f") for _ in range(4)]
        files[0].seek(0, os.SEEK_END)
        assert files[1].size == SIZE
        files[2].seek(0, os.SEEK_SET)
        published.replace("f", CONTENT[: SIZE // 2])
        published.sign()
        for file in files[:2]:
            file.seek(SIZE - 10)
            with pytest.raises(Stale):
                file.read()
        for file in files[2:]:
            file.seek(100_000)
            assert file.read() == CONTENT[100_000 : SIZE // 2]
        for file in files:
            file.close()


# ends


def test_files_that_nobody_closes(served: Served) -> None:
    """Whichever thread collects them: the event loop's own may be the one."""
    tree = nfsverity.open_tree(served.url, trust=[keys().pin])
    for _ in range(5):
        file = tree.open("large")
        file.read(2**21)
        file.cycle = file  # type: ignore[attr-defined]
        del file

    async def collect() -> None:
        gc.collect()

    wait_for(collect())
    assert tree.read("one") == b"1"
    tree.close()


def test_a_tree_that_is_closed(served: Served) -> None:
    tree = nfsverity.open_tree(served.url, trust=[keys().pin])
    file = tree.open("large")
    tree.close()
    tree.close()
    with pytest.raises(ValueError, match="closed"):
        file.read()
    with pytest.raises(ValueError, match="closed"):
        tree.open("one")
    file.close()


def test_waiting_for_a_reader_ends_with_the_thread_that_asks(served: Served) -> None:
    """A thread that reads does not keep others from reading."""
    with nfsverity.open_tree(served.url, trust=[keys().pin]) as tree:
        done = threading.Event()

        def read() -> None:
            with tree.open("large") as file:
                while file.read(50_000):
                    pass
            done.set()

        thread = threading.Thread(target=read)
        thread.start()
        while not done.is_set():
            assert tree.read("one") == b"1"
        thread.join()
