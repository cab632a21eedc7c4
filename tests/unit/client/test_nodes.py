# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The hashes that stand for the root, and what is asked for under them."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_client import nodes as nodes_module
from nfsverity_client.nodes import VerifiedNodes
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.proof import fold, proof_length
from nfsverity_proto.tree import Shape
from oracle import merkle

UNIT = 4096
HASH = hash_by_number(1)


@cache
def units(count: int) -> list[bytes]:
    return [b"unit %d" % index for index in range(count)]


def leaf(unit: bytes) -> bytes:
    return hashlib.sha256(b"\0" + unit).digest()


def known(count: int) -> VerifiedNodes:
    return VerifiedNodes(Shape(count * UNIT, 12), merkle.tree_hash(merkle.SHA256, units(count)))


def read(verified: VerifiedNodes, count: int, first: int, end: int) -> int:
    """What a reader does; the number of hashes that it asks for."""
    asked = 0
    at = first
    for anchor in verified.anchors(first, end):
        assert anchor.first == at, "anchors are in order, without a gap"
        at = anchor.end
        index = anchor.first >> anchor.level
        assert anchor.value == merkle.node(merkle.SHA256, units(count), anchor.level, index)
        proof = merkle.range_proof(merkle.SHA256, units(count), anchor.first, anchor.end, anchor.level)
        assert len(proof) == proof_length(count, anchor.first, anchor.end, anchor.level)
        leaves = [leaf(unit) for unit in units(count)[anchor.first : anchor.end]]
        folded = fold(HASH, count, anchor.first, leaves, anchor.level, proof)
        assert folded.top == anchor.value
        verified.add(folded.runs)
        asked += len(proof)
    assert at == end
    return asked


@pytest.mark.spec("fip-client-17", "fip-client-18", "fim-cache-1", "fim-cache-3")
@given(data=st.data(), count=st.integers(1, 70))
def test_each_anchor_is_a_node_of_the_tree(data: st.DataObject, count: int) -> None:
    verified = known(count)
    level = data.draw(st.none() | st.integers(0, verified.shape.height))
    if level is not None:
        width = verified.shape.width(level)
        hashes = [merkle.node(merkle.SHA256, units(count), level, index) for index in range(width)]
        verified.set_level(level, hashes)
    for _ in range(data.draw(st.integers(1, 8))):
        first = data.draw(st.integers(0, count - 1))
        end = data.draw(st.integers(first + 1, min(count, first + 20)))
        cold = proof_length(count, first, end, verified.shape.height)
        asked = read(verified, count, first, end)
        assert asked <= cold or level is not None
        assert read(verified, count, first, end) == 0, "all of it is known now"
        if data.draw(st.booleans()):
            verified.forget()
            assert read(verified, count, first, end) == cold, "harmless, and all is to be asked for again"


@given(seed=st.randoms(use_true_random=False))
def test_no_more_than_so_many_are_remembered(seed: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes_module, "NODES_MAX", 20)
        verified = known(64)
        for _ in range(12):
            first = seed.randrange(64)  # type: ignore[attr-defined]
            read(verified, 64, first, min(64, first + 5))
            assert len(verified._recent) <= 20


def test_reading_in_order_asks_for_each_hash_once() -> None:
    verified = known(64)
    asked = [read(verified, 64, first, first + 4) for first in range(0, 64, 4)]
    assert asked[0] == 4
    assert sum(asked) == 15, "of the 16 nodes of level 2 all but the first"
