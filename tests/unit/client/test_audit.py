# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The audit log: every change to it shows; writers that are killed, or have no room, leave one that goes on."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_client import audit
from nfsverity_client.audit import AuditError, AuditLog, Head, local_event, read_head
from nfsverity_client.audit_reading import check, summary, with_rotated
from nfsverity_client.trust_store import STATE_VARIABLE

LINES = 6
WRITER = """
import sys
from pathlib import Path
from nfsverity_client.audit import AuditLog
log = AuditLog(Path(sys.argv[1]), state=Path(sys.argv[2]))
for number in range(int(sys.argv[3])):
    log.append("test", writer=sys.argv[4], number=number)
    print(number, flush=True)
"""


class Log:
    def __init__(self, directory: Path) -> None:
        self.path, self.state = directory / "log" / "audit.jsonl", directory / "state"
        self.log = AuditLog(self.path, state=self.state)

    def write(self, count: int) -> None:
        for number in range(count):
            self.log.append("test", number=number)

    def check(self, *paths: Path, **options: Any) -> Any:
        return check(paths or [self.path], state=self.state, **options)

    def texts(self, *paths: Path) -> list[str]:
        return [finding.text for finding in self.check(*paths).findings]

    def start(self, count: int, name: str = "w") -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", WRITER, str(self.path), str(self.state), str(count), name]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Log:
    log = Log(tmp_path_factory.mktemp("written"))
    log.write(LINES)
    return log


def test_the_chain_is_what_the_text_says(log: Log) -> None:
    log.write(3)
    previous = bytes(32)
    lines = log.path.read_bytes().splitlines()
    assert len(lines) == 4
    for seq, line in enumerate(lines, 1):
        text, found, digest = line[:-75], line[-75:-66], line[-66:-2].decode()
        assert found == b',"hash":"'
        assert hashlib.sha256(previous + text).hexdigest() == digest
        value = json.loads(line)
        assert value["seq"] == seq
        assert value["process"] == {"pid": os.getpid(), "uid": os.getuid(), "name": value["process"]["name"]}
        previous = bytes.fromhex(digest)
    assert json.loads(lines[0])["previous"] == "0" * 64
    result = log.check()
    assert result.intact
    assert (result.lines, result.first, result.last, result.findings) == (4, 1, Head(4, previous), [])
    assert log.path.stat().st_mode & 0o777 == 0o600


def changes(data: bytes, draw: st.DrawFn) -> bytes:
    lines = data.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    match draw(st.sampled_from(["byte", "cut", "take", "swap", "repeat", "insert", "reseal", "put", "end"])):
        case "byte":
            place = draw(st.integers(0, len(data) - 1))
            value = draw(st.integers(0, 255).filter(lambda value: value != data[place]))
            return data[:place] + bytes([value]) + data[place + 1 :]
        case "cut":
            start = draw(st.integers(0, len(data) - 1))
            return data[:start] + data[draw(st.integers(start + 1, len(data))) :]
        case "take":
            del lines[at]
        case "swap":
            other = draw(st.integers(0, len(lines) - 1).filter(lambda other: other != at))
            lines[at], lines[other] = lines[other], lines[at]
        case "repeat":
            lines.insert(draw(st.integers(0, len(lines))), lines[at])
        case "insert":
            lines.insert(at, draw(st.binary(min_size=1, max_size=20)))
        case "put":  # a line of the right form, chained to the one before it
            text = b'{"seq":%d,"event":"test"' % (at + 2)
            lines.insert(at + 1, audit.sealed(bytes.fromhex(json.loads(lines[at])["hash"]), text)[1])
        case "reseal":  # a line that is changed, and all after it chained anew
            previous = bytes(32) if at == 0 else bytes.fromhex(json.loads(lines[at - 1])["hash"])
            for place in range(at, len(lines)):
                text = lines[place][:-76].replace(b'"event":"', b'"event":"x', 1)
                previous, lines[place] = audit.sealed(previous, text)
        case "end":
            return data[: -draw(st.integers(1, len(data)))]
    return b"".join(lines)


@given(st.data())
def test_every_change_is_found(written: Log, data: st.DataObject) -> None:
    whole = written.path.read_bytes()
    changed = data.draw(st.composite(lambda draw: changes(whole, draw))())
    with tempfile.TemporaryDirectory() as directory:
        copy = Log(Path(directory))
        copy.path.parent.mkdir()
        copy.path.write_bytes(changed)
        head = read_head(written.path, written.state)
        assert copy.check(head=head).intact == (changed == whole)


