# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The File Integrity Protocol's procedures: arguments, results, statuses (fip, "Procedures")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Generic, TypeVar

from . import rpc
from .entry_range import ENTRY_RANGE, RANGE_ENTRIES_MAX, EntryRange
from .errors import MalformedMessage, StatusError
from .path import check_name, split_path
from .record import FINGERPRINT, Fingerprint
from .statement import STATEMENT_MAX, TAG, TIME, Tag, Time
from .tree import SIZE_MAX
from .xdr import (
    Array,
    Bool,
    Buffer,
    Codec,
    Declaration,
    Enumerated,
    Opaque,
    Optional,
    Structure,
    Tail,
    UHyper,
    UInt,
    Union,
)

PROGRAM = 0x3046494D
"""User range (RFC 5531 section 8.3); the draft's number is to be assigned."""
VERSION = 1

DATA_MIN, DATA_MAX = 2**20, 4 * 2**20
"""Bytes of one READ: what every server grants (fip-limits-1), and the most that any does."""
FETCH_MAX = 2**20
TREE_MAX = 2**16
"""Hashes of one reply to TREE."""
PROOF_MAX = 8192
HOLES_MAX = 256
ENTRIES_MAX = 1024
HANDLE_MAX = 128
BULK_MAX = 2**21
"""Bytes of data of one reply to BULK."""
RANGE_BYTES_MAX = 2**20
"""Bytes of encoded entries that a server gives in one reply (fip-entries-5)."""
WAIT_MAX = 60_000
"""Milliseconds of a long poll."""
CALLS_MAX = 32
POLLS_MAX = 4
SLICE_LOG2_MAX = 22
"""A slice is a unit, or 4 MiB of a larger one (fip-slice-1)."""
ROOT_HANDLE = b""


class Status(IntEnum):
    """What the server answered: its word. From READ_ONLY on: places for storing over the wire."""

    OK = 0
    NOT_FOUND = 1
    NOT_DIRECTORY = 2
    IS_DIRECTORY = 3
    UNSIGNED = 4
    UNCHANGED = 5
    CHANGED = 6
    UPDATING = 7
    BUSY = 8
    BAD_HANDLE = 9
    INVALID = 10
    ACCESS = 11
    IO = 12
    NOT_SUPPORTED = 13
    READ_ONLY = 16
    EXISTS = 17
    CONFLICT = 18
    NO_SPACE = 19
    REFUSED = 20


class FileType(IntEnum):
    FILE = 1
    DIRECTORY = 2


CAP_CORE, CAP_DATA, CAP_VOLUME = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Attributes:
    """The server's word on an object; a file's record says it better."""

    type: FileType
    has_record: bool
    executable: bool
    size: int
    mtime: Time

    def __post_init__(self) -> None:
        if self.size > SIZE_MAX:  # fip-attr-2
            raise ValueError(f"a size of {self.size} bytes")


@dataclass(frozen=True, slots=True)
class LimitsOk:
    capabilities: int
    max_data: int
    max_hashes: int
    max_calls: int
    max_wait: int
    hashes: tuple[int, ...]
    tree_types: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ResolveArgs:
    base: bytes
    path: bytes


@dataclass(frozen=True, slots=True)
class ResolveOk:
    object: bytes
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class RecordArgs:
    """`known`: empty, or the SHA-256 of the record held; `wait` in milliseconds."""

    object: bytes
    known: bytes
    wait: int


@dataclass(frozen=True, slots=True)
class RecordOk:
    record: bytes


@dataclass(frozen=True, slots=True)
class CertificateArgs:
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class CertificateOk:
    certificates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TreeArgs:
    object: bytes
    tag: Tag
    level: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class TreeOk:
    hashes: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProofArgs:
    """Units [first, first + count) under the node of `level`."""

    object: bytes
    tag: Tag
    level: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class ProofOk:
    proof: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FetchArgs:
    """`most`: bytes of units that may come along."""

    base: bytes
    path: bytes
    most: int


