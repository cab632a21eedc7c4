# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Readers that are measured in processes of their own.

readers.py first URL CERT PATH RUNS     seconds to the first verified byte over a new connection, per run
readers.py unverified URL CERT PATH     the same calls as a verified `cat`, but nothing is hashed
readers.py memory SIZE                  seconds to hash SIZE bytes as units in memory
readers.py proof URL CERT PATH          the hashes that one unit in the middle of a file needed
readers.py member URL CERT PATH RUNS    seconds to judge a member of a volume whose head is verified, the median
readers.py delta URL CERT PATH COPY     the bytes received to make a copy the version that is served
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nfsverity._hashed import hash_file
from nfsverity_client import presentation
from nfsverity_client.delta import differing_spans
from nfsverity_client.pipeline import in_order
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_client.trust_store import certificate_file
from nfsverity_proto import messages as m
from nfsverity_proto.hashes import hash_by_name
from nfsverity_proto.member import verify_member
from nfsverity_proto.slices import slices_of_units
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.url import parse_url


def session(url: str, certificate: str) -> Session:
    return Session(parse_url(url), Settings(trust=(TrustEntry(certificate_file(Path(certificate))),)))


async def first(url: str, certificate: str, path: str, runs: str) -> None:
    for _ in range(int(runs) + 1):
        start = time.perf_counter()
        async with session(url, certificate) as opened:
            reader = await open_file(opened, path.encode())
            assert len(await reader.pread(0, 1)) == 1
            print(time.perf_counter() - start)


async def verified(url: str, certificate: str, path: str) -> None:
    async with session(url, certificate) as opened:
        reader = await open_file(opened, path.encode())
        with open("/dev/null", "wb", buffering=0) as out:
            async for part in reader.stream():
                out.write(part)


async def unverified(url: str, certificate: str, path: str) -> None:
    async with session(url, certificate) as opened:
        version = (await open_file(opened, path.encode())).version
        with open("/dev/null", "wb", buffering=0) as out:

            async def read(at: int, end: int) -> None:
                units = slices_of_units(version.shape, at, end)
                arguments = m.ReadArgs(version.handle, version.tag, units[0], units[1] - units[0], None)
                held = await opened.call_holding(m.READ, arguments)
                out.write(held.ok.data)
                held.release()

            spans = presentation.spans(version.shape, 0, version.shape.units, presentation.LONG_SPAN)
            async for _ in in_order((read(*span) for span in spans), presentation.WINDOW):
                pass


def memory(size: str) -> None:
    unit = memoryview(bytearray(2**20))
    leaf = hash_by_name("sha256").leaf
    start = time.perf_counter()
    for _ in range(int(size) >> 20):
        for at in range(0, 2**20, 2**16):
            leaf(unit[at : at + 2**16])
    print(time.perf_counter() - start)


async def proof(url: str, certificate: str, path: str) -> None:
    async with session(url, certificate) as opened:
        reader = await open_file(opened, path.encode(), most=0)
        await reader.pread(reader.size // 2, 1)
        print(opened.traffic.hashes, len(reader.verified.data))


async def member(url: str, certificate: str, paths: str, runs: str) -> None:
    """Of other files each time, as what was decoded last is kept for a moment."""
    async with session(url, certificate) as opened:
        head = await opened.heads.current()
        assert head is not None
        names = [path.encode() for path in Path(paths).read_text().splitlines()]
        records = [(await open_file(opened, name)).version.verified.data for name in names]
        times = []
        for _ in range(int(runs)):
            for name, record in zip(names, records, strict=True):
                start = time.perf_counter()
                verify_member(record, name, head.verified)
                times.append(time.perf_counter() - start)
        print(statistics.median(times))


async def delta(url: str, certificate: str, path: str, copy: str) -> None:
    async with session(url, certificate) as opened:
        reader = await open_file(opened, path.encode(), most=0)
        with open(copy, "rb") as file:
            tree = hash_file(file.fileno(), reader.version.shape, reader.version.hash, lambda _: None)
            async for _ in differing_spans(reader, reader.version, tree):
                pass
        print(opened.traffic.received)


if __name__ == "__main__":
    modes: dict[str, Callable[..., Any]] = {
        "first": first,
        "verified": verified,
        "unverified": unverified,
        "memory": memory,
        "proof": proof,
        "member": member,
        "delta": delta,
    }
    work = modes[sys.argv[1]](*sys.argv[2:])
    if work is not None:
        asyncio.run(work)
