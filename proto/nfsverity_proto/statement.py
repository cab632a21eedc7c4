# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Statements: what is claimed (fim, "Statement")."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from enum import IntEnum

from .errors import Malformed, Unsupported, WrongKind
from .hashes import digest_length, hash_by_number
from .path import check_name, check_path
from .tree import RFC9162, SIZE_MAX, UNIT_LOG2_MAX, UNIT_LOG2_MIN, Shape
from .xdr import (
    Array,
    Bool,
    Buffer,
    Codec,
    Enumerated,
    Fixed,
    Hyper,
    Opaque,
    Structure,
    UHyper,
    UInt,
    Union,
    XdrError,
)

MAGIC = 0x4E465356
FORMAT = 1
STATEMENT_MAX = 8192
GENERATION_MAX = 2**64 - 2
"""2^64 − 1 is invalid, so that there is always a next one."""
VOLUME_ENTRIES_MAX = 2**63 - 1
"""Of a volume: as many as units of a file, so that a tree has the same bounds."""
NO_END = 2**63 - 1
"""The `not_after` of a statement that does not expire."""
ITEMS_MAX = 128
"""Of a revocation; with digests of 64 bytes, fewer fit into a statement."""
PUBLIC_KEY, VERSION = 1, 2
"""What an item of a revocation can name."""


class Kind(IntEnum):
    """What a statement is about. VOLUME is a place: its body is not defined yet."""

    CONTENT = 1
    FILE = 2
    VOLUME = 3
    REVOCATION = 4


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds since 1970-01-01T00:00Z without leap seconds, and nanoseconds."""

    seconds: int
    nseconds: int

    def __post_init__(self) -> None:
        if self.nseconds > 999_999_999:
            raise ValueError(f"{self.nseconds} nanoseconds")

    @classmethod
    def from_ns(cls, nanoseconds: int) -> Time:
        return cls(*divmod(nanoseconds, 1_000_000_000))

    def to_ns(self) -> int:
        return self.seconds * 1_000_000_000 + self.nseconds


NOTES = 1
"""The extension with a digest of the publisher's notes (fim, "Extensions"): not critical, nothing to a verifier."""


@dataclass(frozen=True, slots=True)
class Extension:
    number: int
    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Tree:
    """The content, by its size and the root of its tree."""

    type: int
    unit_log2: int
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not UNIT_LOG2_MIN <= self.unit_log2 <= UNIT_LOG2_MAX:
            raise ValueError(f"a unit of 2^{self.unit_log2} bytes")
        if self.size > SIZE_MAX:
            raise ValueError(f"a size of {self.size} bytes")

    @property
    def shape(self) -> Shape:
        return Shape(self.size, self.unit_log2)


@dataclass(frozen=True, slots=True)
class When:
    """Which version, and from when to when it is claimed (Unix seconds)."""

    generation: int
    issued: int
    not_after: int

    def __post_init__(self) -> None:
        if self.generation > GENERATION_MAX:
            raise ValueError(f"generation {self.generation}")


@dataclass(frozen=True, slots=True)
class Content:
    """Kind *content*: bytes without a name. `mtime` is the publisher's claim, not a clock's."""

    mtime: Time
    tree: Tree


@dataclass(frozen=True, slots=True)
class File:
    """Kind *file*: a content with an identity and a generation."""

    volume: bytes
    label: bytes
    path: bytes
    when: When
    executable: bool
    content: Content

    def __post_init__(self) -> None:
        check_name(self.label)
        if not self.path:
            raise ValueError("a file without a path")
        check_path(self.path)


@dataclass(frozen=True, slots=True)
class Volume:
    """Kind *volume*: the head of a volume. One root over the entries of all its files, links and directories."""

    volume: bytes
    label: bytes
    when: When
    entries: int
    root: bytes

    def __post_init__(self) -> None:
        check_name(self.label)
        if self.entries > VOLUME_ENTRIES_MAX:
            raise ValueError(f"{self.entries} entries")


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """What a revocation takes back: a public key, by the digest of its SubjectPublicKeyInfo, or a version, by its tag.

    `what` may be a number that is not known here: such a revocation is unsupported, not malformed (fim-rev-4).
    """

    what: int
    hash: int
    digest: bytes

    def __post_init__(self) -> None:
        length = digest_length(self.hash)
        if length is not None and len(self.digest) != length:
            raise ValueError(f"an item of {len(self.digest)} bytes where its hash has {length}")