@given(st.data())
def test_every_change_is_found_after_more_was_written(data: st.DataObject) -> None:
    """The writer who comes next goes on, and takes nothing that is not its own for a line that was torn."""
    with tempfile.TemporaryDirectory() as directory:
        log = Log(Path(directory))
        log.write(LINES)
        whole = log.path.read_bytes()
        changed = data.draw(st.composite(lambda draw: changes(whole, draw))())
        log.path.write_bytes(changed)
        log.write(2)
        assert log.check().intact == (changed == whole)
        assert log.path.read_bytes().startswith(changed)


def test_a_log_that_is_gone_is_missed(log: Log) -> None:
    log.write(2)
    log.path.unlink()
    with pytest.raises(FileNotFoundError):
        log.check()
    log.write(1)
    assert log.texts() == ["lines 1 to 3 are not in the files given"]
    assert log.check(first=4).intact


def test_a_log_without_a_head_proves_no_end(log: Log) -> None:
    log.write(2)
    shutil.rmtree(log.state)
    assert log.texts() == ["there is no head: whether lines at the end are missing cannot be told"]
    assert log.check(needs_head=False).intact
    log.write(1)
    result = log.check()
    assert result.intact
    assert "the head was lost before line 4" in result.findings[0].text


def test_a_head_that_is_damaged_is_an_error_and_one_slot_is_enough(log: Log) -> None:
    log.write(3)
    path = audit.head_path(log.path, log.state)
    data = bytearray(path.read_bytes())
    before = read_head(log.path, log.state)
    latest = max((0, audit._SLOT), key=lambda at: int(data[at + 23 : at + 43]))
    data[latest + 30] ^= 1
    path.write_bytes(data)
    older = read_head(log.path, log.state)
    assert before is not None
    assert older == Head(before.seq - 1, older.hash if older else b"", before.hash)
    log.write(1)  # with the intent that is left it is known that the line was written
    assert log.check().findings == []
    data[audit._SLOT - latest + 30] ^= 1
    path.write_bytes(data)
    with pytest.raises(AuditError, match="damaged"):
        log.write(1)


def test_many_processes_write_one_chain(log: Log) -> None:
    writers = [log.start(40, name) for name in "abcd"]
    for writer in writers:
        assert writer.communicate()[1] is None
        assert writer.returncode == 0
    result = log.check()
    assert result.findings == []
    assert result.lines == 161
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    for name in "abcd":
        assert [line["number"] for line in lines if line.get("writer") == name] == list(range(40))


def test_writers_that_are_killed_lose_nothing_that_was_said(log: Log) -> None:
    """What a writer heard was written is there, whenever it was killed; and what is there is intact."""
    chance = random.Random(5)
    said = 0
    for _ in range(12):
        with log.start(100_000) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 30)):
                writer.stdout.readline()
                said += 1
            writer.send_signal(signal.SIGKILL)
            said += len(writer.stdout.read().splitlines())
        assert log.check().intact
    log.write(1)
    result = log.check()
    assert result.intact
    tests = [line for line in log.path.read_bytes().splitlines() if b'"event":"test"' in line and audit.unsealed(line)]
    assert said + 1 <= len(tests) <= said + 1 + 12


@pytest.fixture(params=range(8))
def killed_at(request: pytest.FixtureRequest) -> int:
    """After so many of the calls that change anything."""
    return int(request.param)


def test_a_writer_killed_at_each_step(log: Log, killed_at: int) -> None:
    log.write(2)
    pid = os.fork()
    if pid == 0:
        try:
            _kill_after(killed_at)
            log.write(1)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    was_killed = os.WIFSIGNALED(status)
    assert was_killed == (killed_at < 5)
    between = log.check()
    assert between.intact
    log.write(2)
    after = log.check()
    assert after.intact
    assert (after.lines - 5) in ((0, 1, 2) if was_killed else (1,))
    assert any("torn" in finding.text for finding in after.findings) == (killed_at in (2, 3))


def _kill_after(count: int) -> None:
    """End this process by SIGKILL at the `count`-th step: the head, the line in three parts, the head."""
    write, pwrite = os.write, os.pwrite
    left = count
    lengths = itertools.cycle((40, -40, None))

    def step() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def parts(fd: int, data: memoryview) -> int:
        step()
        return write(fd, data[: next(lengths)])

    def whole(fd: int, data: bytes, at: int) -> int:
        step()
        return pwrite(fd, data, at)

    os.write, os.pwrite = parts, whole  # type: ignore[assignment]


