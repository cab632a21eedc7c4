# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What all publications share: how they are asked for, the new head, and what is left of older ones."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from nfsverity_proto.errors import NfsVerityError
from nfsverity_proto.path import NAME_MAX
from nfsverity_proto.statement import NO_END
from nfsverity_store.index import Index
from nfsverity_store.layout import DIRECTORY, TREES, Head, NotPublished, StoreError, head_path, naming, read_head
from nfsverity_store.volume_index import VolumeIndex

from .content import NEW
from .keys import SigningKey
from .lock import PublicationError
from .replacement import Replacement, interrupts_held

HEAD_NEW = "head.new"
RACY = 20_000_000
"""Nanoseconds. What was changed less than that before it was read may change again with no trace in `stat`, whose
clock ticks every 1 to 10 ms; such a file is hashed again the next time."""


class Form(Enum):
    """How what is in a tree is signed."""

    VOLUME = "volume"
    """All of it by one head."""
    RECORDS = "records"
    """Each file by a record of its own."""


def form_of(head: Head) -> Form:
    return Form.RECORDS if head.nodes is None else Form.VOLUME


@dataclass(frozen=True, slots=True)
class Options:
    """How to sign. `hash` and `unit_log2`: None for those of a file's last record, or else the defaults.

    `jobs`: processes that hash one large file; `not_after`: Unix seconds; `rehash`: what seems unchanged, too.
    `changed` (offset and length; None for all that follows) and `appended` are the caller's word that nothing else
    in the one file to sign changed since it was signed: only that is hashed. `wait`: seconds, for another publisher.
    `replacement`: a file on the same file system that is moved to the place of the one file to sign, when its record
    is ready too (fim-upd-1). `form`: where it is another than the tree has, all of the tree gets it; None for what
    it has, or the default.
    """

    unit_log2: int | None = None
    hash: int | None = None
    volume: bytes | None = None
    not_after: int = NO_END
    rehash: bool = False
    jobs: int = 1
    changed: tuple[tuple[int, int | None], ...] = ()
    appended: bool = False
    wait: float = 0.0
    replacement: Path | None = None
    form: Form | None = None

    @property
    def is_partial(self) -> bool:
        return self.appended or bool(self.changed)


@dataclass(frozen=True, slots=True)
class Identity:
    """Of a publication that is to be made. `generation`: of the one before, whatever its form was."""

    volume: bytes
    label: bytes
    generation: int


@dataclass(frozen=True, slots=True)
class Change:
    """A file whose content is another than at its last signing. Sizes in bytes.

    `ranges` (offset, length) of the new content, in whole units: from the kept trees; None without them.
    """

    path: bytes
    size_before: int
    size: int
    ranges: list[tuple[int, int]] | None


@dataclass(slots=True)
class Report:
    """What one publication did."""

    root: Path
    volume: bytes = b""
    label: bytes = b""
    generation: int = 0
    form: Form = Form.VOLUME
    signed: int = 0
    unchanged: int = 0
    removed: int = 0
    entries: int = 0
    """Of a volume: files, links and directories."""
    links: int = 0
    directories: int = 0
    """How many of the entries are such."""
    bytes_hashed: int = 0
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    """What cannot be signed: path and what it is."""
    failed: list[tuple[bytes, str]] = field(default_factory=list)
    """Files that have no new record: path and why."""
    changes: list[Change] = field(default_factory=list)
    whole: list[tuple[bytes, str]] = field(default_factory=list)
    """Files that were hashed in whole where only some of it was to be: path and why."""
    ended_before: int | None = None
    """When the head before would have expired, where this one does not (Unix seconds)."""


def check_keys(root: Path, keys: Sequence[SigningKey], private: Sequence[Path]) -> None:
    """Raises `PublicationError` for keys that cannot sign together, or whose files are in the tree."""
    if not keys or len({key.certificate.fingerprint for key in keys}) < len(keys):
        raise PublicationError("a record is signed by one key or more, and by each of them once")
    for path in private:
        if root.resolve() in path.resolve().parents:
            raise PublicationError(f"{root} holds the private key {path}: move the key out of the tree first")


def check_single(root: Path, below: Sequence[bytes], options: Options) -> None:
    """Raises `PublicationError` where something that is told of one file is told of others."""
    names = [root / os.fsdecode(path) for path in below]
    if options.replacement is not None and (len(names) != 1 or names[0].is_dir()):
        raise PublicationError("one file only can be replaced")
    if options.is_partial and not (len(names) == 1 and names[0].is_file()):
        raise PublicationError("what changed can be told of one file only")


