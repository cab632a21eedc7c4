# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The procedures (fip, "Procedures"): arguments in, results or a status out, in the order of fip-status-2.

The server verifies nothing and holds no key. What it knows not to be of the version asked for it does not
send; everything else is for the client to judge. No procedure waits: where one has to, it says so with `Later`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

from nfsverity_proto import messages as m
from nfsverity_proto.entry import key_of
from nfsverity_proto.errors import NfsVerityError
from nfsverity_proto.hashes import HASH_NUMBERS, digest_length, hash_by_number
from nfsverity_proto.messages import Status
from nfsverity_proto.proof import siblings
from nfsverity_proto.record import Fingerprint
from nfsverity_proto.slices import slice_count, slice_log2, units_of_slices
from nfsverity_proto.statement import Tag
from nfsverity_proto.tree import RFC9162
from nfsverity_proto.xdr import Buffer
from nfsverity_store.layout import StoreError
from nfsverity_store.revocation import PublishedRevocation
from nfsverity_store.volume_index import VolumeEntry
from nfsverity_store.volume_view import VolumeView

from .bulk import Bulk
from .catalog import Answer, Catalog, Claims, OpenFile
from .chains import chain
from .data import FileData, holes_and_pieces, read_now
from .polls import Polls, State
from .trees import Later, Trees

log = logging.getLogger("nfsverity.server")
COPIED_MAX = 2**16
"""Bytes up to which data is copied into the reply, which then is one piece."""

SAID_MAX = 1024
"""Objects that are remembered for which a new record was said to be expected."""


class Held(Later):
    """A poll: to be held, if the connection has not too many of them."""


