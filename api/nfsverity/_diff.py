# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What differs between two versions of a file, or between two trees of files: from records and trees alone.

Both sides are verified first (steps 0 to 12), and each hash is folded to the root that was signed. No content is
transferred. Of a tree on this machine it is what was signed that is compared; `verify` tells whether the files
are still that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, Unpack

from nfsverity_client import diff as trees
from nfsverity_client.delta import ServedTree
from nfsverity_client.diff import Node as TreeNode
from nfsverity_client.diff import Range
from nfsverity_client.listing import Kept, list_below, take_below
from nfsverity_client.pipeline import batches, in_order
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session
from nfsverity_client.trust_store import Bindings
from nfsverity_client.volume import find
from nfsverity_proto import messages as m
from nfsverity_proto.entry import DirectoryNode, Entry, EntryType, FileNode, LinkNode, Node, key_of_path
from nfsverity_proto.errors import Absent, MalformedMessage, Mismatch, NfsVerityError, Unsigned, VerificationError
from nfsverity_proto.hashes import Hash
from nfsverity_proto.path import join_path, split_path
from nfsverity_proto.statement import Item
from nfsverity_proto.tree import Shape
from nfsverity_proto.url import is_url
from nfsverity_proto.verification import Verified
from nfsverity_store.content import open_below
from nfsverity_store.hashing import ChangedSize
from nfsverity_store.index import ROOT_ID, IndexEntry
from nfsverity_store.kept import kept_tree
from nfsverity_store.volume_view import VolumeView

from ._diff_volumes import FILES, FILES_AT_ONCE, compare_volumes, compared, record_of
from ._difference import FileDifference, Found, State, Version, Volume, signed_root
from ._hashed import HashedTree, beside, hash_file
from ._local import LocalTree
from ._local_place import locate_file
from ._local_records import Listed
from ._local_volume import look_up, members
from ._loop import wait_for
from ._tree import TreeOptions, announce, opened, trust_entries

T = TypeVar("T")
SOME = 256


class Place(Volume, Protocol):
    """A file or directory, served or on this machine."""

    async def is_directory(self) -> bool: ...

    def names(self, below: bytes) -> AsyncIterator[tuple[bytes, bool]]:
        """What is in a directory, ascending, and whether each is a directory itself. Raises as `version`."""


@dataclass(slots=True)
class ServedPlace:
    """Names are verified in a volume, and else the server's word."""

    session: Session
    path: bytes

    @property
    def revoked(self) -> frozenset[Item]:
        return self.session.settings.revoked

    async def is_directory(self) -> bool:
        found = await find(self.session, self.path)
        if found is not None:
            return found[1] is None or isinstance(found[1].node, DirectoryNode)
        return (await self.session.resolve(self.path)).attributes.type is m.FileType.DIRECTORY

    async def head(self) -> Verified | None:
        head = await self.session.heads.current()
        return None if head is None else head.verified

    async def covers_all(self) -> bool:
        return not await self._base()

    async def _base(self) -> bytes:
        """Where the path leads to."""
        found = await find(self.session, self.path)
        return self.path if found is None else found[0]

    async def entries(self) -> AsyncGenerator[Found, None]:
        base = await self._base()
        async with contextlib.aclosing(take_below(self.session, base, deep=True, most=0)) as members:
            async for member in members:
                head = self.session.heads.accepted
                if head is None:
                    raise ValueError("members of no volume")
                if member.error is not None:
                    member.error.where = member.error.where or self.session.url_of(member.path)
                yield _found(member.entry, base, head.verified, member.verified, member.error)

    async def version(self, below: bytes) -> Version:
        reader = await open_file(self.session, join_path(self.path, below), most=0)
        reader.pin()  # the two that were opened are compared, and no others
        return Version(reader.url, reader.verified, ServedTree(reader, reader.version))

    async def names(self, below: bytes) -> AsyncIterator[tuple[bytes, bool]]:
        async with contextlib.aclosing(list_below(self.session, join_path(self.path, below))) as listed:
            async for entry in listed:
                if entry.type is not EntryType.LINK:
                    yield entry.path.rpartition(b"/")[2], entry.type is EntryType.DIRECTORY


