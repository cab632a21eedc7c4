#!/usr/bin/env python3
# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The main job on real files: sign a copy of the Python standard library, serve it, read it back verified, tamper.

Everything happens in a temporary folder, which is removed at the end. `make demo` runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nfsverity_client.connection import Traffic
from nfsverity_client.listing import list_below
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_client.trust_store import certificate_file
from nfsverity_proto.entry import EntryType
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.url import Url, parse_url

COMMAND = Path(sys.executable).with_name("nfsverity")
READERS = 16
RANGE_OFFSET, RANGE_LENGTH = 100_000, 1_000


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="nfsverity-demo-") as name:
        folder = Path(name)
        # the demonstration's own trust and bindings, not the user's
        os.environ["NFSVERITY_CONFIG_DIR"] = str(folder / "config")
        os.environ["NFSVERITY_STATE_DIR"] = str(folder / "state")
        os.environ["NFSVERITY_CACHE_DIR"] = str(folder / "cache")
        os.chdir(folder)
        tree = copy_of_the_standard_library(folder / "library")
        title("Make a key, and believe it")
        run("keygen", "demo", "--algorithm", "ed25519")
        run("trust", "add", "demo.crt")
        title("Sign every file of the tree")
        run("sign", "--key", "demo.key", "--cert", "demo.crt", tree.name)
        title("Serve it from a process that has no key and that nobody trusts")
        with serving(tree) as url:
            trust = (TrustEntry(certificate_file(Path("demo.crt"))),)
            title("Read every file back, each verified before a byte of it is used")
            asyncio.run(read_all(url, trust, tree))
            largest = max((p for p in files(tree)), key=lambda p: p.stat().st_size)
            path = os.fsencode(largest.relative_to(tree))
            title(f"Read one range of the largest file, in each presentation: {largest.relative_to(tree)}")
            asyncio.run(compare_presentations(url, trust, path, largest))
            title("Flip one bit of one byte in the served copy, and verify that file again")
            flip_a_byte(largest)
            if run("verify", str(url.with_path(path)), expect=1) != 1:
                return 1
            title("Stop the server")
        print("The server has stopped.")
    return 0


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(*arguments: str, expect: int = 0) -> int:
    """Run the command as a user would, and show that."""
    print(f"$ nfsverity {' '.join(arguments)}", flush=True)
    status = subprocess.run([COMMAND, *arguments], check=False).returncode
    if status:
        print(f"[exit status {status}]", flush=True)
    if status != expect:
        sys.exit(f"demo: exit status {expect} was expected")
    return status


def copy_of_the_standard_library(target: Path) -> Path:
    source = sysconfig.get_path("stdlib")
    title(f"Copy {source}")
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("site-packages", "dist-packages"))
    found = list(files(target))
    print(f"{len(found):,} files, {sum(p.stat().st_size for p in found):,} bytes")
    return target


def files(tree: Path) -> Iterator[Path]:
    """Every signed file: regular, and not metadata."""
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name != ".nfsverity"]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


@contextlib.contextmanager
def serving(tree: Path) -> Iterator[Url]:
    arguments = ["serve", tree.name, "--listen", "127.0.0.1:0"]
    print(f"$ nfsverity {' '.join(arguments)} &", flush=True)
    server = subprocess.Popen([COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        print(url, flush=True)
        yield parse_url(url)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(10)


@dataclass
class Totals:
    files: int = 0
    size: int = 0


async def read_all(url: Url, trust: tuple[TrustEntry, ...], tree: Path) -> None:
    """Read the tree with several readers at once, compare with the original, and tell what it cost."""
    totals = Totals()
    async with Session(url, Settings(trust=trust), None) as session:
        async with contextlib.aclosing(list_below(session, b"", deep=True)) as listed:
            paths = [entry.path async for entry in listed if entry.type is EntryType.FILE]
        listing = session.traffic.copy()
        work = iter(paths)
        start = time.monotonic()

        async def reader() -> None:
            for path in work:
                opened = await open_file(session, path, most=2**20)
                content = await opened.pread(0, opened.size)
                if content != (tree / os.fsdecode(path)).read_bytes():
                    sys.exit(f"demo: {path!r} was read wrong")
                totals.files += 1
                totals.size += len(content)

        await asyncio.gather(*(reader() for _ in range(READERS)))
        seconds = time.monotonic() - start
        traffic = session.traffic.since(listing)
    at_rest = sum(p.stat().st_blocks * 512 for p in (tree / ".nfsverity").rglob("*") if p.is_file())
    on_wire = traffic.sent + traffic.received - traffic.data
    table(
        ("files", f"{totals.files:,}"),
        ("bytes", f"{totals.size:,}"),
        ("MB/s", f"{totals.size / seconds / 1e6:,.0f}, and {totals.files / seconds:,.0f} files/s"),
        ("metadata at rest", f"{at_rest / totals.files:,.0f} bytes per file, {100 * at_rest / totals.size:.2f} %"),
        ("metadata on the wire", f"{on_wire / totals.files:,.0f} bytes per file, {100 * on_wire / totals.size:.2f} %"),
        ("calls per file", f"{traffic.calls / totals.files:.2f}"),
        ("hashes per read", f"{traffic.hashes / traffic.calls:.2f}"),
    )


async def compare_presentations(url: Url, trust: tuple[TrustEntry, ...], path: bytes, original: Path) -> None:
    with original.open("rb") as file:
        file.seek(RANGE_OFFSET)
        wanted = file.read(RANGE_LENGTH)
    print(f"bytes {RANGE_OFFSET:,} to {RANGE_OFFSET + RANGE_LENGTH - 1:,}")
    print(f"{'presentation':<14}{'calls':>6}{'hashes':>8}{'data bytes':>12}{'all bytes received':>20}")
    for presentation in Presentation:
        async with Session(url, Settings(trust=trust, presentation=presentation), None) as session:
            opened = await open_file(session, path, most=0)
            if await opened.pread(RANGE_OFFSET, RANGE_LENGTH) != wanted:
                sys.exit("demo: the range was read wrong")
            traffic: Traffic = session.traffic
            print(f"{presentation:<14}{traffic.calls:>6}{traffic.hashes:>8}{traffic.data:>12,}{traffic.received:>20,}")


def table(*rows: tuple[str, str]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def flip_a_byte(path: Path) -> None:
    """As a fault of the storage would: the size and the times of the file stay as they are."""
    status = path.stat()
    path.chmod(status.st_mode | 0o200)
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)[0]
        file.seek(status.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    print(f"byte {status.st_size // 2:,} of {path.name}: {byte:#04x} is now {byte ^ 1:#04x}")


if __name__ == "__main__":
    sys.exit(main())
