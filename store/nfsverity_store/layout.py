# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`.nfsverity/` at the root of a published tree: what is in it, and how a reader finds it.

    head           JSON, one line: format, volume, label, generation, the name of the index; of a volume, of
                   the nodes, and a digest of the index
    index-…        SQLite; never changed once a head names it
    nodes-…        the tree over the entries of a volume
    trees/…        kept trees of large files, named by their root
    revocation     the current revocation of the volume, where there is one; and its certificates
    lock           held by the publisher while it works

A publication writes new files and then renames `head`, so a reader sees the old or the new, whole. The files
of the publication before it stay for those who read it; what no head of the two names is removed by the next run.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from nfsverity_proto.errors import NfsVerityError
from nfsverity_proto.path import check_name
from nfsverity_proto.statement import GENERATION_MAX

from .content import NotRegular, open_file

DIRECTORY = ".nfsverity"
DIRECTORY_BYTES = DIRECTORY.encode()
TREES = "trees"
FORMAT, VOLUME_FORMAT = 1, 3
"""Of what a head is: stand-alone records, a volume (2 was that of an index without notes)."""
ANEW = "remove this file, and sign the tree again with the volume ID that its readers know"
HEAD_MAX = 4096


class StoreError(NfsVerityError):
    """The metadata directory is missing, damaged or of another format."""


class NotPublished(StoreError):
    """There is no metadata directory."""


@dataclass(frozen=True, slots=True)
class Head:
    """What names the present publication."""

    volume: bytes
    label: bytes
    generation: int
    index: str
    nodes: str | None = None
    """The nodes of a volume; None where each file has a record of its own."""
    digest: str | None = None
    """SHA-256 of a volume's index in hexadecimal, by which its publisher finds damage; whoever can write there can
    write this, too."""

    def encode(self) -> bytes:
        value = {
            "format": FORMAT if self.nodes is None else VOLUME_FORMAT,
            "volume": self.volume.hex(),
            "label": base64.b64encode(self.label).decode(),
            "generation": str(self.generation),
            "index": self.index,
        }
        if self.nodes is not None:
            value["nodes"] = self.nodes
        if self.digest is not None:
            value["digest"] = self.digest
        return json.dumps(value).encode() + b"\n"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors inside name the file, where the system's do not: those of writes and syncs."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def tree_path(root: Path, hash: str, unit_log2: int, value: bytes) -> Path:
    """Where the kept tree of a large file is. Its name tells the content, so versions never share one."""
    return root / DIRECTORY / TREES / f"{hash}-{unit_log2}-{value.hex()}"


def head_path(root: Path) -> Path:
    return root / DIRECTORY / "head"


def part_descriptor(path: Path) -> int:
    """A descriptor of a file of the metadata, which whoever wrote it may have made something else, or a link to it.

    Raises `StoreError`, `OSError`.
    """
    try:
        return open_file(os.fsencode(path), None)
    except OSError as error:
        if isinstance(error, NotRegular) or error.errno == errno.ELOOP:
            raise StoreError(f"{path} is no regular file") from error
        raise


def open_part(path: Path) -> BufferedReader:
    """The same, as a file."""
    return open(part_descriptor(path), "rb")


def copy_part(path: Path, target: Path) -> None:
    """A new file with what is in one of the metadata. Raises `StoreError`, `OSError`."""
    with open_part(path) as source, naming(target), target.open("xb") as file:
        shutil.copyfileobj(source, file, 2**20)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises `StoreError`, `OSError`."""
    with open_part(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_head(root: Path) -> Head:
    """The head of the tree published at `root`. Raises `NotPublished`, `StoreError`."""
    path = head_path(root)
    try:
        with open_part(path) as file:
            data = file.read(HEAD_MAX)
    except FileNotFoundError:
        raise NotPublished(f"{root} is not a published tree: it has no {DIRECTORY}/head (sign it first)") from None
    try:
        value = json.loads(data)
        if value["format"] not in (FORMAT, VOLUME_FORMAT):
            raise StoreError(
                f"{path} is of format {value['format']}; this program knows {FORMAT} and {VOLUME_FORMAT}: {ANEW}"
            )
        nodes = str(value["nodes"]) if value["format"] == VOLUME_FORMAT else None
        head = Head(
            bytes.fromhex(value["volume"]),
            check_name(base64.b64decode(value["label"], validate=True)),
            int(value["generation"]),
            str(value["index"]),
            nodes,
            None if value.get("digest") is None else str(value["digest"]),
        )
        if not 0 <= head.generation <= GENERATION_MAX:
            raise ValueError("a generation out of range")
        if len(head.volume) != 16 or not _names(head.index, "index-") or not (nodes is None or _names(nodes, "nodes-")):
            raise ValueError("a field is out of range")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged: get {root / DIRECTORY} anew from where the tree came; or {ANEW}"
        ) from error
    return head


def _names(name: str, prefix: str) -> bool:
    """Whether a name is one of a file in the metadata directory, of the kind that is due."""
    return os.path.basename(name) == name and name.startswith(prefix)


def find_root(path: Path) -> Path | None:
    """The nearest published tree that holds `path`, looking upward as git does."""
    for directory in (path, *path.parents):
        if (directory / DIRECTORY).is_dir():
            return directory
    return None
