# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Wall time, processor and memory of whole commands, each on the processors it is told."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("nfsverity"))
RUNS = 5
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@dataclass(frozen=True)
class Run:
    """One finished command. Seconds, those of processors (user and system), and bytes of its largest resident set."""

    seconds: float
    processor: float
    resident: int
    output: str
    errors: str


def pinned(processors: int | Sequence[int] | None) -> Callable[[], None]:
    """What a child does before it starts: stay on these of our processors (by position)."""

    def pin() -> None:
        if processors is not None and PROCESSORS:
            wanted = [processors] if isinstance(processors, int) else processors
            os.sched_setaffinity(0, {PROCESSORS[i % len(PROCESSORS)] for i in wanted})

    return pin


def run(command: Sequence[str], on: int | Sequence[int] | None = 0, *, discard: bool = False) -> Run:
    """Run it once. Exits where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with open(os.devnull, "wb") as null:
        child = subprocess.Popen(
            command,
            stdout=null if discard else subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=pinned(on),
            text=True,
        )
        output, errors = child.communicate()
    seconds = time.perf_counter() - start
    if child.returncode:
        sys.exit(f"bench: {' '.join(command)} ended with {child.returncode}:\n{errors}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, processor, after.ru_maxrss * 1024, output, errors)


def median(work: Callable[[], Run], runs: int = RUNS, before: Callable[[], object] | None = None) -> float:
    """The median of the seconds; once without counting, to warm the caches."""
    times = []
    for _ in range(runs + 1):
        if before is not None:
            before()
        times.append(work().seconds)
    return statistics.median(times[1:])


_RESIDENT = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def resident(*arguments: str) -> int:
    """Bytes of the largest resident set of one run of the command, or of a process that it starts."""
    return int(run([sys.executable, "-c", _RESIDENT, COMMAND, *arguments], 1).output)


def resident_of(pid: int) -> int:
    """Bytes of the largest resident set that a running process has had (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM")
