# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The cache of units between a reader and the real server: same bytes whatever becomes of it, and all verified."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adversary import Reply, between, flipped
from nfsverity_client.node_cache import NodeCache
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_client.unit_cache import BLOCK, LIMIT_MIN, NAME, SIZE_VARIABLE, UnitCache, unit_cache_size
from nfsverity_proto.errors import Mismatch, Stale
from nfsverity_proto.tree import Shape
from nfsverity_proto.url import Url
from serving import Published, Served, calls_made, keys, publish_tree, serving

KIB, MIB = 2**10, 2**20
UNIT = 4 * KIB
HOLE = 600 * KIB
SIZES = {"two": 64 * KIB + 1, "block": MIB, "ragged": 3 * MIB + 5 * UNIT + 7, "large": 9 * MIB + 123}
ALL = tuple(Presentation)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


DATA = {0: content(5000), MIB + HOLE: content(MIB), 2 * MIB + 2 * HOLE: content(77)}
SPARSE = b"".join(
    data.ljust(length, b"\0") for data, length in zip(DATA.values(), (MIB + HOLE, MIB + HOLE, 77), strict=True)
)
"""What it reads as."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("cached") / "tree"
    published = publish_tree(root, {name: content(size) for name, size in SIZES.items()}, unit_size=UNIT)
    with (root / "sparse").open("wb") as file:
        for at, data in DATA.items():
            file.seek(at)
            file.write(data)
    published.sign("sparse", unit_size=UNIT)
    published.write({"copy/of-large": content(SIZES["large"]), "small": b"small", "units": content(7 * MIB + 5)})
    published.sign("copy", "small", unit_size=UNIT)
    published.sign("units", unit_size=2 * MIB)
    return published


FILES = (*SIZES, "sparse", "units")


@asynccontextmanager
async def cold(where: Served | Url, directory: Path, limit: int = 2**30, trouble: list[str] | None = None,
               nodes: bool = True) -> AsyncIterator[Session]:  # fmt: skip
    """A session as a new process has it: nothing is known but what is on disk."""
    url = where.where if isinstance(where, Served) else where
    units = UnitCache(directory, limit, None if trouble is None else trouble.append)
    options = Settings(trust=(keys().pin,), timeout=20.0)
    async with Session(url, options, cache=NodeCache(directory) if nodes else None, units=units) as session:
        yield session


async def read(
    session: Session, name: str, *ranges: tuple[int, int | None], how: Presentation | None = None
) -> list[bytes]:
    reader = await open_file(session, name.encode(), presentation=how, most=0)
    return [await reader.pread(*wanted) for wanted in ranges or ((0, None),)]


def blocks(directory: Path) -> list[Path]:
    return sorted((directory / NAME).glob("*/*"))


# what it saves


@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("name", FILES)
async def test_a_second_process_is_sent_no_content(
    published: Published, served: Served, tmp_path: Path, name: str, how: Presentation
) -> None:
    expected = (published.root / name).read_bytes()
    async with cold(served, tmp_path) as session:
        assert await read(session, name, how=how) == [expected]
        assert session.nodes.counts.data_misses > 0
        assert session.nodes.counts.data_hits == 0 or how is Presentation.RECONSTRUCT
    async with cold(served, tmp_path) as session:
        with calls_made() as made:
            assert await read(session, name, (5, 10), (0, None), how=how) == [expected[5:15], expected]
        assert "READ" not in {
            call.name for call in made
        }  # for hashes it may ask: a store that is slow is not waited for
        assert session.traffic.data == 0
        counts = session.nodes.counts
        assert (counts.data_misses, counts.data_dropped) == (0, 0)
        assert counts.data_bytes_saved >= len(expected)


@settings(max_examples=30)
@given(data=st.data())
def test_what_was_read_once_is_not_sent_again(
    published: Published, served: Served, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Ranges here and there, in processes one after the other; with nodes of the cache, or those of the server."""
    directory = tmp_path_factory.mktemp("cache")
    name = data.draw(st.sampled_from(FILES))
    expected = (published.root / name).read_bytes()
    one_range = st.tuples(st.integers(0, len(expected) - 1), st.integers(1, 300 * KIB))
    rounds = data.draw(st.lists(st.lists(one_range, min_size=1, max_size=4), min_size=1, max_size=3))

    async def run() -> None:
        seen: list[tuple[int, int]] = []
        for ranges in rounds:
            async with cold(served, directory, nodes=data.draw(st.booleans())) as session:
                found = await read(session, name, *ranges)
            assert found == [expected[offset : offset + length] for offset, length in ranges]
            seen += ranges
        async with cold(served, directory) as session:
            found = await read(session, name, *seen)
            assert found == [expected[offset : offset + length] for offset, length in seen]
            assert session.traffic.data == 0

    asyncio.run(run())


