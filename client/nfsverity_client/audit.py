# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The audit log: a line of JSON for each decision and local event, chained so that a cut or an edit shows.

A line is

    TEXT,"hash":"HASH"}

and a line feed: a JSON object whose last member is the hash, in hexadecimal, of the hash before it and of the
line's own text, SHA-256(PREVIOUS ‖ TEXT). PREVIOUS is the 32 bytes of the hash of the line before; for the
first line of all, zeros. "seq" counts the lines, from 1; neither it nor the chain begins anew in a new file.

The chain has no key: who can write the log can compute another one. So its head, the number and the hash of
the last line, is kept apart, in the state directory. It is written twice for a line: before, with what the line
will be (the line may then be there or not), and after. So a log that does not end at its head was changed by
somebody else, whenever its writers were killed. Power may fail between them: then only `sync` keeps this true.

Writers take turns by a lock on the head. What a killed one left of a line stays; the next line says how long
it is and what its SHA-256 is, so that it cannot be used to hide a line. A log that was renamed or emptied
(rotated) is begun again with a line that names the hash of the line before.

Local events, such as a mark that was reset by hand, go to the log of the user:

    local_event("trust-reset", volume=volume.hex(), **name_fields("path", path), generation=str(generation))

which returns when the line is there, and raises `AuditError` or `OSError` where it cannot be written: then
leave undone what had to be logged. Names of events are words with hyphens; numbers that can exceed 2^53 are
decimal strings.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nfsverity_proto.errors import NfsVerityError

from .trust_store import state_directory

LINE_MAX = 2**16
"""Bytes of one line."""
NOTHING = bytes(32)
"""The hash before the first line."""
FILE_NAME = "audit.jsonl"
"""In the state directory, where nothing else was said."""
_SEAL = re.compile(rb',"hash":"([0-9a-f]{64})"}')
_SEAL_LENGTH = 75
_RESERVED = frozenset(("seq", "time", "event", "process", "hash"))
_SLOT = 4096
"""Bytes from the first slot of a head to the second: they are never in one block of a disk."""
_HEAD = re.compile(
    rb"(nfsverity-audit-head 1 ([0-9]{20}) ([0-9]{20}) ([0-9a-f]{64}) ([0-9a-f]{64}|-{64}) )([0-9a-f]{64})\n"
)
_HEAD_LENGTH = 23 + 2 * 21 + 3 * 65


class AuditError(NfsVerityError):
    """The audit log, or its head, cannot be used as it is."""


def sealed(previous: bytes, text: bytes) -> tuple[bytes, bytes]:
    """The hash of a line, and the line with it. `text` is a JSON object without its closing brace."""
    digest = hashlib.sha256(previous + text).digest()
    return digest, text + b',"hash":"' + digest.hex().encode() + b'"}\n'


def unsealed(line: bytes) -> tuple[bytes, bytes] | None:
    """The text and the hash of a line (without line feed); None for what is no line of a log."""
    found = _SEAL.fullmatch(line, len(line) - _SEAL_LENGTH) if len(line) > _SEAL_LENGTH else None
    return None if found is None else (line[: found.start()], bytes.fromhex(found[1].decode()))


