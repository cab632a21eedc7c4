# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What whole trees cost: a copy of /usr/share as a volume, or of a part of it where time is short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from measure import COMMAND, RUNS, median, resident, resident_of, run

from nfsverity_proto.exported import decode_exported
from nfsverity_proto.record import decode_record, membership_of
from nfsverity_store.layout import read_head

if TYPE_CHECKING:
    from bench import Bench

SOURCE, PART = Path("/usr/share"), Path("/usr/share/doc")
WALK = """
import os, sys
for at, directories, files in os.walk(sys.argv[1]):
    for name in directories + files:
        os.lstat(os.path.join(at, name))
"""
BOTH = (0, 1)
LOOP = "sum(number for number in range(10_000_000))"


def volumes(bench: Bench) -> None:
    tree = bench.folder / "volume"
    subprocess.run(["cp", "-a", SOURCE if bench.scale == 1 else PART, tree], check=True)
    _publish(bench, tree)
    _publish_again(bench, tree)
    _metadata(bench, tree)
    _read(bench, tree)


def _publish(bench: Bench, tree: Path) -> None:
    find = f"find '{tree}' -name .nfsverity -prune -o -type f -print0 | xargs -0 sha256sum"
    plain = median(lambda: run(["sh", "-c", find], 1, discard=True))
    one = bench.sign(tree / "any", "--jobs", "1")
    bench.report(
        "sign a tree, one core, to find | xargs sha256sum", "1.5 at most", f"{one / plain:.2f}", one <= 1.5 * plain
    )
    two = bench.sign(tree / "any", "--jobs", "2", on=BOTH)
    able = _two_at_once()
    wanted, found = f"{0.85 * able:.2f} at least", f"{one / two:.2f}"
    bench.report("the same, 2 processes, speed to one", wanted, found, one >= 0.85 * able * two)


def _two_at_once() -> float:
    """What two processors do here, to one: two that share a core, or that others use, do less than twice as much."""
    alone = [sys.executable, "-c", LOOP]
    both = ["sh", "-c", f"'{sys.executable}' -c '{LOOP}' & '{sys.executable}' -c '{LOOP}'; wait"]
    return 2 * median(lambda: run(alone, 1)) / median(lambda: run(both, BOTH))


def _publish_again(bench: Bench, tree: Path) -> None:
    """After a change of one file, as anybody calls it; the walk is that of the same Python."""
    changed = tree / "changed"

    def change() -> None:
        changed.write_bytes(os.urandom(1000))

    again = median(lambda: run([COMMAND, "sign", *bench.key, str(tree)], BOTH), before=change)
    walk = median(lambda: run([sys.executable, "-c", WALK, str(tree)], 1))
    ratio = again / walk
    bench.report("sign it again after one change, to a walk with lstat", "1.5 at most", f"{ratio:.2f}", ratio <= 1.5)


def _metadata(bench: Bench, tree: Path) -> None:
    entries = paths = 0
    for at, directories, files in os.walk(os.fsencode(tree)):
        if b".nfsverity" in directories:
            directories.remove(b".nfsverity")
        entries += len(directories) + len(files)
        paths += sum(len(os.path.relpath(os.path.join(at, name), os.fsencode(tree))) for name in directories + files)
    size = (tree / ".nfsverity" / read_head(tree).index).stat().st_size  # that of the publication before lies beside it
    each = (size - paths) / entries
    bench.report(
        f"metadata of {entries:,} entries beside path and tree", "150 bytes each at most", f"{each:.0f}", each <= 150
    )


def _read(bench: Bench, tree: Path) -> None:
    copies = iter([str(bench.folder / f"volume-copy{number}") for number in range(RUNS + 1)])
    with bench.serving(tree) as (url, _):
        report = json.loads(run([COMMAND, "verify", "--json", url], 1).output)
        count = len(report["files"])
        for what, seconds in (
            ("verify", median(lambda: run([COMMAND, "verify", url], 1))),
            ("get", median(lambda: run([COMMAND, "get", "--links", "all", url, next(copies)], 1))),
        ):
            rate = count / seconds
            name = f"{what} {count:,} files over the network, verified"
            bench.report(name, "3,000 files/s at least", f"{rate:,.0f} files/s", rate >= 3000)
        firsts = (
            os.path.relpath(os.path.join(at, name), tree)
            for at, _, files in os.walk(tree)
            for name in [name for name in sorted(files) if not os.path.islink(os.path.join(at, name))][:1]
        )
        paths = bench.folder / "members"
        paths.write_text("".join(path + "\n" for path in islice((path for path in firsts if path.isascii()), 1, 200)))
        found = float(bench.reader("member", url, bench.certificate, str(paths), "20")) * 1e6
        bench.report("membership check", "100 microseconds at most", f"{found:.0f}", found <= 100)


def million(bench: Bench) -> None:
    """A volume of very many entries: memory of each side, and the proof of one of them.

    The files are empty, and in memory where there is such a file system: only their number counts here.
    """
    count, most = 1_000_000 // bench.scale, 2**30
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="nfsverity-", dir=memory if memory.is_dir() else bench.folder) as folder:
        tree = Path(folder) / "tree"
        for number in range(count // 1000):
            directory = tree / f"{number // 50:02}" / f"{number:04}"
            directory.mkdir(parents=True)
            for name in range(1000):
                (directory / f"file{name:04}").touch()

        def report(what: str, found: int) -> None:
            name = f"resident, {what} {count:,} files"
            bench.report(name, "1,024 MiB at most", f"{found >> 20:,} MiB", found <= most)

        sign = ["sign", *bench.key, "--jobs", "1", str(tree)]
        report("sign", resident(*sign))
        (directory / "file0500").write_bytes(b"x")
        report("sign again", resident(*sign))
        with bench.serving(tree) as (url, pid):
            path = f"{url}{directory.relative_to(tree)}/file0500"
            report("cat one of", resident("cat", path))
            report("verify, client,", resident("verify", url))
            report("get, client,", resident("get", url, str(Path(folder) / "copy")))
            report("both, server,", resident_of(pid))
            exported = Path(folder) / "member"
            run([COMMAND, "export", path, "--output", str(exported)], 1)
        entries = count + count // 1000 + (count // 1000 + 49) // 50
        record = decode_record(decode_exported(exported.read_bytes()).record)
        proof = len(membership_of(record.attestations[0]).range.proof) // 32
        due = (entries - 1).bit_length()
        bench.report(f"hashes for one of {entries:,} entries", f"{due} at most", str(proof), proof <= due)


def update_delay(bench: Bench) -> None:
    """Of a reader that waits, from when the new record is in place until it has the new data."""
    test = Path(__file__).parent.parent / "tests" / "stress" / "test_delay.py"
    output = run([sys.executable, "-m", "pytest", "-q", "-s", str(test)], BOTH).output
    (line,) = [line for line in output.splitlines() if line.startswith("ms:")]
    times = sorted(float(word) for word in line.split()[1:])
    middle = times[len(times) // 2]
    found = f"{middle:.0f} ms, {times[0]:.0f} to {times[-1]:.0f}"
    bench.report("delay of an update for a reader that waits, median", "100 ms at most", found, middle <= 100)