@dataclass(slots=True)
class LocalPlace:
    """In a signed tree: what has a record there, or is an entry of the volume."""

    tree: LocalTree
    path: bytes

    @property
    def revoked(self) -> frozenset[Item]:
        return self.tree.revoked

    async def head(self) -> Verified | None:
        if not isinstance(self.tree.index, VolumeView):
            return None
        try:
            return self.tree.volume_head().verified
        except VerificationError as error:
            error.where = self.tree.url
            raise

    async def covers_all(self) -> bool:
        return not self.path

    async def entries(self) -> AsyncGenerator[Found, None]:
        for found in self._entries(b""):
            yield found

    def _entries(self, below: bytes) -> Iterator[Found]:
        """Raises `VerificationError`."""
        view, base = self.tree.index, join_path(self.path, below)
        if not isinstance(view, VolumeView):
            raise ValueError("entries of no volume")
        try:
            head = self.tree.volume_head().verified
            for entry, row in members(view, head, base):
                verified = error = None
                if isinstance(entry.node, FileNode):
                    try:
                        verified = self.tree.judge_listed(Listed(view, head, entry, row))
                    except VerificationError as problem:
                        error = problem
                        error.where = self.tree.url_of(entry.path)
                yield _found(entry, self.path, head, verified, error)
        except VerificationError as problem:
            problem.where = problem.where or self.tree.url_of(base)
            raise

    async def is_directory(self) -> bool:
        if await self.head() is not None:
            return self._volume_entry() is None or isinstance(self._volume_entry(), DirectoryNode)
        entry = self._entry(b"")
        if entry is None:
            raise self._unsigned(b"")
        return not entry.is_file

    def _volume_entry(self) -> Node | None:
        """What the volume has at the path, None for its root. Raises `VerificationError`."""
        view = self.tree.index
        if not self.path or not isinstance(view, VolumeView):
            return None
        try:
            found = look_up(view, self.tree.volume_head().verified, self.path)
            if found is None:
                raise Absent("the volume has nothing of this name")
        except VerificationError as error:
            error.where = self.tree.url_of(self.path)
            raise
        return found[0].node

    def _entry(self, below: bytes) -> IndexEntry | None:
        path = join_path(self.path, below)
        return self.tree.index.by_path(path) if path else self.tree.index.by_id(ROOT_ID)

    def _unsigned(self, below: bytes) -> Unsigned:
        url = self.tree.url_of(join_path(self.path, below))
        return Unsigned("there is no record for it in the published tree", where=url)

    async def version(self, below: bytes) -> Version:
        path = join_path(self.path, below)
        url = self.tree.url_of(path)
        entry = self._entry(below)
        try:
            verified = self.tree.verify_record(path, entry)
        except VerificationError as error:
            error.where = url
            raise
        return Version(url, verified, SignedTree(self.tree, path, verified, None if entry is None else entry.tree))

    async def names(self, below: bytes) -> AsyncIterator[tuple[bytes, bool]]:
        if isinstance(self.tree.index, VolumeView):
            for found in self._entries(below):
                if found.key[0] != below.replace(b"/", b"\0"):
                    break
                if not isinstance(found.node, LinkNode):
                    yield found.key[1], isinstance(found.node, DirectoryNode)
            return
        entry = self._entry(below)
        if entry is not None and not entry.is_file:
            for name, is_file in self.tree.index.names(entry.id, b"", -1):
                yield name, not is_file


def _found(entry: Entry, base: bytes, head: Verified, verified: Verified | None, error: Exception | None) -> Found:
    """An entry with its place below the directory that is compared."""
    below = entry.path[len(base) + 1 :] if base else entry.path
    return Found(key_of_path(below), below, entry.node, head, verified, error)