@dataclass(frozen=True, slots=True)
class FetchOk:
    object: bytes
    record: bytes = field(repr=False)
    proof: bytes = field(repr=False)
    data: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class Hole:
    """Slices of zeros, counted from the first slice asked for."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class ReadArgs:
    """Slices [first, first + count); with `level`, the proof of their units under the node of that level."""

    object: bytes
    tag: Tag
    first: int
    count: int
    level: int | None


@dataclass(frozen=True, slots=True)
class ReadOk:
    proof: bytes = field(repr=False)
    holes: tuple[Hole, ...]
    data: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReaddirArgs:
    directory: bytes
    after: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Entry:
    name: bytes
    object: bytes
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class ReaddirOk:
    entries: tuple[Entry, ...]
    eof: bool


@dataclass(frozen=True, slots=True)
class GetattrArgs:
    object: bytes


@dataclass(frozen=True, slots=True)
class EntriesArgs:
    """Entries of a volume, from the last one below the place of (parent, name) on, at most `count` of them."""

    head: Tag
    parent: bytes
    name: bytes
    """A name, or nothing: right before all that is in the directory."""
    count: int


@dataclass(frozen=True, slots=True)
class EntriesOk:
    range: EntryRange


@dataclass(frozen=True, slots=True)
class BulkArgs:
    """As `EntriesArgs`, with at most `most` bytes of the files' data."""

    head: Tag
    parent: bytes
    name: bytes
    count: int
    most: int


@dataclass(frozen=True, slots=True)
class BulkItem:
    """What comes with one entry: of a file its statement of kind content, and how many bytes of the data are it."""

    statement: bytes
    """Empty for a link and a directory, and where it did not come."""
    length: int


@dataclass(frozen=True, slots=True)
class BulkOk:
    range: EntryRange
    items: tuple[BulkItem, ...]
    data: Buffer


@dataclass(frozen=True, slots=True)
class RevocationArgs:
    """`object`: any of the volume; `known`: empty, or the SHA-256 of the revocation held."""

    object: bytes
    known: bytes


@dataclass(frozen=True, slots=True)
class RevocationOk:
    record: bytes


@dataclass(frozen=True, slots=True)
class PlainArgs:
    """Bytes, unverified."""

    object: bytes
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class PlainOk:
    """What the server has, at the moment: its word, and nothing else."""

    size: int
    eof: bool
    data: Buffer = field(repr=False)

    def __post_init__(self) -> None:
        if self.size > SIZE_MAX:  # fip-plain-7
            raise ValueError(f"a size of {self.size} bytes")


_HANDLE = Opaque(HANDLE_MAX)
_NAME = Opaque(255)
_PATH = Opaque(4095)
_RECORD = Opaque(65536)
_PROOF = Opaque(PROOF_MAX)
_DER = Opaque(16384)
_ATTRIBUTES = Structure(
    Attributes, type=Enumerated(FileType), has_record=Bool, executable=Bool, size=UHyper, mtime=TIME
)

Arguments = TypeVar("Arguments")
Ok = TypeVar("Ok")


class Procedure(Generic[Arguments, Ok]):
    """One procedure's number, arguments, results, and the statuses that it may return."""

    def __init__(
        self,
        number: int,
        name: str,
        arguments: Declaration | None,
        ok: Declaration,
        statuses: str,
        *,
        has_tail: bool = False,
    ) -> None:
        self.number = number
        self.name = name
        self.statuses = frozenset({Status.OK, *(Status[status] for status in statuses.split())})
        self._arguments: Codec[Arguments] | None = None if arguments is None else Codec(arguments)
        arms: Mapping[Status, Declaration | None] = dict.fromkeys(self.statuses) | {Status.OK: ok}
        self._result: Codec[Ok | Status] = Codec(
            Union(Enumerated(Status), arms, lambda value: value if isinstance(value, Status) else Status.OK),
            has_tail=has_tail,
        )

    def encode_call(self, xid: int, arguments: Arguments) -> bytes:
        body = b"" if self._arguments is None else self._arguments.encode(arguments)
        return rpc.encode_call(xid, PROGRAM, VERSION, self.number, body)

    def decode_arguments(self, data: Buffer) -> Arguments | None:
        """Raises `ValueError` (GARBAGE_ARGS) where they are not canonical XDR; `check_arguments` is not done."""
        if self._arguments is None:
            if len(data):
                raise ValueError("arguments where there are none")
            return None
        return self._arguments.decode(data)

    def encode_result(self, result: Ok | Status) -> list[Buffer]:
        """The results, in one to three buffers. A status that the procedure has not is a `ValueError`."""
        return self._result.encode_parts(result)

    def decode_result(self, data: Buffer) -> Ok:
        """Raises `MalformedMessage`, or `StatusError` for any status but OK."""
        try:
            result = self._result.decode(data)
        except ValueError as error:
            raise MalformedMessage(f"the reply to {self.name} cannot be decoded: {error}") from error
        if isinstance(result, Status):
            raise StatusError(result, f"the server answered {result.name} to {self.name}")
        return result


