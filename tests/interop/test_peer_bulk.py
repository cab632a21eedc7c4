# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The peer in C reads many files of a volume with each call, and by itself what is left out or does not verify."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adversary import Reply, between
from end_to_end.conftest import Nfsverity
from nfsverity_proto import messages as m
from nfsverity_store.layout import read_head
from serving import HOST, serving

from .test_peer_serves_volumes import FILES, Volume, make

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

CONTENTS = {os.fsencode(name): data for name, data in FILES.items()}


@pytest.fixture(scope="module")
def volume(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    folder = tmp_path_factory.mktemp("bulk")
    return Volume(programs, Nfsverity(folder / "home"), make(folder / "tree"), folder / "peer")


@pytest.fixture(scope="module", params=["ours", "theirs"])
def port(request: pytest.FixtureRequest, volume: Volume) -> Iterator[int]:
    """Of our server, and of the peer's own."""
    if request.param == "ours":
        with serving(volume.published.root) as served:
            yield served.port
    else:
        with volume.served() as running:
            yield running.port


async def read(
    volume: Volume, port: int, path: str = "", count: int = 1024, most: int = 2**21
) -> tuple[int, dict[bytes, bytes], bytes, str]:
    """Exit status, the files, how each of them came, and the verdict."""
    id = read_head(volume.published.root).volume.hex()
    words = [volume.programs / "bulk", HOST, str(port), id, path, volume.certificate, str(count), str(most)]
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)
    out, message = await asyncio.wait_for(started.communicate(), 60)
    files, ways = {}, b""
    while out:
        name, size, way, out = out.split(b"\0", 3)
        assert name not in files
        files[name], out = out[: int(size)], out[int(size) :]
        ways += way
    return started.returncode or 0, files, ways, message.decode().strip()


@pytest.mark.spec("fip-bulk-1", "fip-bulk-5", "fip-entries-1", "fim-head-3")
@pytest.mark.parametrize("count", [3, 7, 1024])
@pytest.mark.parametrize("most", [0, 100, 65536, 2**21])
async def test_a_volume_is_read(volume: Volume, port: int, count: int, most: int) -> None:
    status, files, ways, message = await read(volume, port, "", count, most)
    assert (status, message) == (0, "")
    assert files == CONTENTS
    assert ways.count(b"b") >= (300 if most == 2**21 else 1)
    assert ways.count(b"f") >= sum(len(data) > most for data in FILES.values())


@pytest.mark.parametrize("path", ["a", "a/b", "many", "nothing", "d/d", "a directory"])
async def test_a_directory_is_read(volume: Volume, port: int, path: str) -> None:
    prefix = os.fsencode(path) + b"/"
    below = {name: data for name, data in CONTENTS.items() if name.startswith(prefix)}
    for count in (3, 1024):
        assert (await read(volume, port, path, count))[:2] == (0, below)


# lies


def changed(ok: m.BulkOk, at: int, **fields: Any) -> m.BulkOk:
    items = list(ok.items)
    items[at] = replace(items[at], **fields)
    return replace(ok, items=tuple(items))


def of(ok: m.BulkOk, path: bytes) -> int:
    return next(at for at, entry in enumerate(ok.range.entries) if entry.path == path)


SETTLED = {
    "data": lambda ok: replace(ok, data=bytes(ok.data[:-1]) + bytes([ok.data[-1] ^ 1])),
    "no data": lambda ok: replace(ok, data=b"", items=tuple(replace(item, length=0) for item in ok.items)),
    "no statement": lambda ok: changed(ok, of(ok, b"empty"), statement=b""),
    "another's statement": lambda ok: changed(ok, of(ok, b"empty"), statement=ok.items[of(ok, b"holes")].statement),
    "a bad statement": lambda ok: changed(ok, of(ok, b"empty"), statement=b"bad"),
}
REFUSED = {
    "fewer items": lambda ok: replace(ok, items=ok.items[:-1]),
    "more data": lambda ok: replace(ok, data=bytes(ok.data) + b"x"),
    "less data": lambda ok: replace(ok, data=bytes(ok.data[:-1])),
    "a statement of a link": lambda ok: changed(ok, of(ok, b"dangling"), statement=b"x"),
    "a part of a file": lambda ok: replace(
        changed(ok, of(ok, b"README"), length=ok.items[of(ok, b"README")].length - 1), data=bytes(ok.data[:-1])
    ),
    "a range without its end": lambda ok: replace(
        ok, range=replace(ok.range, entries=ok.range.entries[:-1]), items=ok.items[:-1]
    ),
}


async def read_through(volume: Volume, change: Any) -> Any:
    """The files at the root, from a server in front of which somebody changes what comes in bulk."""
    done = []

    async def on_reply(reply: Reply) -> None:
        if reply.procedure is m.BULK and not done:
            done.append(reply)
            await reply.send(reply.call.reply(change(reply.ok)))
        else:
            await reply.send()

    with serving(volume.published.root) as served:
        async with between(served.port) as adversary:
            adversary.on_reply = on_reply
            answer = await read(volume, adversary.port)
    assert done
    return answer


@pytest.mark.spec("fip-bulk-5", "fim-member-1")
@pytest.mark.parametrize("lie", SETTLED)
async def test_what_does_not_verify_is_asked_for_again(volume: Volume, lie: str) -> None:
    status, files, ways, message = await read_through(volume, SETTLED[lie])
    assert (status, message, files) == (0, "", CONTENTS)
    assert ways.count(b"f") > 0


@pytest.mark.spec("fip-bulk-6", "fip-entries-6")
@pytest.mark.parametrize("lie", REFUSED)
async def test_what_no_server_can_send_is_refused(volume: Volume, lie: str) -> None:
    status, files, _, message = await read_through(volume, REFUSED[lie])
    assert (status, message.split(":")[0]) == (3, "malformed-reply")
    assert set(files.items()) <= set(CONTENTS.items())


async def test_entries_that_do_not_fold_are_a_mismatch(volume: Volume) -> None:
    def swapped(ok: m.BulkOk) -> m.BulkOk:
        entries = (ok.range.entries[1], ok.range.entries[0], *ok.range.entries[2:])
        return replace(ok, range=replace(ok.range, entries=entries), items=(ok.items[1], ok.items[0], *ok.items[2:]))

    assert await read_through(volume, swapped) == (1, {}, b"", "mismatch")


@pytest.mark.spec("fim-member-3")
async def test_a_file_that_is_not_given_is_hidden(volume: Volume) -> None:
    with serving(volume.published.root) as served:
        async with between(served.port) as adversary:

            async def on_reply(reply: Reply) -> None:
                if reply.procedure is m.FETCH:
                    await reply.send(reply.call.reply(m.Status.NOT_FOUND))
                else:
                    await reply.send()

            adversary.on_reply = on_reply
            status, files, _, message = await read(volume, adversary.port, "", 1024, 0)
    assert (status, message) == (1, "hidden")
    assert set(files) <= {b"empty"}
