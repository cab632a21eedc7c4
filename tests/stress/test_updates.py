# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Files are replaced, rewritten and signed, by publishers that are killed now and then, while processes read them.

A server, publishers and readers, each a process of its own, for NFSVERITY_STRESS_SECONDS: half of them for each form
in which a tree can be signed. Some of the readers are the installed command, and some of the files programs that run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .counting import Asked, Counting, counting
from .publisher import COMMAND, NAMES, Publisher

SECONDS = float(os.environ.get("NFSVERITY_STRESS_SECONDS", "50")) / 2
READERS = ("api", "api", "cat", "tree", "run")
EXPECTED = 4.5
"""Seconds in which a server surely still expects a record after a change: half a second less than it does."""
LATE_SHARE = 0.05
"""Of all opens, so many may be told that something is wrong because the signer took longer than that."""
ASKED_MEAN = 4.0
"""RECORD calls by which a reader waits for one file, in the mean of those that wait."""
Opened = dict[str, Any]


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.spec("fim-upd-1", "fim-upd-2", "fim-upd-5", "fip-client-20", "fip-client-21", "fip-poll-1")
@pytest.mark.parametrize("form", ["--as-volume", "--per-file"])
def test_readers_get_one_signed_version_or_are_told(tmp_path: Path, form: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    choice = random.Random(seed)
    publisher = Publisher(tmp_path, choice, form)
    with contextlib.ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": publisher.environment}
        server = subprocess.Popen([COMMAND, "serve", publisher.tree, "--listen", "127.0.0.1:0"], **pipes)
        stack.enter_context(ended(server))
        asked = stack.enter_context(counting(int(server.stdout.readline().strip().rstrip("/").rpartition(":")[2])))
        url, script = f"nfsv://127.0.0.1:{asked.port}/", Path(__file__).with_name("reader.py")
        readers = []
        for number, way in enumerate(READERS):
            said = stack.enter_context((tmp_path / f"reader-{number}").open("w+"))
            command = [sys.executable, script, way, url, tmp_path / "me.crt", tmp_path / f"folder-{number}"]
            command += [str(seed + number), *NAMES]
            readers.append((stack.enter_context(ended(subprocess.Popen(command, **(pipes | {"stdout": said})))), said))
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            publisher.update()
            publisher.pause(0.5)
        for reader, _ in readers:
            reader.stdin.close()
        opens = []
        for reader, said in readers:
            assert reader.wait(90) == 0
            said.seek(0)
            opens += [json.loads(line) for line in said]
        publisher.run("verify", publisher.tree, "--trust", tmp_path / "me.crt")
    print("kills", publisher.kills, dict(publisher.ways))
    check_opens(publisher, opens, form)
    check_asked(asked, publisher)


def check_opens(publisher: Publisher, opens: list[Opened], form: str) -> None:
    for how in sorted({opened["how"] for opened in opens}):
        print(f"{how}:", dict(Counter(opened["verdict"] for opened in opens if opened["how"] == how)))
    assert not [opened for opened in opens if opened["verdict"] == "WRONG"]
    served = [opened for opened in opens if opened["verdict"] == "served"]
    assert {opened["how"] for opened in served} >= {"whole", "range", "long", "cat", "get tree", "get and run"}
    assert form == "--per-file" or all(opened.get("executable", True) for opened in served)
    delays, excused = [], Counter[str]()
    for opened in opens:
        versions = versions_that_have(publisher, opened)
        if opened["verdict"] != "served":
            if opened["verdict"] == "rollback" and opened["how"] == "get tree":
                assert is_meanwhile(publisher, opened), opened
            elif opened["verdict"] != "stale":
                assert opened["verdict"] in ("mismatch", "updating"), json.dumps(opened)
                assert is_late(publisher, opened), opened
                excused[opened["verdict"]] += 1
            continue
        placed = publisher.placed[opened["name"]]
        oldest = max(version for version, at in placed if at <= opened["began"])
        assert max(versions) >= oldest, (opened, oldest)
        if len(versions) == 1 and opened["how"] != "ran meanwhile":
            since, until = opened["began"], opened["ended"]
            delays += [until - at for version, at in placed if version == versions[0] and since < at < until]
    late = sum(until - since > EXPECTED for since, until in publisher.changes)
    print(f"{sum(excused.values())} of {len(opens)} opens excused, {dict(excused)}: "
          f"{late} of {len(publisher.changes)} updates took their signer longer than {EXPECTED} s")  # fmt: skip
    assert sum(excused.values()) <= LATE_SHARE * len(opens)
    if delays:
        delays.sort()
        print(f"{len(delays)} opens waited for a version; seconds after the signer had ended: "
              f"median {statistics.median(delays):.3f}, 90 % {delays[len(delays) * 9 // 10]:.3f}")  # fmt: skip


def versions_that_have(publisher: Publisher, opened: Opened) -> list[int]:
    """The versions of which all is that was given; some, unless nothing was."""
    found = [
        version
        for version, blocks in enumerate(publisher.history.get(opened["name"], ()))
        if version and all(has(blocks, *read, whole=opened["whole"]) for read in opened["reads"])
    ]
    assert found or not opened["reads"], ("of no version, or a mix", opened)
    return found


def has(blocks: tuple[int, ...], first: int, runs: list[tuple[int, int]], *, whole: bool) -> bool:
    read = tuple(version for version, count in runs for _ in range(count))
    return blocks == read if whole else blocks[first : first + len(read)] == read


def is_meanwhile(publisher: Publisher, opened: Opened) -> bool:
    """Whether a version came in that time: another reader may have accepted it before all files were here."""
    return any(since < opened["ended"] and opened["began"] < until for since, until in publisher.changes)


def is_late(publisher: Publisher, opened: Opened) -> bool:
    """Whether a record came in that time which the server may have ceased to expect."""
    began, end = opened["began"], opened["ended"]
    return any(since + EXPECTED < min(end, until) and began < until for since, until in publisher.changes)


def check_asked(counted: Counting, publisher: Publisher) -> None:
    """Who waits has the server hold the call until there is news, and does not ask again and again."""
    waits = defaultdict[tuple[int, bytes], list[Asked]](list)
    for asked in counted.asked:
        waits[asked.connection, asked.object].append(asked)
    waited = [calls for calls in waits.values() if any(call.wait for call in calls)]
    assert waited, "nobody had the server hold a call"
    held = [call.answered - call.at for calls in waited for call in calls if call.wait and call.answered is not None]
    numbers = sorted(len(calls) for calls in waited)
    print(f"{counted.records} RECORD calls; {len(waits)} files of which more was asked, {len(waited)} waited for: "
          f"{len(held)} polls, held {sum(held):.1f} s; calls for one: median {statistics.median(numbers)}, "
          f"mean {statistics.mean(numbers):.2f}, most {numbers[-1]}")  # fmt: skip
    assert statistics.mean(numbers) <= ASKED_MEAN
    for calls in waited:  # some for each new version, and once a second where others have the places (fip-poll-9)
        first, last = calls[0].at, calls[-1].at
        signings = sum(began <= last and end >= first for began, end in publisher.signed)
        assert len(calls) <= 4 + 4 * signings + (last - first), calls
    assert statistics.median(held) > 0.05
