# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Large files hashed by several processes: the same tree, in bounded memory, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.tree import Shape
from nfsverity_publisher import content, workers
from nfsverity_publisher.content import Hasher
from nfsverity_store.hashing import RUN_LOG2, hash_runs
from nfsverity_store.index import Seen
from nfsverity_store.layout import DIRECTORY

UNIT = 4096


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Four runs of the smallest units and a bit: data, a hole, half of each, data; not much of it stored."""
    path = tmp_path / "d" / "large"
    path.parent.mkdir()
    run = UNIT << RUN_LOG2
    with path.open("wb") as file:
        file.write(os.urandom(UNIT) * (1 << RUN_LOG2))
        file.seek(2 * run + run // 2)
        file.write(os.urandom(run))
        file.truncate(4 * run + 5)
    return path


def seen(path: Path) -> Seen:
    return Seen.of(path.stat())


@pytest.mark.parametrize(
    ("jobs", "unit_log2", "alone"),
    [(1, 12, True), (2, 12, True), (3, 12, True), (2, 16, True), (3, 24, True), (2, 12, False)],
    ids=str,
)
def test_the_runs_are_the_same(large: Path, jobs: int, unit_log2: int, alone: bool, tmp_path: Path) -> None:
    """By a fork where this process is alone with itself, else by new interpreters."""
    shape, hash, done = Shape(large.stat().st_size, unit_log2), hash_by_number(1), []
    started, end = threading.Event(), threading.Event()
    other = threading.Thread(target=lambda: started.set() or end.wait())
    if not alone:
        other.start()
        started.wait()
    try:
        names = (b"d", b"large")
        found = list(workers.runs(tmp_path, names, seen(large), shape, hash, jobs, done.append))
    finally:
        end.set()
        if not alone:
            other.join()
    with large.open("rb") as file:
        assert found == list(hash_runs(file.fileno(), shape, hash))
    assert sum(done) == shape.size


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are always started anew")
def test_no_fork_where_there_are_threads() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    method = workers.start_method()
    end.set()
    thread.join()
    assert method == "spawn"


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc to see what a process ignores")
def test_a_worker_ignores_interrupts_before_it_begins(
    large: Path, method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is seen here right after a start is what it inherited; a new interpreter is then far from its own code."""
    ignored: list[bool] = []
    start = BaseProcess.start

    def start_and_look(process: BaseProcess) -> None:
        start(process)
        status = Path(f"/proc/{process.pid}/status").read_text()
        masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigIgn:", "SigBlk:"))]
        ignored.append(any(int(mask, 16) >> (signal.SIGINT - 1) & 1 for mask in masks))

    monkeypatch.setattr(BaseProcess, "start", start_and_look)
    monkeypatch.setattr(workers, "start_method", lambda: method)
    handler, found = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        shape = Shape(large.stat().st_size, 12)
        found.extend(workers.runs(tmp_path, (b"d", b"large"), seen(large), shape, hash_by_number(1), 2, lambda _: None))

    run()
    assert ignored == [True, True]
    assert signal.getsignal(signal.SIGINT) is handler
    other = threading.Thread(target=run)
    other.start()
    other.join()
    assert len(found) == 10, "in another thread, too"


def test_units_larger_than_a_piece_of_a_run(tmp_path: Path) -> None:
    """With units of 16 MiB a run has 16 GiB: a piece is 64 MiB of it."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)
        file.seek(2**29)
        file.write(b"x")
    shape, hash = Shape(path.stat().st_size, 24), hash_by_number(0x10000)
    done: list[int] = []
    (found,) = workers.runs(tmp_path, (b"sparse",), seen(path), shape, hash, 2, done.append)
    with path.open("rb") as file:
        assert [found] == list(hash_runs(file.fileno(), shape, hash))
    assert len(done) == 17


def test_a_file_that_is_another_one_for_a_worker(large: Path, tmp_path: Path) -> None:
    before = seen(large)
    os.utime(large, ns=(1, 1))
    shape = Shape(large.stat().st_size, 12)
    with pytest.raises(workers.Changed):
        list(workers.runs(tmp_path, (b"d", b"large"), before, shape, hash_by_number(1), 2, lambda _: None))


def test_a_file_that_is_gone_for_a_worker(large: Path, tmp_path: Path) -> None:
    before = seen(large)
    large.unlink()
    with pytest.raises(FileNotFoundError):
        list(workers.runs(tmp_path, (b"d", b"large"), before, Shape(before.size, 12), hash_by_number(1), 2, print))


def test_the_hasher_uses_them_for_what_is_large(large: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / DIRECTORY / "trees").mkdir(parents=True)
    with large.open("rb") as file:
        alone = Hasher(tmp_path, 1).hash(
            file.fileno(), (tmp_path, (b"d", b"large")), seen(large), hash_by_number(1), 12, lambda _: None
        )
        monkeypatch.setattr(content.workers, "PARALLEL_MIN", 2**22)
        used: list[object] = []
        runs = workers.runs
        monkeypatch.setattr(content.workers, "runs", lambda *arguments: used.append(1) or runs(*arguments))
        together = Hasher(tmp_path, 2).hash(
            file.fileno(), (tmp_path, (b"d", b"large")), seen(large), hash_by_number(1), 12, lambda _: None
        )
    assert used
    assert together == alone
    assert [path.name for path in (tmp_path / DIRECTORY / "trees").iterdir()] == [alone.kept]


def test_an_error_leaves_no_unfinished_tree(large: Path, tmp_path: Path) -> None:
    (tmp_path / DIRECTORY / "trees").mkdir(parents=True)
    stale = Seen(large.stat().st_size + UNIT, 0, 0, 0)
    with large.open("rb") as file, pytest.raises(OSError):
        Hasher(tmp_path, 1).hash(
            file.fileno(), (tmp_path, (b"d", b"large")), stale, hash_by_number(1), 12, lambda _: None
        )
    assert not list((tmp_path / DIRECTORY / "trees").iterdir())


KILLED = """
    import multiprocessing, os, signal, sys
    from pathlib import Path
    from nfsverity_proto.hashes import hash_by_number
    from nfsverity_proto.tree import Shape
    from nfsverity_publisher import workers
    from nfsverity_store.index import Seen
    path = Path(sys.argv[1])
    runs = workers.runs(path.parent, (os.fsencode(path.name),), Seen.of(path.stat()), Shape(path.stat().st_size, 12),
                        hash_by_number(1), 2, lambda _: None)
    next(runs)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc to see processes end")
def test_workers_end_with_the_one_they_work_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        for _ in range(16):
            file.write(os.urandom(UNIT) * (1 << RUN_LOG2))
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()  # until the last who has the pipe has ended: the workers, too
    assert process.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in output.split()]
    assert len(pids) == 2
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}/fd/0")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are always started anew")
def test_an_interrupt_that_comes_with_a_start_is_not_lost(
    large: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start, started = BaseProcess.start, list[BaseProcess]()

    def start_and_interrupt(process: BaseProcess) -> None:
        start(process)
        started.append(process)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(BaseProcess, "start", start_and_interrupt)
    monkeypatch.setattr(workers, "start_method", lambda: "fork")
    shape = Shape(large.stat().st_size, 12)
    with pytest.raises(KeyboardInterrupt):
        list(workers.runs(tmp_path, (b"d", b"large"), seen(large), shape, hash_by_number(1), 2, lambda _: None))
    (process,) = started
    assert process.exitcode is not None
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
