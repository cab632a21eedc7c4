# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The steps of a command: system calls that change files, each by its thread. strace, from outside, ends one there."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .conftest import COMMAND, SECONDS

CALLS = (
    "mkdir", "mkdirat", "unlink", "rmdir", "unlinkat", "rename", "renameat", "renameat2", "truncate", "ftruncate",
    "fsync", "fdatasync", "syncfs", "flock", "copy_file_range", "sendfile", "pwrite64", "write", "fchmod", "utimensat",
    "symlinkat", "linkat",
)  # fmt: skip
"""What changes files, and locks; `openat` makes none that a later call does not show."""
_CALL = re.compile(r'(\d+) +(\w+)\((?:\d+<([^>]+)>|"([^"]+)")')
TRIES = 3
"""How often a step is tried to be met: which thread takes up a piece of work is not the same in each run."""


@dataclass(frozen=True)
class Step:
    call: str
    path: str
    """Of the file; of the directory, where a name in it is meant."""
    when: int
    """The number of the call, of those of its thread for this file."""

    @property
    def options(self) -> tuple[str, ...]:
        return "-P", self.path, "-e", f"inject={self.call}:signal=SIGKILL:when={self.when}"


def strace(user: Any, arguments: tuple[Any, ...], output: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end, with what it calls in `output`."""
    command = ["strace", "-f", "-y", "-qq", "-o", output, "-e", f"trace={','.join(CALLS)}", *options]
    return subprocess.run(
        [*command, COMMAND, *arguments], env=user.environment, capture_output=True, timeout=SECONDS, check=False
    )


def steps_of(output: Path, below: Path) -> list[Step]:
    """The first and the last call of each kind, for each file below a directory."""
    counts: Counter[tuple[str, str, str]] = Counter()
    found: defaultdict[tuple[str, str], list[Step]] = defaultdict(list)
    for line in output.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None or " = -1 " in line:  # which changed nothing
            continue
        thread, call, of_descriptor, name = match.groups()
        path = of_descriptor or name
        if path.startswith(f"{below}/"):
            counts[thread, call, path] += 1
            found[call, path].append(Step(call, path, counts[thread, call, path]))
    return [step for steps in found.values() for step in dict.fromkeys((steps[0], steps[-1]))]


def killed(user: Any, arguments: tuple[Any, ...], output: Path, step: Step) -> bytes | None:
    """What a command had said when it was killed at a step; None where it did not come to it."""
    done = strace(user, arguments, output, *step.options)
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), (step, done.stderr)
    return None if done.returncode == 0 else done.stdout
