# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The node cache between a reader and the real server: same bytes and verdicts, whatever becomes of the store."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adversary import Reply, between, flipped
from nfsverity_client import nodes as nodes_module
from nfsverity_client.node_cache import NodeCache, cache_size
from nfsverity_client.node_store import LIMIT_MIN, NAME
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_proto.errors import Mismatch
from nfsverity_proto.url import Url
from serving import Published, Served, calls_made, keys, publish_tree, serving

KIB, MIB = 2**10, 2**20
UNIT = 4 * KIB
ALL = tuple(Presentation)
SIZES = {"two": 64 * KIB + 1, "row": MIB, "ragged": 3 * MIB + 5 * UNIT + 7, "large": 9 * MIB + 123}
HASHES = ("sha384", "blake3")


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("cached") / "tree"
    published = publish_tree(root, {name: content(size) for name, size in SIZES.items()}, unit_size=UNIT)
    published.write({"copy/of-large": content(SIZES["large"]), "small": b"small", "unit": content(UNIT)})
    published.sign("copy", "small", "unit", unit_size=UNIT)
    for name in HASHES:
        published.write({f"{name}/file": content(SIZES["ragged"])})
        published.sign(name, unit_size=UNIT, hash=name)
    return published


FILES = (*SIZES, *(f"{name}/file" for name in HASHES))


@asynccontextmanager
async def cold(where: Served | Url, directory: Path | None, **more: Any) -> AsyncIterator[Session]:
    """A session as a new process has it: nothing is known but what the store has."""
    cache = None if directory is None else NodeCache(directory, **more)
    url = where.where if isinstance(where, Served) else where
    async with Session(url, Settings(trust=(keys().pin,), timeout=20.0), cache=cache) as session:
        yield session


async def read(
    session: Session, name: str, *ranges: tuple[int, int | None], how: Presentation | None = None
) -> list[bytes]:
    reader = await open_file(session, name.encode(), presentation=how, most=0)
    return [await reader.pread(*wanted) for wanted in ranges or ((0, None),)]


# what it saves


@pytest.mark.spec("fim-cache-3", "fip-client-17")
@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("name", FILES)
async def test_a_second_process_asks_for_no_hash(
    published: Published, served: Served, tmp_path: Path, name: str, how: Presentation
) -> None:
    expected = (published.root / name).read_bytes()
    async with cold(served, tmp_path) as session:
        assert await read(session, name, how=how) == [expected]
    async with cold(served, tmp_path) as session:
        with calls_made() as made:
            assert await read(session, name, (9 * UNIT, 10), (0, None), how=how) == [
                expected[9 * UNIT :][:10],
                expected,
            ]
        assert session.traffic.hashes == 0
        assert {call.name for call in made} <= {"FETCH", "READ", "LIMITS"}
        assert all(call.arguments.level is None for call in made if call.name == "READ")
        assert session.nodes.counts.misses == session.nodes.counts.dropped == 0
        assert session.nodes.counts.hits > 0
        assert (session.nodes.counts.bytes_saved > 0) == (how is not Presentation.RECONSTRUCT)
        assert session.traffic.data <= len(expected) + 2 * UNIT, "nothing is read twice, to reconstruct either"