class Service:
    """One served tree, for all connections."""

    def __init__(self, catalog: Catalog, trees: Trees) -> None:
        self.catalog = catalog
        self.trees = trees
        self._polls = Polls(self._state, self._publication)
        self._contents = Bulk(catalog)
        self._said: OrderedDict[bytes, float] = OrderedDict()
        """The objects of which UPDATING was said lately, and when, by the monotonic clock."""
        self._published_revocation = PublishedRevocation(catalog.root)
        self._handlers: dict[int, Callable[[Any], Any]] = {
            m.LIMITS.number: self._limits,
            m.RESOLVE.number: self._resolve,
            m.RECORD.number: self._record,
            m.CERTIFICATE.number: self._certificate,
            m.TREE.number: self._tree,
            m.PROOF.number: self._proof,
            m.FETCH.number: self._fetch,
            m.READ.number: self._read,
            m.READDIR.number: self._readdir,
            m.GETATTR.number: self._getattr,
            m.REVOCATION.number: self._revocation,
            m.PLAIN.number: self._plain,
            m.ENTRIES.number: self._entries,
            m.BULK.number: self._bulk,
        }

    def stop(self) -> None:
        """End all polls; hold no more."""
        self._polls.close()

    def close(self) -> None:
        self.stop()
        self.trees.close()
        self.catalog.close()

    def answer(self, procedure: m.Procedure[Any, Any], arguments: Any) -> Any:
        """The result of a call, or the status that it ends with. Raises `Later`.

        The data of a result may be `FileData`, which is the caller's to close.
        """
        try:
            m.check_arguments(arguments)
        except ValueError:
            return Status.INVALID
        try:
            self.catalog.refresh()
            return self._handlers[procedure.number](arguments)
        except Answer as answer:
            return answer.status
        except PermissionError:
            return Status.ACCESS
        except (OSError, NfsVerityError) as error:
            log.warning("%s: %s", procedure.name, error)
            return Status.IO

    def _limits(self, arguments: None) -> m.LimitsOk:
        return m.LimitsOk(
            capabilities=m.CAP_CORE | m.CAP_DATA | (m.CAP_VOLUME if self.catalog.volume is not None else 0),
            max_data=m.DATA_MAX,
            max_hashes=m.TREE_MAX,
            max_calls=m.CALLS_MAX,
            max_wait=m.WAIT_MAX,
            hashes=tuple(sorted(HASH_NUMBERS)),
            tree_types=(RFC9162,),
        )

    def _resolve(self, arguments: m.ResolveArgs) -> m.ResolveOk:
        found = self.catalog.resolve(arguments.base, arguments.path)
        return m.ResolveOk(self.catalog.handle_of(found.path), found.attributes)

    def _getattr(self, arguments: m.GetattrArgs) -> m.Attributes:
        return self.catalog.look(arguments.object).attributes

    def _readdir(self, arguments: m.ReaddirArgs) -> m.ReaddirOk:
        found = self.catalog.look(arguments.directory)
        entries, eof = self.catalog.entries(found, arguments.after, arguments.count)
        return m.ReaddirOk(tuple(entries), eof)

    def _record(self, arguments: m.RecordArgs) -> m.RecordOk | Status:
        if arguments.object == m.ROOT_HANDLE and self.catalog.volume is not None:
            record = self.catalog.volume.record
            if hashlib.sha256(record).digest() != arguments.known:
                return m.RecordOk(record)
            if not arguments.wait:
                return Status.UNCHANGED
            state = State(record, False)
            raise Held(lambda: self._hold(arguments.object, state, time.monotonic() + arguments.wait / 1000))
        with self.catalog.open(arguments.object) as file:
            if hashlib.sha256(file.record).digest() != arguments.known:
                return m.RecordOk(file.record)
            updating = self._is_updating(file)
            if not arguments.wait:
                if updating:
                    self._expect(arguments.object)
                return Status.UPDATING if updating else Status.UNCHANGED
            state = State(file.record, updating or self._was_expected(arguments.object))
        raise Held(lambda: self._hold(arguments.object, state, time.monotonic() + arguments.wait / 1000))

    async def _hold(self, handle: bytes, known: State, until: float) -> None:
        await self._polls.hold(handle, known, until)

    def _expect(self, handle: bytes) -> None:
        """Remember that UPDATING was said: a poll that comes when the reason is gone must not be held (fip-poll-4)."""
        self._said.pop(handle, None)
        self._said[handle] = time.monotonic()
        if len(self._said) > SAID_MAX:
            self._said.popitem(last=False)

    def _was_expected(self, handle: bytes) -> bool:
        return time.monotonic() - self._said.get(handle, -math.inf) < self.trees.update_window

    def _state(self, handle: bytes) -> State:
        """What a held poll waits to see change."""
        try:
            self.catalog.refresh()
            if handle == m.ROOT_HANDLE and self.catalog.volume is not None:
                return State(self.catalog.volume.record, False)
            with self.catalog.open(handle) as file:
                return State(file.record, self._is_updating(file))
        except Answer as answer:
            return State(answer.status, False)
        except (OSError, NfsVerityError):
            return State(Status.IO, False)

    def _publication(self) -> object:
        self.catalog.refresh()
        return self.catalog.head

    def _is_updating(self, file: OpenFile) -> bool:
        """Whether there is reason to expect a new record (fip-status-9): the file was changed, just now."""
        seen = None if file.entry is None else file.entry.seen
        if seen is not None and (file.status.st_size, file.status.st_mtime_ns) == (seen.size, seen.mtime):
            return False
        return self.trees.is_recent(file)

    def _certificate(self, arguments: m.CertificateArgs) -> m.CertificateOk:
        wanted: Fingerprint = arguments.fingerprint
        _must_fit(wanted.hash, wanted.digest)
        if wanted.hash not in HASH_NUMBERS:
            raise Answer(Status.NOT_FOUND)
        hash = hash_by_number(wanted.hash)
        certificates = [*self.catalog.index.certificates(), *self._certificates_of_revocation()]
        for der in certificates:
            if hash.digest(der) == wanted.digest:
                return m.CertificateOk(chain(der, certificates))
        raise Answer(Status.NOT_FOUND)

    def _certificates_of_revocation(self) -> tuple[bytes, ...]:
        """A revocation that is damaged keeps no other certificate from those who ask."""
        try:
            return self._published_revocation.certificates()
        except (OSError, StoreError) as error:
            log.error("the certificates of the revocation cannot be read: %s", error)
            return ()

    def _version(self, file: OpenFile, tag: Tag) -> Claims:
        """What is claimed of the version that a tag names. Raises `Answer`."""
        claims = self.catalog.claims(file.record)
        if claims.tag is not None and claims.tag != tag:
            raise Answer(Status.CHANGED)
        if not claims.is_supported:
            raise Answer(Status.NOT_SUPPORTED)
        return claims

    def _tree(self, arguments: m.TreeArgs) -> m.TreeOk:
        _must_fit(arguments.tag.hash, arguments.tag.digest)
        with self.catalog.open(arguments.object) as file:
            claims = self._version(file, arguments.tag)
            shape = claims.content.tree.shape
            _must(arguments.level <= shape.height)
            _must(arguments.first + arguments.count <= shape.width(arguments.level))
            nodes = self.trees.nodes(file, claims, arguments.tag)
            return m.TreeOk(nodes.run(arguments.level, arguments.first, arguments.count))

    def _proof(self, arguments: m.ProofArgs) -> m.ProofOk:
        _must_fit(arguments.tag.hash, arguments.tag.digest)
        first, end, level = arguments.first, arguments.first + arguments.count, arguments.level
        _must(first >> level == (end - 1) >> level)
        with self.catalog.open(arguments.object) as file:
            claims = self._version(file, arguments.tag)
            return m.ProofOk(self._range_proof(file, claims, arguments.tag, first, end, level))

    def _range_proof(self, file: OpenFile, claims: Claims, tag: Tag, first: int, end: int, level: int) -> bytes:
        try:
            left, right = siblings(claims.content.tree.shape.units, first, end, level)
        except ValueError:
            raise Answer(Status.INVALID) from None
        if not left and not right:
            return b""
        node = self.trees.nodes(file, claims, tag).node
        return b"".join([node(at, index) for at, index in left + right])

    def _fetch(self, arguments: m.FetchArgs) -> m.FetchOk:
        with self.catalog.open(arguments.base, arguments.path) as file:
            claims = self.catalog.claims(file.record)
            if claims.tag is None or not claims.is_supported:
                raise Answer(Status.NOT_SUPPORTED)
            shape = claims.content.tree.shape
            units = shape.units if shape.size <= arguments.most else arguments.most >> shape.unit_log2
            handle = self.catalog.handle_of(file.path)
            if not units:
                return m.FetchOk(handle, file.record, b"", b"")
            self.trees.check_content(file, claims, claims.tag)
            proof = self._range_proof(file, claims, claims.tag, 0, units, shape.height)
            data = self._data(file, [(0, shape.unit_span(0, units)[1])])
            return m.FetchOk(handle, file.record, proof, data)

    def _read(self, arguments: m.ReadArgs) -> m.ReadOk:
        _must_fit(arguments.tag.hash, arguments.tag.digest)
        first, count = arguments.first, arguments.count
        with self.catalog.open(arguments.object) as file:
            claims = self._version(file, arguments.tag)
            shape = claims.content.tree.shape
            _must(first + count <= slice_count(shape) and count << slice_log2(shape) <= m.DATA_MAX)
            units = units_of_slices(shape, first, first + count)
            if arguments.level is not None:
                _must(arguments.level <= shape.height)
                _must(units[0] >> arguments.level == (units[1] - 1) >> arguments.level)
            self.trees.check_content(file, claims, arguments.tag)
            proof = b""
            if arguments.level is not None:
                proof = self._range_proof(file, claims, arguments.tag, *units, arguments.level)
            holes, pieces = holes_and_pieces(file.fd, shape, first, count)
            return m.ReadOk(proof, holes, self._data(file, pieces))

    def _revocation(self, arguments: m.RevocationArgs) -> m.RevocationOk | Status:
        self.catalog.look(arguments.object)
        record = self._published_revocation.record(self.catalog.head.volume)
        if record is None:
            return Status.UNSIGNED
        if hashlib.sha256(record).digest() == arguments.known:
            return Status.UNCHANGED
        return m.RevocationOk(record)

    def _plain(self, arguments: m.PlainArgs) -> m.PlainOk:
        """Nothing is compared with a record: what is there is sent (fip-plain-3)."""
        with self.catalog.open_any(arguments.object) as file:
            size = file.status.st_size
            end = min(arguments.offset + arguments.count, size)
            if arguments.offset >= end:
                return m.PlainOk(size, True, b"")
            return m.PlainOk(size, end == size, self._data(file, [(arguments.offset, end - arguments.offset)]))

    def _entries(self, arguments: m.EntriesArgs) -> m.EntriesOk:
        volume, found = self._around(arguments)
        return m.EntriesOk(volume.range(found))

    def _around(self, arguments: m.EntriesArgs | m.BulkArgs) -> tuple[VolumeView, list[VolumeEntry]]:
        """The entries that a call is about, as many as may be sent (fip-entries-1, fip-entries-5). Raises `Answer`."""
        _must_fit(arguments.head.hash, arguments.head.digest)
        volume = self.catalog.volume
        if volume is None:
            raise Answer(Status.NOT_SUPPORTED)
        if arguments.head != volume.tag:
            raise Answer(Status.CHANGED)
        found = volume.around(key_of(arguments.parent, arguments.name), arguments.count)
        room = m.RANGE_BYTES_MAX
        for count, entry in enumerate(found):
            room -= entry.length_most
            if room < 0 and count >= 2:
                return volume, found[:count]
        return volume, found

    def _bulk(self, arguments: m.BulkArgs) -> m.BulkOk:
        volume, found = self._around(arguments)
        items, data = self._contents.take(volume, found, arguments.most)
        return m.BulkOk(volume.range(found), items, data)

    def _data(self, file: OpenFile, pieces: list[tuple[int, int]]) -> Buffer:
        """Pieces of a file, as they are sent: copied where they are small and need not be waited for."""
        if sum(length for _, length in pieces) <= COPIED_MAX:
            copied = read_now(file.fd, pieces)
            if copied is not None:
                return copied
        return cast(Buffer, FileData(file.detach(), pieces))


def _must(holds: bool) -> None:
    if not holds:
        raise Answer(Status.INVALID)


def _must_fit(hash: int, digest: bytes) -> None:
    """A digest has the length of its algorithm, where that is known (fip-status-5)."""
    _must(digest_length(hash) in (None, len(digest)))
