# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The durable cache of nodes (fim, "The Trust Envelope and Caches"): proof hashes that need not be sent again.

What is loaded is folded up to a node that this process has verified already, before it is used for anything
else (fim-cache-1): where that fails, it is dropped, and the server is asked as if nothing had been there. No
record and no verdict is kept (fim-cache-2). What a reader has verified is handed over in batches, which a
thread writes; nobody waits for that, and losing it costs only traffic.

FETCH brings the proof of its units all the same. The client learns which content it is only from the reply, so it
cannot know before whether the cache has the nodes, and where it has not, a call without a proof would be followed
by another one. The proof is 448 of some 66,000 bytes for the first unit of 64 KiB of 1 GiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nfsverity_proto.hashes import Hash

from .cache_place import size_of
from .node_runs import Cut, NodeRun, decode, encode, merged
from .trust_store import CACHE_VARIABLE, cache_directory

if TYPE_CHECKING:
    from .node_store import NodeStore, Usage

T = TypeVar("T")
SIZE_VARIABLE = "NFSVERITY_CACHE_SIZE"
SIZE_DEFAULT = 2**28
"""Bytes of the store: the nodes of about 1.4 TB of files, at 64 KiB a unit."""
LOAD_SECONDS = 0.25
"""That a read waits for the store; then it goes on as if nothing were there."""
BATCH = 32
"""Runs that are written at once."""
QUEUE_MAX = 1024
"""Runs that wait to be written, about 8 MiB; more are not kept."""


def cache_size() -> int:
    """Bytes that the store may have. Raises `ValueError` for a size that is none."""
    return size_of(SIZE_VARIABLE, SIZE_DEFAULT)


_NOTHING = object()
"""In the place of what a store that is off would have said."""


@dataclass(frozen=True, slots=True)
class _Save:
    """A cut to be stored."""

    hash: Hash
    run: NodeRun
    nodes: Cut