def identity(root: Path, previous: Head | None, options: Options, form: Form, below: Sequence[bytes]) -> Identity:
    """What the next publication is to be of. Raises `PublicationError` where the form cannot be changed like this."""
    if previous is None:
        return Identity(options.volume or os.urandom(16), os.fsencode(root.name)[:NAME_MAX] or b"root", 0)
    volume = options.volume or previous.volume
    other_form = form_of(previous) is not form
    if other_form and options.form is not form:
        raise PublicationError(f"{root} is signed in another form: choose that, or say that it is to be changed")
    if other_form and form is Form.RECORDS and volume == previous.volume:  # fim-head-2
        raise PublicationError(
            f"{root} is a volume, and readers that have seen its head refuse other records of that volume:"
            " for records of single files, give it another volume ID too"
        )
    if list(below) != [b""]:
        if other_form:
            raise PublicationError(f"{root} is signed in another form; sign all of it to give it a new one")
        if form is Form.RECORDS and volume != previous.volume:
            raise PublicationError(f"{root} is of another volume; sign all of it to give it a new volume ID")
    return Identity(volume, previous.label, previous.generation)


def previous_head(root: Path) -> Head | None:
    """What is published there now; None for nothing. Raises `StoreError` for what is damaged."""
    try:
        return read_head(root)
    except NotPublished:
        return None


def clean(directory: Path, previous: Head | None) -> None:
    """Remove what a run that was killed left behind, and what was published before the present head.

    Whoever has that open keeps it until he closes it.
    """
    trees = directory / TREES
    if trees.is_symlink():  # nothing outside is ever removed
        raise PublicationError(f"{trees} is a symbolic link: remove it")
    present = () if previous is None else (previous.index, previous.nodes)
    for path in (*directory.glob("index-*"), *directory.glob("nodes-*")):
        if path.name not in present:
            path.unlink(missing_ok=True)
    for path in (directory / HEAD_NEW, *directory.glob("revocation*.new"), *(directory / TREES).glob(NEW + "*")):
        path.unlink(missing_ok=True)


def put_head(root: Path, head: Head, parts: Iterable[Path], replacement: Replacement | None = None) -> None:
    """Have all parts of a publication on durable storage, and then the head that names them in its place.

    And right before that the content that is replaced (fim-upd-1).
    """
    new = head_path(root).with_name(HEAD_NEW)
    with naming(new):
        new.unlink(missing_ok=True)
        with new.open("xb") as file:
            file.write(head.encode())
    for path in (*parts, new, new.parent):
        _sync(path)
    if replacement is None:
        os.replace(new, head_path(root))
    else:
        with interrupts_held():
            replacement.move()
            os.replace(new, head_path(root))
        replacement.sync()
    _sync(new.parent)


def remove_trees(directory: Path, used: set[str], previous: Head | None) -> None:
    """Remove the kept trees that neither the present publication nor the one before needs."""
    with contextlib.suppress(NfsVerityError):
        used = used | _trees_of(directory, previous)
    _remove_trees_but(directory, used)


def _trees_of(directory: Path, head: Head | None) -> set[str]:
    if head is None:
        return set()
    form = Index if head.nodes is None else VolumeIndex
    with form(directory / head.index) as index:
        return index.kept_trees()


def _remove_trees_but(directory: Path, used: set[str]) -> None:
    for path in (directory / TREES).iterdir():
        if path.name not in used:
            path.unlink(missing_ok=True)


def abandon(root: Path, head: Head, present: Head | None) -> None:
    """Remove what was made, unless the new head is in place already: then it is published, whatever came after."""
    with contextlib.suppress(StoreError):
        if read_head(root) == head:
            return
    directory = root / DIRECTORY
    for path in (*directory.glob(f"{head.index}*"), directory / HEAD_NEW):
        path.unlink(missing_ok=True)
    if head.nodes is not None:
        (directory / head.nodes).unlink(missing_ok=True)
    with contextlib.suppress(NfsVerityError, OSError):  # where it cannot be told which trees are needed, all are kept
        _remove_trees_but(directory, _trees_of(directory, present))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not (stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISDIR(os.fstat(fd).st_mode)):
            raise StoreError(f"{path} is no regular file")
        with naming(path):
            os.fsync(fd)
    finally:
        os.close(fd)
