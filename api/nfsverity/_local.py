# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Published trees on this machine, verified where they lie, without a server.

The verdicts are those of a reader over the network. What is reported is everything that is wrong, not only
the first: every file, and in a file every range of bytes, as far as the publisher's kept tree folds to the
root that was signed; where it does not, only the file can be named (R17). Nothing is waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nfsverity_client.gates import ENFORCING, VERIFIED, Decision, Gates, Rules
from nfsverity_client.marks import Raise
from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, LinkNode
from nfsverity_proto.errors import (
    Absent,
    Hidden,
    LinkOutside,
    Mismatch,
    NotMember,
    OtherHead,
    Rollback,
    Unsigned,
    VerificationError,
)
from nfsverity_proto.policy import Action, Gate, Logged, Rule, WithoutRecord, named
from nfsverity_proto.verification import Verified
from nfsverity_store.content import Descent
from nfsverity_store.index import IndexEntry
from nfsverity_store.volume_view import VolumeView

from ._local_content import BadRange, check_content
from ._local_place import kind_at, list_directory
from ._local_records import Listed, LocalRecords
from ._local_volume import look_up, members, node_error

_MAY_BE_OLD = (Mismatch, Unsigned, Rollback, Absent, Hidden, OtherHead, NotMember, FileNotFoundError)
"""What may come from a publication that is not the present one any more."""
PUBLICATIONS_MAX = 4
"""How often a file is judged again because a newer publication appeared meanwhile."""

HELD_MAX, HELD_SECONDS = 512, 0.2
"""So many results are told together, or those of so much time: one sync is for all of them."""
Progress = Callable[[bytes, int], None]
"""Told a path in the tree, and how many more bytes of it are checked."""


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