@dataclass(slots=True)
class SignedTree:
    """The tree of a file that is signed where it lies, as the publisher kept it; else hashed anew: a `TreeSource`."""

    local: LocalTree
    path: bytes
    verified: Verified
    inline: bytes | None
    """The kept tree, where the index has it."""
    type: int = field(init=False)
    shape: Shape = field(init=False)
    hash: Hash = field(init=False)
    root: bytes = field(init=False)
    _tree: HashedTree | None = field(init=False, default=None)
    _hashed: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        try:
            signed = signed_root(self.verified)
        except Mismatch as error:
            error.where = self.local.url_of(self.path)
            raise
        self.type, self.shape, self.root, self.hash = signed.type, signed.shape, signed.root, signed.hash

    async def below(self, level: int, nodes: Sequence[TreeNode], step: int) -> Sequence[Sequence[bytes]]:
        if self._tree is None:
            kept = kept_tree(self.local.root, self.hash, self.verified.content.tree, self.inline)
            self._tree = await self._hash_file() if kept is None else HashedTree(kept, self.root)
        try:
            return await self._tree.below(level, nodes, step)
        except (Mismatch, OSError):
            if self._hashed:
                raise
        self._tree = await self._hash_file()  # what was kept is damaged
        return await self._tree.below(level, nodes, step)

    async def _hash_file(self) -> HashedTree:
        """From the file. Raises `Mismatch` where that is not what was signed any more; `OSError`."""
        fd = open_below(self.local.root, split_path(self.path))
        try:
            size = os.fstat(fd).st_size
            if size != self.shape.size:
                raise self._mismatch("the size is not what was signed", f"{self.shape.size} bytes", f"{size} bytes")
            tree = await beside(size, lambda progress: hash_file(fd, self.shape, self.hash, progress), _no_progress)
        except ChangedSize as error:
            raise self._mismatch("the size is not what was signed", f"{self.shape.size} bytes", "less") from error
        finally:
            os.close(fd)
        if tree.root != self.root:
            raise self._mismatch(
                "its tree was not kept, and the content is not what was signed", self.root.hex(), tree.root.hex()
            )
        self._hashed = True
        return tree

    def _mismatch(self, message: str, expected: str, found: str) -> Mismatch:
        where = self.local.url_of(self.path)
        return Mismatch(message, expected=expected, found=found, where=where)


def _no_progress(count: int) -> None: ...


# two files


def ranges(a: Version, b: Version) -> AsyncGenerator[Range, None]:
    """The bytes that differ, ascending. Raises `Incomparable`, and as `Place.version`."""
    return trees.ranges(a.tree, b.tree)


# two trees


async def compare_trees(
    a: Place, b: Place, *, with_ranges: bool, every: bool = True
) -> AsyncGenerator[FileDifference, None]:
    """Every file of either, in the order of directories: first a directory's files, then what is below it.

    Of two volumes also links and directories; without `every`, nothing of those that are the same by their heads.
    """
    if await a.head() is not None and await b.head() is not None:
        async with contextlib.aclosing(compare_volumes(a, b, with_ranges=with_ranges, every=every)) as found:
            async for difference in found:
                yield difference
        return
    pairs = _pairs(a, b)
    async with contextlib.aclosing(pairs):
        async for some in batches(pairs, FILES):
            jobs = (_compare(a, b, path, in_a, in_b, with_ranges) for path, in_a, in_b in some)
            async with contextlib.aclosing(in_order(jobs, FILES_AT_ONCE)) as found:
                async for difference in found:
                    yield difference


async def _pairs(a: Place, b: Place) -> AsyncGenerator[tuple[bytes, bool, bool], None]:
    """Paths of files, and which of the two has each."""
    kept, directories = Kept(), [(b"", True, True)]
    kept.add(b"")
    while directories:
        at, in_a, in_b = directories.pop()
        kept.drop(at)
        deeper: list[tuple[bytes, bool, bool]] = []
        async for name, of_a, of_b in _merged(a.names(at) if in_a else None, b.names(at) if in_b else None):
            try:
                below = join_path(at, name)
            except ValueError as error:
                raise MalformedMessage(f"a listing has {error}") from error
            if True in (of_a, of_b):
                kept.add(below)
                deeper.append((below, of_a is True, of_b is True))
            if False in (of_a, of_b):
                yield below, of_a is False, of_b is False
        directories += reversed(deeper)


