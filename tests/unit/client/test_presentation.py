# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Bytes and hashes on the wire, in each of the four presentations, from the real server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adversary import Reply, between
from nfsverity_client import presentation
from nfsverity_client.presentation import Presentation, TooLarge
from nfsverity_client.reader import Reader, open_file
from nfsverity_proto import signers
from nfsverity_proto.proof import proof_length
from nfsverity_proto.tree import Shape
from serving import Published, Served, calls_made, publish_tree, serving, session

KIB, MIB = 2**10, 2**20
UNIT = 4 * KIB
SIZES = (0, 1, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT, 17 * UNIT, 37 * UNIT + 5, 2 * MIB + 3 * UNIT + 1)
HASHES = ("sha256", "sha384", "sha512", "sha3-256", "blake3")
LARGE = {64 * KIB: 3 * MIB + 70 * KIB, MIB: 5 * MIB + 1, 8 * MIB: 17 * MIB + 3, 16 * MIB: 21 * MIB}
"""Size of a file, by unit size. The last two have slices."""
HOLES = (4 * KIB, 64 * KIB, 8 * MIB)
ALL = tuple(Presentation)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("presentation") / "tree"
    published = publish_tree(root, {f"sizes/{size}": content(size) for size in SIZES}, unit_size=UNIT)
    for name in HASHES:
        published.write({f"{name}/file": content(150 * KIB)})
        published.sign(name, unit_size=UNIT, hash=name)
    for unit, size in LARGE.items():
        published.write({f"{unit}/file": content(size)})
        published.sign(f"{unit}", unit_size=unit)
    for unit in HOLES:
        (root / f"holes-{unit}").mkdir()
        with (root / f"holes-{unit}" / "file").open("wb") as file:
            file.seek(9 * MIB)
            file.write(content(70 * KIB))
            file.truncate(30 * MIB + 5)
        published.sign(f"holes-{unit}", unit_size=unit)
    return published


FILES = tuple(
    [f"sizes/{size}" for size in SIZES]
    + [f"{name}/file" for name in (*HASHES, *LARGE)]
    + [f"holes-{unit}/file" for unit in HOLES]
)


@pytest.mark.spec("fip-client-15", "fip-slice-1", "fip-slice-2", "fip-hole-5", "fim-hole-2", "fim-read-3")
@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("name", FILES)
async def test_a_whole_file_is_the_same_in_every_presentation(
    published: Published, served: Served, name: str, how: Presentation
) -> None:
    expected = (published.root / name).read_bytes()
    async with session(served) as opened:
        reader = await open_file(opened, name.encode(), presentation=how)
        assert reader.size == len(expected)
        assert await reader.pread() == expected
        assert await reader.pread() == expected, "the second time, from what is known by then"


@pytest.mark.spec("fim-cache-3", "fim-read-3")
@given(data=st.data())
@settings(max_examples=25)
def test_any_range_is_the_same_in_every_presentation(published: Published, served: Served, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FILES))
    expected = (published.root / name).read_bytes()
    offsets = st.integers(0, len(expected) + 2 * UNIT)
    ranges = data.draw(st.lists(st.tuples(offsets, st.integers(0, 200 * KIB)), min_size=1, max_size=6))
    how = data.draw(st.sampled_from(ALL))
    forgetful = data.draw(st.booleans())

    async def run() -> None:
        async with session(served) as opened:
            reader = await open_file(opened, name.encode(), presentation=how)
            for offset, length in ranges:
                assert await reader.pread(offset, length) == expected[offset : offset + length]
                if forgetful:
                    reader.version.nodes.forget()

    asyncio.run(run())


@pytest.mark.parametrize("how", ALL)
async def test_reads_at_the_same_time_give_what_they_give_alone(
    published: Published, served: Served, how: Presentation
) -> None:
    name = f"{64 * KIB}/file"
    expected = (published.root / name).read_bytes()
    ranges = [(offset, 90 * KIB) for offset in range(0, len(expected), 77 * KIB)]
    async with session(served) as opened:
        reader = await open_file(opened, name.encode(), presentation=how)
        found = await asyncio.gather(*(reader.pread(*wanted) for wanted in ranges))
    assert found == [expected[offset : offset + length] for offset, length in ranges]


async def test_a_buffer_is_filled_in_place(published: Published, served: Served) -> None:
    name = f"{64 * KIB}/file"
    expected = (published.root / name).read_bytes()
    async with session(served) as opened:
        reader = await open_file(opened, name.encode())
        buffer = bytearray(b"\xff" * 200_000)
        assert await reader.preadinto(len(expected) - 150_000, memoryview(buffer)) == 150_000
        assert buffer == expected[-150_000:] + b"\xff" * 50_000
        with pytest.raises(ValueError):
            await reader.pread(-1, 1)
        with pytest.raises(ValueError):
            await reader.pread(0, -1)


# what crosses the wire


async def hashes_of(reader: Reader, offset: int, length: int) -> int:
    """Hashes received for one read."""
    before = reader.session.traffic.copy()
    assert len(await reader.pread(offset, length)) == length
    return reader.session.traffic.since(before).hashes


