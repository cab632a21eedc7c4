# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The file that must not be forgotten: made whole, damaged, of other formats, full, shared and forked."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nfsverity_client.marks import MarkStore
from nfsverity_client.state import (
    APPLICATION,
    FORMAT,
    NAME,
    State,
    StateDamaged,
    StateError,
    StateFull,
    StateNewer,
    StateUnusable,
)
from nfsverity_proto.statement import Kind
from state_sample import ANCHOR, VOLUME, accept, mark_of


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "home" / "state"


@pytest.fixture
def marks(directory: Path) -> Iterator[MarkStore]:
    state = State(directory)
    yield MarkStore(state)
    state.close()


def reopened(directory: Path) -> MarkStore:
    return MarkStore(State(directory))


def test_only_the_user_can_read_it(marks: MarkStore, directory: Path) -> None:
    accept(marks, b"f", 1)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_reading_makes_nothing(marks: MarkStore, directory: Path) -> None:
    assert marks.under(ANCHOR, VOLUME, Kind.FILE, b"f") == {}
    assert marks.latest() is None
    assert (marks.counts(), marks.find()) == ({}, [])
    assert not directory.exists()


def test_what_another_process_makes_is_seen(marks: MarkStore, directory: Path) -> None:
    assert marks.find() == []
    accept(reopened(directory), b"f", 1)
    assert mark_of(marks, b"f") == 1


@pytest.mark.spec("fim-mark-3")
def test_what_was_raised_is_in_a_file_that_was_synced(marks: MarkStore, directory: Path) -> None:
    """Another connection, which shares nothing but the file, is told so by SQLite."""
    accept(marks, b"f", 1)
    with closing(sqlite3.connect(directory / NAME)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("SELECT count(*) FROM mark").fetchone() == (1,)
    with marks.state.changing() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\x00" + bytes(84), b"{}\n" * 2000])
def test_what_is_no_such_file_is_not_taken_for_an_empty_one(directory: Path, content: bytes) -> None:
    directory.mkdir(parents=True)
    (directory / NAME).write_bytes(content)
    for work in (lambda m: mark_of(m, b"f"), lambda m: accept(m, b"f", 1), lambda m: m.now(), lambda m: m.find()):
        with pytest.raises(StateDamaged, match=NAME):
            work(reopened(directory))
    assert (directory / NAME).read_bytes() == content


def test_another_programs_file_is_left_alone(directory: Path) -> None:
    directory.mkdir(parents=True)
    with closing(sqlite3.connect(directory / NAME)) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(StateDamaged):
        accept(reopened(directory), b"f", 1)


def test_a_newer_format_is_refused(marks: MarkStore, directory: Path) -> None:
    accept(marks, b"f", 1)
    marks.state.close()
    with closing(sqlite3.connect(directory / NAME)) as other:
        other.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(StateNewer, match=f"format {FORMAT + 1}") as caught:
        mark_of(reopened(directory), b"f")
    assert "newer version" in caught.value.advice


def test_a_truncated_file_is_damaged(marks: MarkStore, directory: Path) -> None:
    for number in range(300):
        accept(marks, b"f%d" % number, 1)
    marks.state.close()
    whole = (directory / NAME).read_bytes()
    assert APPLICATION.to_bytes(4) in whole[:100]
    assert len(whole) > 10 * 4096
    for length in range(0, len(whole), 4096 + 1000):
        (directory / NAME).write_bytes(whole[:length])
        with pytest.raises(StateDamaged):
            mark_of(reopened(directory), b"f7")


def test_a_mark_of_which_a_bit_has_changed_is_damaged(marks: MarkStore, directory: Path) -> None:
    """Wherever in the mark it is, but for the key of the row, by which it is found."""
    accept(marks, b"f", 0x0123456789ABCDEF)
    marks.state.close()
    whole = (directory / NAME).read_bytes()
    start = whole.index(bytes.fromhex("0123456789abcdef"))
    for at in range(start, start + 8 + 32 + 4 + 8):  # generation, digest, time, sum
        for mask in (0x01, 0x80):
            (directory / NAME).write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            with pytest.raises(StateDamaged):
                mark_of(reopened(directory), b"f")
    (directory / NAME).write_bytes(whole)
    assert mark_of(reopened(directory), b"f") == 0x0123456789ABCDEF


def test_an_anchor_of_which_a_bit_has_changed_hides_no_mark(marks: MarkStore, directory: Path) -> None:
    accept(marks, b"f", 1)
    marks.state.close()
    whole = (directory / NAME).read_bytes()
    for value in (ANCHOR, b"key of the signer"):
        changed = bytearray(whole)
        start = -1
        while (start := whole.find(value, start + 1)) >= 0:
            changed[start] ^= 1
        (directory / NAME).write_bytes(changed)
        with pytest.raises(StateDamaged):
            mark_of(reopened(directory), b"f")


def test_a_file_that_was_moved_away_leaves_nothing_behind(marks: MarkStore, directory: Path) -> None:
    """As the advice says; a log that a killed process left is not replayed into the new file."""
    accept(marks, b"f", 5)
    for name in (NAME, NAME + "-wal"):
        shutil.copy(directory / name, directory / ("old-" + name))
    marks.state.close()
    (directory / NAME).unlink()
    shutil.copy(directory / ("old-" + NAME + "-wal"), directory / (NAME + "-wal"))
    marks = reopened(directory)
    accept(marks, b"g", 1)
    assert (mark_of(marks, b"f"), mark_of(marks, b"g")) == (None, 1)


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateUnusable, match="file") as caught:
        accept(MarkStore(State(tmp_path / "file" / "state")), b"f", 1)
    assert "NFSVERITY_STATE_DIR" in caught.value.advice


FULL = """
import resource, signal, sys
from pathlib import Path
from nfsverity_client.marks import MarkStore
from nfsverity_client.state import State, StateFull
from state_sample import accept, mark_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
marks, number = MarkStore(State(Path(sys.argv[1]))), 0
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    while number < 10000:
        accept(marks, b"f%d" % number, 1)
        number += 1
except StateFull as error:
    print(number, error.where)
"""


@pytest.mark.parametrize("room", [0, 4096, 40_000, 200_000])
def test_what_has_no_room_is_an_error_and_what_was_accepted_before_stays(directory: Path, room: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, directory, str(room)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    accepted, where = done.stdout.split()
    assert where == str(directory / NAME)
    found = {kept.of.path for kept in reopened(directory).find()}
    assert found == {b"f%d" % number for number in range(int(accepted))}
    accept(reopened(directory), b"and with room again", 1)


def test_errors_are_of_this_machine() -> None:
    from nfsverity_command.failure import Exit, status_of

    for error in (StateError, StateFull, StateDamaged, StateNewer, StateUnusable):
        assert status_of(error("state.db", "why")) is Exit.LOCAL


def test_a_child_process_uses_connections_of_its_own(marks: MarkStore) -> None:
    accept(marks, b"f", 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            accept(marks, b"f", 2)
            status = 0 if mark_of(marks, b"f") == 2 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert mark_of(marks, b"f") == 2
    accept(marks, b"f", 3)
    assert mark_of(marks, b"f") == 3
