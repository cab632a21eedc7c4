# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Served trees: `AsyncTree` for programs with an event loop, `Tree` for all others."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict, TypeVar, Unpack

from nfsverity_client.gates import Gates, gates_of
from nfsverity_client.listing import Listed, list_below
from nfsverity_client.node_cache import NodeCache, node_cache
from nfsverity_client.opening import Opened, open_at
from nfsverity_client.policy import UserPolicy, load_policy
from nfsverity_client.presentation import Presentation
from nfsverity_client.revocations import RevokedList
from nfsverity_client.session import Session, Settings
from nfsverity_client.state import State
from nfsverity_client.trust_store import Bindings, TrustStore, certificate_file
from nfsverity_client.unit_cache import unit_cache
from nfsverity_client.volume import find
from nfsverity_proto.entry import DirectoryNode, EntryType
from nfsverity_proto.errors import StatusError, VerificationError
from nfsverity_proto.messages import Status
from nfsverity_proto.path import join_path
from nfsverity_proto.policy import Gate
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.url import parse_url
from nfsverity_proto.verification import Verified

from ._file import File
from ._loop import wait_for

T = TypeVar("T")
log = logging.getLogger("nfsverity")
Trust = Iterable[str | os.PathLike[str] | TrustEntry]
SOME = 256
Name = str | bytes
"""A path in the tree: names joined by "/"; text stands for its UTF-8."""


def trust_entries(trust: Trust | None) -> tuple[TrustEntry, ...]:
    """Entries as they are, and certificate files as pins; the user's trust store where nothing is given.

    Raises `TrustStoreError`, `OSError`; `TypeError` for one name where a list of them is due.
    """
    if isinstance(trust, str | bytes):
        raise TypeError(f"trust is a list: [{trust!r}]")
    if trust is None:
        return tuple(TrustStore().entries())
    return tuple(item if isinstance(item, TrustEntry) else TrustEntry(certificate_file(Path(item))) for item in trust)


def announce(server: str, volume: bytes) -> None:
    """What is done where the caller does not say what to do at first use (fim-ver-2)."""
    log.warning("%s is from now on volume %s for you", server, volume.hex())


def refused(error: VerificationError) -> None:
    """What is done about a revocation that is not accepted (fim-rev-9)."""
    log.warning("%s", error)


def _path(name: Name) -> bytes:
    return join_path(os.fsencode(name))


class AsyncTree:
    """A served tree, in an event loop. See `open_tree_async`.

    Everything raises `VerificationError` for what does not verify, `StatusError` for what the server says, and
    `PeerError` where it cannot be reached or understood.
    """

    def __init__(self, session: Session, base: bytes) -> None:
        self._session = session
        self._base = base

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def open(
        self, name: Name, *, presentation: Presentation | str | None = None, gate: Gate | str = Gate.OPEN
    ) -> Opened:
        """Open a file of the tree: its record and first bytes verified, in one round trip.

        `gate`: open, exec or mmap, for which the policy can have different rules; at exec the file has to be signed
        as executable. Where a rule does not enforce, the file is not verified, and `unverified` says which.
        """
        chosen = None if presentation is None else Presentation(presentation)
        where = Gate(gate)
        if where is Gate.READ:
            raise ValueError("a file is opened at the gate open, exec or mmap; read is passed by reading")
        path = join_path(self._base, _path(name))
        return await open_at(self._session, path, where, presentation=chosen)

    async def read(self, name: Name) -> bytes:
        """The whole content of a file, verified. Where the policy does not enforce that, it raises `ValueError`."""
        opened = await self.open(name)
        if opened.unverified is not None:
            raise ValueError(f"{opened.url} is not verified: {opened.unverified} (open it to read it all the same)")
        return await opened.pread()

    async def head(self) -> Verified | None:
        """The head of the volume, verified: its `volume`, `when` (generation and times) and `signers`.

        None where the server has a tree of stand-alone records: then no listing is verified.
        """
        judged = await self._session.heads.current()
        return None if judged is None else judged.verified

    async def list(self, name: Name = b"") -> AsyncIterator[Listed]:
        """What is in a directory; links in the path are followed.

        Of a volume, it is verified and complete (`is_verified`), in the order of the volume; else the server's word,
        by name. What a volume does not have raises `Absent`.
        """
        async for _, entry in self._below(name, deep=False):
            yield entry

    async def walk(self, name: Name = b"") -> AsyncIterator[bytes]:
        """The path of every file below a directory, as `list` has them; links are not gone into."""
        async for path, entry in self._below(name, deep=True):
            if entry.type is EntryType.FILE:
                yield path

    async def _below(self, name: Name, *, deep: bool) -> AsyncIterator[tuple[bytes, Listed]]:
        """Entries, each with its path in the tree."""
        asked = _path(name)
        found = await find(self._session, join_path(self._base, asked))
        if found is None:
            directory = join_path(self._base, asked)
        else:
            directory, at = found
            if at is not None and not isinstance(at.node, DirectoryNode):
                raise StatusError(Status.NOT_DIRECTORY, "what the path leads to is a file")
        async with aclosing(list_below(self._session, directory, deep=deep)) as entries:
            async for entry in entries:
                below = entry.path[len(directory) :].lstrip(b"/")
                yield join_path(asked, below), entry


