# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The file of the node cache, and all that can happen to it."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfsverity_client.node_store import LIMIT_MIN, NAME, NodeStore, StoreUnusable

MIB = 2**20
VALUE = 8192


def key(number: int, content: int = 0) -> bytes:
    return content.to_bytes(32, "big") + b"\0" + number.to_bytes(8, "big")


def value(number: int) -> bytes:
    return number.to_bytes(4, "big") * (VALUE // 4)


def put(store: NodeStore, *numbers: int) -> bool:
    return store.write({key(number): value(number) for number in numbers}, [], [], {})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(directory: Path) -> Iterator[NodeStore]:
    opened = NodeStore(directory, 64 * MIB)
    yield opened
    opened.close()


def test_what_was_written_is_found_by_the_next(directory: Path, store: NodeStore) -> None:
    assert put(store, 1, 2)
    other = NodeStore(directory, 64 * MIB)
    assert other.get([key(1), key(3), key(2)]) == [value(1), None, value(2)]
    assert other.present(key(0)[:32]) == {key(1), key(2)}
    assert other.present(key(0, 1)[:32]) == set()
    other.close()


@pytest.mark.spec("fim-cache-5")
def test_it_is_the_users_alone(directory: Path, store: NodeStore) -> None:
    directory.mkdir(mode=0o755)
    put(store, 1)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


@pytest.mark.spec("fim-cache-6")
def test_it_never_has_more_bytes_than_it_may(directory: Path) -> None:
    store = NodeStore(directory, MIB)
    for first in range(0, 400, 8):
        assert put(store, *range(first, first + 8))
        assert sum(path.stat().st_size for path in directory.glob(NAME)) <= MIB
    assert store.get([key(399)]) == [value(399)], "the newest is there"
    assert store.get([key(0)]) == [None], "the oldest is not"
    assert store.usage().counters["evicted"] > 250
    store.close()


def test_what_was_used_lately_stays(directory: Path) -> None:
    store = NodeStore(directory, MIB)
    for first in range(0, 400, 8):
        store.write({key(number): value(number) for number in range(first, first + 8)}, [key(3)], [], {})
    assert store.get([key(3), key(4)]) == [value(3), None]
    store.close()


def test_a_smaller_limit_is_kept_to_from_the_next_write_on(directory: Path, store: NodeStore) -> None:
    put(store, *range(500))
    store.close()
    small = NodeStore(directory, LIMIT_MIN)
    put(small, 1000)
    assert (directory / NAME).stat().st_size <= LIMIT_MIN
    assert small.get([key(1000)]) == [value(1000)]
    small.close()


def test_counters_add_up(store: NodeStore) -> None:
    store.write({}, [], [], {"hits": 2, "bytes_saved": 64})
    store.write({}, [], [], {"hits": 3})
    counters = store.usage().counters
    assert (counters["hits"], counters["bytes_saved"], counters["misses"]) == (5, 64, 0)


def test_what_is_dropped_is_gone(store: NodeStore) -> None:
    put(store, 1, 2)
    store.write({}, [], [key(1)], {})
    assert store.get([key(1), key(2)]) == [None, value(2)]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"not a database" * 1000, bytes(8192), b"SQLite format 3\0" + bytes(range(256)) * 64]
)
def test_something_else_in_its_place_makes_way(directory: Path, content: bytes) -> None:
    directory.mkdir()
    (directory / NAME).write_bytes(content)
    store = NodeStore(directory, MIB)
    assert store.get([key(1)]) == [None]
    assert put(store, 1)
    assert store.get([key(1)]) == [value(1)]
    assert (store.damaged is None) == (content == b"")
    store.close()