_VERSION = "IS_DIRECTORY UNSIGNED CHANGED UPDATING BUSY BAD_HANDLE INVALID ACCESS IO NOT_SUPPORTED"

LIMITS: Procedure[None, LimitsOk] = Procedure(
    1,
    "LIMITS",
    None,
    Structure(
        LimitsOk,
        capabilities=UInt,
        max_data=UInt,
        max_hashes=UInt,
        max_calls=UInt,
        max_wait=UInt,
        hashes=Array(UInt, 32),
        tree_types=Array(UInt, 32),
    ),
    "",
)
RESOLVE: Procedure[ResolveArgs, ResolveOk] = Procedure(
    2,
    "RESOLVE",
    Structure(ResolveArgs, base=_HANDLE, path=_PATH),
    Structure(ResolveOk, object=_HANDLE, attributes=_ATTRIBUTES),
    "NOT_FOUND NOT_DIRECTORY BUSY BAD_HANDLE INVALID ACCESS IO",
)
RECORD: Procedure[RecordArgs, RecordOk] = Procedure(
    3,
    "RECORD",
    Structure(RecordArgs, object=_HANDLE, known=Opaque(32), wait=UInt),
    Structure(RecordOk, record=_RECORD),
    "IS_DIRECTORY UNSIGNED UNCHANGED UPDATING BUSY BAD_HANDLE INVALID ACCESS IO",
)
CERTIFICATE: Procedure[CertificateArgs, CertificateOk] = Procedure(
    4,
    "CERTIFICATE",
    Structure(CertificateArgs, fingerprint=FINGERPRINT),
    Structure(CertificateOk, certificates=Array(_DER, 8, 1)),
    "NOT_FOUND BUSY INVALID IO",
)
TREE: Procedure[TreeArgs, TreeOk] = Procedure(
    5,
    "TREE",
    Structure(TreeArgs, object=_HANDLE, tag=TAG, level=UInt, first=UHyper, count=UInt),
    Structure(TreeOk, hashes=Tail(4 * 2**20)),
    _VERSION,
    has_tail=True,
)
PROOF: Procedure[ProofArgs, ProofOk] = Procedure(
    6,
    "PROOF",
    Structure(ProofArgs, object=_HANDLE, tag=TAG, level=UInt, first=UHyper, count=UInt),
    Structure(ProofOk, proof=_PROOF),
    _VERSION,
)
FETCH: Procedure[FetchArgs, FetchOk] = Procedure(
    7,
    "FETCH",
    Structure(FetchArgs, base=_HANDLE, path=_PATH, most=UInt),
    Structure(FetchOk, object=_HANDLE, record=_RECORD, proof=_PROOF, data=Tail(FETCH_MAX)),
    "NOT_FOUND NOT_DIRECTORY " + _VERSION,
    has_tail=True,
)
READ: Procedure[ReadArgs, ReadOk] = Procedure(
    8,
    "READ",
    Structure(ReadArgs, object=_HANDLE, tag=TAG, first=UHyper, count=UInt, level=Optional(UInt)),
    Structure(
        ReadOk,
        proof=_PROOF,
        holes=Array(Structure(Hole, first=UInt, count=UInt), HOLES_MAX),
        data=Tail(DATA_MAX),
    ),
    _VERSION,
    has_tail=True,
)
READDIR: Procedure[ReaddirArgs, ReaddirOk] = Procedure(
    9,
    "READDIR",
    Structure(ReaddirArgs, directory=_HANDLE, after=_NAME, count=UInt),
    Structure(
        ReaddirOk,
        entries=Array(Structure(Entry, name=_NAME, object=_HANDLE, attributes=_ATTRIBUTES), ENTRIES_MAX),
        eof=Bool,
    ),
    "NOT_DIRECTORY BUSY BAD_HANDLE INVALID ACCESS IO NOT_SUPPORTED",
)
GETATTR: Procedure[GetattrArgs, Attributes] = Procedure(
    10,
    "GETATTR",
    Structure(GetattrArgs, object=_HANDLE),
    _ATTRIBUTES,
    "BUSY BAD_HANDLE ACCESS IO NOT_SUPPORTED",
)
REVOCATION: Procedure[RevocationArgs, RevocationOk] = Procedure(
    11,
    "REVOCATION",
    Structure(RevocationArgs, object=_HANDLE, known=Opaque(32)),
    Structure(RevocationOk, record=_RECORD),
    "UNSIGNED UNCHANGED BUSY BAD_HANDLE INVALID ACCESS IO",
)
PLAIN: Procedure[PlainArgs, PlainOk] = Procedure(
    12,
    "PLAIN",
    Structure(PlainArgs, object=_HANDLE, offset=UHyper, count=UInt),
    Structure(PlainOk, size=UHyper, eof=Bool, data=Tail(DATA_MAX)),
    "IS_DIRECTORY BUSY BAD_HANDLE INVALID ACCESS IO NOT_SUPPORTED",
    has_tail=True,
)