@dataclass(frozen=True, slots=True)
class Revocation:
    """Kind *revocation*: keys and versions of a volume that are no longer valid. No items: none are, as of then."""

    volume: bytes
    label: bytes
    when: When
    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        check_name(self.label)
        if any(low >= high for low, high in itertools.pairwise(self.items)):
            raise ValueError("items that are not in ascending order")  # fim-rev-2


Claim = Content | File | Volume | Revocation


@dataclass(frozen=True, slots=True)
class Statement:
    hash: int
    claim: Claim
    extensions: tuple[Extension, ...] = ()

    def __post_init__(self) -> None:
        numbers = [extension.number for extension in self.extensions]
        if any(low >= high for low, high in itertools.pairwise(numbers)):
            raise ValueError("extensions that are not in ascending order")
        root = _root_of(self.claim)
        length = digest_length(self.hash)
        if root is not None and length is not None and len(root) != length:
            raise ValueError(f"a root of {len(root)} bytes where its hash has {length}")

    @property
    def kind(self) -> Kind:
        return _kind_of(self.claim)

    @property
    def identified(self) -> File | Volume | Revocation:
        """The claim, which has a volume and a generation. Raises `ValueError` for content, which has not."""
        if isinstance(self.claim, Content):
            raise ValueError("content has no identity")
        return self.claim


@dataclass(frozen=True, slots=True)
class Tag:
    """Names a version: the statement's hash number, and the digest of the statement's bytes under it."""

    hash: int
    digest: bytes

    def __post_init__(self) -> None:
        length = digest_length(self.hash)
        if length is not None and len(self.digest) != length:  # fip-status-5
            raise ValueError(f"a tag of {len(self.digest)} bytes where its hash has {length}")

    def __str__(self) -> str:
        return self.digest.hex()


def _kind_of(claim: Claim) -> Kind:
    match claim:
        case Content():
            return Kind.CONTENT
        case File():
            return Kind.FILE
        case Volume():
            return Kind.VOLUME
    return Kind.REVOCATION


def _root_of(claim: Claim) -> bytes | None:
    match claim:
        case Content():
            return claim.tree.root
        case File():
            return claim.content.tree.root
        case Volume():
            return claim.root
    return None


@dataclass(frozen=True, slots=True)
class _Whole:
    magic: int
    format: int
    hash: int
    claim: Claim
    extensions: tuple[Extension, ...]


ROOT_MAX = 64
HASH = Opaque(ROOT_MAX)
TIME = Structure(Time, seconds=Hyper, nseconds=UInt)
EXTENSION = Structure(Extension, number=UInt, critical=Bool, value=Opaque(1024))
TREE = Structure(Tree, type=UInt, unit_log2=UInt, size=UHyper, root=HASH)
WHEN = Structure(When, generation=UHyper, issued=Hyper, not_after=Hyper)
CONTENT = Structure(Content, mtime=TIME, tree=TREE)
FILE = Structure(
    File, volume=Fixed(16), label=Opaque(255), path=Opaque(4095), when=WHEN, executable=Bool, content=CONTENT
)
ITEM = Structure(Item, what=UInt, hash=UInt, digest=HASH)
REVOCATION = Structure(Revocation, volume=Fixed(16), label=Opaque(255), when=WHEN, items=Array(ITEM, ITEMS_MAX))
VOLUME = Structure(Volume, volume=Fixed(16), label=Opaque(255), when=WHEN, entries=UHyper, root=HASH)
CLAIM = Union(
    Enumerated(Kind),
    {Kind.CONTENT: CONTENT, Kind.FILE: FILE, Kind.VOLUME: VOLUME, Kind.REVOCATION: REVOCATION},
    _kind_of,
)
TAG = Structure(Tag, hash=UInt, digest=HASH)