def test_another_format_makes_way(directory: Path, store: NodeStore) -> None:
    put(store, 1)
    store.close()
    other = sqlite3.connect(directory / NAME)
    other.execute("PRAGMA user_version = 99")
    other.close()
    assert store.get([key(1)]) == [None]
    assert put(store, 1)
    assert store.damaged == "it is of another format"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_loses_what_was_stored_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bits flipped or an end cut off, while it is open."""
    directory = tmp_path_factory.mktemp("cache")
    store = NodeStore(directory, MIB)
    put(store, *range(40))
    path = directory / NAME
    size = path.stat().st_size
    if data.draw(st.booleans()):
        os.truncate(path, data.draw(st.integers(0, size - 1)))
    else:
        with path.open("r+b") as file:
            for _ in range(data.draw(st.integers(1, 20))):
                file.seek(data.draw(st.integers(0, size - 1)))
                file.write(data.draw(st.binary(min_size=1, max_size=64)))
    if data.draw(st.booleans()):
        store.close()
    for found in store.get([key(number) for number in range(40)]):
        assert found is None or isinstance(found, bytes)
    for number in range(100, 130):
        put(store, number)
    store.close()
    if store.full is None:
        after = NodeStore(directory, MIB)
        for number in range(200, 300, 5):
            put(after, *range(number, number + 5))
        assert after.full is not None or after.get([key(299)]) == [value(299)], "it works again"
        after.close()


def test_it_may_be_deleted_while_it_is_used(directory: Path, store: NodeStore) -> None:
    put(store, 1)
    other = NodeStore(directory, 64 * MIB)
    put(other, 2)
    assert other.remove() > 2 * VALUE
    assert store.get([key(1)]) in ([None], [value(1)])
    assert put(store, 3), "a new one is made"
    assert other.get([key(1), key(3)]) == [None, value(3)]
    assert store.damaged is None, "which is nothing to warn of"
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    assert put(store, 4)
    assert store.get([key(4)]) == [value(4)]
    other.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_directory_is_read(directory: Path, store: NodeStore) -> None:
    put(store, 1)
    store.close()
    (directory / NAME).chmod(0o400)
    directory.chmod(0o500)
    try:
        assert store.get([key(1)]) == [value(1)]
        assert not put(store, 2)
    finally:
        directory.chmod(0o700)


def test_no_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = NodeStore(tmp_path / "file" / "cache", MIB)
    with pytest.raises(StoreUnusable):
        store.get([key(1)])


def test_a_full_disk_ends_writing_and_not_reading(
    directory: Path, store: NodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    put(store, 1)
    script = (
        "import resource, signal, sys; from pathlib import Path; sys.path[:0] = sys.argv[2:];"
        "from nfsverity_client.node_store import NodeStore;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "store = NodeStore(Path(sys.argv[1]), 2**26);"
        "key = bytes(33) + (1).to_bytes(8, 'big');"
        "written = [store.write({bytes([n]) * 41: bytes(8192)}, [], [], {}) for n in range(40)];"
        "print(all(written), store.full is not None, store.get([key])[0] is not None)"
    )
    done = subprocess.run([sys.executable, "-c", script, directory], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"], done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 65536


def test_a_process_killed_while_it_writes_leaves_a_store_that_works(directory: Path, store: NodeStore) -> None:
    put(store, *range(8))
    script = (
        "import sys; from pathlib import Path; from nfsverity_client.node_store import NodeStore;"
        "store = NodeStore(Path(sys.argv[1]), 2**21); n = 0;\n"
        "while True:\n"
        " store.write({(n + i).to_bytes(41, 'big'): bytes(8192) for i in range(32)}, [], [], {}); n += 32\n"
        " print(n, flush=True)"
    )
    for stop in (1, 3, 7, 20):
        child = subprocess.Popen([sys.executable, "-c", script, directory], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(stop):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert put(store, stop)
        assert store.get([key(stop)]) == [value(stop)]
    assert store.damaged is None


def test_two_processes_fill_it_at_once(directory: Path, store: NodeStore) -> None:
    script = (
        "import sys; from pathlib import Path; from nfsverity_client.node_store import NodeStore;"
        "store = NodeStore(Path(sys.argv[1]), 2**26); first = int(sys.argv[2]);\n"
        "print(sum(store.write({bytes(33) + n.to_bytes(8, 'big'): n.to_bytes(4, 'big') * 2048}, [], [], {'hits': 1})"
        " for n in range(first, first + 50)), store.damaged, store.full)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, directory, str(first)], stdout=subprocess.PIPE, text=True)
        for first in (0, 1000)
    ]
    outputs = [child.communicate()[0].split() for child in children]
    assert [output[1:] for output in outputs] == [["None", "None"]] * 2
    written = sum(int(output[0]) for output in outputs)
    usage = store.usage()
    assert usage.runs == usage.counters["hits"] == written > 50
    keys = [*range(50), *range(1000, 1050)]
    found = store.get([key(number) for number in keys])
    assert all(got in (None, value(number)) for number, got in zip(keys, found, strict=True))
