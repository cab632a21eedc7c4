# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Audit logs read: whether all of one is there as it was written, and what was used by it.

Rotated files are given together with the one that is being written; their order follows from their lines.
Lines are read one at a time, and what is kept of them grows with the number of different versions only.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .audit import LINE_MAX, NOTHING, AuditError, Head, head_path, load_head, sealed, unsealed

_Opened = tuple[Path, IO[bytes] | gzip.GzipFile, int | None]
"""A file, and how many bytes of it are looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a log that its reader has to know."""

    broken: bool
    """Whether lines are not there, or not as they were written; else it is the trace of a writer's end."""
    file: str | None
    line: int | None
    """In the file, from 1."""
    text: str


@dataclass(slots=True)
class Checked:
    """What became of checking a log."""

    files: list[str] = field(default_factory=list)
    """In the order of their lines."""
    lines: int = 0
    first: int | None = None
    """The number of the first line that is there."""
    last: Head | None = None
    """The last one, with its hash."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not any(finding.broken for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Line:
    file: str
    number: int
    """In the file."""
    first_in_file: bool
    text: bytes
    hash: bytes
    fields: dict[str, Any]
    rest: bytes | None
    """SHA-256 of bytes before it, since the line before, that are no line; None where there are none."""
    rest_length: int


def with_rotated(log: Path) -> list[Path]:
    """A log, and the files beside it that it was renamed to: its name, then "." or "-" and more."""
    beside = sorted(
        path
        for path in log.parent.iterdir()
        if path.name.startswith((log.name + ".", log.name + "-")) and path.is_file() and not path.name.endswith(".lock")
    )
    return [*beside, log] if log.exists() else beside


def check(
    paths: Sequence[Path],
    *,
    state: Path | None = None,
    head: Head | None = None,
    needs_head: bool = True,
    first: int = 1,
) -> Checked:
    """Check the chain of a log from line `first` on to its head.

    `head` is that of the state directory where it is not given; without one the end of the log is not proved, which
    is a finding unless `needs_head` is false. Raises `OSError`, `AuditError` for a damaged head.
    """
    kept, opened = _opened(paths, state)
    head = head or kept
    try:
        checker = _Checker(first)
        ordered = sorted(opened, key=lambda item: _first_seq(item[1], item[2]))
        for path, file, size in ordered:
            checker.result.files.append(str(path))
            checker.file(str(path), file, size)
        checker.end(head, needs_head)
    finally:
        for _, file, _ in opened:
            file.close()
    return checker.result


def _opened(paths: Sequence[Path], state: Path | None) -> tuple[Head | None, list[_Opened]]:
    """The head of the log that is among the files, and the files as long as they were at that moment."""
    locks: list[int] = []
    head: Head | None = None
    opened: list[_Opened] = []
    try:
        for path in paths:
            kept = head_path(path, state)
            try:
                fd = os.open(kept, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            locks.append(fd)
            fcntl.flock(fd, fcntl.LOCK_SH)
            head = load_head(fd, kept)[1] or head
        for path in paths:
            if path.name.endswith(".gz"):
                opened.append((path, gzip.GzipFile(path), None))
            else:
                plain = path.open("rb")
                opened.append((path, plain, os.fstat(plain.fileno()).st_size))
    except BaseException:
        for _, file, _ in opened:
            file.close()
        raise
    finally:
        for fd in locks:
            os.close(fd)
    return head, opened


def _first_seq(file: IO[bytes] | gzip.GzipFile, size: int | None) -> int:
    """The number of a file's first line; files without any come last."""
    try:
        for raw in _raw_lines(file, size):
            parts = unsealed(raw.removesuffix(b"\n"))
            seq = None if parts is None else _fields(parts[0]).get("seq")
            if type(seq) is int:
                return seq
        return 2**63
    finally:
        file.seek(0)


def _raw_lines(file: IO[bytes] | gzip.GzipFile, size: int | None) -> Iterator[bytes]:
    left = size
    while left is None or left > 0:
        try:
            raw = file.readline(LINE_MAX if left is None else min(left, LINE_MAX))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise AuditError(f"a compressed file is damaged: {error}") from error
        if not raw:
            return
        left = None if left is None else left - len(raw)
        yield raw


