# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Runs of nodes, cuts through them, and what is stored of these."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_client.node_runs import Cut, NodeRun, content_id, cut, decode, encode, fold_cut, merged, rows, runs_above
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.tree import Shape, canonical
from oracle import merkle

HASH = hash_by_number(1)
UNIT = 4096
COUNTS = st.sampled_from([2, 3, 5, 255, 256, 257, 300, 511, 513, 700]) | st.integers(2, 800)


@cache
def units(count: int) -> list[bytes]:
    return [b"unit %d" % index for index in range(count)]


@cache
def node(count: int, level: int, index: int) -> bytes:
    """By the oracle, which knows a node by any of its names."""
    return merkle.node(merkle.SHA256, units(count), level, index)


def shape(count: int) -> Shape:
    return Shape(count * UNIT, 12)


@st.composite
def some_runs(draw: st.DrawFn) -> tuple[int, NodeRun]:
    count = draw(COUNTS)
    row = draw(st.integers(0, rows(shape(count)) - 1))
    last = (shape(count).width(8 * row) - 1) >> 8
    return count, NodeRun(shape(count), row, draw(st.integers(0, last)))


@st.composite
def cuts(draw: st.DrawFn, count: int, run: NodeRun) -> Cut:
    """Any cut through a run."""
    nodes: list[tuple[int, bytes]] = []

    def below(level: int, index: int) -> None:
        if (index << level) >= run.width:
            return
        if level and draw(st.integers(0, 3)):
            below(level - 1, 2 * index)
            below(level - 1, 2 * index + 1)
        else:
            nodes.append((level, node(count, run.base + level, (run.first >> level) + index)))

    below(run.top - run.base, 0)
    return nodes


@pytest.mark.spec("fim-cache-1")
@given(st.data())
def test_a_cut_folds_to_the_node_on_top_and_gives_nodes_of_the_tree_only(data: st.DataObject) -> None:
    count, run = data.draw(some_runs())
    nodes = data.draw(cuts(count, run))
    top, runs = fold_cut(HASH, run, nodes)
    assert top == node(count, run.top, run.index)
    for part in runs:
        for index, value in enumerate(part.hashes, part.first):
            assert value == node(count, part.level, index)
    found = {(part.level, index): value for part in runs for index, value in enumerate(part.hashes, part.first)}
    assert cut(run, lambda level, index: found.get((level, index))) is not None


@given(st.data())
def test_what_is_encoded_is_decoded(data: st.DataObject) -> None:
    count, run = data.draw(some_runs())
    nodes = list(data.draw(cuts(count, run)))
    assert decode(run, 32, encode(nodes)) == nodes


@pytest.mark.spec("fim-cache-1", "fim-cache-4")
@given(st.data())
def test_an_altered_cut_is_none_or_does_not_fold(data: st.DataObject) -> None:
    count, run = data.draw(some_runs())
    value = bytearray(encode(data.draw(cuts(count, run))))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    altered = decode(run, 32, bytes(value))
    if altered is not None:
        top, runs = fold_cut(HASH, run, altered)
        if top == node(count, run.top, run.index):  # the last node of a ragged tree has several names
            for part in runs:
                for index, found in enumerate(part.hashes, part.first):
                    assert found == node(count, part.level, index)


@given(st.data(), st.binary(max_size=400) | st.none() | st.integers() | st.text())
def test_anything_is_decoded_or_refused(data: st.DataObject, value: object) -> None:
    _, run = data.draw(some_runs())
    nodes = decode(run, 32, value)
    if nodes is not None:
        fold_cut(HASH, run, nodes)


@given(st.data())
def test_two_cuts_make_one_that_has_the_nodes_of_both(data: st.DataObject) -> None:
    count, run = data.draw(some_runs())
    one, other = data.draw(cuts(count, run)), data.draw(cuts(count, run))
    both = merged(HASH, run, one, other)
    assert both is not None
    assert {value for _, value in fold_all(run, one)} | {value for _, value in fold_all(run, other)} <= {
        value for _, value in fold_all(run, both)
    }
    assert len(both) >= max(len(one), len(other))
    strange = [(0, hashlib.sha256(b"%d" % index).digest()) for index in range(run.width)]
    assert merged(HASH, run, one, strange) is None


def fold_all(run: NodeRun, nodes: Cut) -> list[tuple[int, bytes]]:
    return [(part.level, value) for part in fold_cut(HASH, run, nodes)[1] for value in part.hashes]


@given(st.data())
def test_the_runs_above_units_lead_from_the_root_to_them(data: st.DataObject) -> None:
    count = data.draw(COUNTS)
    first = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(first + 1, count))
    tops = {canonical(count, shape(count).height, 0)}
    for run in runs_above(shape(count), first, end, shape(count).height):
        assert canonical(count, run.top, run.index) in tops, "what is above a run comes before it"
        tops |= {canonical(count, run.base, run.first + index) for index in range(run.width)}
    assert {(0, unit) for unit in range(first, end)} <= tops


def test_a_gap_makes_no_cut() -> None:
    run = NodeRun(shape(4), 0, 0)
    known = {(0, 0): b"0", (0, 1): b"1", (0, 2): b"2"}
    assert cut(run, lambda level, index: known.get((level, index))) is None


def test_contents_differ_in_each_thing_that_counts() -> None:
    ids = {
        content_id(1, 1, shape(4), b"r"),
        content_id(8, 1, shape(4), b"r"),
        content_id(1, 2, shape(4), b"r"),
        content_id(1, 1, Shape(4 * UNIT, 13), b"r"),
        content_id(1, 1, Shape(4 * UNIT - 1, 12), b"r"),
        content_id(1, 1, shape(4), b"s"),
    }
    assert len(ids) == 6
