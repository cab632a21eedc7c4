# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A sparse file of 1 TiB: any range of it, with little memory on either side."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Published, publish_tree

TIB, MIB = 2**40, 2**20
UNITS = TIB >> 16
RESIDENT_MAX = 100 * MIB
TESTS = Path(__file__).parents[2]
WRITTEN = {0: b"first", 700 * 2**30 + 12_345: b"middle", TIB - 4: b"last"}

SERVER = """
import sys
from resident import peak
from serving import serving
from pathlib import Path
with serving(Path(sys.argv[1])) as served:
    print(served.port, flush=True)
    sys.stdin.read()
print(peak(), flush=True)
"""
CLIENT = """
import asyncio, hashlib, json, sys
from pathlib import Path
from resident import peak
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_client.trust_store import certificate_file
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.url import Url

async def main():
    pin = TrustEntry(certificate_file(Path(sys.argv[1])))
    async with Session(Url("127.0.0.1", int(sys.argv[2])), Settings((pin,), presentation=sys.argv[3])) as session:
        reader = await open_file(session, sys.argv[5].encode(), most=0)
        digests = []
        for offset, length in json.loads(sys.argv[4]):
            digest = hashlib.sha256()
            async for part in reader.stream(offset, length):
                digest.update(part)
            digests.append(digest.hexdigest())
        print(json.dumps([reader.size, digests, session.traffic.hashes, session.traffic.data, peak()]))

asyncio.run(main())
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    directory = tmp_path_factory.mktemp("large")
    published = publish_tree(directory / "tree", {})
    with (published.root / "large").open("wb") as file:
        try:
            file.truncate(TIB)
        except OSError:
            pytest.skip("the file system has no files of 1 TiB")
        for offset, data in WRITTEN.items():
            file.seek(offset)
            file.write(data)
    published.sign()
    published.keys.write(directory)
    return published


@pytest.fixture(scope="module")
def port(published: Published) -> Iterator[int]:
    with python(SERVER, str(published.root)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()
        assert int(process.stdout.readline()) < RESIDENT_MAX


def expected(offset: int, length: int) -> bytes:
    length = min(length, TIB - offset)
    data = bytearray(length)
    for at, written in WRITTEN.items():
        for index, byte in enumerate(written, at - offset):
            if 0 <= index < length:
                data[index] = byte
    return bytes(data)


RANGES = [
    (0, 100),
    (TIB - 100, 1000),
    (700 * 2**30 + 12_000, 1000),
    (700 * 2**30 - 3 * MIB, 9 * MIB),
    (333 * 2**30 + 1, 64 * MIB),
    (TIB, 10),
]


@pytest.mark.spec("fip-client-5", "fim-read-4")
@pytest.mark.parametrize("how", ["inline", "on-demand", "ahead"])
def test_any_range_of_it_in_little_memory(published: Published, port: int, how: str) -> None:
    certificate = str(published.root.parent / "me.crt")
    client = python(CLIENT, certificate, str(port), how, json.dumps(RANGES), "large")
    out, _ = client.communicate()
    assert client.returncode == 0
    size, digests, hashes, data, resident = json.loads(out)
    assert size == TIB
    assert digests == [hashlib.sha256(expected(*wanted)).hexdigest() for wanted in RANGES]
    assert resident < RESIDENT_MAX
    assert data < MIB, "holes are not sent"
    if how == "ahead":
        assert hashes >= 2**16, "the lowest level of at most 2^16 nodes"
        assert hashes < 2**16 + 1000
    else:
        assert hashes < 1000


def test_a_file_that_is_larger_than_the_memory(published: Published, port: int) -> None:
    block = bytes(range(1, 256)) * 4112
    size = 150 * len(block)
    with (published.root / "dense").open("wb") as file:
        for _ in range(150):
            file.write(block)
    published.sign()
    certificate = str(published.root.parent / "me.crt")
    client = python(CLIENT, certificate, str(port), "inline", json.dumps([[0, size]]), "dense")
    out, _ = client.communicate()
    _, digests, _, data, resident = json.loads(out)
    assert digests == [hashlib.sha256(block * 150).hexdigest()]
    assert data == size > RESIDENT_MAX
    assert resident < RESIDENT_MAX


def test_it_is_not_reconstructed(published: Published, port: int) -> None:
    certificate = str(published.root.parent / "me.crt")
    client = subprocess.run(
        [sys.executable, "-c", CLIENT, certificate, str(port), "reconstruct", json.dumps([[0, 1]]), "large"],
        cwd=TESTS,
        capture_output=True,
        text=True,
    )
    assert client.returncode != 0
    assert f"TooLarge: {TIB} bytes in {UNITS} units are too many to reconstruct (at most 262144)" in client.stderr
