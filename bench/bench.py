#!/usr/bin/env python3
# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Measure what the project promises, each figure as a ratio to the plain thing in the same run.

usage: bench.py [--quick] [--folder DIR] [NAME...]

Wall time of the installed command, warm page cache, median of 5, server and client on one processor each.
`--quick` takes an eighth of each size. Names pick rows. Exit status 1: a figure was not reached.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from measure import COMMAND, RUNS, median, pinned, resident, resident_of, run
from others import others
from volumes import million, update_delay, volumes

READERS = str(Path(__file__).with_name("readers.py"))
GIB = 2**30
SERVER, CLIENT = 0, 1
"""Which of the processors each is on."""


@dataclass
class Figure:
    name: str
    wanted: str
    found: str
    reached: bool


@dataclass
class Bench:
    folder: Path
    scale: int = 1
    figures: list[Figure] = field(default_factory=list)

    def __post_init__(self) -> None:
        os.environ["NFSVERITY_CONFIG_DIR"] = str(self.folder / "config")
        os.environ["NFSVERITY_STATE_DIR"] = str(self.folder / "state")
        os.environ["NFSVERITY_CACHE_DIR"] = str(self.folder / "cache")
        run([COMMAND, "keygen", str(self.folder / "bench")])
        run([COMMAND, "trust", "add", str(self.folder / "bench.crt")])
        self.key = ["--key", str(self.folder / "bench.key"), "--cert", str(self.folder / "bench.crt")]
        self.certificate = str(self.folder / "bench.crt")

    def report(self, name: str, wanted: str, found: str, reached: bool) -> None:
        self.figures.append(Figure(name, wanted, found, reached))
        print(f"{'ok  ' if reached else 'MISS'}  {name:<58} {wanted:<24} {found}", flush=True)

    def file(self, gib: int) -> Path:
        """A tree with one file of so many GiB (or an eighth): random, repeated after 64 MiB."""
        tree = self.folder / f"tree{gib}"
        path = tree / "file"
        if not path.exists():
            tree.mkdir()
            block = random.Random(gib).randbytes(2**26)
            with path.open("wb") as out:
                for _ in range(gib * GIB // self.scale // len(block)):
                    out.write(block)
        return path

    def sign(self, path: Path, *options: str, on: int | tuple[int, ...] = CLIENT) -> float:
        """Median seconds to sign a file that was never signed before."""
        metadata = path.parent / ".nfsverity"
        command = [COMMAND, "sign", *self.key, *options, str(path.parent)]
        return median(lambda: run(command, on), before=lambda: shutil.rmtree(metadata, ignore_errors=True))

    @contextlib.contextmanager
    def serving(self, tree: Path) -> Iterator[tuple[str, int]]:
        """The URL of a server of a tree, and its process number."""
        if not (tree / ".nfsverity").exists():
            run([COMMAND, "sign", *self.key, str(tree)], None)
        server = subprocess.Popen(
            [COMMAND, "serve", str(tree), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=pinned(SERVER),
        )
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), server.pid
        finally:
            server.terminate()
            server.wait(10)
            server.stdout.close()

    def reader(self, *arguments: str) -> str:
        return run([sys.executable, READERS, *arguments], CLIENT).output


def start_up(bench: Bench) -> None:
    seconds = median(lambda: run([COMMAND, "--version"], CLIENT))
    bench.report("nfsverity --version", "120 ms at most", f"{seconds * 1000:.0f} ms", seconds <= 0.120)


def sign_one_core(bench: Bench) -> None:
    path = bench.file(1)
    plain = median(lambda: run(["openssl", "dgst", "-sha256", str(path)], CLIENT))
    ratio = plain / bench.sign(path, "--jobs", "1")
    bench.report("sign 1 GiB, one core, speed to openssl dgst", "0.9 at least", f"{ratio:.2f}", ratio >= 0.9)


def sign_what_changed(bench: Bench) -> None:
    """One unit of 1 GiB is another each time; start-up is most of what is left."""
    path = bench.file(1)
    if not (path.parent / ".nfsverity").exists():
        run([COMMAND, "sign", *bench.key, str(path.parent)])
    places = random.Random(2)
    at = 0

    def change() -> None:
        nonlocal at
        at = places.randrange(path.stat().st_size)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(places.randbytes(1))

    command = [COMMAND, "sign", *bench.key, "--jobs", "1"]
    whole = median(lambda: run([*command, str(path)], CLIENT), before=change)
    changed = median(lambda: run([*command, "--changed", f"{at}:1", str(path)], CLIENT), before=change)
    ratio, least = whole / changed, 2 if bench.scale == 1 else 1
    bench.report(
        "sign one changed unit of 1 GiB, speed to all of it", f"{least} at least", f"{ratio:.1f}", ratio >= least
    )
    change()
    report = json.loads(run([*command, "--changed", f"{at}:1", "--json", str(path)], CLIENT).output)
    count = int(report["trees"][0]["bytes_hashed"])
    bench.report("bytes hashed for it, with both ends of the rest", "196,608 at most", f"{count:,}", count <= 3 << 16)


def sign_two_processes(bench: Bench) -> None:
    path = bench.file(4)
    one = bench.sign(path, "--jobs", "1")
    ratio = one / bench.sign(path, "--jobs", "2", on=(SERVER, CLIENT))
    bench.report("sign 4 GiB, 2 processes, speed to one", "1.7 at least", f"{ratio:.2f}", ratio >= 1.7)
    ratio = one / bench.sign(path, "--jobs", "1", "--hash", "blake3")
    bench.report("sign 4 GiB, BLAKE3, one core, speed to SHA-256", "1.8 at least", f"{ratio:.2f}", ratio >= 1.8)


def read_verified(bench: Bench) -> None:
    path = bench.file(1)
    with bench.serving(path.parent) as (url, _):
        plain = median(lambda: run(["openssl", "dgst", "-sha256", str(path)], CLIENT))
        verified = median(lambda: run([COMMAND, "cat", url + "file"], CLIENT, discard=True))
        ratio = plain / verified
        bench.report("cat 1 GiB inline, speed to openssl dgst", "0.8 at least", f"{ratio:.2f}", ratio >= 0.8)
        reader = [sys.executable, READERS]
        rest = [url, bench.certificate, "file"]
        more = median(lambda: run([*reader, "verified", *rest], CLIENT))
        more -= median(lambda: run([*reader, "unverified", *rest], CLIENT))
        hashing = statistics.median(float(bench.reader("memory", str(path.stat().st_size))) for _ in range(RUNS))
        bench.report(
            "cat verified minus unverified, to hashing in memory",
            "1.0 at most",
            f"{more / hashing:.2f}",
            more <= hashing,
        )
        times = [float(line) for line in bench.reader("first", url, bench.certificate, "file", str(RUNS)).split()]
        first = statistics.median(times[1:])
        bench.report("first verified byte, new connection", "6 ms at most", f"{first * 1000:.1f} ms", first <= 0.006)
        hashes = int(bench.reader("proof", url, bench.certificate, "file").split()[0])
        least = ((path.stat().st_size >> 16) - 1).bit_length()
        bench.report("hashes for one unit of 64 KiB of 1 GiB", f"{least} exactly", f"{hashes}", hashes == least)


def node_cache(bench: Bench) -> None:
    path = bench.file(1)
    with bench.serving(path.parent) as (url, _):
        cat = [COMMAND, "cat", url + "file"]
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(bench.folder / "cache")
        without = median(lambda: run([*cat, "--no-cache"], CLIENT, discard=True))
        filling = median(
            lambda: run(cat, CLIENT, discard=True),
            before=lambda: shutil.rmtree(bench.folder / "cache", ignore_errors=True),
        )
        ratio = filling / without
        bench.report("cat 1 GiB that fills the node cache, to without", "1.05 at most", f"{ratio:.2f}", ratio <= 1.05)
        hashes = sent = 0
        ranges = random.Random(1)
        for _ in range(20):
            offset = ranges.randrange(path.stat().st_size)
            command = [*cat, "--offset", str(offset), "--length", "1000000", "--json"]
            hashes += json.loads(run(command, CLIENT, discard=True).errors)["hashes"]
            sent += json.loads(run([*command, "--no-cache"], CLIENT, discard=True).errors)["hashes"]
        found = f"{hashes} ({sent} without it)"
        bench.report("proof hashes for 20 cold reads in a cached 1 GiB", "0 exactly", found, hashes == 0)
        kept = [*cat, "--cache-data"]
        ratio = median(
            lambda: run(kept, CLIENT, discard=True),
            before=lambda: shutil.rmtree(bench.folder / "cache", ignore_errors=True),
        )
        bench.report(
            "cat 1 GiB that is kept, to without", "1.5 at most", f"{ratio / without:.2f}", ratio <= 1.5 * without
        )
        ratio = median(lambda: run(kept, CLIENT, discard=True))
        bench.report(
            "cat 1 GiB from the cache, to without", "1.1 at most", f"{ratio / without:.2f}", ratio <= 1.1 * without
        )


def record_size(bench: Bench) -> None:
    tree = bench.folder / "record"
    tree.mkdir()
    (tree / ("p" * 40)).write_bytes(b"x")
    with bench.serving(tree) as (url, _):
        record = int(bench.reader("proof", url, bench.certificate, "p" * 40).split()[1])
    bench.report("record, Ed25519, path of 40 bytes", "320 bytes at most", f"{record} bytes", record <= 320)


def many_files(bench: Bench) -> None:
    tree, count = bench.folder / "many", 10_000 // bench.scale
    source = random.Random(1)
    for number in range(count):
        path = tree / f"{number // 100:03}" / f"file{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(source.randint(1024, 8192)))
    seconds = bench.sign(tree / "any", "--jobs", "1")
    rate = count / seconds
    bench.report(f"sign {count:,} files of 1 to 8 KiB", "3,000 files/s at least", f"{rate:,.0f} files/s", rate >= 3000)
    # each time to a new place: a file system may be slow to use again what was removed a moment ago
    copies = [str(bench.folder / f"copy{number}") for number in range(RUNS + 1)]
    with bench.serving(tree) as (url, _):
        places = iter(copies)
        seconds = median(lambda: run([COMMAND, "get", url, next(places)], CLIENT))
    subprocess.run(["diff", "-r", "-x", ".nfsverity", tree, copies[0]], check=True)
    rate = count / seconds
    bench.report(f"get {count:,} files, verified", "2,000 files/s at least", f"{rate:,.0f} files/s", rate >= 2000)


def delta(bench: Bench) -> None:
    """Over an older copy, of which one unit in a hundred is another one: against fetching all of it."""
    path = bench.file(1)
    old, copy = bench.folder / "old", bench.folder / "delta"
    shutil.copyfile(path, old)
    units = path.stat().st_size >> 16
    with old.open("r+b") as file:
        for unit in random.Random(1).sample(range(units), units // 100):
            os.pwrite(file.fileno(), b"another", unit << 16)
    with bench.serving(path.parent) as (url, _):
        get = [COMMAND, "get", "--json", url + "file", str(copy)]
        whole = median(lambda: run([*get, "--whole"], CLIENT), before=lambda: shutil.copyfile(old, copy))
        part = median(lambda: run(get, CLIENT), before=lambda: shutil.copyfile(old, copy))
        shutil.copyfile(old, copy)
        crossed = int(bench.reader("delta", url, bench.certificate, "file", str(copy)))
        fetched = int(json.loads(run(get, CLIENT).output)["fetched"])
    subprocess.run(["cmp", path, copy], check=True)
    share = fetched / path.stat().st_size
    bench.report("get over a copy with 1 % changed, bytes fetched", "1.0 % at most", f"{share:.2%}", share <= 0.01)
    share = crossed / path.stat().st_size
    bench.report("the same, bytes received, hashes and all", "1.1 % at most", f"{share:.2%}", share <= 0.011)
    ratio = part / whole
    bench.report("the same, time to get --whole, no network between", "1.0 at most", f"{ratio:.2f}", ratio <= 1.0)


def memory(bench: Bench) -> None:
    path = bench.file(10)
    most = 100 * 2**20
    found = resident("sign", *bench.key, "--jobs", "1", str(path.parent))
    bench.report("resident, sign 10 GiB", "100 MiB at most", f"{found >> 20} MiB", found <= most)
    with bench.serving(path.parent) as (url, pid):
        found = resident("cat", url + "file")
        bench.report("resident, cat 10 GiB, client", "100 MiB at most", f"{found >> 20} MiB", found <= most)
        found = resident_of(pid)
        bench.report("resident, cat 10 GiB, server", "100 MiB at most", f"{found >> 20} MiB", found <= most)


ROWS: dict[str, Callable[[Bench], None]] = {
    "start-up": start_up,
    "record": record_size,
    "sign": sign_one_core,
    "changed": sign_what_changed,
    "processes": sign_two_processes,
    "read": read_verified,
    "cache": node_cache,
    "files": many_files,
    "volumes": volumes,
    "update": update_delay,
    "million": million,
    "others": others,
    "delta": delta,
    "memory": memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="an eighth of each size")
    parser.add_argument("--folder", help="where to put up to 16 GiB for a while (by default, the temporary folder)")
    parser.add_argument("rows", nargs="*", metavar="NAME", help=f"any of {', '.join(ROWS)} (by default, all)")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(ROWS)
    if unknown:
        parser.error(f"no row is named {', '.join(sorted(unknown))}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed command is compiled
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory(prefix="nfsverity-bench-", dir=arguments.folder) as folder:
        bench = Bench(Path(folder), 8 if arguments.quick else 1)
        for name in arguments.rows or ROWS:
            ROWS[name](bench)
    return 0 if all(figure.reached for figure in bench.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
