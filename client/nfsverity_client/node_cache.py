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
import hmac
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nfsverity_proto.hashes import Hash
from nfsverity_proto.proof import Run
from nfsverity_proto.tree import Shape

from .cache_place import size_of
from .node_runs import Cut, NodeRun, content_id, cut, decode, encode, fold_cut, merged, runs_above
from .nodes import Anchor, NodeMemory, VerifiedNodes
from .trust_store import CACHE_VARIABLE, cache_directory
from .unit_cache import CachedUnits, UnitCache

if TYPE_CHECKING:
    from .node_store import NodeStore, Usage

T = TypeVar("T")
SIZE_VARIABLE = "NFSVERITY_CACHE_SIZE"
SIZE_DEFAULT = 2**28
"""Bytes of the store: the nodes of about 1.4 TB of files, at 64 KiB a unit."""
WHOLE_MAX = 2**16
"""Bytes of a file that comes whole when it is opened, without a proof: nothing of it is kept."""
LOAD_SECONDS = 0.25
"""That a read waits for the store; then it goes on as if nothing were there."""
CLOSE_SECONDS = 2.0
"""That the end of a session waits for what is still to be written."""
SAVE_SECONDS = 1.0
"""After which what was verified is handed over, at the latest."""
DIRTY_MAX = 8
"""Runs of the lowest row that wait to be full."""
DIRTY_UPPER_MAX = 64
"""The same of the rows above."""
REMEMBERED_MAX = 2**14
"""Runs of one file of which it is known what the store has."""
LEVEL_STEP = 2**12
"""Nodes of a whole level that are loaded at once."""
BATCH = 32
"""Runs that are written at once."""
QUEUE_MAX = 1024
"""Runs that wait to be written, about 8 MiB; more are not kept."""


def cache_size() -> int:
    """Bytes that the store may have. Raises `ValueError` for a size that is none."""
    return size_of(SIZE_VARIABLE, SIZE_DEFAULT)


_NOTHING = object()
"""In the place of what a store that is off would have said."""


@dataclass(slots=True)
class Counts:
    """What the cache did."""

    hits: int = 0
    """Runs that were found, and folded."""
    misses: int = 0
    """Runs that were needed and not there."""
    dropped: int = 0
    """Runs that were there, and did not fold."""
    bytes_saved: int = 0
    """Of hashes that the server was not asked for."""
    data_hits: int = 0
    """Spans (what is read and verified at once) whose units were in the unit cache, and verified."""
    data_misses: int = 0
    """Spans that were looked for there in vain."""
    data_dropped: int = 0
    """Spans that were there, and did not verify."""
    data_bytes_saved: int = 0
    """Of content that the server was not asked for."""


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


class SessionNodes:
    """The nodes of all files that one session has open: bounded together, and where there is a cache, kept.

    `units`: where units are kept, too.
    """

    def __init__(self, cache: NodeCache | None = None, units: UnitCache | None = None) -> None:
        self.memory = NodeMemory()
        self.counts = Counts()
        self._noted = Counts()
        self._cache = cache
        self._units = units
        self._open: weakref.WeakSet[CachedNodes] = weakref.WeakSet()

    def cached(self, hash: Hash, tree_type: int, nodes: VerifiedNodes, root: bytes) -> CachedNodes | None:
        """What connects the nodes of a version with the cache; None where nothing of it is kept."""
        if self._cache is None or nodes.shape.size <= WHOLE_MAX or nodes.shape.units < 2:
            return None
        content = content_id(hash.number, tree_type, nodes.shape, root)
        cached = CachedNodes(self._cache, self.counts, content, hash, nodes)
        self._open.add(cached)
        return cached

    def cached_units(self, hash: Hash, tree_type: int, shape: Shape, root: bytes) -> CachedUnits | None:
        """The units of a version that are kept; None where none of it are."""
        if self._units is None or shape.size <= WHOLE_MAX:
            return None
        return CachedUnits(self._units, content_id(hash.number, tree_type, shape, root), shape)

    async def close(self) -> None:
        """Hand over what was verified, and let it be written."""
        if self._cache is None:
            return
        for cached in list(self._open):
            cached.save_all()
        self._cache.note(set(), set(), self._uncounted())
        await self._cache.written(CLOSE_SECONDS)

    def _uncounted(self) -> dict[str, int]:
        new = {}
        for name in (field.name for field in fields(Counts)):
            new[name] = getattr(self.counts, name) - getattr(self._noted, name)
            setattr(self._noted, name, getattr(self.counts, name))
        return new