ENTRIES: Procedure[EntriesArgs, EntriesOk] = Procedure(
    13,
    "ENTRIES",
    Structure(EntriesArgs, head=TAG, parent=_PATH, name=_NAME, count=UInt),
    Structure(EntriesOk, range=ENTRY_RANGE),
    "CHANGED BUSY INVALID ACCESS IO NOT_SUPPORTED",
)
BULK: Procedure[BulkArgs, BulkOk] = Procedure(
    14,
    "BULK",
    Structure(BulkArgs, head=TAG, parent=_PATH, name=_NAME, count=UInt, most=UInt),
    Structure(
        BulkOk,
        range=ENTRY_RANGE,
        items=Array(Structure(BulkItem, statement=Opaque(STATEMENT_MAX), length=UInt), RANGE_ENTRIES_MAX),
        data=Tail(BULK_MAX),
    ),
    "CHANGED BUSY INVALID ACCESS IO NOT_SUPPORTED",
    has_tail=True,
)

PROCEDURES: dict[int, Procedure[Any, Any]] = {
    procedure.number: procedure
    for procedure in (
        LIMITS, RESOLVE, RECORD, CERTIFICATE, TREE, PROOF, FETCH, READ, READDIR, GETATTR, REVOCATION, PLAIN,
        ENTRIES, BULK,
    )
}  # fmt: skip
"""By number; NULL (0) has neither arguments nor results, and 15 to 18 are places."""


def check_arguments(arguments: object) -> None:
    """The rules for arguments that need no look at any file (fip-status-2). `ValueError` stands for INVALID."""
    match arguments:
        case ResolveArgs():
            split_path(arguments.path)  # fip-resolve-2
        case RevocationArgs():
            _check_known(arguments.known)  # fip-revoke-3
        case RecordArgs():  # fip-record-2
            _check_known(arguments.known)
            _check_count("wait", arguments.wait, 0, WAIT_MAX)
        case TreeArgs():
            _check_count("count", arguments.count, 1, TREE_MAX)  # fip-tree-3
        case ProofArgs():
            _check_count("count", arguments.count, 1, 2**32 - 1)  # fip-proof-2
            first, last, level = arguments.first, arguments.first + arguments.count - 1, arguments.level
            if first >> level != last >> level:  # fip-proof-3
                raise ValueError(f"units {first} to {last}, not all under one node of level {level}")
        case ReadArgs():  # its level is of units, and how many of them its slices are, only the file says
            _check_count("count", arguments.count, 1, 2**32 - 1)  # fip-read-2
        case FetchArgs():
            split_path(arguments.path)  # fip-fetch-5
            _check_count("most", arguments.most, 0, FETCH_MAX)  # fip-fetch-3
        case ReaddirArgs():
            _check_count("count", arguments.count, 1, ENTRIES_MAX)  # fip-dir-2
        case EntriesArgs():
            _check_place(arguments.parent, arguments.name)  # fip-entries-2
            _check_count("count", arguments.count, 2, RANGE_ENTRIES_MAX)
        case BulkArgs():
            _check_place(arguments.parent, arguments.name)
            _check_count("count", arguments.count, 2, RANGE_ENTRIES_MAX)
            _check_count("most", arguments.most, 0, BULK_MAX)  # fip-bulk-2
        case PlainArgs():
            _check_count("count", arguments.count, 1, DATA_MAX)  # fip-plain-2


def _check_place(parent: bytes, name: bytes) -> None:
    split_path(parent)
    if name:
        check_name(name)


def _check_known(known: bytes) -> None:
    if len(known) not in (0, 32):
        raise ValueError(f"a `known` of {len(known)} bytes")


def _check_count(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"a {what} of {value}, allowed are {least} to {most}")
