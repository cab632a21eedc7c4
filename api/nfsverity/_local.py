# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Published trees on this machine, verified where they lie, without a server.

The verdicts are those of a reader over the network. What is reported is everything that is wrong, not only
the first: every file, and in a file every range of bytes, as far as the publisher's kept tree folds to the
root that was signed; where it does not, only the file can be named (R17). Nothing is waited for.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from nfsverity_client.gates import ENFORCING, VERIFIED, Decision, Gates, Rules
from nfsverity_client.marks import Judged, MarkStore, Raise, Seen, judged
from nfsverity_client.revocations import RevocationStore, accepted
from nfsverity_client.state import State
from nfsverity_client.trust_store import Bindings
from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, LinkNode, kind_of
from nfsverity_proto.errors import (
    Absent,
    Hidden,
    IsRevoked,
    LinkOutside,
    Mismatch,
    NotMember,
    OtherHead,
    Rollback,
    Unsigned,
    VerificationError,
    WrongKind,
    WrongVolume,
)
from nfsverity_proto.hashes import HASH_NUMBERS, hash_by_number
from nfsverity_proto.marks import NO_MARKS
from nfsverity_proto.member import check_head, verify_listed, verify_member
from nfsverity_proto.path import split_path
from nfsverity_proto.policy import Action, Gate, Logged, Rule, WithoutRecord, named
from nfsverity_proto.record import SIGNATURE, Fingerprint, decode_record, signature_of
from nfsverity_proto.revocation import Revocations, Revoked
from nfsverity_proto.statement import Item
from nfsverity_proto.trust import TrustEntry, expected_volumes
from nfsverity_proto.verification import (
    ALL_ALGORITHMS,
    Certificates,
    Expected,
    Verified,
    Verifier,
    accept_revocation,
    check_freshness,
    verify_head,
    verify_record,
)
from nfsverity_store.content import open_below
from nfsverity_store.index import ROOT_ID, IndexEntry
from nfsverity_store.layout import DIRECTORY, DIRECTORY_BYTES, Head, find_root, read_head
from nfsverity_store.published import Published, open_published
from nfsverity_store.revocation import PublishedRevocation
from nfsverity_store.volume_index import VolumeEntry
from nfsverity_store.volume_view import VolumeView

from ._local_content import BadRange, check_content
from ._local_volume import follow, look_up, members, node_error

_MAY_BE_OLD = (Mismatch, Unsigned, Rollback, Absent, Hidden, OtherHead, NotMember, FileNotFoundError)
"""What may come from a publication that is not the present one any more."""
PUBLICATIONS_MAX = 4
"""How often a file is judged again because a newer publication appeared meanwhile."""

HELD_MAX, HELD_SECONDS = 512, 0.2
"""So many results are told together, or those of so much time: one sync is for all of them."""
Progress = Callable[[bytes, int], None]
"""Told a path in the tree, and how many more bytes of it are checked."""
Announce = Callable[[str, bytes], None]
"""Told the URL of a tree, and the volume that it is bound to from now on."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file."""

    path: bytes
    """In the tree."""
    error: VerificationError | OSError | None = None
    """None: all of it was verified. `OSError`: it could not be read."""
    bad: tuple[BadRange, ...] = ()
    """In ascending order; none where the file can only be named."""
    verified: Verified | None = None
    """The record, where it verifies (the content may still not)."""
    seen_before: bool | None = None
    """Whether a version of it was accepted here before; None where no marks are kept, or the record does not verify."""
    raised: Raise | None = field(default=None, repr=False)
    """What is to be settled before anybody is told."""
    unverified: str | None = None
    """Which rule of the policy lets it pass without being verified."""
    verdict: str | None = None
    """Of what is unverified, where it was asked."""
    rules: tuple[tuple[Gate, Rule], tuple[Gate, Rule]] | None = field(default=None, repr=False)
    """Those at the gates open and read, by which it was judged."""
    target: bytes | None = None
    """Of a link that was named, and is one of the volume: where it leads, as signed. Then `verified` is the head."""
    leads: bytes | None = None
    """Of such a link: the path in the volume that it leads to, which is verified, too; None where there is none."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of a volume that folds to its head, and the row that it was made of."""

    view: VolumeView
    head: Verified
    entry: Entry
    row: VolumeEntry


