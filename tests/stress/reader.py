# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A process that reads files while they are updated, in one way, until it is told to stop (stdin is closed).

It writes one JSON line for each open: what came of it, and of which version each block was. It knows the files by
their marks only; whether those versions belong together is for who wrote them to say.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contents import BLOCK, versions_of, versions_printed

import nfsverity

WAIT = 20
"""Seconds; what one open, or one command, may wait."""
COMMAND = os.fspath(Path(sys.executable).parent / "nfsverity")
Said = dict[str, Any]


class Reading:
    def __init__(self, url: str, certificate: str, folder: Path, choice: random.Random, names: list[str]) -> None:
        self.url, self.certificate, self.folder, self.choice, self.names = url, certificate, folder, choice, names
        self.got = 0.0
        """When the last get of the program that went well began."""
        folder.mkdir()

    def options(self, *words: str | Path) -> list[str | Path]:
        command, *rest = words
        return [COMMAND, command, *rest, "--trust", self.certificate, "--wait", str(WAIT)]

    def api(self) -> Iterator[Said]:
        """One open, read in one of three ways."""
        name, reads = self.choice.choice(self.names), []
        how = self.choice.choice(("whole", "range", "long"))
        said: Said = {"name": name, "how": how, "whole": how == "whole", "reads": reads}
        try:
            with (
                nfsverity.open_tree(self.url, trust=[self.certificate], wait=WAIT) as tree,
                tree.open(name) as file,
            ):
                if how == "whole":
                    reads.append(read(file.read(), name))
                for _ in range({"whole": 0, "range": 1, "long": 8}[how]):
                    first = self.choice.randrange(0, max(1, file.size // BLOCK))
                    file.seek(first * BLOCK)
                    reads.append(read(file.read(64 * BLOCK), name, first))
                    if how == "long":
                        time.sleep(0.05)
            yield said | {"verdict": "served"}
        except nfsverity.VerificationError as error:
            yield said | {"whole": False, "verdict": error.verdict, "message": str(error)}

    def cat(self) -> Iterator[Said]:
        name = self.choice.choice(self.names)
        done = subprocess.run(self.options("cat", self.url + name), capture_output=True)
        served = done.returncode == 0
        said: Said = {"name": name, "how": "cat", "whole": served, "reads": [read(done.stdout, name)]}
        yield said | ({"verdict": "served"} if served else named(done.stderr))

    def tree(self) -> Iterator[Said]:
        """All of the tree, mostly over what was got before."""
        target = self.folder / ("mirror" if self.choice.random() < 0.8 else f"fresh-{time.time_ns()}")
        done = subprocess.run(self.options("get", self.url, target, "--json"), capture_output=True)
        report = json.loads(done.stdout)
        if "files" not in report:
            yield {"name": "", "how": "get tree", "whole": False, "reads": [], **verdict(report["error"])}
            return
        there = {os.fspath(path.relative_to(target)): path for path in target.rglob("*") if path.is_file()}
        assert set(there) <= set(self.names), f"left behind: {set(there) - set(self.names)}"
        for file in report["files"]:
            name = file["path"]
            said: Said = {"name": name, "how": "get tree"}
            if file["error"] is None:
                said |= {"verdict": "served", "whole": True, "reads": [read(there[name].read_bytes(), name)]}
            elif name in there:  # what was there stays
                said |= {**verdict(file["error"]), "whole": True, "reads": [read(there[name].read_bytes(), name)]}
            else:
                said |= {**verdict(file["error"]), "whole": False, "reads": []}
            yield said
        if target.name != "mirror":
            subprocess.run(["rm", "-r", target], check=True)

    def run(self) -> Iterator[Said]:
        """A program is got, while the one that was got before runs, in whose place it comes."""
        name, program = "bin/tool", self.folder / "tool"
        said: Said = {"name": name, "whole": True, "verdict": "served"}
        began = time.time()
        getting = subprocess.Popen(
            self.options("get", self.url + name, program), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while getting.poll() is None and self.got:
            yield said | {"how": "ran meanwhile", "began": self.got, "reads": [ran(program, name)]}
        err = getting.communicate()[1]
        if getting.returncode:
            yield said | {"how": "get and run", "whole": False, "reads": [], **named(err)}
            return
        self.got = began
        executable = os.access(program, os.X_OK)
        yield said | {"how": "get and run", "executable": executable, "reads": [ran(program, name)]}


def read(data: bytes, name: str, first: int = 0) -> tuple[int, list[tuple[int, int]]]:
    return first, runs(versions_of(data, name, first))


def ran(program: Path, name: str) -> tuple[int, list[tuple[int, int]]]:
    command = [program] if os.access(program, os.X_OK) else ["sh", program]  # only a volume says that it is one
    done = subprocess.run(command, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), done
    return 0, runs(versions_printed(done.stdout, name))


def runs(versions: list[int]) -> list[tuple[int, int]]:
    """Version and number of blocks."""
    return [(version, len(list(same))) for version, same in itertools.groupby(versions)]


def verdict(error: Said) -> Said:
    return {"verdict": error["verdict"] or error["kind"], "message": error["message"]}


def named(err: bytes) -> Said:
    """The verdict that a command told people."""
    text = err.decode()
    words = [word.strip() for word in text.split(": ")]
    known = [word for word in words if word in ("stale", "mismatch", "updating")]
    return {"verdict": known[0] if known else "other", "message": text}


def main() -> None:
    way, url, certificate, folder, seed, *names = sys.argv[1:]
    reading = Reading(url, certificate, Path(folder), random.Random(int(seed)), names)
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.time()
        try:
            for said in getattr(reading, way)():
                print(json.dumps({"began": began, "ended": time.time()} | said), flush=True)
        except AssertionError as error:
            print(json.dumps({"began": began, "ended": time.time(), "how": way, "verdict": "WRONG",
                              "message": str(error)}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
