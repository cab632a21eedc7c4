# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Marks: raised together, never lowered, shared by processes that may be killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_client.marks import MarkStore
from nfsverity_client.state import State
from nfsverity_proto.errors import Equivocation, Rollback
from nfsverity_proto.statement import GENERATION_MAX, Kind
from state_sample import ANCHOR, KEY, VOLUME, accept, mark_of, raising, tag

ROUNDS = 12
PATHS = 40


class Counting(State):
    """Counts the changes, each of which is one sync."""

    changes = 0

    @contextlib.contextmanager
    def changing(self) -> Iterator[object]:  # type: ignore[override]
        self.changes += 1
        with super().changing() as connection:
            yield connection


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Counting]:
    state = Counting(tmp_path / "state")
    yield state
    state.close()


@pytest.fixture
def marks(state: Counting) -> MarkStore:
    return MarkStore(state)


@pytest.mark.spec("fim-mark-4")
@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 5), st.sampled_from("xy")), max_size=12))
def test_marks_are_those_of_the_rule(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bytes, int, str]]
) -> None:
    """Against a dictionary; each step by a store of its own, as a process would have."""
    directory = tmp_path_factory.mktemp("state")
    known: dict[bytes, tuple[int, str]] = {}
    for path, generation, version in steps:
        marks = MarkStore(State(directory))
        highest, of_version = known.get(path, (-1, ""))
        if generation < highest:
            with pytest.raises(Rollback):
                accept(marks, path, generation, version)
        elif generation == highest and version != of_version:
            with pytest.raises(Equivocation):
                accept(marks, path, generation, version)
        else:
            accept(marks, path, generation, version)
            known[path] = generation, version
        found = marks.under(ANCHOR, VOLUME, Kind.FILE, path)[KEY]
        assert (found.generation, found.tag) == (known[path][0], tag(known[path][1]))
        marks.state.close()


def test_a_generation_can_be_as_high_as_there_is_one(marks: MarkStore) -> None:
    for generation in (0, 2**63 - 1, 2**63, GENERATION_MAX):
        accept(marks, b"f", generation)
        assert mark_of(marks, b"f") == generation


def test_each_signer_has_a_mark(marks: MarkStore) -> None:
    accept(marks, b"f", 1, key=b"one")
    accept(marks, b"f", 2, key=b"other")
    assert (mark_of(marks, b"f", b"one"), mark_of(marks, b"f", b"other")) == (1, 2)


async def test_one_sync_is_for_many(marks: MarkStore, state: Counting) -> None:
    raised = [marks.soon(raising(b"f%d" % number, 1)) for number in range(200)]
    await asyncio.gather(*(marks.durable(each) for each in raised))
    assert state.changes == 1
    assert marks.counts() == {VOLUME: 200}


async def test_the_event_loop_is_not_held_up_by_a_sync(marks: MarkStore, state: Counting) -> None:
    """Another process is in the middle of a change: the loop goes on, and marks are read."""
    accept(marks, b"f", 1)
    other = State(state.path.parent)
    with other.changing():
        waiting = asyncio.create_task(marks.durable(marks.soon(raising(b"f", 2))))
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert mark_of(marks, b"f") == 1
        assert not waiting.done()
    await waiting
    assert mark_of(marks, b"f") == 2
    other.close()


async def test_who_is_overtaken_is_judged_anew(marks: MarkStore, state: Counting) -> None:
    """Between the judgement and the change, another process accepts a newer version, or another one."""
    older, another = marks.soon(raising(b"f", 1)), marks.soon(raising(b"g", 2, "x"))
    other = MarkStore(State(state.path.parent))
    accept(other, b"f", 2)
    accept(other, b"g", 2, "y")
    for raised, verdict in ((older, Rollback), (another, Equivocation)):
        with pytest.raises(verdict):
            await marks.durable(raised)
    assert (mark_of(marks, b"f"), mark_of(marks, b"g")) == (2, 2)
    other.state.close()


async def test_who_stops_waiting_stops_nobody_else(marks: MarkStore) -> None:
    raised = [marks.soon(raising(b"f%d" % number, 1)) for number in range(2)]
    tasks = [asyncio.create_task(marks.durable(each)) for each in raised]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await tasks[1]
    assert mark_of(marks, b"f1") == 1