def file_url(path: bytes) -> str:
    """The URL (RFC 8089) of an absolute path."""
    return "file://" + quote(path, safe="/!$&'()*+,;=:@~")


def locate(path: Path) -> tuple[Path, bytes]:
    """The published tree that holds a file or directory, and the path in it.

    One that is missing and was signed has its place, too. Raises `Unsigned` where there is no tree, and for a symbolic
    link to a file; `FileNotFoundError`, `NotADirectoryError`.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        missing = _find_missing(path)
        if missing is None:
            raise
        return missing
    if stat.S_ISLNK(status.st_mode) and not path.is_dir():
        link = find_link(path)
        if link is None:
            raise Unsigned("this symbolic link is not signed: name the file that it leads to", where=str(path))
        raise Unsigned("it is a symbolic link: name the file that it leads to", where=str(path))
    whole = path.resolve()
    start = whole if whole.is_dir() else whole.parent
    found = find_root(start)
    if found is None:
        raise Unsigned(f"neither it nor a directory above it has a {DIRECTORY}", where=str(path))
    below = os.fsencode(whole.relative_to(found))
    return found, b"" if below == b"." else below


def _find_missing(path: Path) -> tuple[Path, bytes] | None:
    """The place of what is not there any more and was signed; None for what was not. Raises `StoreError`."""
    whole = path.parent.resolve() / path.name
    start = next((above for above in whole.parents if above.is_dir()), None)
    root = None if start is None else find_root(start)
    if root is None:
        return None
    below = os.fsencode(whole.relative_to(root))
    _, index = open_published(root)
    with contextlib.closing(index):
        try:
            entry = index.at(below) if isinstance(index, VolumeView) else index.by_path(below)
        except ValueError:  # deeper or longer than what can be signed
            return None
    return None if entry is None else (root, below)


def find_link(path: Path) -> tuple[Path, bytes] | None:
    """The published volume in which a symbolic link lies, and its path there; None for what is no link of a volume."""
    if not path.is_symlink():
        return None
    above = path.parent.resolve()
    root = find_root(above)
    if root is None or read_head(root).nodes is None:
        return None
    return root, os.fsencode((above / path.name).relative_to(root))


def locate_file(path: Path) -> tuple[Path, bytes]:
    """As `locate`; but of a link in a volume it is the place of the link itself, which `LocalTree.follow` follows."""
    return find_link(path) or locate(path)


@dataclass(slots=True)
class LocalTree:
    """One published tree, and what this user believes. Raises `StoreError` where its metadata is damaged.

    The expected volume is `volumes`; else what the trust entries say; else what the tree was bound to at its
    first use, which `bindings` keeps. Without `bindings` none is made; without `state` no marks are kept.
    """

    root: Path
    """Absolute, without links."""
    trust: Sequence[TrustEntry]
    volumes: frozenset[bytes] | None = None
    bindings: Bindings | None = None
    announce: Announce | None = None
    progress: Progress | None = None
    gates: Gates = ENFORCING
    now: int | None = None
    """Unix seconds, for all files; by the clock where it is None."""
    state: State | None = None
    revoked: frozenset[Item] = frozenset()
    """Keys and versions that the user revoked."""
    refused: Callable[[VerificationError], None] | None = None
    """Told the verdict of a revocation in the tree that is not accepted; all goes on without it (fim-rev-9)."""
    head: Head = field(init=False)
    index: Published = field(init=False)
    skipped: list[tuple[bytes, str]] = field(init=False, default_factory=list)
    """Symbolic links and special files that `verify` met: path and what it is. They have no record."""
    _certificates: list[bytes] = field(init=False)
    _head: Judged | None = field(init=False, default=None)
    """Of the volume that is published now, once it was verified."""
    _older: list[Published] = field(init=False, default_factory=list)
    """Publications that something may still be gone through from."""
    _marks: MarkStore | None = field(init=False, default=None)
    _revocations: RevocationStore | None = field(init=False, default=None)
    _published: PublishedRevocation = field(init=False)
    _offered: bytes | None = field(init=False, default=None)
    """The last revocation in the tree that was judged."""

    def __post_init__(self) -> None:
        self._published = PublishedRevocation(self.root)
        if self.state is not None:
            self._marks, self._revocations = MarkStore(self.state), RevocationStore(self.state, self.revoked)
        if self.volumes is None:
            self.volumes = expected_volumes(self.trust, self.url)
        if self.volumes is None and self.bindings is not None:
            bound = self.bindings.get(self.url)
            self.volumes = None if bound is None else frozenset({bound})
        self._open()

    def _open(self) -> None:
        self.head, self.index = open_published(self.root)
        self._head = None
        try:
            self._certificates = self.index.certificates()
        except BaseException:
            self.index.close()
            raise

    def close(self) -> None:
        for index in (*self._older, self.index):
            index.close()

    @property
    def url(self) -> str:
        """What names this tree in bindings and trust entries."""
        return file_url(os.fsencode(self.root))

    def url_of(self, path: bytes) -> str:
        return file_url(os.path.join(os.fsencode(self.root), path))

    def expected(self, path: bytes) -> Expected:
        return Expected(path, self.volumes, self.url_of(path))

    def certificates(self, record: bytes) -> Certificates:
        """The certificates that the tree itself carries for a record's signers. Raises `Malformed`."""
        return certificates_among(record, self._certificates)

    def size(self, below: bytes = b"") -> int:
        """Bytes that were signed at a path and below it."""
        return self.index.size(below)

    def verify(self, below: bytes = b"") -> Iterator[FileResult]:
        """Every file at a path and below it, whether it has a record or not: first a directory's files.

        Those that verified are told when their marks are durable, several at once. Raises `StateError`.
        """
        held: list[FileResult] = []
        since = time.monotonic()
        for result in self._verify(below):
            held.append(result)
            if len(held) >= HELD_MAX or time.monotonic() > since + HELD_SECONDS:
                yield from self._settled(held)
                held, since = [], time.monotonic()
        yield from self._settled(held)

    def _settled(self, results: Sequence[FileResult]) -> Iterator[FileResult]:
        """The results, once their marks are durable (fim-mark-3)."""
        if self._marks is not None:
            self._marks.flush()
        for result in results:
            try:
                if result.raised is not None:
                    result.raised.check()
            except VerificationError as error:  # another process has seen a newer version meanwhile
                error.where = self.url_of(result.path)
                result = FileResult(result.path, error, rules=result.rules)
            yield result if result.rules is None else self._passed(result, result.rules)

    def follow(self, path: bytes) -> bytes:
        """Where a path of a volume leads to by the links that are signed; a path of another tree as it is.

        Raises `VerificationError`: `Absent` and `LinkOutside` too.
        """
        if not path or not isinstance(self.index, VolumeView):
            return path
        try:
            return follow(self.index, self.volume_head().verified, path)[0]
        except VerificationError as error:
            error.where = self.url_of(path)
            raise

    def _verify_link(self, path: bytes) -> FileResult | None:
        """What is a link in the volume, or on the disk and nothing in the volume; None for all else."""
        view = self.index
        if not path or not isinstance(view, VolumeView) or not self.gates.is_silent:
            return None
        try:
            head = self.volume_head()
            found = look_up(view, head.verified, path)
        except VerificationError as error:
            error.where = self.url_of(path)
            return FileResult(path, error)
        entry = None if found is None else found[0]
        kind = _kind_at(self.root, path)
        if (entry is None and kind != "symbolic link") or (entry and not isinstance(entry.node, LinkNode)):
            return None
        problem = self._node_error(path, entry, kind)
        target = entry.node.target if entry is not None and isinstance(entry.node, LinkNode) else None
        if problem is not None:
            return FileResult(path, problem, target=target)
        try:
            leads: bytes | None = self.follow(path)
        except (Absent, LinkOutside):
            leads = None
        except VerificationError as error:
            return FileResult(path, error, target=target)
        return FileResult(path, None, (), head.verified, head.seen_before, head.raised, target=target, leads=leads)

    def _verify(self, below: bytes) -> Iterator[FileResult]:
        link = self._verify_link(below)
        if link is not None:
            yield link
            if link.leads is None:
                return
            below = link.leads
        entry = self.index.by_path(below)
        if entry is not None and entry.is_file:
            yield self._verify_file(below)
            return
        if entry is None and not os.path.isdir(os.path.join(os.fsencode(self.root), below)):
            yield self._verify_file(below)
            return
        if isinstance(self.index, VolumeView):
            try:
                head = self.volume_head()
            except VerificationError as error:
                if self.gates.is_silent:
                    error.where = self.url_of(below)
                    yield FileResult(below, error)
                    return
            else:
                problem = self._named_error(self.index, head.verified, below) if below else None
                if problem is not None:
                    yield FileResult(below, problem)
                yield from self._verify_volume(self.index, head.verified, below)
                return
        directories = [below]
        while directories:
            path = directories.pop()
            deeper: list[bytes] = []
            yield from self._verify_directory(path, deeper)
            directories += reversed(deeper)

    def _named_error(self, view: VolumeView, head: Verified, path: bytes) -> VerificationError | OSError | None:
        """What is wrong with the directory that was named."""
        try:
            found = look_up(view, head, path)
        except VerificationError as error:
            error.where = self.url_of(path)
            return error
        return self._node_error(path, None if found is None else found[0], _kind_at(self.root, path))

    def _verify_directory(self, path: bytes, deeper: list[bytes]) -> Iterator[FileResult]:
        known = self._children(path)
        try:
            present = _list(self.root, path)
        except OSError as error:
            present = {}
            yield FileResult(path, error)
        for name in sorted(known.keys() | present.keys()):
            below = path + b"/" + name if path else name
            entry, kind = known.get(name), present.get(name)
            if kind == "directory" or (entry is not None and not entry.is_file):
                deeper.append(below)
            if (entry is not None and entry.is_file) or kind == "file":
                yield self._verify_file(below)
            elif kind not in (None, "directory"):
                self.skipped.append((below, str(kind)))

    def _verify_volume(self, view: VolumeView, head: Verified, below: bytes) -> Iterator[FileResult]:
        """All that a volume has at a directory and below it, and all that is there beside it."""
        children: dict[bytes, Listed] = {}
        at, later = below, {below}
        try:
            for entry, row in members(view, head, below):
                if entry.parent != at:
                    yield from self._verify_children(at, children)
                    later.discard(at)
                    at, children = entry.parent, {}
                children[entry.name] = Listed(view, head, entry, row)
                if isinstance(entry.node, DirectoryNode):
                    later.add(entry.path)
        except VerificationError as error:
            error.where = self.url_of(below)
            yield FileResult(below, error)
            return
        yield from self._verify_children(at, children)
        later.discard(at)
        for path in sorted(later):  # those without entries
            yield from self._verify_children(path, {})

    def _verify_children(self, path: bytes, children: Mapping[bytes, Listed]) -> Iterator[FileResult]:
        """What is in one directory of a volume; below what it should not have, too."""
        try:
            present = _list(self.root, path)
        except OSError as error:
            present = {}
            yield FileResult(path, error)
        for name in sorted(children.keys() | present.keys()):
            below = path + b"/" + name if path else name
            listed, kind = children.get(name), present.get(name)
            if kind == "special file" and listed is None:
                self.skipped.append((below, kind))
            elif (listed is not None and isinstance(listed.entry.node, FileNode)) or (
                listed is None and kind == "file"
            ):
                yield self._verify_file(below, listed)
            else:
                problem = self._node_error(below, None if listed is None else listed.entry, kind)
                if problem is not None:
                    yield FileResult(below, problem)
                if listed is None and kind == "directory":
                    yield from self._verify_children(below, {})

    def _node_error(self, path: bytes, entry: Entry | None, kind: str | None) -> VerificationError | OSError | None:
        """What is wrong with a link or directory, by the volume that is published now."""
        try:
            problem = node_error(self.root, path, entry, kind)
            while problem is not None and self._refresh() and isinstance(self.index, VolumeView):
                found = look_up(self.index, self.volume_head().verified, path)
                problem = node_error(self.root, path, None if found is None else found[0], kind)
        except VerificationError as error:
            problem = error
        except OSError as error:
            return error
        if problem is not None:
            problem.where = self.url_of(path)
        return problem

    def _children(self, path: bytes) -> dict[bytes, IndexEntry]:
        entry = self._entry(path)
        return {} if entry is None or entry.is_file else {child.name: child for child in self.index.children(entry.id)}

    def _entry(self, path: bytes) -> IndexEntry | None:
        try:
            split_path(path)
        except ValueError:  # deeper or longer than what can have a record
            return None
        return self.index.by_path(path) if path else self.index.by_id(ROOT_ID)

    def verify_file(self, path: bytes) -> FileResult:
        """One file: its record, and all of its content, as the rules at the gates open and read say.

        Its marks are durable when this returns. Raises `StateError`; `AuditError`, `OSError` where a decision has to be
        logged and cannot be.
        """
        (result,) = self._settled([self._verify_file(path)])
        return result

    def _rules(self, path: bytes) -> tuple[tuple[Gate, Rule], tuple[Gate, Rule]]:
        """The rules at the gates open and read, by what is known beforehand."""
        url = self.url_of(path)
        enter, read = (self.gates.select(gate, path, self.volumes, url) for gate in (Gate.OPEN, Gate.READ))
        return (Gate.OPEN, enter), (Gate.READ, read)

    def _passed(self, result: FileResult, both: tuple[tuple[Gate, Rule], tuple[Gate, Rule]]) -> FileResult:
        """What the rules make of a result, which is logged where they say so."""
        path, url = result.path, self.url_of(result.path)
        (_, enter), (_, read) = both
        rules = _enforcing(both)
        if isinstance(result.error, OSError):
            return result
        if all(rule.action is Action.DISABLE for _, rule in both):
            self.gates.decided(url, path, Decision(Gate.OPEN, enter, True, None))
            return FileResult(path, unverified=f"{enter} has let it pass")
        verdict = VERIFIED if result.error is None else result.error.verdict
        unsigned = self._lacks_record(result.error) and _lets_unsigned_pass(rules)
        may_enter = result.verified is not None or unsigned or enter.action is not Action.ENFORCE
        may_read = result.error is None or unsigned or read.action is not Action.ENFORCE
        marked = unsigned and any(rule.unsigned is WithoutRecord.AUDIT for _, rule in rules)
        at_open = verdict if result.verified is None else VERIFIED
        opened = Decision(Gate.OPEN, enter, may_enter, at_open, result.verified)
        self.gates.decided(url, path, opened, at_least=Logged.ON if marked else Logged.OFF)
        if may_enter and not unsigned:
            self.gates.decided(url, path, Decision(Gate.READ, read, may_read, verdict, result.verified))
        if not (may_enter and may_read) or (len(rules) == len(both) and not unsigned):
            return result
        why = next((rule for _, rule in both if rule.action is not Action.ENFORCE), enter)
        return FileResult(path, unverified=f"{why} has let it pass", verdict=verdict)

    def _lacks_record(self, problem: Exception | None) -> bool:
        """Whether a file has no record; in a volume that had a head, that has to be proved (fim-policy-12)."""
        if isinstance(problem, Absent):
            return True
        had_head = self._marks is not None and self._marks.has_head(self.volumes or (), self.trust, self.url)
        return isinstance(problem, Unsigned) and not had_head

    def _verify_file(self, path: bytes, listed: Listed | None = None) -> FileResult:
        """`listed`: its entry, where that was verified already."""
        both = self._rules(path)
        if all(rule.action is Action.DISABLE for _, rule in both):
            return FileResult(path, rules=both)
        rules = _enforcing(both)
        for _ in range(PUBLICATIONS_MAX):
            if listed is not None and listed.view is not self.index:
                listed = None
            entry = self._entry(path) if listed is None else None
            result = replace(self._verify_entry(path, entry, rules, listed), rules=both)
            if not isinstance(result.error, _MAY_BE_OLD) or not self._refresh():
                break
            newer = self._entry(path)
            if (newer and newer.record) == (entry and entry.record):
                break
        return result

    def _refresh(self) -> bool:
        """Turn to a newer publication where there is one; whether there was."""
        if read_head(self.root) == self.head:
            return False
        previous = self.index
        self._open()
        self._older.append(previous)
        return True

    def _verify_entry(
        self, path: bytes, entry: IndexEntry | None, rules: Rules, listed: Listed | None = None
    ) -> FileResult:
        try:
            judged = self._judge(path, entry, rules) if listed is None else self._judge_member(path, listed, rules)
        except VerificationError as error:
            for _, rule in rules:
                named(error, rule)
            error.where = self.url_of(path)
            return FileResult(path, error)
        verified = judged.verified
        try:
            problem, bad = check_content(
                self.root, path, verified, lambda: self._inline(entry, listed), lambda count: self._done(path, count)
            )
        except OSError as error:
            return FileResult(path, error, (), verified, judged.seen_before, judged.raised)
        if problem is not None:
            problem.where = self.url_of(path)
        return FileResult(path, problem, tuple(bad), verified, judged.seen_before, judged.raised)

    def verify_record(self, path: bytes, entry: IndexEntry | None, rules: Rules = ()) -> Verified:
        """Steps 0 to 12. Binds the tree at its first use; the marks are durable when this returns.

        Raises `VerificationError`, `StateError`.
        """
        judged = self._judge(path, entry, rules)
        if self._marks is not None and judged.raised is not None:
            self._marks.flush()
            judged.raised.check()
        return judged.verified

    def _judge(self, path: bytes, entry: IndexEntry | None, rules: Rules) -> Judged:
        """Steps 0 to 12. Binds the tree at its first use. Raises `VerificationError`, `StateError`."""
        if isinstance(self.index, VolumeView):
            return self._judge_member(path, entry, rules)
        if entry is None or entry.record is None:
            raise Unsigned("there is no record for it in the published tree")
        record, expected = entry.record, self.expected(path)
        self._learn_revoked(expected)
        algorithms, allowed = ALL_ALGORITHMS, expected
        for _, rule in rules:
            algorithms, allowed = rule.narrowed(algorithms, allowed)
        revoked: Revocations = self._revocations or Revoked(self.revoked)
        seen = Seen(NO_MARKS if self._marks is None else self._marks)
        certificates = self.certificates(record)
        try:
            with contextlib.nullcontext() if self.state is None else self.state.snapshot():
                verifier = Verifier(self.trust, certificates, self._now(), algorithms, seen, revoked)
                verified = verify_record(record, allowed, verifier)
                for gate, rule in rules:
                    rule.check(verified, gate, verifier.now)
        except VerificationError as error:
            if self._marks is not None:
                self._marks.explain(error, record, self.url_of)
            raise
        self._bind(verified)
        return (
            Judged(verified)
            if self._marks is None
            else judged(self._marks, verified, expected, self.trust, seen, revoked)
        )

    def volume_head(self) -> Judged:
        """The head of the volume, verified once. Raises `VerificationError`, `StateError`."""
        if self._head is not None:
            return self._head
        if not isinstance(self.index, VolumeView):
            raise WrongKind("the tree is no volume any more", expected="a volume", found="a record for each file")
        record, expected = self.index.record, Expected(b"", self.volumes, self.url)
        self._learn_revoked(expected)
        revoked: Revocations = self._revocations or Revoked(self.revoked)
        seen = Seen(NO_MARKS if self._marks is None else self._marks)
        try:
            with contextlib.nullcontext() if self.state is None else self.state.snapshot():
                certificates = self.certificates(record)
                verifier = Verifier(self.trust, certificates, self._now(), ALL_ALGORITHMS, seen, revoked)
                verified = verify_head(record, expected, verifier)
        except VerificationError as error:
            if self._marks is not None:
                self._marks.explain(error, record, self.url_of)
            raise
        self._bind(verified)
        marks = self._marks
        self._head = Judged(verified) if marks is None else judged(marks, verified, expected, self.trust, seen, revoked)
        return self._head

    def judge_listed(self, listed: Listed) -> Verified:
        """Steps 0 to 12 for a file whose entry was verified. Raises `VerificationError`, `StateError`."""
        return self._judge_member(listed.entry.path, listed, ()).verified

    def _judge_member(self, path: bytes, found: IndexEntry | Listed | None, rules: Rules) -> Judged:
        """A file of the volume, under its head. Raises `VerificationError`, `StateError`."""
        head = self.volume_head()
        expected = self.expected(path)
        self._learn_revoked(expected)
        algorithms, allowed = ALL_ALGORITHMS, expected
        for _, rule in rules:
            algorithms, allowed = rule.narrowed(algorithms, allowed)
        if isinstance(found, Listed):
            statement = found.row.statement(hash_by_number(head.verified.statement.hash))
            verified = verify_listed(statement, found.entry, head.verified, algorithms)
        elif found is not None and found.record is not None:
            verified = verify_member(found.record, path, head.verified, algorithms)
        else:
            raise self._without_member(path, head.verified)
        now = self._now()
        check_head(head.verified, allowed, self.trust, now, algorithms)
        for_volume = (self._revocations or Revoked(self.revoked)).of(verified.volume)
        if for_volume.tag(verified.tag):
            raise IsRevoked(f"the version with tag {verified.tag} is revoked")
        check_freshness(for_volume, now)
        for gate, rule in rules:
            rule.check(verified, gate, now)
        return Judged(verified, head.raised, head.seen_before)

    def _without_member(self, path: bytes, head: Verified) -> VerificationError:
        """Why there is no file in the volume. Raises `VerificationError`."""
        view = self.index
        try:
            found = look_up(view, head, path) if isinstance(view, VolumeView) and path else None
        except ValueError:  # deeper or longer than what a volume can have
            found = None
        if found is None:
            return Absent("the volume has nothing of this name")
        return WrongKind("the volume has something else there", expected="a file", found=kind_of(found[0]))

    def _learn_revoked(self, expected: Expected) -> None:
        """Keep what a revocation in the tree revokes, durably, before anything is judged (fim-rev-15).

        Raises `StateError`, `StoreError`, `OSError`.
        """
        if self._marks is None or self._revocations is None:
            return
        record = self._published.record(self.head.volume)
        if record is None or record == self._offered:
            return
        self._offered = record
        if self._revocations.accepted(record):
            return
        try:
            verified = accept_revocation(
                record,
                expected,
                Verifier(
                    self.trust,
                    certificates_among(record, self._published.certificates()),
                    self._now(),
                    ALL_ALGORITHMS,
                    self._marks,
                    self._revocations,
                ),
            )
            raised = accepted(self._marks, self._revocations, verified, expected, self.trust)
            self._marks.flush()
            raised.check()
        except VerificationError as error:
            error.where = f"{self.url}: the revocation in the tree"
            if self.refused is not None:
                self.refused(error)  # fim-rev-9

    def _now(self) -> int:
        if self.now is not None:
            return self.now
        return int(time.time()) if self._marks is None else self._marks.now()

    def _bind(self, verified: Verified) -> None:
        if self.volumes is None and self.bindings is not None:
            volume = verified.volume
            bound = self.bindings.bind(self.url, volume)
            self.volumes = frozenset({bound})
            if bound != volume:
                raise WrongVolume("the record is of another volume", expected=bound.hex(), found=volume.hex())
            if self.announce is not None:
                self.announce(self.url, volume)

    def _done(self, path: bytes, count: int) -> None:
        if self.progress is not None:
            self.progress(path, count)

    def _inline(self, entry: IndexEntry | None, listed: Listed | None) -> bytes | None:
        """The kept tree that is in the index itself."""
        if listed is not None:
            return listed.view.kept_tree(listed.row)
        return None if entry is None else entry.tree