def test_no_room_is_an_error_and_leaves_the_log_as_it_was(log: Log) -> None:
    log.write(3)
    before = log.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = max(len(before) + 100, 3 * audit._SLOT)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(OSError) as failed:
            log.log.append("test", text="x" * limit)
        assert failed.value.filename == str(log.path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert log.path.read_bytes() == before
    assert log.check().findings == []
    log.write(1)
    assert log.check().findings == []


@pytest.mark.parametrize("how", ["rename", "copytruncate"])
def test_rotation(log: Log, how: str) -> None:
    log.write(2)
    for number in (1, 2):
        rotated = log.path.with_name(f"audit.jsonl.{3 - number}")
        if how == "rename":
            log.path.rename(rotated)
        else:
            shutil.copy(log.path, rotated)
            os.truncate(log.path, 0)
        log.write(2)
    with gzip.open(log.path.with_name("audit.jsonl.2.gz"), "wb") as packed:
        packed.write(log.path.with_name("audit.jsonl.2").read_bytes())
    log.path.with_name("audit.jsonl.2").unlink()
    found = with_rotated(log.path)
    assert {path.name for path in found} == {"audit.jsonl", "audit.jsonl.1", "audit.jsonl.2.gz"}
    result = log.check(*found)
    assert result.findings == []
    assert result.lines == 9
    assert [Path(name).name for name in result.files] == ["audit.jsonl.2.gz", "audit.jsonl.1", "audit.jsonl"]
    assert log.texts(log.path, log.path.with_name("audit.jsonl.1")) == ["lines 1 to 3 are not in the files given"]
    last = [json.loads(line) for line in log.path.with_name("audit.jsonl.1").read_text().splitlines()][-1]
    assert json.loads(log.path.read_text().splitlines()[0])["previous"] == last["hash"]
    without_middle = log.texts(found[-1], log.path.with_name("audit.jsonl.2.gz"))
    assert "does not follow" in without_middle[0]
    rotated = log.path.with_name("audit.jsonl.1")
    rotated.write_bytes(b"".join(rotated.read_bytes().splitlines(keepends=True)[:-1]))
    assert any("does not follow" in text for text in log.texts(*found))


@pytest.mark.parametrize("killed_at", [1, 2, 3, 4])
def test_rotation_after_a_kill(log: Log, killed_at: int) -> None:
    log.write(2)
    pid = os.fork()
    if pid == 0:
        try:
            _kill_after(killed_at)
            log.write(1)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    rotated = log.path.with_name("audit.jsonl.1")
    log.path.rename(rotated)
    log.write(1)
    result = log.check(rotated, log.path)
    assert result.intact, result.findings
    assert len(result.findings) == (1 if killed_at > 1 else 0)


def test_what_is_no_file_is_refused(log: Log) -> None:
    log.path.parent.mkdir()
    os.mkfifo(log.path)
    with pytest.raises(AuditError, match="no regular file"):
        log.write(1)
    log.path.unlink()
    log.path.symlink_to("/dev/full")
    with pytest.raises(OSError):
        log.write(1)


def test_what_cannot_be_a_line_is_misuse(log: Log) -> None:
    with pytest.raises(ValueError, match="are allowed"):
        log.log.append("test", text="x" * audit.LINE_MAX)
    with pytest.raises(ValueError, match="own"):
        log.log.append("test", seq=1)
    log.write(1)
    assert log.check().findings == []


def test_names_that_are_not_utf_8(log: Log) -> None:
    assert audit.name_fields("path", b"a") == {"path": "a"}
    log.log.append("test", **audit.name_fields("path", b"\xff"))
    assert json.loads(log.path.read_text().splitlines()[-1])["path_base64"] == "/w=="


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    return tmp_path


def test_a_local_event(user: Path) -> None:
    assert local_event("trust-reset", generation="5") == 2
    result = check([user / "audit.jsonl"])
    assert result.findings == []
    found = summary([user / "audit.jsonl"])
    assert found.events == {"begin": 1, "trust-reset": 1}
    assert found.uses == []


def test_a_summary_counts_versions(log: Log) -> None:
    version = {"volume": "00", "path": "a", "generation": "1", "tag": "aa"}
    for gate, verdict in (("open", "verified"), ("read", "verified"), ("read", "mismatch")):
        log.log.append("decision", gate=gate, file="nfsv://h:1/a", version=version, verdict=verdict, action="enforce")
    log.log.append("decision", gate="open", file="nfsv://h:1/a", version=None, verdict="unsigned", action="audit")
    one, other = summary([log.path]).uses
    assert (one.version, one.count, one.gates, one.verdicts) == (
        version, 3, {"open": 1, "read": 2}, {"verified": 2, "mismatch": 1})  # fmt: skip
    assert one.first < one.last
    assert (other.version, other.verdicts, other.actions) == (None, {"unsigned": 1}, {"audit": 1})
