# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Files are replaced, rewritten and signed, by a publisher that is killed now and then, while processes read them.

A server, a publisher and readers, each a process of its own, for NFSVERITY_STRESS_SECONDS.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from stress.contents import content

SECONDS = float(os.environ.get("NFSVERITY_STRESS_SECONDS", "45"))
READERS = 4
NAMES = ("small", "lib/middle", "lib/large")
BLOCKS = {"small": 6, "lib/middle": 700, "lib/large": 3000}
EXPECTED = 4.0
"""Seconds in which a server surely still expects a record after a change."""
COMMAND = os.fspath(Path(sys.executable).parent / "nfsverity")


class Publisher:
    """One tree, its signer, and the log of what was put in place when."""

    def __init__(self, directory: Path, choice: random.Random) -> None:
        self.directory = directory
        self.tree = directory / "tree"
        self.staged = directory / "staged"
        self.choice = choice
        self.environment = (
            os.environ
            | {f"NFSVERITY_{kind}_DIR": os.fspath(directory / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")}
            | {"HOME": os.fspath(directory)}
        )
        self.versions: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.placed: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.late: list[tuple[float, float]] = []
        """When the server may have ceased to expect a record that did come."""
        self.kills = 0
        self.ways: Counter[str] = Counter()
        self.run("keygen", directory / "me")
        for name in NAMES:
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            (self.tree / name).write_bytes(self.next(name))
        self.sign()
        self.note(*NAMES)

    def run(self, *arguments: str | Path) -> str:
        done = subprocess.run([COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def next(self, name: str) -> bytes:
        self.versions[name] += 1
        return content(name, self.versions[name], BLOCKS[name] + self.choice.randrange(3))

    def command(self, tree: Path) -> list[str | Path]:
        return ["sign", tree, "--key", self.directory / "me.key", "--cert", self.directory / "me.crt"]

    def sign(self, tree: Path | None = None, *, kill: bool = False) -> None:
        """Sign; where `kill` says so, a publisher is killed first at some moment, once or more."""
        while kill and self.choice.random() < 0.6:
            process = subprocess.Popen(
                [COMMAND, *self.command(tree or self.tree)],
                env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.choice.uniform(0.05, 0.6))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                self.kills += 1
            process.wait()
        self.run(*self.command(tree or self.tree))

    def note(self, *names: str) -> None:
        """These are in place now, whole, with their records."""
        for name in names:
            self.placed[name].append((self.versions[name], time.time()))

    def write(self, path: Path, data: bytes, how: str) -> None:
        if how == "renamed":
            new = self.directory / "new"
            new.write_bytes(data)
            os.replace(new, path)
            return
        with path.open("r+b" if how == "overwritten" else "wb") as file:  # "wb" truncates
            middle = self.choice.randrange(len(data))
            for start, stop in ((middle, len(data)), (0, middle)):
                file.seek(start)
                file.write(data[start:stop])
                file.flush()
                time.sleep(self.choice.uniform(0, 0.05))
            file.truncate(len(data))

    def update(self) -> None:
        """One update of some of the files."""
        began = time.time()
        names = self.choice.sample(NAMES, self.choice.randrange(1, len(NAMES) + 1))
        how = self.choice.choice(("renamed", "truncated", "overwritten", "record first"))
        kill = self.choice.random() < 0.4
        self.ways[how + (", killed" if kill else "")] += 1
        if how == "record first":
            began = self.put_record_first(names, kill=kill)
        else:
            for name in names:
                self.write(self.tree / name, self.next(name), how)
            time.sleep(self.choice.uniform(0, 0.2))
            self.sign(kill=kill)
        self.note(*names)
        if time.time() - began > EXPECTED:
            self.late.append((began, time.time()))

    def put_record_first(self, names: list[str], *, kill: bool) -> float:
        shutil.rmtree(self.staged, ignore_errors=True)
        shutil.copytree(self.tree, self.staged)
        for name in names:
            self.write(self.staged / name, self.next(name), "renamed")
        self.sign(self.staged, kill=kill)
        source, target = self.staged / ".nfsverity", self.tree / ".nfsverity"
        for path in source.rglob("*"):
            if path.is_file() and path.name not in ("head", "lock"):
                shutil.copy2(path, target / path.relative_to(source))
        shutil.copy2(source / "head", target / "head.new")
        began = time.time()
        os.replace(target / "head.new", target / "head")
        time.sleep(self.choice.uniform(0, 0.2))
        for name in names:
            os.replace(self.staged / name, self.tree / name)
        return began


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.spec("fim-upd-2", "fim-upd-5", "fip-client-20", "fip-client-21")
def test_readers_get_one_signed_version_or_are_told(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    choice = random.Random(seed)
    publisher = Publisher(tmp_path, choice)
    with contextlib.ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": publisher.environment}
        server = subprocess.Popen([COMMAND, "serve", publisher.tree, "--listen", "127.0.0.1:0"], **pipes)
        stack.enter_context(ended(server))
        url = server.stdout.readline().strip()
        script = Path(__file__).with_name("reader.py")
        readers = []
        for number in range(READERS):
            said = stack.enter_context((tmp_path / f"reader-{number}").open("w+"))
            command = [sys.executable, script, url, tmp_path / "me.crt", str(seed + number), *NAMES]
            readers.append((stack.enter_context(ended(subprocess.Popen(command, **(pipes | {"stdout": said})))), said))
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            publisher.update()
            time.sleep(choice.uniform(0, 0.5))
        for reader, _ in readers:
            reader.stdin.close()
        opens = []
        for reader, said in readers:
            assert reader.wait(90) == 0
            said.seek(0)
            opens += [json.loads(line) for line in said]
        publisher.run("verify", publisher.tree, "--trust", tmp_path / "me.crt")
    check(publisher, opens)


def check(publisher: Publisher, opens: list[dict[str, object]]) -> None:
    verdicts = Counter((opened["verdict"], opened.get("how")) for opened in opens)
    print(dict(verdicts), "kills", publisher.kills, dict(publisher.ways))
    assert not [opened for opened in opens if opened["verdict"] == "WRONG"]
    assert verdicts["served", "whole"]
    assert verdicts["served", "range"]
    delays = []
    for opened in opens:
        began, end = opened["began"], opened["began"] + opened["took"]
        late = any(since < end and began < until for since, until in publisher.late)
        if opened["verdict"] != "served":
            assert opened["verdict"] == "stale" or late, opened
            continue
        placed = publisher.placed[opened["name"]]
        oldest = max(version for version, at in placed if at <= began)
        assert opened["version"] is None or opened["version"] >= oldest, (opened, oldest)
        delays += [end - at for version, at in placed if version == opened["version"] and began < at < end]
    if delays:
        delays.sort()
        print(f"{len(delays)} opens waited for a version; seconds after the signer had ended: "
              f"median {statistics.median(delays):.3f}, 90 % {delays[len(delays) * 9 // 10]:.3f}")  # fmt: skip