async def test_copies_share_it(served: Served, tmp_path: Path) -> None:
    async with cold(served, tmp_path) as session:
        await read(session, "large")
    async with cold(served, tmp_path) as session:
        assert await read(session, "copy/of-large") == [content(SIZES["large"])]
        assert session.traffic.data == 0


async def test_nothing_is_kept_of_what_comes_with_the_record(served: Served, tmp_path: Path) -> None:
    async with cold(served, tmp_path) as session:
        assert await read(session, "small") == [b"small"]
    assert not (tmp_path / NAME).exists()


async def test_zeros_take_no_space(served: Served, tmp_path: Path) -> None:
    async with cold(served, tmp_path) as session:
        assert await read(session, "sparse") == [SPARSE]
    assert UnitCache(tmp_path).usage().bytes < len(SPARSE) - HOLE


# what may become of it


def flip(paths: list[Path], dice: random.Random) -> None:
    for path in dice.sample(paths, (len(paths) + 1) // 2):
        data = bytearray(path.read_bytes())
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)


def claim(paths: list[Path], dice: random.Random) -> None:
    """All units are there, it says."""
    for path in paths:
        size = path.stat().st_size
        path.write_bytes(bytes(size - 40) + b"\xff" * 40)


def cut_short(paths: list[Path], dice: random.Random) -> None:
    for path in paths:
        os.truncate(path, dice.randrange(path.stat().st_size))


def lengthen(paths: list[Path], dice: random.Random) -> None:
    for path in paths:
        os.truncate(path, path.stat().st_size + 1)


def swap(paths: list[Path], dice: random.Random) -> None:
    """Blocks of two contents, and of one, take the places of others."""
    others = [path.read_bytes() for path in paths]
    dice.shuffle(others)
    for path, data in zip(paths, others, strict=True):
        path.write_bytes(data)


def delete(paths: list[Path], dice: random.Random) -> None:
    for path in dice.sample(paths, (len(paths) + 1) // 2):
        path.unlink()


def delete_all(paths: list[Path], dice: random.Random) -> None:
    shutil.rmtree(paths[0].parents[1])


def strange(paths: list[Path], dice: random.Random) -> None:
    """What is no file, and must not be followed or waited for."""
    secret = paths[0].parents[2] / "elsewhere"
    secret.write_bytes(paths[0].read_bytes())
    for number, path in enumerate(paths):
        path.unlink(missing_ok=True)
        (path.mkdir, lambda path=path: os.mkfifo(path), lambda path=path: path.symlink_to(secret))[number % 3]()


def folders(paths: list[Path], dice: random.Random) -> None:
    for folder in {path.parent for path in paths}:
        shutil.rmtree(folder)
        folder.write_bytes(b"a file")


HARM = (flip, claim, cut_short, lengthen, swap, delete, delete_all, strange, folders)


@pytest.mark.spec("fim-cache-8")
@pytest.mark.parametrize("nodes", [True, False])
@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
async def test_harm_costs_traffic_only(
    published: Published, served: Served, tmp_path: Path, harm: Callable[..., None], nodes: bool
) -> None:
    directory, dice = tmp_path / "cache", random.Random(harm.__name__)
    names = ("large", "sparse", "units")
    async with cold(served, directory) as session:
        for name in names:
            await read(session, name)
    harm(blocks(directory), dice)
    elsewhere = directory / "elsewhere"
    before = elsewhere.read_bytes() if elsewhere.exists() else None
    for _ in range(2):
        trouble: list[str] = []
        async with cold(served, directory, trouble=trouble, nodes=nodes) as session:
            for name in names:
                expected = (published.root / name).read_bytes()
                ranges = [(at, dice.randint(1, 100 * KIB)) for at in range(0, len(expected), MIB)]
                found = await read(session, name, *ranges, (0, None))
                assert found == [expected[at : at + length] for at, length in ranges] + [expected]
            dropped = session.nodes.counts.data_dropped
        assert len(trouble) <= 1
        assert bool(trouble) == (harm in (strange, folders)), trouble
        if _ == 0 and harm in (flip, claim, swap):
            assert dropped > 0
    assert before is None or elsewhere.read_bytes() == before
    if harm not in (strange, folders):
        assert session.traffic.data == 0, "all of it is there again"


@pytest.mark.spec("fim-cache-10")
async def test_it_is_the_users_alone(served: Served, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o755)
    async with cold(served, directory, nodes=False) as session:
        await read(session, "two")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.rglob("*")) if path.is_dir()} == {
        0o700
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in blocks(directory)} == {0o600}


