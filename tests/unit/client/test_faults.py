# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Every bad range of a file, not just the first."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from adversary import Call, between
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import open_file
from nfsverity_proto import messages as m
from nfsverity_proto.errors import Mismatch, Stale, Updating
from nfsverity_proto.messages import Status
from oracle.merkle import SHA256
from serving import Published, Served, publish_tree, serving, session

UNIT = 4096
SIZE = 3 * 2**20 + 5
GOOD = random.Random(1).randbytes(SIZE)
BAD = (0, 3, 4, 300, 511, 512, SIZE // UNIT)
"""Units."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("faults") / "tree"
    published = publish_tree(root, {"good": GOOD, "bad": GOOD, "short": GOOD}, unit_size=UNIT)
    changed = bytearray(GOOD)
    for unit in BAD:
        changed[unit * UNIT] ^= 1
    published.write({"bad": bytes(changed), "short": GOOD[:-UNIT]})
    return published


@pytest.fixture(scope="module")
def served(published: Published) -> Iterator[Served]:
    with serving(published.root, update_window=0.0) as served:
        yield served


async def faults(served: Served, name: bytes, how: Presentation, most: int = 65536) -> list[Mismatch]:
    async with session(served, wait=0.0, presentation=how) as opened:
        reader = await open_file(opened, name, most=most, tolerant=True)
        return [fault async for fault in reader.faults()]


@pytest.mark.spec("fip-client-25", "fim-ver-11")
@pytest.mark.parametrize("most", [0, 65536])
@pytest.mark.parametrize("how", list(Presentation))
async def test_every_bad_unit_is_told(served: Served, how: Presentation, most: int) -> None:
    assert await faults(served, b"good", how, most) == []
    found = await faults(served, b"bad", how, most)
    assert [(fault.offset, fault.length) for fault in found] == [(i * UNIT, min(UNIT, SIZE - i * UNIT)) for i in BAD]
    for fault, unit in zip(found, BAD, strict=True):
        good = GOOD[unit * UNIT : (unit + 1) * UNIT]
        assert fault.expected == SHA256(b"\0" + good).hex()
        assert fault.found == SHA256(b"\0" + bytes([good[0] ^ 1]) + good[1:]).hex()
        assert fault.where is not None


async def test_content_of_another_size(served: Served) -> None:
    async with session(served, wait=0.0) as opened:
        reader = await open_file(opened, b"short", most=0, tolerant=True)
        with pytest.raises(Stale):
            _ = [fault async for fault in reader.faults()]


async def test_one_verdict_where_nothing_can_be_located(served: Served) -> None:
    async def no_trees(call: Call) -> None:
        await (call.answer(Status.NOT_SUPPORTED) if call.procedure is m.TREE else call.forward())

    async with between(served.port) as adversary:
        adversary.on_call = no_trees
        async with session(adversary.where, wait=0.0) as opened:
            reader = await open_file(opened, b"bad", most=0, tolerant=True)
            found = [fault async for fault in reader.faults()]
    assert found
    assert {fault.offset for fault in found} == {None}


async def test_opening_is_strict_unless_told_otherwise(served: Served) -> None:
    async with session(served, wait=0.0) as opened:
        with pytest.raises(Mismatch):
            await open_file(opened, b"bad")


async def test_it_never_waits(tmp_path: Path) -> None:
    published = publish_tree(tmp_path / "tree", {"f": GOOD})
    published.write({"f": GOOD[:-1] + b"!"})
    with serving(published.root) as served:
        async with session(served, wait=0.0) as opened:
            reader = await open_file(opened, b"f", tolerant=True)
            with pytest.raises(Updating):
                _ = [fault async for fault in reader.faults()]