async def _merged(
    a: AsyncIterator[tuple[bytes, bool]] | None, b: AsyncIterator[tuple[bytes, bool]] | None
) -> AsyncGenerator[tuple[bytes, bool | None, bool | None], None]:
    """Names of two listings, in order; for each, whether it is a directory, or None where there is none."""
    one, other = await _next(a), await _next(b)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            yield one[0], one[1], None  # type: ignore[index]
            one = await _next(a)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = await _next(b)
        else:
            yield one[0], one[1], other[1]
            one, other = await _next(a), await _next(b)


async def _next(names: AsyncIterator[tuple[bytes, bool]] | None) -> tuple[bytes, bool] | None:
    return None if names is None else await anext(names, None)


async def _compare(a: Place, b: Place, path: bytes, in_a: bool, in_b: bool, with_ranges: bool) -> FileDifference:
    one = other = None
    try:
        one = await a.version(path) if in_a else None
        other = await b.version(path) if in_b else None
        if one is None or other is None:
            state = State.ADDED if one is None else State.REMOVED
            return FileDifference(path, state, record_of(one), record_of(other))
        return await compared(path, one, other, with_ranges)
    except (NfsVerityError, OSError) as error:
        return FileDifference(path, State.FAILED, record_of(one), record_of(other), None, error)


# for programs


@contextlib.asynccontextmanager
async def place(where: str | os.PathLike[str], options: TreeOptions) -> AsyncIterator[Place]:
    """A URL or a path. Raises `ValueError`, `Unsigned`, `TrustStoreError`, `StoreError`, `OSError`."""
    text = os.fspath(where)
    if is_url(text):
        async with opened(text, options, None) as tree:
            yield ServedPlace(tree._session, tree._base)
        return
    root, below = locate_file(Path(text))
    volume = options.get("volume")
    volumes = None if volume is None else frozenset((volume,))
    bindings = options.get("bindings") or Bindings()
    told = options.get("on_binding", announce)
    local = LocalTree(root, trust_entries(options.get("trust")), volumes, bindings, told)
    with contextlib.closing(local):
        yield LocalPlace(local, local.follow(below))


async def _ranges(
    a: str | os.PathLike[str], b: str | os.PathLike[str], options: TreeOptions
) -> AsyncGenerator[Range, None]:
    async with place(a, options) as one, place(b, options) as other:
        versions = await one.version(b""), await other.version(b"")
        async with contextlib.aclosing(ranges(*versions)) as found:
            async for part in found:
                yield part


async def _differences(
    a: str | os.PathLike[str], b: str | os.PathLike[str], with_ranges: bool, options: TreeOptions
) -> AsyncGenerator[FileDifference, None]:
    async with (
        place(a, options) as one,
        place(b, options) as other,
        contextlib.aclosing(compare_trees(one, other, with_ranges=with_ranges)) as found,
    ):
        async for difference in found:
            yield difference


def _blocking(items: AsyncGenerator[T, None]) -> Iterator[T]:
    try:
        while some := wait_for(_some(items)):
            yield from some
    finally:
        with contextlib.suppress(RuntimeError):  # it is being ended already
            wait_for(items.aclose())


async def _some(items: AsyncIterator[T]) -> list[T]:
    found: list[T] = []
    async for item in items:
        found.append(item)
        if len(found) == SOME:
            break
    return found


def diff(a: str | os.PathLike[str], b: str | os.PathLike[str], **options: Unpack[TreeOptions]) -> Iterator[Range]:
    """The ranges of bytes in which two versions of a file differ: from their trees, without their content.

    `a` and `b` are URLs, or paths in signed trees on this machine. A range is in whole units, of which some byte
    differs; what only the longer version has is the last. Raises the `VerificationError` of what does not verify,
    `Incomparable` where the trees have no nodes in common, `StatusError`, `PeerError`, `StoreError`, `OSError`.
    """
    return _blocking(_ranges(a, b, options))


def diff_trees(
    a: str | os.PathLike[str], b: str | os.PathLike[str], *, ranges: bool = False, **options: Unpack[TreeOptions]
) -> Iterator[FileDifference]:
    """Every file of two directories, and what became of it; with `ranges`, also which bytes differ.

    What does not verify is in what it says about that file. Raises as `diff` what concerns a directory.
    """
    return _blocking(_differences(a, b, ranges, options))