@dataclass(slots=True)
class LocalTree(LocalRecords):
    """One published tree, verified where it lies."""

    progress: Progress | None = None
    gates: Gates = ENFORCING
    skipped: list[tuple[bytes, str]] = field(init=False, default_factory=list)
    """Symbolic links and special files that `verify` met: path and what it is. They have no record."""
    descent: Descent = field(init=False)

    def __post_init__(self) -> None:
        LocalRecords.__post_init__(self)
        self.descent = Descent(self.root)

    def close(self) -> None:
        self.descent.close()
        LocalRecords.close(self)

    def size(self, below: bytes = b"") -> int:
        """Bytes that were signed at a path and below it."""
        return self.index.size(below)

    def verify(self, below: bytes = b"") -> Iterator[FileResult]:
        """Every file at a path and below it, whether it has a record or not: first a directory's files.

        Those that verified are told when their marks are durable, several at once. Raises `VerificationError` for
        the volume itself, `StateError`.
        """
        held: list[FileResult] = []
        since = time.monotonic()
        try:
            for result in self._verify(below):
                held.append(result)
                if len(held) >= HELD_MAX or time.monotonic() > since + HELD_SECONDS:
                    yield from self._settled(held)
                    held, since = [], time.monotonic()
        except VerificationError as error:
            yield from self._settled(held)
            error.where = self.url_of(below)
            raise
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

    def _verify_link(self, path: bytes) -> FileResult | None:
        """What is a link in the volume, or on the disk and nothing in the volume; None for all else.

        Raises `VerificationError` for the volume itself.
        """
        view = self.index
        if not path or not isinstance(view, VolumeView) or not self.gates.is_silent:
            return None
        head = self.volume_head()
        found = look_up(view, head.verified, path)
        entry = None if found is None else found[0]
        kind = kind_at(self.root, path)
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
            except VerificationError:
                if self.gates.is_silent:
                    raise
            else:
                problem = self._named_error(self.index, head.verified, below) if below else None
                if problem is not None:
                    yield self._bad_node(below, problem)
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
        return self._node_error(path, None if found is None else found[0], kind_at(self.root, path))

    def _verify_directory(self, path: bytes, deeper: list[bytes]) -> Iterator[FileResult]:
        known = self._children(path)
        try:
            present = list_directory(self.root, path)
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
        """All that a volume has at a directory and below it, and all that is there beside it.

        Raises `VerificationError` for what is no complete listing.
        """
        children: dict[bytes, Listed] = {}
        at, later = below, {below}
        for entry, row in members(view, head, below):
            if entry.parent != at:
                yield from self._verify_children(at, children)
                later.discard(at)
                at, children = entry.parent, {}
            children[entry.name] = Listed(view, head, entry, row)
            if isinstance(entry.node, DirectoryNode):
                later.add(entry.path)
        yield from self._verify_children(at, children)
        later.discard(at)
        for path in sorted(later):  # those without entries
            yield from self._verify_children(path, {})

    def _verify_children(self, path: bytes, children: Mapping[bytes, Listed]) -> Iterator[FileResult]:
        """What is in one directory of a volume; below what it should not have, too."""
        try:
            present = list_directory(self.root, path)
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
                    yield self._bad_node(below, problem)
                if listed is None and kind == "directory":
                    yield from self._verify_children(below, {})

    def _bad_node(self, path: bytes, problem: VerificationError | OSError) -> FileResult:
        """A link or directory that is not as the volume has it: what becomes of it, the rules say as of a file."""
        return FileResult(path, problem, rules=None if self.gates.is_silent else self._rules(path))

    def _node_error(self, path: bytes, entry: Entry | None, kind: str | None) -> VerificationError | OSError | None:
        """What is wrong with a link or directory, by the volume that is published now."""
        try:
            problem = node_error(self.root, path, entry, kind)
            while problem is not None and self.refresh() and isinstance(self.index, VolumeView):
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
        entry = self.entry(path)
        return {} if entry is None or entry.is_file else {child.name: child for child in self.index.children(entry.id)}

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
        unsigned = self.lacks_record(result.error) and _lets_unsigned_pass(rules)
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

    def _verify_file(self, path: bytes, listed: Listed | None = None) -> FileResult:
        """`listed`: its entry, where that was verified already."""
        both = None if self.gates.is_silent else self._rules(path)
        if both is not None and all(rule.action is Action.DISABLE for _, rule in both):
            return FileResult(path, rules=both)
        rules = () if both is None else _enforcing(both)
        for _ in range(PUBLICATIONS_MAX):
            if listed is not None and listed.view is not self.index:
                listed = None
            entry = self.entry(path) if listed is None else None
            result = self._verify_entry(path, entry, rules, listed)
            if both is not None:
                result = replace(result, rules=both)
            if not isinstance(result.error, _MAY_BE_OLD) or not self.refresh():
                break
            newer = self.entry(path)
            if (newer and newer.record) == (entry and entry.record):
                break
        return result

    def _verify_entry(
        self, path: bytes, entry: IndexEntry | None, rules: Rules, listed: Listed | None = None
    ) -> FileResult:
        try:
            judged = self.judge(path, entry, rules) if listed is None else self.judge_member(path, listed, rules)
        except VerificationError as error:
            for _, rule in rules:
                named(error, rule)
            error.where = self.url_of(path)
            return FileResult(path, error)
        verified = judged.verified
        try:
            problem, bad = self._check_content(path, verified, lambda: self._inline(entry, listed))
        except OSError as error:
            return FileResult(path, error, (), verified, judged.seen_before, judged.raised)
        if problem is not None:
            problem.where = self.url_of(path)
        return FileResult(path, problem, tuple(bad), verified, judged.seen_before, judged.raised)

    def _check_content(
        self, path: bytes, verified: Verified, inline: Callable[[], bytes | None]
    ) -> tuple[VerificationError | None, list[BadRange]]:
        """What is wrong with a file. Raises `OSError`."""

        def done(count: int) -> None:
            if self.progress is not None:
                self.progress(path, count)

        problem, bad = check_content(self.root, self.descent, path, verified, inline, done)
        if problem is not None and self.descent.refresh():  # a directory was replaced since it was opened
            problem, bad = check_content(self.root, self.descent, path, verified, inline, done)
        return problem, bad

    def _inline(self, entry: IndexEntry | None, listed: Listed | None) -> bytes | None:
        """The kept tree that is in the index itself."""
        if listed is not None:
            return listed.view.kept_tree(listed.row)
        return None if entry is None else entry.tree


def _enforcing(both: Sequence[tuple[Gate, Rule]]) -> Rules:
    return tuple((gate, rule) for gate, rule in both if rule.action is Action.ENFORCE)


def _lets_unsigned_pass(rules: Rules) -> bool:
    return bool(rules) and all(rule.unsigned is not WithoutRecord.REFUSE for _, rule in rules)