def _enforcing(both: Sequence[tuple[Gate, Rule]]) -> Rules:
    return tuple((gate, rule) for gate, rule in both if rule.action is Action.ENFORCE)


def _lets_unsigned_pass(rules: Rules) -> bool:
    return bool(rules) and all(rule.unsigned is not WithoutRecord.REFUSE for _, rule in rules)


def certificates_among(record: bytes, known: Sequence[bytes]) -> Certificates:
    """Those of a record's signers, each before all others. Raises `Malformed`."""
    found: dict[Fingerprint, list[bytes]] = {}
    for attestation in decode_record(record).attestations:
        if attestation.type == SIGNATURE:
            signer = signature_of(attestation).signer
            if signer.hash not in HASH_NUMBERS:
                continue
            for der in known:
                if hash_by_number(signer.hash).digest(der) == signer.digest:
                    found[signer] = [der, *(other for other in known if other != der)]
    return found


def _list(base: Path, path: bytes) -> dict[bytes, str]:
    """What is in a directory of the tree, and of which kind; metadata left out. Raises `OSError`."""
    try:
        fd = open_below(base, path.split(b"/") if path else (), directory=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        with os.scandir(fd) as scan:
            found = {os.fsencode(item.name): _kind(item) for item in scan}
    finally:
        os.close(fd)
    found.pop(DIRECTORY_BYTES, None)
    return found


def _kind_at(base: Path, path: bytes) -> str | None:
    """What is at a path of the tree; None for nothing. Raises `OSError`."""
    *above, name = path.split(b"/")
    try:
        fd = open_below(base, above, directory=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)
    if stat.S_ISLNK(mode):
        return "symbolic link"
    return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "special file"


def _kind(item: os.DirEntry[str]) -> str:
    if item.is_symlink():
        return "symbolic link"
    if item.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if item.is_file(follow_symlinks=False) else "special file"