_WHOLE: Codec[_Whole] = Codec(
    Structure(_Whole, magic=UInt, format=UInt, hash=UInt, claim=CLAIM, extensions=Array(EXTENSION, 16))
)


def encode_statement(statement: Statement) -> bytes:
    """The statement's bytes. Raises `ValueError` where they would be longer than a statement may be."""
    data = _WHOLE.encode(_Whole(MAGIC, FORMAT, statement.hash, statement.claim, statement.extensions))
    if len(data) > STATEMENT_MAX:
        raise ValueError(f"a statement of {len(data)} bytes; {STATEMENT_MAX} are allowed")
    return data


_NO_EXTENSIONS = bytes(4)
_CONTENT_HEAD = struct.Struct(">IIIIqIIIQI")
"""All fields of a statement of kind content up to the root's bytes."""


def encode_content(hash: int, mtime: int, unit_log2: int, size: int, root: bytes) -> bytes:
    """The statement of kind *content* without extensions, whose tree is of type RFC9162; `mtime` in nanoseconds.

    The same as `encode_statement` gives, for those who make very many. The root's length is that of the hash.
    """
    seconds, nseconds = divmod(mtime, 1_000_000_000)
    length = len(root)
    return (
        _CONTENT_HEAD.pack(MAGIC, FORMAT, hash, Kind.CONTENT, seconds, nseconds, RFC9162, unit_log2, size, length)
        + root
        + _NO_EXTENSIONS
    )


def decode_statement(data: Buffer, kind: Kind | None = None) -> Statement:
    """Steps 1 and 2 of verification for a statement's bytes: decode, and only the `kind` that is wanted.

    The kind is judged before anything behind it is read. Raises `Malformed`, `Unsupported` for another
    format, `WrongKind`.
    """
    try:
        if len(data) > STATEMENT_MAX:
            raise XdrError(f"a statement of {len(data)} bytes; {STATEMENT_MAX} are allowed")
        if (magic := _uint(data, 0)) != MAGIC:
            raise XdrError(f"magic {magic:#010x} is not {MAGIC:#010x}")
        if (format := _uint(data, 4)) != FORMAT:  # of which nothing else is known, not even its length (fim-dec-5)
            raise Unsupported(f"format {format} is not known here")
        found = Kind(_uint(data, 12))
        if found not in CLAIM.arms or kind not in (None, found):
            raise WrongKind(
                "the record is of another kind",
                expected=(kind or Kind.FILE).name.lower(),
                found=found.name.lower(),
            )
        if found is Kind.CONTENT and (statement := _plain_content(data)) is not None:
            return statement
        whole = _WHOLE.decode(data)
        return Statement(whole.hash, whole.claim, whole.extensions)
    except ValueError as error:
        raise Malformed(f"the statement cannot be decoded: {error}") from error


def _plain_content(data: Buffer) -> Statement | None:
    """A statement as `encode_content` makes it, as almost all are, at once; None for any other."""
    fixed = _CONTENT_HEAD.size
    if len(data) < fixed:
        return None
    _, _, hash, _, seconds, nseconds, type, unit_log2, size, length = _CONTENT_HEAD.unpack_from(data)
    if length & 3 or length > ROOT_MAX or data[fixed + length :] != _NO_EXTENSIONS:
        return None
    root = bytes(data[fixed : fixed + length])
    return Statement(hash, Content(Time(seconds, nseconds), Tree(type, unit_log2, size, root)))


def _uint(data: Buffer, at: int) -> int:
    """One of magic, format, hash and kind: all that is looked at before the kind is accepted."""
    part = bytes(data[at : at + 4])
    if len(part) < 4:
        raise XdrError(f"a statement of {len(data)} bytes")
    return int.from_bytes(part)


def tag_of(statement: bytes, hash: int) -> Tag:
    """The tag of a statement's bytes under its own hash. Raises as `hash_by_number` does."""
    return Tag(hash, hash_by_number(hash).digest(statement))
