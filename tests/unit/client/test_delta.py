# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A served version beside another copy: what is asked for, and what becomes of lies in its hashes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adversary import Adversary, Call, Reply
from nfsverity._hashed import HashedTree, hash_file
from nfsverity_client import diff
from nfsverity_client.delta import ServedTree, differing_spans
from nfsverity_client.reader import Reader, Replaced, open_file
from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.errors import MalformedMessage, Mismatch, Stale, VerificationError
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.tree import Shape
from serving import Published, Served, publish_tree, serving, session

UNIT = 4096
OLD = random.Random(1).randbytes(300 * UNIT + 100)
NEW = OLD[: 50 * UNIT] + bytes(UNIT) + OLD[51 * UNIT : 200 * UNIT + 1] + b"!" + OLD[200 * UNIT + 2 :]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    files = {"old": OLD, "new": NEW, "empty": b"", "one": b"x", "longer": OLD + bytes(9 * UNIT)}
    return publish_tree(tmp_path_factory.mktemp("delta") / "tree", files, unit_size=UNIT)


async def tree_of(opened: Session, path: bytes) -> ServedTree:
    reader = await open_file(opened, path, most=0)
    reader.pin()
    return ServedTree(reader, reader.version)


def hashed(path: Path, data: bytes, size: int = len(NEW)) -> HashedTree:
    """The tree of a copy, as a file that is as long as the version."""
    path.write_bytes(data[:size])
    with path.open("r+b") as file:
        file.truncate(size)
        return hash_file(file.fileno(), Shape(size, 12), hash_by_number(1), lambda _: None)


async def units_of(reader: Reader, copy: HashedTree) -> dict[int, bytes]:
    """What is fetched, by the offset of each span."""
    found: dict[int, bytes] = {}
    async for span in differing_spans(reader, reader.version, copy):
        found[span.start] = b"".join(span.cut(span.start, span.start + span.length))
    return found


@pytest.mark.spec("fim-diff-1", "fim-cache-1", "fip-tree-7")
async def test_two_served_versions(opened: Session, adversary: Adversary) -> None:
    old, new = await tree_of(opened, b"old"), await tree_of(opened, b"new")
    adversary.calls.clear()
    found = [part async for part in diff.differing_units(old, new)]
    assert found == [(50, 51), (200, 201)]
    assert set(adversary.names) == {"TREE"}, "no data, and no proofs"
    asked = sum(call.arguments.count for call in adversary.calls)
    assert asked == old.hashes + new.hashes == opened.traffic.hashes
    assert old.hashes == new.hashes <= 3 * 3 * (16 + diff.GAP)
    assert opened.traffic.data == 0


async def test_served_versions_of_other_sizes(opened: Session) -> None:
    for pair, expected in (
        ((b"old", b"longer"), [(len(OLD), 9 * UNIT, "b")]),
        ((b"longer", b"empty"), [(0, len(OLD) + 9 * UNIT, "a")]),
        ((b"empty", b"empty"), []),
        ((b"old", b"old"), []),
    ):
        a, b = [await tree_of(opened, path) for path in pair]
        found = [(part.offset, part.length, str(part.side)) async for part in diff.ranges(a, b)]
        if pair == (b"old", b"longer"):  # the unit in which the shorter one ends is another one
            assert found.pop(0) == (300 * UNIT, 100, "both")
        assert found == expected


