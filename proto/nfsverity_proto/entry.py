# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Entries of a volume: one name each, and what is there (fim, "Entries")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from .hashes import Hash
from .path import NAME_MAX, check_name, check_path
from .xdr import Bool, Buffer, Codec, Enumerated, Opaque, Structure, Union

TARGET_MAX = 4095
CONTENT_MAX = 64
"""Bytes of a digest."""
Key = tuple[bytes, bytes]
"""What entries are ordered by: the parent with 0x00 for each "/", then the name (fim-vol-2)."""


class EntryType(IntEnum):
    FILE = 1
    LINK = 2
    DIRECTORY = 3


@dataclass(frozen=True, slots=True)
class FileNode:
    """A file: whether it is a program, and the digest of its statement of kind *content* under the volume's hash."""

    executable: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class LinkNode:
    """A symbolic link. Where the target leads is for whoever follows it to judge (fim-link-1)."""

    target: bytes

    def __post_init__(self) -> None:
        if b"\0" in self.target:
            raise ValueError("a link with a NUL byte in its target")


@dataclass(frozen=True, slots=True)
class DirectoryNode:
    """A directory."""


Node = FileNode | LinkNode | DirectoryNode


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a volume. `parent` is empty for what lies at its root, which has no entry itself."""

    parent: bytes
    name: bytes
    node: Node

    def __post_init__(self) -> None:
        check_name(self.name)  # before it is joined: it can have no slash
        check_path(self.path)

    @property
    def path(self) -> bytes:
        return self.parent + b"/" + self.name if self.parent else self.name

    @property
    def key(self) -> Key:
        return key_of(self.parent, self.name)


def key_of(parent: bytes, name: bytes) -> Key:
    """The place of a name in the order. With an empty name: right before all that is in the directory `parent`."""
    return parent.replace(b"/", b"\0"), name


def key_of_path(path: bytes) -> Key:
    """The place of the entry at a path, which is not empty."""
    parent, _, name = path.rpartition(b"/")
    return key_of(parent, name)


def kind_of(entry: Entry) -> str:
    """What an entry is, for people."""
    return {EntryType.FILE: "a file", EntryType.LINK: "a symbolic link", EntryType.DIRECTORY: "a directory"}[
        type_of(entry.node)
    ]


def type_of(node: Node) -> EntryType:
    """What an entry with this node is."""
    match node:
        case FileNode():
            return EntryType.FILE
        case LinkNode():
            return EntryType.LINK
    return EntryType.DIRECTORY


NODE = Union(
    Enumerated(EntryType),
    {
        EntryType.FILE: Structure(FileNode, executable=Bool, content=Opaque(CONTENT_MAX)),
        EntryType.LINK: Structure(LinkNode, target=Opaque(TARGET_MAX, 1)),
        EntryType.DIRECTORY: Structure(DirectoryNode),
    },
    type_of,
)
ENTRY = Structure(Entry, parent=Opaque(4095), name=Opaque(255), node=NODE)
_ENTRY: Codec[Entry] = Codec(ENTRY)


def encode_entry(entry: Entry) -> bytes:
    """The unit of the volume's tree (fim-vol-1). Raises `ValueError` past the bounds."""
    match entry.node:
        case FileNode(executable, content) if len(content) <= CONTENT_MAX and not len(content) & 3:
            return encode_file(encode_parent(entry.parent), entry.name, executable, content)
    return _ENTRY.encode(entry)


def decode_entry(data: Buffer) -> Entry:
    """Raises `XdrError`."""
    return _ENTRY.decode(data)


_ZEROS = (b"", b"\0\0\0", b"\0\0", b"\0")
_UINT = tuple(struct.pack(">I", number) for number in range(NAME_MAX + 1))
"""Of each length that a name may have, and of all other small numbers."""
_LENGTH = struct.Struct(">I")
_FILE, _LINK, _DIRECTORY = (_UINT[type] for type in EntryType)
_PROGRAM, _OTHER = (_FILE + _UINT[executable] for executable in (True, False))


def _opaque(data: bytes) -> bytes:
    length = len(data)
    return _LENGTH.pack(length) + data + _ZEROS[length & 3]


def encode_parent(parent: bytes) -> bytes:
    """How each entry of a directory begins: for those who encode very many, by the three functions below.

    They give what `encode_entry` does. Name, target and digest are as they must be.
    """
    return _opaque(parent)


def encode_file(parent: bytes, name: bytes, executable: bool, content: bytes) -> bytes:
    length = len(name)
    node = _PROGRAM if executable else _OTHER
    return parent + _UINT[length] + name + _ZEROS[length & 3] + node + _UINT[len(content)] + content


def encode_link(parent: bytes, name: bytes, target: bytes) -> bytes:
    length = len(name)
    return parent + _UINT[length] + name + _ZEROS[length & 3] + _LINK + _opaque(target)


def encode_subdirectory(parent: bytes, name: bytes) -> bytes:
    length = len(name)
    return parent + _UINT[length] + name + _ZEROS[length & 3] + _DIRECTORY


def entry_leaf(hash: Hash, entry: Entry) -> bytes:
    """H(0x00 ‖ entry), a leaf of the volume's tree (RFC 9162 section 2.1.1)."""
    return hash.leaf(encode_entry(entry))