class NodeCache:
    """A store and the thread that works with it; safe to use from any thread, and after a fork.

    `on_trouble` is told, once, what is wrong with the store.
    """

    def __init__(
        self,
        directory: Path,
        limit: int = SIZE_DEFAULT,
        on_trouble: Callable[[str], None] | None = None,
        *,
        optional: bool = False,
    ) -> None:
        self.directory = directory
        self.limit = limit
        self.on_trouble = on_trouble
        self.optional = optional
        """Whether it is no trouble that there can be none."""
        self._told = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._store: NodeStore | None = None
        self._off = False
        self._changed = threading.Condition()
        self._reads: deque[tuple[Callable[[NodeStore], object], Future[object]]] = deque()
        self._saves: OrderedDict[bytes, _Save] = OrderedDict()
        self._used: set[bytes] = set()
        self._dropped: set[bytes] = set()
        self._counts: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._busy = False
        self._waiting: list[Future[object]] = []
        """Those who wait until all is written."""

    @contextlib.contextmanager
    def _held(self) -> Iterator[threading.Condition]:
        """The lock, and a thread that runs. After a fork that is the parent's, and its connection is left alone."""
        if self._pid != os.getpid():
            if self._store is not None:
                self._store.abandon()
            self._begin()
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nfsverity node cache", daemon=True)
                self._thread.start()
            yield self._changed

    # for the event loop

    async def present(self, content: bytes) -> set[bytes] | None:
        """The keys of a content's runs; None: too many to say."""
        return await self._read(lambda store: store.present(content), set())

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return await self._read(lambda store: store.get(keys), [None] * len(keys))

    async def _read(self, work: Callable[[NodeStore], T], otherwise: T) -> T:
        if self._off:
            return otherwise
        future: Future[object] = Future()
        with self._held() as changed:
            self._reads.append((work, future))
            changed.notify()
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                found = await asyncio.wrap_future(future)
        except TimeoutError:
            return otherwise
        return otherwise if found is _NOTHING else found  # type: ignore[return-value]

    def save(self, hash: Hash, run: NodeRun, key: bytes, nodes: Cut) -> None:
        """Have a verified cut stored, later."""
        if self._off:
            return
        with self._held() as changed:
            if len(self._saves) < QUEUE_MAX:
                self._saves[key] = _Save(hash, run, nodes)
            if len(self._saves) >= BATCH:
                changed.notify()

    def note(self, used: set[bytes], dropped: set[bytes], counts: dict[str, int]) -> None:
        """What was done with what was loaded."""
        if self._off:
            return
        with self._held():
            self._used |= used
            self._dropped |= dropped
            for name, count in counts.items():
                self._counts[name] = self._counts.get(name, 0) + count

    async def written(self, seconds: float) -> None:
        """When all that was handed over is written, or so many seconds later."""
        if self._off or not self._anything():
            return
        future: Future[object] = Future()
        with self._held() as changed:
            self._waiting.append(future)
            changed.notify()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wrap_future(future)

    def flush(self) -> None:
        """Begin to write what was handed over."""
        if not self._off and self._anything():
            with self._held() as changed:
                self._waiting.append(Future())
                changed.notify()

    def _anything(self) -> bool:
        return bool(self._busy or self._saves or self._used or self._dropped or any(self._counts.values()))

    # the thread

    def _run(self) -> None:
        from .node_store import NodeStore, StoreUnusable

        store = self._store = NodeStore(self.directory, self.limit)
        try:
            while True:
                self._step(store)
                if store.damaged or store.full:
                    self._tell(
                        f"{store.path} was replaced: {store.damaged}"
                        if store.damaged
                        else f"{store.path}: {store.full}"
                    )
        except StoreUnusable as error:
            if not self.optional:
                self._tell(str(error))
        finally:
            with self._changed:
                self._off = True
                left = [future for _, future in self._reads] + self._waiting
                self._reads.clear()
                self._saves.clear()
                self._waiting = []
            for future in left:
                _settle(future, _NOTHING)

    def _step(self, store: NodeStore) -> None:
        """One read, or one batch of writes; reads first."""
        with self._changed:
            while not (self._reads or len(self._saves) >= BATCH or self._waiting):
                self._changed.wait()
            if self._reads:
                work, future = self._reads.popleft()
                batch = None
            else:
                batch = [self._saves.popitem(last=False) for _ in range(min(BATCH, len(self._saves)))]
                used, self._used = self._used, set()
                dropped, self._dropped = self._dropped, set()
                counts, self._counts = self._counts, {}
                done: list[Future[object]] = []
                if not self._saves:
                    done, self._waiting = self._waiting, []
                self._busy = True
        if batch is None:
            found: object = _NOTHING
            try:
                found = work(store)
            finally:
                _settle(future, found)
            return
        try:
            part = [key for key, save in batch if len(save.nodes) < save.run.width]
            stored = dict(zip(part, store.get(part), strict=True))
            values = {key: encode(self._finer(save, stored.get(key))) for key, save in batch}
            store.write(values, sorted(used), sorted(dropped - set(values)), counts)
        finally:
            self._busy = False
            for future in done:
                _settle(future, None)

    def _finer(self, save: _Save, stored: bytes | None) -> Cut:
        """What is to be stored, with what another reader has stored before where that is the same tree."""
        if stored is None:
            return save.nodes
        known = decode(save.run, save.hash.length, stored)
        both = None if known is None else merged(save.hash, save.run, save.nodes, known)
        return save.nodes if both is None else both

    def _tell(self, trouble: str) -> None:
        if not self._told:
            self._told = True
            if self.on_trouble is not None:
                self.on_trouble(trouble)

    # for commands

    def usage(self) -> Usage:
        """What is in the store. Raises `StoreUnusable`. Blocking."""
        with contextlib.closing(self._own_store()) as store:
            return store.usage()

    def clear(self) -> int:
        """Delete the store; the bytes that it had. Raises `OSError`. Blocking."""
        return self._own_store().remove() if self.directory.is_dir() else 0

    def _own_store(self) -> NodeStore:
        from .node_store import NodeStore

        return NodeStore(self.directory, self.limit)


def _settle(future: Future[object], found: object) -> None:
    """Whoever waited may have given up."""
    if future.set_running_or_notify_cancel():
        with contextlib.suppress(RuntimeError):  # that event loop is closed
            future.set_result(found)


_caches: dict[tuple[Path, int], NodeCache] = {}


def node_cache(directory: Path | None = None, on_trouble: Callable[[str], None] | None = None) -> NodeCache | None:
    """The cache in a directory, by default the user's; the same object each time. None: its size is 0.

    Raises `ValueError` for a size that is none.
    """
    limit = cache_size()
    if not limit:
        return None
    where = cache_directory() if directory is None else directory
    cache = _caches.get((where, limit))
    if cache is None:
        optional = directory is None and not os.environ.get(CACHE_VARIABLE)
        cache = _caches[where, limit] = NodeCache(where, limit, on_trouble, optional=optional)
    return cache