@pytest.mark.spec("fim-time-1", "fim-time-2")
def test_now_is_never_before_what_was_accepted(marks: MarkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000]
    monkeypatch.setattr(time, "time", lambda: float(clock[0]))

    def issued_at(issued: int, path: bytes) -> None:
        marks.soon(raising(path, 1, issued=issued))
        marks.flush()

    assert (marks.latest(), marks.now()) == (None, 1_000_000)
    issued_at(999_000, b"a")
    assert (marks.latest(), marks.now()) == (999_000, 1_000_000)
    clock[0] = 500_000
    assert marks.now() == 999_000
    issued_at(999_200, b"b")  # as much ahead as is allowed: it moves the time no further
    assert marks.latest() == 999_000
    issued_at(-5, b"c")
    assert marks.latest() == 999_000
    clock[0] = 1_000_000
    issued_at(1_000_200, b"d")
    assert marks.latest() == 1_000_000
    marks.forget_time()
    clock[0] = 7
    assert (marks.latest(), marks.now()) == (None, 7)


def test_marks_are_found_by_path_and_dropped(marks: MarkStore) -> None:
    for path in (b"a", b"a/b", b"a/b/c", b"a.b", b"a0", b"b"):
        accept(marks, path, 1)
    found = marks.find(volume=VOLUME, below=b"a")
    assert [kept.of.path for kept in found] == [b"a", b"a/b", b"a/b/c"]
    assert [kept.of.path for kept in marks.find(volume=VOLUME, path=b"a")] == [b"a"]
    assert marks.find(volume=b"W" * 16) == []
    accept(marks, b"a/b", 2)  # meanwhile
    assert marks.drop(found) == 2
    assert [kept.of.path for kept in marks.find()] == [b"a.b", b"a/b", b"a0", b"b"]
    assert marks.drop_anchor(b"another") == 0
    assert marks.drop_anchor(ANCHOR) == 4
    assert marks.find() == []


RAISES = """
import random, sys
from pathlib import Path
from nfsverity_client.marks import MarkStore
from nfsverity_client.state import State
from nfsverity_proto.errors import VerificationError
from state_sample import accept, raising
marks, seed, steps = MarkStore(State(Path(sys.argv[1]))), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
print("ready", flush=True)
for step in range(steps):
    several = [(chance.randrange(int(sys.argv[4])), seed * 1000000 + step) for _ in range(chance.randrange(1, 9))]
    raised = [(path, generation, marks.soon(raising(b"%d" % path, generation))) for path, generation in several]
    marks.flush()
    for path, generation, each in raised:
        try:
            each.check()
        except VerificationError:
            continue
        print(path, generation, flush=True)
"""


def raise_in_another_process(directory: Path, seed: int, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RAISES, directory, str(seed), str(steps), str(PATHS)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )


def highest(lines: list[str]) -> dict[int, int]:
    found: dict[int, int] = {}
    for line in lines:
        path, generation = line.split()
        found[int(path)] = max(found.get(int(path), 0), int(generation))
    return found


def test_processes_raise_marks_at_once(tmp_path: Path) -> None:
    """What any of them was told is kept; and nothing is there that nobody was told."""
    processes = [raise_in_another_process(tmp_path, seed, 60) for seed in (1, 2, 3)]
    lines: list[str] = []
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        lines += [line for line in out.splitlines() if line != "ready"]
    marks = MarkStore(State(tmp_path))
    assert {int(kept.of.path): kept.mark.generation for kept in marks.find()} == highest(lines)


@pytest.mark.spec("fim-mark-3")
def test_a_process_that_is_killed_at_any_moment_has_kept_what_it_was_told(tmp_path: Path) -> None:
    """Again and again, in one store, which so is often found in the middle of a change, or of being made."""
    chance = random.Random(5)
    known: dict[int, int] = {}
    for number in range(1, ROUNDS + 1):
        process = raise_in_another_process(tmp_path, number, 10**6)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(chance.randrange(0, 60))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        known |= highest([line for line in lines if line.endswith("\n")])
        marks = MarkStore(State(tmp_path))
        found = {int(kept.of.path): kept.mark.generation for kept in marks.find()}
        for path, generation in known.items():
            assert found[path] >= generation
        marks.state.close()
    assert len(known) > PATHS // 2