@pytest.fixture(scope="module")
def gibibyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A file of 1 GiB, sparse, with a byte in every MiB of one part."""
    root = tmp_path_factory.mktemp("gibibyte") / "tree"
    root.mkdir()
    with (root / "file").open("wb") as file:
        file.truncate(2**30)
        for at in range(512 * MIB, 520 * MIB, MIB):
            file.seek(at + 7)
            file.write(b"x")
    Published(root).sign()
    with serving(root) as served:
        yield served


@pytest.mark.spec("fip-client-18", "fip-proof-1")
@pytest.mark.parametrize("how", [Presentation.INLINE, Presentation.ON_DEMAND])
async def test_proofs_have_the_least_number_of_hashes(gibibyte: Served, how: Presentation) -> None:
    shape = Shape(2**30, 16)
    at = 513 * MIB
    async with session(gibibyte) as opened:
        reader = await open_file(opened, b"file", presentation=how, most=0)
        assert opened.traffic.hashes == 0
        assert await hashes_of(reader, at, 64 * KIB) == 14, "one unit under the root of 2^14"
        assert await hashes_of(reader, at, 64 * KIB) == 0, "its own hash is known"
        assert await hashes_of(reader, at + 64 * KIB, 64 * KIB) == 0, "it came as its sibling"
        assert await hashes_of(reader, at + 3, 128 * KIB - 3) == 0, "both are known"
        assert await hashes_of(reader, at + 128 * KIB, 64 * KIB) == 1, "its parent came as a sibling"
        assert await hashes_of(reader, at + MIB, 64 * KIB) == 5, "the node above 32 units did"
        reader.version.nodes.forget()
        first, end = shape.units_of(at, at + 300 * KIB)
        assert await hashes_of(reader, at, 300 * KIB) == proof_length(shape.units, first, end, 14)


async def test_ahead_fetches_one_level_and_then_nothing(gibibyte: Served) -> None:
    async with session(gibibyte) as opened:
        reader = await open_file(opened, b"file", presentation=Presentation.AHEAD, most=0)
        assert await hashes_of(reader, 600 * MIB, 64 * KIB) == 2**14
        assert await hashes_of(reader, 514 * MIB, 3 * MIB) == 0
        reader.version.nodes.forget()
        assert await hashes_of(reader, 514 * MIB, 64 * KIB) == 14, "what was forgotten is asked for again"


@pytest.mark.spec("fip-client-19")
async def test_reconstruction_receives_no_hash(published: Published, served: Served) -> None:
    async with session(served) as opened:
        reader = await open_file(opened, f"{64 * KIB}/file".encode(), presentation=Presentation.RECONSTRUCT, most=0)
        await reader.pread(MIB, 1)
        assert opened.traffic.hashes == 0
        assert opened.traffic.data == LARGE[64 * KIB] + 64 * KIB, "the whole file, and then the unit again"


async def test_reconstruction_refuses_what_is_too_large(
    served: Served, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presentation, "RECONSTRUCT_UNITS", 16)
    async with session(served) as opened:
        reader = await open_file(opened, f"{64 * KIB}/file".encode(), presentation=Presentation.RECONSTRUCT)
        calls = opened.traffic.calls
        with pytest.raises(TooLarge, match="too many to reconstruct"):
            await reader.pread(MIB, 1)
        assert opened.traffic.calls == calls


@pytest.mark.parametrize("how", ALL)
async def test_a_small_file_takes_one_round_trip(published: Published, served: Served, how: Presentation) -> None:
    name = f"sizes/{3 * UNIT}"
    async with session(served) as opened:
        with calls_made() as calls:
            reader = await open_file(opened, name.encode(), presentation=how)
            assert await reader.pread() == (published.root / name).read_bytes()
        assert [call.name for call in calls] == ["FETCH"]


@pytest.mark.spec("fip-client-16", "fim-read-2")
async def test_one_read_of_a_large_file_takes_one_call_inline(gibibyte: Served) -> None:
    async with session(gibibyte) as opened:
        reader = await open_file(opened, b"file")
        with calls_made() as calls:
            await reader.pread(513 * MIB, 64 * KIB)
        assert [call.name for call in calls] == ["READ"]


@pytest.mark.spec("fip-client-14", "fim-ver-7", "fim-cache-2")
@pytest.mark.parametrize("how", ALL)
async def test_the_signature_is_checked_once(
    published: Published, served: Served, how: Presentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    check_signature = signers.check_signature
    monkeypatch.setattr(
        signers, "check_signature", lambda *given: (checked.append(given[0]), check_signature(*given))[1]
    )
    name = f"{64 * KIB}/file"
    async with session(served) as opened:
        reader = await open_file(opened, name.encode(), presentation=how)
        for offset in range(0, LARGE[64 * KIB], 500 * KIB):
            await reader.pread(offset, 1000)
        assert await reader.pread() == content(LARGE[64 * KIB])
        assert len(checked) == 1
        await open_file(opened, name.encode(), presentation=how)
        assert len(checked) == 2


@pytest.mark.parametrize("how", ALL)
async def test_reads_are_pipelined(published: Published, served: Served, how: Presentation) -> None:
    """More than one READ is under way before the first is answered."""
    name = f"{64 * KIB}/file"
    async with between(served.port) as adversary, session(adversary.where) as opened:
        reader = await open_file(opened, name.encode(), presentation=how, most=0)
        await reader.pread(0, 1)
        held: list[Reply] = []
        seen: list[int] = []

        async def hold(reply: Reply) -> None:
            held.append(reply)
            reads = [call for call in adversary.calls if call.procedure.name == "READ"]
            if len(held) == 3:
                seen.append(len(reads))
                for one in reversed(held):  # in another order, too (fip-rpc-14)
                    await one.send()
                adversary.on_reply = None

        adversary.on_reply = hold
        assert await reader.pread() == content(LARGE[64 * KIB])
        assert seen


@pytest.mark.spec("fip-limits-7", "fip-rpc-2", "fip-rpc-9")
async def test_limits_is_not_asked_for(served: Served) -> None:
    async with between(served.port) as adversary, session(adversary.where) as opened:
        reader = await open_file(opened, f"{64 * KIB}/file".encode())
        await reader.pread()
    assert set(adversary.names) == {"FETCH", "READ"}