LIES = {
    "another hash": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "zeros": lambda data: bytes(len(data)),
    "another order": lambda data: data[32:] + data[:32],
    "the first twice": lambda data: data[:32] * (len(data) // 32),
}


@pytest.mark.spec("fim-diff-1", "fim-cache-1", "fip-tree-7", "fip-client-17")
@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_in_a_hash_is_a_mismatch(opened: Session, adversary: Adversary, lie: str, turn: int) -> None:
    """At whatever level; and whether it would have hidden a difference or made one up."""
    old, new = await tree_of(opened, b"old"), await tree_of(opened, b"new")
    levels: list[int] = []

    async def on_reply(reply: Reply) -> None:
        if reply.procedure is m.TREE:
            arguments = reply.call.arguments
            if arguments.level not in levels:
                levels.append(arguments.level)
            if levels.index(arguments.level) == turn and arguments.tag == new.version.tag:
                hashes = LIES[lie](bytes(reply.ok.hashes))
                await reply.send(reply.call.reply(replace(reply.ok, hashes=hashes)))
                return
        await reply.send()

    adversary.on_reply = on_reply
    with pytest.raises(Mismatch, match="lead to the signed root"):
        _ = [part async for part in diff.differing_units(old, new)]


@pytest.mark.spec("fim-diff-1", "fip-tree-6")
async def test_the_other_version_s_hashes_hide_nothing(opened: Session, adversary: Adversary) -> None:
    """A server that answers about the new version with the hashes of the old one."""
    old, new = await tree_of(opened, b"old"), await tree_of(opened, b"new")

    async def on_call(call: Call) -> None:
        arguments = call.arguments
        if call.procedure is m.TREE:
            arguments = replace(arguments, object=old.version.handle, tag=old.version.tag)
        await call.forward(arguments)

    adversary.on_call = on_call
    with pytest.raises(Mismatch, match="lead to the signed root"):
        _ = [part async for part in diff.differing_units(old, new)]

    async def short(reply: Reply) -> None:
        changed = replace(reply.ok, hashes=reply.ok.hashes[32:]) if reply.procedure is m.TREE else reply.ok
        await reply.send(reply.call.reply(changed))

    adversary.on_call, adversary.on_reply = None, short
    with pytest.raises(MalformedMessage, match="hashes are due"):
        _ = [part async for part in diff.differing_units(old, new)]


@pytest.mark.spec("fim-diff-3", "fip-client-18")
async def test_only_what_differs_is_fetched(opened: Session, adversary: Adversary, tmp_path: Path) -> None:
    reader = await open_file(opened, b"new", most=0)
    found = await units_of(reader, hashed(tmp_path / "copy", OLD))
    assert found == {at * UNIT: NEW[at * UNIT : (at + 1) * UNIT] for at in (50, 200)}
    assert [call.arguments.level for call in adversary.calls if call.procedure is m.READ] == [None, None], "no proofs"
    assert opened.traffic.data == 2 * UNIT


@pytest.mark.spec("fim-diff-3")
@pytest.mark.parametrize(
    ("copy", "fetched"),
    [
        (NEW, 0),
        (OLD[: 100 * UNIT + 5], len(NEW) - 99 * UNIT),
        (b"", len(NEW) - UNIT),  # one unit is zeros, and so is what a file is continued with
        (b"other" * 400_000, len(NEW)),
        (NEW[UNIT:], len(NEW)),
    ],
    ids=["the same", "cut off", "nothing", "unrelated", "shifted"],
)
async def test_whatever_the_copy_is(opened: Session, tmp_path: Path, copy: bytes, fetched: int) -> None:
    reader = await open_file(opened, b"new", most=0)
    tree = hashed(tmp_path / "copy", copy)
    found = await units_of(reader, tree)
    assert sum(map(len, found.values())) == fetched
    whole = bytearray((tmp_path / "copy").read_bytes())
    for offset, data in found.items():
        whole[offset : offset + len(data)] = data
    assert whole == NEW
    assert opened.traffic.hashes <= 4 * tree.shape.units // 3 + tree.shape.height


OFFSETS = st.integers(0, len(NEW) - 1)
EDITS = st.lists(
    st.tuples(OFFSETS, st.just(b"overwritten"), st.just(True))
    | st.tuples(OFFSETS, st.sampled_from([b"in between", bytes(UNIT), NEW[:UNIT]]), st.just(False)),
    max_size=4,
)


@pytest.mark.spec("fim-diff-3")
@settings(max_examples=25)
@given(edits=EDITS, cut=st.just(len(NEW)) | OFFSETS)
def test_any_edit_of_it(
    tmp_path_factory: pytest.TempPathFactory, served: Served, edits: list[tuple[int, bytes, bool]], cut: int
) -> None:
    """Against the units themselves: with those that differ in place, and no others fetched, it is the version."""
    copy = NEW[:cut]
    for offset, data, over in edits:
        copy = copy[:offset] + data + copy[offset + (len(data) if over else 0) :]
    path = tmp_path_factory.mktemp("edit") / "copy"

    async def fetched() -> dict[int, bytes]:
        async with session(served) as opened:
            return await units_of(await open_file(opened, b"new", most=0), hashed(path, copy))

    found = asyncio.run(fetched())
    whole = bytearray(path.read_bytes())
    differing = {at for at in range(0, len(NEW), UNIT) if whole[at : at + UNIT] != NEW[at : at + UNIT]}
    assert {at for start, data in found.items() for at in range(start, start + len(data), UNIT)} == differing
    for offset, data in found.items():
        whole[offset : offset + len(data)] = data
    assert whole == NEW


@pytest.mark.parametrize("path", [b"empty", b"one"])
async def test_the_smallest_files(opened: Session, tmp_path: Path, path: bytes) -> None:
    size = 1 if path == b"one" else 0
    for copy, expected in ((b"y", {0: b"x"}), (b"x", {})):
        reader = await open_file(opened, path, most=0)
        assert await units_of(reader, hashed(tmp_path / "copy", copy, size)) == (expected if size else {})


@pytest.mark.spec("fim-diff-3")
async def test_a_lie_never_makes_a_unit_of_the_copy_pass(opened: Session, adversary: Adversary, tmp_path: Path) -> None:
    """The server confirms what the copy has: with its very hashes."""
    reader = await open_file(opened, b"new", most=0)
    other = await tree_of(opened, b"old")

    async def on_call(call: Call) -> None:
        lies = call.procedure is m.TREE
        changed = replace(call.arguments, object=other.version.handle, tag=other.version.tag) if lies else None
        await call.forward(changed)

    adversary.on_call = on_call
    with pytest.raises(Mismatch):
        await units_of(reader, hashed(tmp_path / "copy", OLD))


async def test_a_copy_of_another_shape_is_a_mistake(opened: Session, tmp_path: Path) -> None:
    reader = await open_file(opened, b"new", most=0)
    with pytest.raises(ValueError, match="shape"):
        await units_of(reader, hashed(tmp_path / "copy", OLD, len(OLD) - 1))


# updates


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[tuple[Published, Served]]:
    """A tree of its own, and a server of it."""
    published = publish_tree(tmp_path / "tree", {"file": NEW}, unit_size=UNIT)
    with serving(published.root) as served:
        yield published, served


@pytest.mark.spec("fim-upd-2", "fip-client-21")
async def test_a_newer_version_before_the_first_byte(changing: tuple[Published, Served], tmp_path: Path) -> None:
    published, served = changing
    async with session(served) as opened:
        reader = await open_file(opened, b"file", most=0)
        before = reader.version
        published.replace("file", NEW[:UNIT] + b"newer" + NEW[UNIT + 5 :])
        published.sign()
        with pytest.raises(Replaced):
            await units_of(reader, hashed(tmp_path / "copy", OLD))
        assert reader.version.generation > before.generation
        found = await units_of(reader, hashed(tmp_path / "copy", OLD))
        assert sorted(found) == [UNIT, 50 * UNIT, 200 * UNIT]


@pytest.mark.spec("fim-upd-2", "fip-client-21")
async def test_a_newer_version_after_the_first_byte(changing: tuple[Published, Served], tmp_path: Path) -> None:
    published, served = changing
    async with session(served) as opened:
        long = random.Random(3).randbytes(2000 * UNIT)  # more than is asked for ahead
        published.write({"file": long})
        published.sign()
        reader = await open_file(opened, b"file", most=0)
        spans = differing_spans(reader, reader.version, hashed(tmp_path / "copy", b"", len(long)))
        await anext(spans)
        published.replace("file", OLD)
        published.sign()
        with pytest.raises(Stale):
            async for _ in spans:
                pass


async def test_a_pinned_comparison_is_stale_when_the_version_is_gone(changing: tuple[Published, Served]) -> None:
    published, served = changing
    async with session(served) as opened:
        old, new = await tree_of(opened, b"file"), None
        published.replace("file", OLD)
        published.sign()
        published.replace("file", OLD[:-1])
        published.sign()
        new = await tree_of(opened, b"file")
        with pytest.raises(VerificationError) as raised:
            _ = [part async for part in diff.differing_units(old, new)]
        assert raised.value.verdict == "stale"