class Tree:
    """A served tree, for blocking callers. See `open_tree`; errors are those of `AsyncTree`."""

    def __init__(self, tree: AsyncTree) -> None:
        self._tree = tree

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        wait_for(self._tree.close())

    def open(self, name: Name, *, presentation: Presentation | str | None = None, gate: Gate | str = Gate.OPEN) -> File:
        """Open a file of the tree as a binary file object; `gate` as for `AsyncTree`."""
        return File(wait_for(self._tree.open(name, presentation=presentation, gate=gate)))

    def read(self, name: Name) -> bytes:
        """The whole content of a file, verified."""
        return wait_for(self._tree.read(name))

    def head(self) -> Verified | None:
        """The head of the volume, as `AsyncTree.head`."""
        return wait_for(self._tree.head())

    def list(self, name: Name = b"") -> Iterator[Listed]:
        """What is in a directory, as `AsyncTree.list`."""
        entries = self._tree.list(name)
        while some := wait_for(_some(entries)):
            yield from some

    def walk(self, name: Name = b"") -> Iterator[bytes]:
        """The path of every file below a directory, as `AsyncTree.walk`."""
        paths = self._tree.walk(name)
        while some := wait_for(_some(paths)):
            yield from some


async def _some(items: AsyncIterator[T]) -> Sequence[T]:
    """The next few, so that a blocking caller need not wait for each; none at the end."""
    found: list[T] = []
    async for item in items:
        found.append(item)
        if len(found) == SOME:
            break
    return found


class GateOptions(TypedDict, total=False):
    """What decides, and where that is logged; each is optional."""

    policy: str | os.PathLike[str] | None
    """A policy file (docs/policy.md); None: enforce everything. By default the user's."""
    audit_log: str | os.PathLike[str]
    """A log for each decision; what cannot be logged does not go on. By default what the policy says."""


class TreeOptions(GateOptions, total=False):
    """How a tree is opened; each is optional."""

    trust: Trust
    """Certificate files of the signers to believe, or `TrustEntry`s; by default the user's trust store."""
    volume: bytes
    """The volume ID (16 bytes) to expect; by default what trust entries or the binding of first use say."""
    presentation: Presentation | str
    """ahead, on-demand, inline (the default) or reconstruct."""
    wait: float
    """Seconds for all updates together (30); 0 = never wait."""
    timeout: float
    """Seconds for one answer (30)."""
    bindings: Bindings
    """Where the volume of a server's first use is kept; by default the user's."""
    cache: str | os.PathLike[str] | bool
    """The directory of the node cache; by default (and True) the user's, False: none. It shows what was read."""
    cache_data: bool
    """Whether the content of files that are read is kept there, too. By default it is not; nor where there is no
    cache, since NFSVERITY_CACHE_SIZE is 0."""
    state: State
    """Where marks and accepted revocations are kept (`State(directory)`); by default the user's."""
    on_binding: Callable[[str, bytes], None]
    """Told the server and the volume when it is bound; by default that is logged."""


def _node_cache(where: str | os.PathLike[str] | bool) -> NodeCache | None:
    if where is False:
        return None
    return node_cache(None if where is True else Path(where), on_trouble=_warn)


def _warn(trouble: str) -> None:
    log.warning("the node cache: %s (reading goes on, with more hashes from the server)", trouble)


def _warn_units(trouble: str) -> None:
    log.warning("the cache of content: %s (reading goes on, and nothing more is kept)", trouble)


def gates_for(options: GateOptions) -> Gates:
    """Raises `PolicyError`, `OSError`."""
    policy, log = options.get("policy", ""), options.get("audit_log")
    user = UserPolicy() if policy is None else load_policy(Path(policy) if policy else None)
    return gates_of(user, None if log is None else Path(log))


def open_tree_async(url: str, **options: Unpack[TreeOptions]) -> AsyncTree:
    """A tree served at `nfsv://HOST:PORT/`, or a directory in it. Nothing is sent before something is asked for.

    Raises `ValueError` for a bad URL or option, `TrustStoreError`, `PolicyError`, `OSError`. What is read raises
    `StateError` too, where what was accepted cannot be remembered.
    """
    return opened(url, options, options.get("state") or State())


def opened(url: str, options: TreeOptions, state: State | None) -> AsyncTree:
    """Without `state`, versions are judged as if none was seen before: for who asks for old ones."""
    where = parse_url(url)
    volume = options.get("volume")
    if volume is not None and len(volume) != 16:
        raise ValueError(f"a volume ID has 16 bytes, not {len(volume)}")
    settings = Settings(
        trust=trust_entries(options.get("trust")),
        volume=volume,
        presentation=Presentation(options.get("presentation", Presentation.INLINE)),
        wait=options.get("wait", 30.0),
        timeout=options.get("timeout", 30.0),
        revoked=RevokedList().items(),
        gates=gates_for(options),
    )
    bindings = options.get("bindings") or Bindings()
    cache = _node_cache(options.get("cache", True))
    if options.get("cache_data") and options.get("cache") is False:
        raise ValueError("cache_data=True and cache=False: only one of them can be meant")
    units = unit_cache(cache.directory, _warn_units) if options.get("cache_data") and cache is not None else None
    on_binding = options.get("on_binding", announce)
    return AsyncTree(Session(where, settings, bindings, on_binding, cache, state, refused, units), where.path)


def open_tree(url: str, **options: Unpack[TreeOptions]) -> Tree:
    """As `open_tree_async`, for blocking callers."""
    return Tree(open_tree_async(url, **options))