def name_fields(key: str, name: bytes) -> dict[str, str | None]:
    """A name as it is in a line: text, or null with the bytes beside it in base64."""
    try:
        return {key: name.decode()}
    except UnicodeDecodeError:
        return {key: None, f"{key}_base64": base64.b64encode(name).decode()}


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends. `following`: the hash of a line that is being written, or was when its writer died."""

    seq: int = 0
    hash: bytes = NOTHING
    following: bytes | None = None


def head_path(log: Path, state: Path | None = None) -> Path:
    """Where the head of a log is kept."""
    whole = os.fsencode(log.parent.resolve() / log.name)
    return (state or state_directory()) / "audit" / f"{hashlib.sha256(whole).hexdigest()[:32]}.head"


def read_head(log: Path, state: Path | None = None) -> Head | None:
    """The head of a log; None where there is none. Raises `AuditError`, `OSError`."""
    path = head_path(log, state)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        return load_head(fd, path)[1]
    finally:
        os.close(fd)


def load_head(fd: int, path: Path) -> tuple[int, Head | None]:
    """How often the head was written, and what it is. Raises `AuditError` where it is damaged."""
    found: list[tuple[int, Head]] = []
    for slot in range(2):
        data = os.pread(fd, _HEAD_LENGTH, slot * _SLOT)
        match = _HEAD.fullmatch(data)
        if match is not None and hashlib.sha256(match[1]).hexdigest().encode() == match[6]:
            following = None if match[5].startswith(b"-") else bytes.fromhex(match[5].decode())
            found.append((int(match[2]), Head(int(match[3]), bytes.fromhex(match[4].decode()), following)))
    if found:
        return max(found, key=lambda item: item[0])
    if os.fstat(fd).st_size > 0 and os.pread(fd, 2 * _SLOT, 0).strip(b"\0"):
        raise AuditError(f"{path} is damaged (move it away; the log goes on, with a line that says so)")
    return 0, None


def _store(fd: int, count: int, head: Head) -> None:
    """In turn into two slots, so that one is whole whatever happens to the other."""
    following = "-" * 64 if head.following is None else head.following.hex()
    text = f"nfsverity-audit-head 1 {count:020} {head.seq:020} {head.hash.hex()} {following} ".encode()
    data = text + hashlib.sha256(text).hexdigest().encode() + b"\n"
    if os.pwrite(fd, data, (count % 2) * _SLOT) != len(data):
        raise OSError("the head of the audit log could not be written whole")


class AuditLog:
    """One log, for any number of processes and threads. Nothing is open between two lines."""

    def __init__(self, path: Path, *, state: Path | None = None, sync: bool = False) -> None:
        self.path = path.parent.resolve() / path.name
        self.sync = sync
        """Whether each line is on the disk, and not only with the system, before `append` returns."""
        self._head = head_path(path, state)

    def append(self, event: str, **fields: Any) -> int:
        """Write one line; its number. Raises `AuditError`, `OSError`; then the line is not there.

        (Where even undoing fails, part of it is, and the next line says so.)
        """
        if wrong := _RESERVED & fields.keys():
            raise ValueError(f"{sorted(wrong)} are the log's own")
        with self._locked() as (fd, head_fd):
            try:
                writer = _Writer(self, fd, head_fd)
                writer.go_on()
                return writer.put(event, fields)
            except OSError as error:
                error.filename = error.filename or str(self._head)
                raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[tuple[int, int]]:
        """The log and its head, for one writer: each opens them anew, since a lock is that of an open file."""
        self._head.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        head_fd = os.open(self._head, flags, 0o600)
        try:
            fcntl.flock(head_fd, fcntl.LOCK_EX)
            self._make_room(head_fd)
            fd = os.open(self.path, flags | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise AuditError(f"{self.path} is no regular file, which an audit log has to be")
                yield fd, head_fd
            finally:
                os.close(fd)
        finally:
            os.close(head_fd)

    def _make_room(self, head_fd: int) -> None:
        """So that the head needs no more space later."""
        try:
            while (size := os.fstat(head_fd).st_size) < 2 * _SLOT:
                os.pwrite(head_fd, bytes(2 * _SLOT - size), size)
        except OSError as error:
            error.filename = str(self._head)
            raise


class _Writer:
    """What holds the lock: it sees where the log ends, then adds lines."""

    def __init__(self, log: AuditLog, fd: int, head_fd: int) -> None:
        self.log, self.fd, self.head_fd = log, fd, head_fd
        self.count, self.head = load_head(head_fd, log._head)
        self.size = os.fstat(fd).st_size
        self.gap = b""
        """What has to stand before the next line: a line feed, where the last one is torn."""

    def go_on(self) -> None:
        """See that the log ends where its head says, and write what is to be said where it does not."""
        if self.size == 0:
            unfinished = None if self.head is None else self.head.following
            self.head = self._without_following()
            fields = {} if unfinished is None else {"unfinished": unfinished.hex()}
            self.put("begin", {**fields, "previous": self.head.hash.hex()})
            return
        end = self._tail(_SEAL_LENGTH + 1)
        found = unsealed(b"x" + end[:-1]) if end.endswith(b"\n") else None
        if self.head is not None and found is not None and self._is_ours(found[1]):
            return
        self._mend()

    def _without_following(self) -> Head:
        return Head() if self.head is None else Head(self.head.seq, self.head.hash)

    def _is_ours(self, hash: bytes) -> bool:
        """Whether the line with this hash is the last that was written; the head is then where that ends."""
        if self.head is None:
            return False
        if hash == self.head.following:
            self.head = Head(self.head.seq + 1, hash)
        return hash == self.head.hash

    def _mend(self) -> None:
        """The log ends in a torn line, or not at its head."""
        tail = self._tail(4 * LINE_MAX)
        lines = tail.split(b"\n")
        torn: list[bytes] = []
        while lines and (found := unsealed(lines[-1])) is None:
            torn.append(lines.pop())
        rest = b"\n".join(reversed(torn))
        if rest and not tail.endswith(b"\n"):
            self.gap, rest = b"\n", rest + b"\n"
        last = {} if found is None else {"seq": _seq_of(found[0]), "hash": found[1].hex()}
        fields: dict[str, Any] = {}
        if rest:
            fields["torn"] = {"bytes": len(rest), "sha256": hashlib.sha256(rest).hexdigest()}
        if self.head is None:
            fields["head"] = "lost"
            self.head = Head() if found is None else Head(_seq_of(found[0]) or 0, found[1])
        elif (rest and self.head.following is None) or not self._ends_well(found, bool(lines)):
            head = self._without_following()
            fields["broken"] = {"expected": {"seq": head.seq, "hash": head.hash.hex()}, "found": last or None}
        self.head = self._without_following()
        self.put("resumed", {**fields, "previous": self.head.hash.hex()})

    def _ends_well(self, found: tuple[bytes, bytes] | None, any_line: bool) -> bool:
        if found is not None:
            return self._is_ours(found[1])
        # nothing but a torn line: the first of a new file
        return not any_line and self.size <= 4 * LINE_MAX

    def _tail(self, length: int) -> bytes:
        return os.pread(self.fd, length, max(0, self.size - length))

    def put(self, event: str, fields: dict[str, Any]) -> int:
        head = self._without_following()
        seq = head.seq + 1
        line = {"seq": seq, "time": _now(), "event": event, **fields, "process": _process()}
        text = json.dumps(line, separators=(",", ":"), allow_nan=False).encode()[:-1]
        digest, data = sealed(head.hash, text)
        if len(data) > LINE_MAX:
            raise ValueError(f"a line of {len(data)} bytes; {LINE_MAX} are allowed")
        self._store(Head(head.seq, head.hash, digest))
        try:
            _write_all(self.fd, self.gap + data)
            if self.log.sync:
                os.fsync(self.fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)
                self._store(head)
            error.filename = error.filename or str(self.log.path)
            raise
        self.head = Head(seq, digest)
        self._store(self.head)
        self.size += len(self.gap) + len(data)
        self.gap = b""
        return seq

    def _store(self, head: Head) -> None:
        self.count += 1
        _store(self.head_fd, self.count, head)
        if self.log.sync:
            os.fsync(self.head_fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _seq_of(text: bytes) -> int | None:
    try:
        seq = json.loads(text + b"}")["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return seq if type(seq) is int and seq > 0 else None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _process() -> dict[str, Any]:
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    return {"pid": os.getpid(), "uid": os.getuid(), "name": name.encode("ascii", "backslashreplace").decode()}


def default_log() -> Path:
    """The log where nobody has named one."""
    return state_directory() / FILE_NAME


def user_log() -> AuditLog:
    """The log that local events go to: that of the user's policy, or `audit.jsonl` in the state directory.

    Raises `PolicyError`, `OSError` where there is a policy that cannot be used.
    """
    from .policy import load_policy

    user = load_policy()
    return AuditLog(user.log or default_log(), sync=user.sync)


def local_event(event: str, **fields: Any) -> int:
    """Write what was done by hand into the log of the user; the line's number. Raises as `user_log` and `append` do."""
    return user_log().append(event, **fields)