def _fields(text: bytes) -> dict[str, Any]:
    """The object of a line; empty where it is none."""
    try:
        value = json.loads(text + b"}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def lines(name: str, file: IO[bytes] | gzip.GzipFile, size: int | None = None) -> Iterator[_Line | tuple[bytes, int]]:
    """The lines of a file, each with what is before it that is no line; at last such bytes at the end, if any."""
    rest, rest_length, first = hashlib.sha256(), 0, True
    for number, raw in enumerate(_raw_lines(file, size), 1):
        parts = unsealed(raw[:-1]) if raw.endswith(b"\n") else None
        if parts is None:
            rest.update(raw)
            rest_length += len(raw)
            continue
        before = rest.digest() if rest_length else None
        yield _Line(name, number, first, *parts, _fields(parts[0]), before, rest_length)
        rest, rest_length, first = hashlib.sha256(), 0, False
    if rest_length:
        yield rest.digest(), rest_length


class _Checker:
    def __init__(self, first: int) -> None:
        self.result = Checked()
        self._first = first
        self._open_end: tuple[str, int] | None = None
        """The last file, and how many bytes at its end are no line, where it ended so."""
        self._extra: Head | None = None

    def _find(self, broken: bool, line: _Line | None, text: str, file: str | None = None) -> None:
        self.result.findings.append(
            Finding(broken, file if line is None else line.file, None if line is None else line.number, text)
        )

    def file(self, name: str, file: IO[bytes] | gzip.GzipFile, size: int | None) -> None:
        for line in lines(name, file, size):
            if isinstance(line, _Line):
                self._line(line)
            else:
                self._tell_open_end()
                self._open_end = name, line[1]

    def _tell_open_end(self) -> None:
        if self._open_end is not None:
            name, length = self._open_end
            self._find(True, None, f"{length} bytes at its end are no line of a log", name)
        self._open_end = None

    def _line(self, line: _Line) -> None:
        result, fields = self.result, line.fields
        seq, previous = fields.get("seq"), _hash_of(fields.get("previous"))
        if type(seq) is not int:
            seq = -1
        result.lines += 1
        last = result.last
        if last is None:
            result.first = seq
            self._begins(line, seq, previous)
            base = previous or NOTHING
        else:
            if line.first_in_file:
                last = self._without_unfinished(line, last)
            base = last.hash
            if fields.get("event") == "resumed" and "broken" in fields:
                base = previous or base
        self._torn(line)
        if sealed(base, line.text)[0] != line.hash:
            what = f"line {seq} does not follow from the one before" if result.lines > 1 else f"line {seq} was changed"
            self._find(True, line, f"{what}: it was changed, or others were taken away or put in before it")
        elif last is not None and seq != last.seq + 1:
            self._find(True, line, f"line {seq} comes after line {last.seq}")
        if "broken" in fields:
            self._find(True, line, f"who wrote line {seq} found that the log did not end as it should: lines were lost")
        if fields.get("head") == "lost":
            self._find(False, line, f"the head was lost before line {seq}: whether lines before it are missing is open")
        result.last = Head(seq, line.hash)

    def _begins(self, line: _Line, seq: int, previous: bytes | None) -> None:
        if seq > self._first:
            self._find(True, line, f"lines {self._first} to {seq - 1} are not in the files given")
        if previous is None:
            self._find(True, line, f"line {seq} is not one with which a file begins: what was before it is missing")
        elif seq == 1 and previous != NOTHING:
            self._find(True, line, "the first line names one before it")

    def _without_unfinished(self, line: _Line, last: Head) -> Head:
        """The line after which a new file begins: without what a killed writer left of one at the end of the old."""
        unfinished, previous = _hash_of(line.fields.get("unfinished")), _hash_of(line.fields.get("previous"))
        if unfinished is None or previous is None:
            self._tell_open_end()
            return last
        if self._open_end is not None:
            self._find(False, None, f"{self._open_end[1]} bytes of a torn line at its end", self._open_end[0])
            self._open_end = None
        if last.hash == unfinished:
            self._find(
                False, line, f"the line before was written by a process that was killed, and has line {last.seq} twice"
            )
            return Head(last.seq - 1, previous)
        return last

    def _torn(self, line: _Line) -> None:
        self._tell_open_end()
        torn = line.fields.get("torn")
        if line.rest is None and torn is None:
            return
        found = {"bytes": line.rest_length, "sha256": (line.rest or b"").hex()}
        if line.rest is None or torn != found or line.fields.get("event") != "resumed":
            self._find(
                True, line, f"{line.rest_length} bytes before it are no line of a log, and not what it says of them"
            )
        else:
            self._find(False, line, f"{line.rest_length} bytes of a torn line before it, by a process that was killed")

    def end(self, head: Head | None, needs_head: bool) -> None:
        last, result = self.result.last or Head(), self.result
        if head is None:
            self._tell_open_end()
            if needs_head:
                self._find(True, None, "there is no head: whether lines at the end are missing cannot be told")
            return
        if head.following is not None and last == Head(head.seq + 1, head.following):
            self._find(False, None, f"line {last.seq} was written by a process that was killed then")
        elif last != Head(head.seq, head.hash):
            text = f"the log ends with line {last.seq}, and its head is line {head.seq}"
            if last.seq == head.seq:
                text = f"the last line, {last.seq}, is not the one that the head names"
            self._find(True, None, text, result.files[-1] if result.files else None)
        if self._open_end is not None and head.following is not None:
            self._find(False, None, f"{self._open_end[1]} bytes of a torn line at its end", self._open_end[0])
            self._open_end = None
        self._tell_open_end()


def _hash_of(value: object) -> bytes | None:
    try:
        digest = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return None
    return digest if len(digest) == len(NOTHING) else None


@dataclass(slots=True)
class Use:
    """One version of one file, or a file of which no version was verified, as the log has it."""

    file: str
    version: dict[str, Any] | None
    """Of a file in a volume: with the head under which it was used last."""
    first: str
    last: str
    count: int = 0
    gates: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    """The tags of the heads that vouched for a file in a volume, each with its generation."""


@dataclass(slots=True)
class Summary:
    uses: list[Use]
    """In the order of their first use."""
    events: dict[str, int]
    """How many lines of each event there are."""
    other: int
    """Bytes that are no line of an audit log."""


def summary(paths: Iterable[Path]) -> Summary:
    """Which versions of which files were used, when, how often, and with which verdicts. It checks nothing."""
    uses: dict[str, Use] = {}
    events: dict[str, int] = {}
    other = 0
    opened = _opened(list(paths), None)[1]
    try:
        for path, file, size in sorted(opened, key=lambda item: _first_seq(item[1], item[2])):
            for line in lines(str(path), file, size):
                other += line.rest_length if isinstance(line, _Line) else line[1]
                if isinstance(line, _Line):
                    event = str(line.fields.get("event"))
                    events[event] = events.get(event, 0) + 1
                    if event == "decision":
                        _count(uses, line.fields)
    finally:
        for _, file, _ in opened:
            file.close()
    return Summary(list(uses.values()), events, other)


def _count(uses: dict[str, Use], fields: dict[str, Any]) -> None:
    file, version, time = str(fields.get("file")), fields.get("version"), str(fields.get("time"))
    same, head = version, None
    if isinstance(version, dict) and version.get("head") is not None:
        # a head is a version of the volume; that of a file in it is its content
        head = version["head"]
        same = {key: version[key] for key in version if key not in ("generation", "head")}
    use = uses.setdefault(json.dumps([file, same], sort_keys=True), Use(file, version, time, time))
    if isinstance(version, dict) and head is not None:
        use.version = version
        use.heads[str(head)] = str(version.get("generation"))
    use.first, use.last = min(use.first, time), max(use.last, time)
    use.count += 1
    for counts, key in (
        (use.gates, "gate"),
        (use.verdicts, "verdict"),
        (use.actions, "action"),
        (use.outcomes, "outcome"),
    ):
        value = str(fields.get(key) if fields.get(key) is not None else "none")
        counts[value] = counts.get(value, 0) + 1
