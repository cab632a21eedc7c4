# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verified nodes and units of the files that a session has open, and what the caches have of them."""

from __future__ import annotations

import asyncio
import hmac
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from nfsverity_proto.hashes import Hash
from nfsverity_proto.proof import Run
from nfsverity_proto.tree import Shape

from .node_cache import NodeCache
from .node_runs import Cut, NodeRun, content_id, cut, decode, fold_cut, runs_above
from .nodes import Anchor, NodeMemory, VerifiedNodes
from .unit_cache import CachedUnits, UnitCache

if TYPE_CHECKING:
    pass

WHOLE_MAX = 2**16
"""Bytes of a file that comes whole when it is opened, without a proof: nothing of it is kept."""
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
