# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Who changes a tree in all ways there are, and signs it, by the installed command that is killed now and then."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from .contents import BLOCK, content

COMMAND = os.fspath(Path(sys.executable).parent / "nfsverity")
BLOCKS = {"small": 6, "lib/middle": 700, "lib/large": 3000, "bin/tool": 40, "log": 200, "image": 900}
NAMES = tuple(BLOCKS)
APPENDED, CHANGED = "log", "image"
"""The files that grow, and that change in part. All of them are replaced and rewritten, too."""
Words = tuple[str | Path, ...]


class Publisher:
    """One tree, its signer, and the log of what was put in place when."""

    def __init__(self, directory: Path, choice: random.Random, form: str) -> None:
        self.directory = directory
        self.tree = directory / "tree"
        self.staged = directory / "staged"
        self.choice = choice
        self.environment = (
            os.environ
            | {f"NFSVERITY_{kind}_DIR": os.fspath(directory / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")}
            | {"HOME": os.fspath(directory)}
        )
        self.history: dict[str, list[tuple[int, ...]]] = {name: [()] for name in NAMES}
        """Of each file, by version: the version of each of its blocks."""
        self.placed: dict[str, list[tuple[int, float]]] = defaultdict(list)
        """Versions that were in place with their records, and since when at the latest."""
        self.changes: list[tuple[float, float]] = []
        """From before something was changed until all of it was in place, signed."""
        self.signed: list[tuple[float, float]] = []
        """When each `sign` ran."""
        self.kills = 0
        self.ways: Counter[str] = Counter()
        self.run("keygen", directory / "me")
        for name in NAMES:
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.next(name))
            path.chmod(0o755 if name.startswith("bin/") else 0o644)
        self.sign(form, self.tree)
        self.note(*NAMES)

    def run(self, *arguments: str | Path) -> None:
        done = subprocess.run([COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    # contents

    def next(self, name: str) -> bytes:
        """The next version, new from beginning to end."""
        version = len(self.history[name])
        self.history[name].append((version,) * (BLOCKS[name] + self.choice.randrange(3)))
        return content(name, self.history[name][-1])

    def next_in_part(self, name: str) -> tuple[int, bytes]:
        """The next version, of which some blocks are new: the first of them, and they."""
        version, before = len(self.history[name]), self.history[name][-1]
        if name == APPENDED:
            first, count = len(before), self.choice.randrange(1, 200)
        else:
            first = self.choice.randrange(len(before))
            count = self.choice.randrange(1, min(300, len(before) - first) + 1)
        after = (*before[:first], *(version,) * count, *before[first + count :])
        self.history[name].append(after)
        return first, content(name, after[first : first + count], first)

    def note(self, *names: str) -> None:
        """These are in place now, whole, with their records."""
        for name in names:
            self.placed[name].append((len(self.history[name]) - 1, time.time()))

    # signing

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        options = ("--key", self.directory / "me.key", "--cert", self.directory / "me.crt")
        return subprocess.Popen(
            [COMMAND, "sign", *options, *words], env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def sign(self, *words: str | Path, kill: bool = False, count: int = 1) -> None:
        """By `count` signers at once; where `kill` says so, one is killed first at some moment, once or more."""
        began = time.time()
        while kill and self.choice.random() < 0.6:
            processes = [self.start(*words) for _ in range(count)]
            with contextlib.suppress(subprocess.TimeoutExpired):
                processes[0].wait(self.choice.uniform(0.05, 0.6))
            if processes[0].poll() is None:
                processes[0].send_signal(signal.SIGKILL)
                self.kills += 1
            processes[0].communicate()
            self.ended(processes[1:])
        if "--replace-with" in words and not Path(words[1]).exists():  # its help: signing it once more completes it
            words = words[2:]
        self.ended([self.start(*words) for _ in range(count)])
        self.signed.append((began, time.time()))

    def ended(self, processes: list[subprocess.Popen[str]]) -> None:
        for process in processes:
            err = process.communicate(timeout=120)[1]
            assert process.returncode == 0, (process.args, err)

    # updates

    def update(self) -> None:
        """One update of some of the files."""
        ways = ("renamed", "truncated", "overwritten", "record first", "replaced with", "appended", "changed")
        how = self.choice.choice(ways)
        kill, twice = self.choice.random() < 0.4, self.choice.random() < 0.3 and how != "replaced with"
        self.ways[how + (", twice at once" if twice else "") + (", killed" if kill else "")] += 1
        count = 2 if twice else 1
        began = time.time()
        if how in ("appended", "changed"):
            names = [APPENDED if how == "appended" else CHANGED]
            self.change_in_part(names[0], kill=kill, count=count)
        elif how == "replaced with":
            names = [self.choice.choice(NAMES)]
            new = self.directory / "new"
            self.make(new, names[0])
            began = time.time()
            self.sign("--replace-with", new, self.tree / names[0], kill=kill)
        else:
            names = self.choice.sample(NAMES, self.choice.randrange(1, len(NAMES) + 1))
            if how == "record first":
                began = self.put_record_first(names, kill=kill, count=count)
            else:
                for name in names:
                    self.write(self.tree / name, name, how)
                self.pause(0.2)
                self.sign(self.tree, kill=kill, count=count)
        self.note(*names)
        self.changes.append((began, time.time()))

    def pause(self, most: float) -> None:
        time.sleep(self.choice.uniform(0, most))

    def make(self, new: Path, name: str) -> None:
        new.write_bytes(self.next(name))
        shutil.copymode(self.tree / name, new)

    def write(self, path: Path, name: str, how: str) -> None:
        if how == "renamed":
            new = self.directory / "new"
            self.make(new, name)
            os.replace(new, path)
            return
        data = self.next(name)
        with path.open("r+b" if how == "overwritten" else "wb") as file:  # "wb" truncates
            middle = self.choice.randrange(len(data))
            for start, stop in ((middle, len(data)), (0, middle)):
                file.seek(start)
                file.write(data[start:stop])
                file.flush()
                self.pause(0.05)
            file.truncate(len(data))

    def change_in_part(self, name: str, *, kill: bool, count: int) -> None:
        first, data = self.next_in_part(name)
        middle = self.choice.randrange(len(data))
        with (self.tree / name).open("r+b") as file:
            file.seek(first * BLOCK)
            for part in (data[:middle], data[middle:]):
                file.write(part)
                file.flush()
                self.pause(0.05)
        said: Words = ("--appended",) if name == APPENDED else ("--changed", f"{first * BLOCK}:{len(data)}")
        self.sign(*said, self.tree / name, kill=kill, count=count)

    def put_record_first(self, names: list[str], *, kill: bool, count: int) -> float:
        """When the records were in place, before their contents."""
        shutil.rmtree(self.staged, ignore_errors=True)
        shutil.copytree(self.tree, self.staged)
        for name in names:
            self.write(self.staged / name, name, "renamed")
        self.sign(self.staged, kill=kill, count=count)
        source, target = self.staged / ".nfsverity", self.tree / ".nfsverity"
        for path in source.rglob("*"):
            if path.is_file() and path.name not in ("head", "lock"):
                shutil.copy2(path, target / path.relative_to(source))
        shutil.copy2(source / "head", target / "head.new")
        began = time.time()
        os.replace(target / "head.new", target / "head")
        self.pause(0.2)
        for name in names:
            os.replace(self.staged / name, self.tree / name)
        self.signed.append((began, time.time()))
        return began