class CachedNodes:
    """The verified nodes of one version, and what the cache has of them."""

    def __init__(self, cache: NodeCache, counts: Counts, content: bytes, hash: Hash, nodes: VerifiedNodes) -> None:
        self._cache = cache
        self._counts = counts
        self._content = content
        self._hash = hash
        self._nodes = nodes
        self._present: set[bytes] | None = None
        self._asked = False
        self._missing: set[bytes] = set()
        self._stored: dict[bytes, tuple[int, tuple[int, int]]] = {}
        """How many nodes the cut of a run in the store has, and the first of them: known, as long as all are."""
        self._dirty: OrderedDict[NodeRun, list[bytes | None]] = OrderedDict()
        """Runs of the lowest row, with the leaves that were verified lately."""
        self._dirty_upper: OrderedDict[NodeRun, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # loading

    async def load(self, first: int, end: int, lowest: int = 0) -> None:
        """Have what the cache knows about the nodes above units [first, end) verified, from the top down."""
        if not self._asked:
            self._present = await self._cache.present(self._content)
            self._asked = True
        runs = [
            run
            for run in runs_above(self._nodes.shape, first, end, self._nodes.shape.height)
            if run.top > lowest and self._wanted(run)
        ]
        if not runs:
            return
        values = await self._cache.get([run.key(self._content) for run in runs])
        used: set[bytes] = set()
        dropped: set[bytes] = set()
        for run, value in zip(runs, values, strict=True):
            key = run.key(self._content)
            top = self._nodes.known(run.top, run.index)
            if top is None:
                continue  # it cannot be told whether it is good
            if value is None:
                self._miss(key)
                continue
            nodes = decode(run, self._hash.length, value)
            found, folded = (b"", []) if nodes is None else fold_cut(self._hash, run, nodes)
            if nodes is None or not hmac.compare_digest(found, top):
                self._counts.dropped += 1
                dropped.add(key)
                self._miss(key)
                continue
            self._nodes.add(folded)
            self._counts.hits += 1
            used.add(key)
            self._remember(run, key, nodes)
        self._cache.note(used, dropped, {})

    async def load_level(self, level: int) -> list[bytes | None]:
        """All nodes of a level, verified where the cache has them. They leave the memory as any others."""
        shape = self._nodes.shape
        hashes: list[bytes | None] = []
        step = LEVEL_STEP
        for first in range(0, shape.width(level), step):
            end = min(first + step, shape.width(level))
            await self.load(first << level, min(end << level, shape.units), level)
            hashes += [self._nodes.known(level, index) for index in range(first, end)]
        return hashes

    def _wanted(self, run: NodeRun) -> bool:
        key = run.key(self._content)
        stored = self._stored.get(key)
        if key in self._missing or (stored is not None and self._nodes.known(*stored[1]) is not None):
            return False
        if self._present is not None and key not in self._present:
            self._miss(key)
            return False
        return True

    def _miss(self, key: bytes) -> None:
        self._counts.misses += 1
        if len(self._missing) >= REMEMBERED_MAX:
            self._missing.clear()
        self._missing.add(key)

    def _remember(self, run: NodeRun, key: bytes, nodes: Cut) -> None:
        if len(self._stored) >= REMEMBERED_MAX:
            self._stored.clear()
        level = nodes[0][0]
        self._stored[key] = len(nodes), (run.base + level, run.first >> level)

    def saved(self, hashes: int) -> None:
        """So many hashes were not asked for."""
        self._counts.bytes_saved += hashes * self._hash.length

    # saving

    def verified(self, anchor: Anchor, leaves: Run) -> None:
        """What is between units and a verified node above them has been verified. `leaves`: the lowest of it."""
        for run in runs_above(self._nodes.shape, anchor.first, anchor.end, anchor.level):
            if run.row == 0:
                self._take(run, leaves)
                continue
            self._dirty_upper[run] = None
            self._dirty_upper.move_to_end(run)
            if len(self._dirty_upper) > DIRTY_UPPER_MAX:
                self._save(self._dirty_upper.popitem(last=False)[0], self._nodes.known)
        loop = asyncio.get_running_loop()
        if self._timer is None or self._loop is not loop:
            self._loop, self._timer = loop, loop.call_later(SAVE_SECONDS, self._due)

    def _take(self, run: NodeRun, leaves: Run) -> None:
        """Leaves of a run, which is handed over as soon as it is full, or when it was waiting for longest."""
        found = self._dirty.pop(run, None)
        if found is None:
            found = [None] * run.width
        low = max(leaves.first, run.first)
        high = min(leaves.first + len(leaves.hashes), run.first + run.width)
        found[low - run.first : high - run.first] = leaves.hashes[low - leaves.first : high - leaves.first]
        self._dirty[run] = found
        full = [leaf for leaf in found if leaf is not None]
        if len(full) == run.width:
            del self._dirty[run]
            self._hand_over(run, [(0, leaf) for leaf in full])
        elif len(self._dirty) > DIRTY_MAX:
            self._save(self._dirty.popitem(last=False)[0], self._nodes.known)

    def _due(self) -> None:
        self._timer = None
        self.save_all()
        self._cache.flush()

    def save_all(self) -> None:
        """Hand over all that was verified lately."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for run in [*self._dirty_upper, *self._dirty]:
            self._save(run, self._nodes.known)
        self._dirty_upper.clear()
        self._dirty.clear()

    def save_level(self, level: int, levels: Sequence[Sequence[bytes]]) -> None:
        """Hand over whole levels, from `level` up to the root."""

        def known(at: int, index: int) -> bytes | None:
            return levels[at - level][index] if at >= level else None

        shape = self._nodes.shape
        for run in runs_above(shape, 0, shape.units, shape.height):
            if run.top > level:
                self._save(run, known)

    def _save(self, run: NodeRun, known: Callable[[int, int], bytes | None]) -> None:
        if self._stored_length(run) < run.width:
            nodes = cut(run, known)
            if nodes is not None:
                self._hand_over(run, nodes)

    def _stored_length(self, run: NodeRun) -> int:
        return self._stored.get(run.key(self._content), (0, None))[0]

    def _hand_over(self, run: NodeRun, nodes: Cut) -> None:
        """Have a cut stored that says more than the one that is."""
        if len(nodes) <= max(1, self._stored_length(run)):
            return
        key = run.key(self._content)
        self._remember(run, key, nodes)
        self._missing.discard(key)
        if self._present is not None:
            self._present.add(key)
        self._cache.save(self._hash, run, key, nodes)