@pytest.mark.spec("fim-cache-3")
@settings(max_examples=30)
@given(data=st.data())
def test_what_was_read_once_needs_no_hash_again(
    published: Published, served: Served, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Ranges here and there, in processes one after the other, in any presentation."""
    directory = tmp_path_factory.mktemp("cache")
    name = data.draw(st.sampled_from(FILES))
    expected = (published.root / name).read_bytes()
    one_range = st.tuples(st.integers(0, len(expected) - 1), st.integers(1, 300 * KIB))
    rounds = data.draw(st.lists(st.lists(one_range, min_size=1, max_size=4), min_size=1, max_size=3))

    async def run() -> None:
        seen: list[tuple[int, int]] = []
        for ranges in rounds:
            how = data.draw(st.sampled_from([Presentation.INLINE, Presentation.ON_DEMAND]))
            async with cold(served, directory) as session:
                found = await read(session, name, *ranges, how=how)
            assert found == [expected[offset : offset + length] for offset, length in ranges]
            seen += ranges
        async with cold(served, directory) as session:
            found = await read(session, name, *seen)
            assert found == [expected[offset : offset + length] for offset, length in seen]
            assert session.traffic.hashes == 0

    asyncio.run(run())


async def test_copies_and_renamed_files_share_it(published: Published, served: Served, tmp_path: Path) -> None:
    expected = content(SIZES["large"])
    async with cold(served, tmp_path) as session:
        assert await read(session, "large") == [expected]
    async with cold(served, tmp_path) as session:
        assert await read(session, "copy/of-large") == [expected]
        assert session.traffic.hashes == 0


async def test_nothing_is_kept_of_what_comes_without_a_proof(served: Served, tmp_path: Path) -> None:
    async with cold(served, tmp_path / "cache") as session:
        assert await read(session, "small") == [b"small"]
        assert await read(session, "unit") == [content(UNIT)]
    assert not (tmp_path / "cache").exists()


async def test_another_reader_of_the_same_process_uses_it_too(served: Served, tmp_path: Path) -> None:
    cache = NodeCache(tmp_path)
    settings = Settings(trust=(keys().pin,))
    async with Session(served.where, settings, cache=cache) as session:
        await read(session, "ragged")
    async with Session(served.where, settings, cache=cache) as session:
        await read(session, "ragged")
        assert session.traffic.hashes == 0
    assert cache.usage().counters["hits"] > 0
    assert cache.usage().contents == 1


@pytest.mark.spec("fim-cache-6")
async def test_what_is_remembered_of_all_files_together_is_bounded(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "SESSION_NODES_MAX", 2000)
    async with cold(served, tmp_path) as session:
        readers = [await open_file(session, name.encode()) for name in FILES]
        for _ in range(2):
            for reader, name in zip(readers, FILES, strict=True):
                assert await reader.pread(MIB // 2) == content(SIZES.get(name, SIZES["ragged"]))[MIB // 2 :]
                one_file = max(len(other.version.nodes) for other in readers)
                assert session.nodes.memory.total <= max(2000, one_file)
                assert session.nodes.memory.total == sum(len(other.version.nodes) for other in readers)
        del readers, reader
        await session.nodes.close()
        gc.collect()
        assert session.nodes.memory.total == 0


# what may become of the store


def stored(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path / NAME, isolation_level=None)


def flip_bits(path: Path, dice: random.Random) -> None:
    """In the file, wherever that is."""
    with (path / NAME).open("r+b") as file:
        size = os.path.getsize(path / NAME)
        for _ in range(dice.randint(1, 30)):
            at = dice.randrange(size)
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ (1 << dice.randrange(8))]))


def flip_in_values(path: Path, dice: random.Random) -> None:
    """In what is stored, in a file that is sound."""
    with stored(path) as connection:
        for id, value in connection.execute("SELECT id, value FROM run").fetchall():
            if dice.random() < 0.7:
                changed = flipped(value, dice.randrange(len(value)), 1 << dice.randrange(8))
                connection.execute("UPDATE run SET value = ? WHERE id = ?", (changed, id))
    connection.close()


def swap_entries(path: Path, dice: random.Random) -> None:
    """Between files and places, levels included."""
    with stored(path) as connection:
        rows = connection.execute("SELECT id, value FROM run").fetchall()
        values = [value for _, value in rows]
        dice.shuffle(values)
        connection.executemany(
            "UPDATE run SET value = ? WHERE id = ?", [(v, id) for (id, _), v in zip(rows, values, strict=True)]
        )
    connection.close()


def strange_values(path: Path, dice: random.Random) -> None:
    with stored(path) as connection:
        for (id,) in connection.execute("SELECT id FROM run").fetchall():
            strange = dice.choice(["text", 7, 1.5, b"", b"\0", b"\0\1\0" + bytes(32), b"\xff" * 3000])
            connection.execute("UPDATE run SET value = ? WHERE id = ?", (strange, id))
    connection.close()


def evict(path: Path, dice: random.Random) -> None:
    with stored(path) as connection:
        for (id,) in connection.execute("SELECT id FROM run").fetchall():
            if dice.random() < 0.5:
                connection.execute("DELETE FROM run WHERE id = ?", (id,))
    connection.close()


def truncate(path: Path, dice: random.Random) -> None:
    os.truncate(path / NAME, dice.randrange(os.path.getsize(path / NAME)))


def delete_file(path: Path, dice: random.Random) -> None:
    (path / NAME).unlink()


def delete_directory(path: Path, dice: random.Random) -> None:
    shutil.rmtree(path)


def replace(path: Path, dice: random.Random) -> None:
    (path / NAME).write_bytes(dice.randbytes(20000))


def nothing(path: Path, dice: random.Random) -> None:
    pass


HARM = (
    flip_bits, flip_in_values, swap_entries, strange_values, evict, truncate, delete_file, delete_directory, replace,
    nothing,
)  # fmt: skip


@pytest.mark.spec("fim-cache-1", "fim-cache-3", "fim-cache-4")
@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
async def test_harm_to_the_store_costs_traffic_only(
    published: Published, served: Served, tmp_path: Path, harm: Any, how: Presentation
) -> None:
    directory = tmp_path / "cache"
    dice = random.Random(harm.__name__ + how)
    names = ("large", "blake3/file")
    async with cold(served, directory) as session:
        for name in names:
            await read(session, name)
    for again in range(3):
        if directory.exists() and (directory / NAME).exists() and os.path.getsize(directory / NAME) > 20000:
            try:
                harm(directory, dice)
            except sqlite3.DatabaseError:
                assert harm in HARM, "what was harmed before may be too bad for this harm"
        warnings: list[str] = []
        async with cold(served, directory, on_trouble=warnings.append) as session:
            for name in names:
                expected = (published.root / name).read_bytes()
                readers = [await open_file(session, name.encode(), presentation=how, most=0) for _ in range(2)]
                for number, reader in enumerate(readers):
                    for offset in range(0, len(expected), 2 * MIB):
                        length = dice.randint(1, 400 * KIB)
                        assert await reader.pread(offset, length) == expected[offset : offset + length]
                        if number and dice.random() < 0.5:
                            reader.version.nodes.forget()
                        if again == 2 and dice.random() < 0.2 and (directory / NAME).exists():
                            try:
                                harm(directory, dice)  # while it is used
                            except (sqlite3.DatabaseError, ValueError):
                                continue
                assert await readers[0].pread() == expected
        assert len(warnings) <= 1
    if harm not in (nothing, delete_file, delete_directory, evict):
        return
    assert not warnings, "nothing to warn of"


@pytest.mark.spec("fim-cache-4")
async def test_what_does_not_fold_is_dropped_and_fetched(served: Served, tmp_path: Path) -> None:
    async with cold(served, tmp_path) as session:
        await read(session, "large")
    flip_in_values(tmp_path, random.Random(1))
    async with cold(served, tmp_path) as session:
        assert await read(session, "large") == [content(SIZES["large"])]
        assert session.nodes.counts.dropped > 0
        assert session.traffic.hashes > 0
    async with cold(served, tmp_path) as session:
        assert await read(session, "large") == [content(SIZES["large"])]
        assert session.traffic.hashes == 0, "and is there again"
    assert NodeCache(tmp_path).usage().counters["dropped"] > 0


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_memory_is_evicted_at_random_moments(
    published: Published, served: Served, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """R19, with a store so small that it evicts too, and several readers at once."""
    directory, dice = tmp_path_factory.mktemp("cache"), random.Random(seed)

    async def reads(session: Session, name: str, how: Presentation) -> None:
        expected = (published.root / name).read_bytes()
        reader = await open_file(session, name.encode(), presentation=how)
        for _ in range(5):
            offset, length = dice.randrange(len(expected)), dice.randint(1, MIB)
            assert await reader.pread(offset, length) == expected[offset : offset + length]
            if dice.random() < 0.5:
                reader.version.nodes.forget()

    async def run() -> None:
        for _ in range(2):
            async with cold(served, directory, limit=LIMIT_MIN) as session:
                await asyncio.gather(*(reads(session, dice.choice(FILES), dice.choice(ALL)) for _ in range(4)))
        assert os.path.getsize(directory / NAME) <= LIMIT_MIN

    asyncio.run(run())


# verdicts


@pytest.mark.spec("fim-cache-2", "fim-cache-3")
@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("cached", [False, True])
async def test_tampering_has_the_same_verdict(served: Served, tmp_path: Path, how: Presentation, cached: bool) -> None:
    name, bad = "large", 5 * MIB + 17
    if cached:
        async with cold(served, tmp_path) as session:
            await read(session, name)

    async def tamper(reply: Reply) -> None:
        arguments = reply.call.arguments
        if reply.procedure.name == "READ" and arguments.first <= bad // UNIT < arguments.first + arguments.count:
            message = reply.message
            at = len(message) - arguments.count * UNIT + (bad - arguments.first * UNIT)
            await reply.send(flipped(message, at, 1))
        else:
            await reply.send()

    async with between(served.port) as adversary:
        adversary.on_reply = tamper
        async with cold(adversary.where, tmp_path if cached else None) as session:
            with pytest.raises(Mismatch) as caught:
                await read(session, name, (4 * MIB, 2 * MIB), how=how)
    assert caught.value.offset is not None
    assert caught.value.offset <= bad < caught.value.offset + (caught.value.length or 0)
    if how is not Presentation.AHEAD:
        assert (caught.value.offset, caught.value.length) == (bad // UNIT * UNIT, UNIT)


@pytest.mark.spec("fim-cache-3")
@pytest.mark.parametrize("cached", [False, True])
async def test_a_server_gains_nothing_by_lying_where_no_proof_is_asked(
    served: Served, tmp_path: Path, cached: bool
) -> None:
    """It can tell from the call whether the client has the hashes already."""
    if cached:
        async with cold(served, tmp_path) as session:
            await read(session, "ragged")

    async def lie(reply: Reply) -> None:
        if reply.procedure.name == "READ" and (reply.call.arguments.level is None) == cached:
            await reply.send(flipped(reply.message, len(reply.message) - 100, 4))
        else:
            await reply.send()

    async with between(served.port) as adversary:
        adversary.on_reply = lie
        async with cold(adversary.where, tmp_path) as session:
            with pytest.raises(Mismatch):
                await read(session, "ragged", (MIB, 20 * KIB))


async def test_another_version_has_nodes_of_its_own(tmp_path: Path) -> None:
    published = publish_tree(tmp_path / "tree", {"file": content(MIB)}, unit_size=UNIT)
    with serving(published.root) as served:
        async with cold(served, tmp_path / "cache") as session:
            assert await read(session, "file") == [content(MIB)]
        changed = content(MIB)[: MIB // 2] + content(MIB + 1)[MIB // 2 :]
        published.replace("file", changed)
        published.sign("file", unit_size=UNIT)
        async with cold(served, tmp_path / "cache") as session:
            assert await read(session, "file") == [changed]
            assert session.nodes.counts.dropped == 0
    assert NodeCache(tmp_path / "cache").usage().contents == 2


# processes, forks, places


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_child_uses_the_cache_of_its_parent(served: Served, tmp_path: Path) -> None:
    cache = NodeCache(tmp_path)
    settings = Settings(trust=(keys().pin,))
    async with Session(served.where, settings, cache=cache) as session:
        await read(session, "large")
    context = multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()

    def child() -> None:
        async def run() -> tuple[bool, int]:
            async with Session(served.where, settings, cache=cache) as session:
                return await read(session, "large") == [content(SIZES["large"])], session.traffic.hashes

        results.put(asyncio.run(run()))

    process = context.Process(target=child)
    process.start()
    found = await asyncio.to_thread(results.get)
    process.join()
    assert found == (True, 0)


async def test_where_no_cache_can_be_is_none(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    warnings: list[str] = []
    for optional in (False, True):
        async with cold(served, tmp_path / "file" / "cache", on_trouble=warnings.append, optional=optional) as session:
            for _ in range(2):
                assert await read(session, "large") == [content(SIZES["large"])]
        assert len(warnings) == 1


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("64M", 2**26), ("2GiB", 2**31), ("3k", 3072), ("0", 0), ("", 2**28)]
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("NFSVERITY_CACHE_SIZE", text)
    assert cache_size() == size


@pytest.mark.parametrize("text", ["x", "-1", "1.5G", "1 G", "9" * 20])
def test_what_is_no_size(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NFSVERITY_CACHE_SIZE", text)
    with pytest.raises(ValueError, match="NFSVERITY_CACHE_SIZE"):
        cache_size()
