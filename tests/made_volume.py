# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A volume with whatever entries a test wants, signed, and who serves it: a publisher and a server that mean no good.

What a good publisher refuses to sign (names that collide, links that lead out, things in a link) is signed here.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adversary import Call
from nfsverity_proto import messages as m
from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, LinkNode, entry_leaf, key_of
from nfsverity_proto.entry_range import EntryRange, prove_range
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.membership import Membership
from nfsverity_proto.record import encode_record, membership_attestation
from nfsverity_proto.statement import (
    NO_END,
    RFC9162,
    Content,
    Statement,
    Tag,
    Time,
    Tree,
    Volume,
    When,
    encode_statement,
    tag_of,
)
from nfsverity_proto.tree import levels, root
from serving import Keys, keys

HASH = hash_by_number(SHA256)
UNIT_LOG2 = 12
NOW = int(time.time())


@dataclass(frozen=True)
class Put:
    """One entry to be: bytes of a file, the target of a link, or a directory where it is None."""

    path: bytes
    content: bytes | None = None
    link: bytes | None = None
    executable: bool = False


def file(path: bytes, content: bytes, *, executable: bool = False) -> Put:
    return Put(path, content, executable=executable)


def link(path: bytes, target: bytes) -> Put:
    return Put(path, link=target)


def directory(path: bytes) -> Put:
    return Put(path)


def statement_of(content: bytes) -> bytes:
    unit = 1 << UNIT_LOG2
    top = root(HASH, [HASH.leaf(content[at : at + unit]) for at in range(0, len(content), unit)])
    return encode_statement(
        Statement(SHA256, Content(Time(1_700_000_000, 5), Tree(RFC9162, UNIT_LOG2, len(content), top)))
    )


class MadeVolume:
    """Signed by `signer`; the entries in their order, unless `sort` is False."""

    def __init__(
        self,
        puts: Sequence[Put],
        *,
        id: bytes = bytes(range(16)),
        generation: int = 1,
        not_after: int = NO_END,
        signer: Keys | None = None,
        sort: bool = True,
    ) -> None:
        self.contents: dict[bytes, bytes] = {}
        self.statements: dict[bytes, bytes] = {}
        self.entries = [self._entry(put) for put in puts]
        if sort:
            self.entries.sort(key=lambda entry: entry.key)
        self._levels = list(levels(HASH, [entry_leaf(HASH, entry) for entry in self.entries]))
        top = self._levels[-1][0] if self.entries else HASH.digest(b"")
        when = When(generation, NOW - 60, not_after)
        self.volume = Volume(id, b"made", when, len(self.entries), top)
        statement = encode_statement(Statement(SHA256, self.volume))
        self.tag: Tag = tag_of(statement, SHA256)
        self.record = encode_record(statement, [(signer or keys()).signing.sign(statement)])

    def _entry(self, put: Put) -> Entry:
        parent, _, name = put.path.rpartition(b"/")
        if put.link is not None:
            return Entry(parent, name, LinkNode(put.link))
        if put.content is None:
            return Entry(parent, name, DirectoryNode())
        self.contents[put.path] = put.content
        self.statements[put.path] = statement_of(put.content)
        return Entry(parent, name, FileNode(put.executable, tag_of(self.statements[put.path], SHA256).digest))

    # as a server

    def range(self, first: int, end: int) -> EntryRange:
        return prove_range(self.volume, lambda level, i: self._levels[level][i], self.entries.__getitem__, first, end)

    def around(self, arguments: m.EntriesArgs | m.BulkArgs) -> EntryRange:
        low = key_of(arguments.parent, arguments.name)
        first = max(bisect.bisect_left([entry.key for entry in self.entries], low) - 1, 0)
        return self.range(first, min(first + arguments.count, len(self.entries)))

    def bulk(self, arguments: m.BulkArgs) -> m.BulkOk:
        found = self.around(arguments)
        items, data = [], b""
        for entry in found.entries:
            content = self.contents.get(entry.path)
            if content is None or len(data) + len(content) > arguments.most:
                items.append(m.BulkItem(self.statements.get(entry.path, b""), 0))
                continue
            items.append(m.BulkItem(self.statements[entry.path], len(content)))
            data += content
        return m.BulkOk(found, tuple(items), data)

    def record_of(self, path: bytes) -> bytes:
        at = next(i for i, entry in enumerate(self.entries) if entry.path == path)
        membership = Membership(self.tag, self.range(at, at + 1))
        return encode_record(self.statements[path], [membership_attestation(membership)])

    def answer(self, call: Call) -> Any:
        """What an honest server of this volume says to a call that is about it; None for another."""
        arguments = call.arguments
        match call.procedure:
            case m.RECORD if arguments.object == m.ROOT_HANDLE:
                return m.RecordOk(self.record)
            case m.RECORD:
                return m.RecordOk(self.record_of(arguments.object))
            case m.ENTRIES:
                return m.EntriesOk(self.around(arguments)) if arguments.head == self.tag else m.Status.CHANGED
            case m.BULK:
                return self.bulk(arguments) if arguments.head == self.tag else m.Status.CHANGED
            case m.FETCH:
                content = self.contents.get(arguments.path)
                if content is None:
                    return m.Status.NOT_FOUND
                data = content if len(content) <= arguments.most else content[:0]
                assert data or arguments.most < 1 << UNIT_LOG2 or not content, "no proofs are made here"
                return m.FetchOk(arguments.path, self.record_of(arguments.path), b"", data)
            case m.REVOCATION:
                return m.Status.UNSIGNED
        return None

    async def serve(self, call: Call) -> None:
        """`on_call` of an adversary."""
        answer = self.answer(call)
        await (call.forward() if answer is None else call.answer(answer))
