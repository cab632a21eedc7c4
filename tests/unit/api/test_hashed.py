# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trees that are made here, and the thread that makes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nfsverity import _hashed
from nfsverity._hashed import HERE, HashedTree, beside, hash_file
from nfsverity_client import diff
from nfsverity_client.diff import Node
from nfsverity_proto.errors import Mismatch
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.tree import Shape
from oracle import merkle

UNIT = 4096


def hashed(path: Path, data: bytes, number: int = 1) -> HashedTree:
    path.write_bytes(data)
    with path.open("rb") as file:
        return hash_file(file.fileno(), Shape(len(data), 12), hash_by_number(number), lambda _: None)


@pytest.mark.parametrize("memory", [0, 2**22])
@pytest.mark.parametrize("number", [1, 8, 0x10000])
@pytest.mark.parametrize("size", [0, 1, UNIT, 5 * UNIT + 1, 70 * UNIT])
def test_its_nodes_are_those_of_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, number: int, memory: int
) -> None:
    monkeypatch.setattr(_hashed, "MEMORY", memory)
    data = bytes(range(1, 251)) * (size // 250 + 1)
    units = merkle.cut(data[:size], UNIT)
    digest = merkle.HASHES[number][1]
    tree = hashed(tmp_path / "file", data[:size], number)
    assert tree.root == merkle.tree_hash(digest, units)
    for level in range(1, merkle.height(len(units)) + 1):
        for step in range(1, min(level, 4) + 1):
            above = range(0, tree.shape.width(level), 2)
            nodes = [Node(index, merkle.node(digest, units, level, index)) for index in above]
            assert tree.read_below(level, nodes, step) == [
                [merkle.node(digest, units, level - step, index) for index in range(*group)]
                for group in (diff.group_of(tree.shape, level, node.index, step) for node in nodes)
            ]


@pytest.mark.spec("fim-cache-1")
def test_what_is_stored_and_does_not_fold_is_refused(tmp_path: Path) -> None:
    tree = hashed(tmp_path / "file", bytes(range(1, 251)) * 200)
    tree.nodes.put(0, 1, [bytes(31) + b"\1"])
    with pytest.raises(Mismatch, match="do not lead"):
        tree.read_below(tree.shape.height, [Node(0, tree.root)], tree.shape.height)


async def test_the_result_and_the_error_of_work_beside() -> None:
    told: list[int] = []

    def work(progress: Callable[[int], None]) -> str:
        progress(3)
        return threading.current_thread().name

    assert await beside(1, work, told.append) == threading.current_thread().name
    assert await beside(HERE + 1, work, told.append) != threading.current_thread().name
    await asyncio.sleep(0)
    assert told == [3, 3]

    def failing(_: object) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await beside(HERE + 1, failing, told.append)


async def test_work_ends_where_nobody_waits_for_it() -> None:
    begun, ended = asyncio.Event(), threading.Event()

    def endless(progress: Callable[[int], None]) -> None:
        try:
            while True:
                progress(1)
        finally:
            ended.set()

    task = asyncio.create_task(beside(HERE + 1, endless, lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