@pytest.mark.spec("fim-cache-11")
def test_it_is_bounded_and_what_was_used_lately_stays(tmp_path: Path) -> None:
    cache = UnitCache(tmp_path, LIMIT_MIN)
    shape = Shape(100 * BLOCK, 16)
    data = memoryview(content(BLOCK))
    for number in range(100):
        cache.put(bytes(32), shape, 16 * number, 16 * number + 16, [data])
        assert cache.usage().bytes <= LIMIT_MIN
        assert cache.get(bytes(32), shape, 0, 16) == data, "it was used just now"
        assert cache.get(bytes(32), shape, 16 * number, 16 * number + 16) == data
    assert cache.usage().bytes > LIMIT_MIN // 2
    assert cache.get(bytes(32), shape, 16, 32) is None
    other = UnitCache(tmp_path, LIMIT_MIN)
    other.put(bytes(31) + b"\1", Shape(2**25, 24), 0, 1, [memoryview(content(2**24))])
    assert other.usage().contents == 1, "one unit that is more than a sixteenth of it is not kept"


def test_a_place_that_cannot_be_used_is_told_once(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"a file")
    trouble: list[str] = []
    cache = UnitCache(tmp_path, on_trouble=trouble.append)
    for _ in range(2):
        cache.put(bytes(32), Shape(BLOCK, 16), 0, 16, [memoryview(bytes(BLOCK))])
        assert cache.get(bytes(32), Shape(BLOCK, 16), 0, 16) is None
    assert len(trouble) == 1
    assert str(tmp_path) in trouble[0]


def test_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unit_cache_size() == 2**32
    monkeypatch.setenv(SIZE_VARIABLE, "10G")
    assert unit_cache_size() == 10 * 2**30
    monkeypatch.setenv(SIZE_VARIABLE, "much")
    with pytest.raises(ValueError, match=SIZE_VARIABLE):
        unit_cache_size()


# verdicts


@pytest.mark.spec("fim-cache-9")
@pytest.mark.parametrize("how", ALL)
async def test_what_a_server_has_is_not_answered_from_it(served: Served, tmp_path: Path, how: Presentation) -> None:
    async with cold(served, tmp_path) as session:
        await read(session, "large")

    async def tamper(reply: Reply) -> None:
        large = reply.procedure.name == "READ" and len(reply.message) > 1000
        await reply.send(flipped(reply.message, len(reply.message) - 100, 1) if large else reply.message)

    async with between(served.port) as adversary:
        adversary.on_reply = tamper
        async with cold(adversary.where, tmp_path) as session:
            assert await read(session, "large", how=how) == [content(SIZES["large"])], "nothing of the server is used"
            reader = await open_file(session, b"large", presentation=how)
            assert [fault async for fault in reader.faults()]


@pytest.mark.spec("fim-cache-8")
async def test_a_proof_that_is_none_has_the_verdict_of_the_server(served: Served, tmp_path: Path) -> None:
    """Units of the cache, and a proof of the server that is wrong: both are asked for again."""
    async with cold(served, tmp_path) as session:
        await read(session, "large")

    async def lie(reply: Reply) -> None:
        proof = reply.procedure.name == "PROOF"
        await reply.send(flipped(reply.message, len(reply.message) - 5, 1) if proof else reply.message)

    async with between(served.port) as adversary:
        adversary.on_reply = lie
        async with cold(adversary.where, tmp_path, nodes=False) as session:
            assert await read(session, "large", (MIB, UNIT)) == [content(SIZES["large"])[MIB:][:UNIT]]
            assert session.nodes.counts.data_dropped == 1
            with pytest.raises(Mismatch):
                await read(session, "large", (3 * MIB, UNIT), how=Presentation.ON_DEMAND)


@pytest.mark.spec("fim-cache-7")
async def test_a_lost_version_is_read_to_its_end_and_never_opened(tmp_path: Path) -> None:
    old, new = content(3 * MIB), content(3 * MIB + 1)[: 3 * MIB]
    published = publish_tree(tmp_path / "tree", {"file": old}, unit_size=UNIT)
    cache = tmp_path / "cache"
    with serving(published.root) as served:
        async with cold(served, cache) as session:
            assert await read(session, "file", (0, 2 * MIB)) == [old[: 2 * MIB]]
        async with cold(served, cache) as session:
            pinned = await open_file(session, b"file")
            assert await pinned.pread(0, 10) == old[:10]
            published.replace("file", new)
            published.sign("file", unit_size=UNIT)
            assert await pinned.pread(MIB, MIB) == old[MIB : 2 * MIB]
            with pytest.raises(Stale):
                await pinned.pread(2 * MIB, MIB)
            assert await pinned.pread(MIB, MIB) == old[MIB : 2 * MIB]
        async with cold(served, cache) as session:
            assert await read(session, "file") == [new]
