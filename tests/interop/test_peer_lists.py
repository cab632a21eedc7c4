# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The peer in C lists directories of a volume: all that is in them, under one head, or a verdict."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adversary import Adversary, Call, Reply, between
from made_volume import MadeVolume, directory, file
from nfsverity_proto import messages as m
from nfsverity_proto.entry import DirectoryNode, Entry
from nfsverity_store.layout import read_head
from serving import HOST, Published, Served, keys, publish_as_volume, serving

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

ODD = (" ", "\n", "-r", "a-b", "a.c", "é", "n" * 255, os.fsdecode(b"\xff\xfe"))
FILES = {
    **{f"odd/{name}": b"odd" for name in ODD},
    **{f"many/{number:03}": b"%d" % number for number in range(40)},
    "/".join("d" * 20) + "/deep": b"deep",
    "many-more": b"behind",
}
COUNTS = (3, 4, 7, 41, 1024)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    published = publish_as_volume(tmp_path / "tree", FILES)
    (published.root / "empty").mkdir()
    (published.root / "link").symlink_to("odd/é")
    (published.root / "many/007").chmod(0o755)
    published.sign_volume()
    return published


@pytest.fixture
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


class Lister:
    """The program, with what it is told each time."""

    def __init__(self, program: Path, certificate: Path, volume: bytes) -> None:
        self.program, self.certificate, self.volume = program, certificate, volume

    async def __call__(self, port: int, path: str, count: int = 1024) -> tuple[int, list[bytes], str]:
        """Exit status, what was printed, and the verdict (or what the trouble was)."""
        words = [self.program, HOST, str(port), self.volume.hex(), path, self.certificate, str(count)]
        pipe = asyncio.subprocess.PIPE
        started = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)
        out, message = await asyncio.wait_for(started.communicate(), 60)
        return started.returncode or 0, out.split(b"\0")[:-1], message.decode().strip()


@pytest.fixture
def listing(programs: Path, published: Published, tmp_path: Path) -> Lister:
    (tmp_path / "keys").mkdir()
    certificate = published.keys.write(tmp_path / "keys")[1]
    return Lister(programs / "listing", certificate, read_head(published.root).volume)


def on_disk(directory: Path) -> list[bytes]:
    printed: list[bytes] = []
    for path in sorted(directory.iterdir(), key=lambda path: os.fsencode(path.name)):
        if path.name.startswith(".nfsverity"):
            continue
        kind = b"l" if path.is_symlink() else b"d" if path.is_dir() else b"x" if path.stat().st_mode & 0o100 else b"f"
        printed += [kind, os.fsencode(path.name)]
        if kind == b"l":
            printed.append(os.fsencode(path.readlink()))
    return printed


@pytest.mark.spec("fim-range-4", "fim-head-3", "fip-entries-1", "fip-entries-5", "fip-entries-6")
@pytest.mark.parametrize("path", ["", "odd", "many", "empty", "d", "/".join("d" * 20)])
@pytest.mark.parametrize("count", COUNTS)
async def test_a_directory_is_listed(
    published: Published, served: Served, listing: Lister, path: str, count: int
) -> None:
    assert await listing(served.port, path, count) == (0, on_disk(published.root / path), "")


async def test_what_is_no_directory_is_itself(served: Served, listing: Lister) -> None:
    assert await listing(served.port, "link") == (0, [b"l", b"link", "odd/é".encode()], "")
    assert await listing(served.port, "many/007") == (0, [b"x", b"007"], "")


@pytest.mark.spec("fim-range-3", "fim-member-4")
@pytest.mark.parametrize("path", ["\x01", "zzz", "odd/none", "none/x", "many-more/x"])
@pytest.mark.parametrize("count", [3, 1024])
async def test_what_is_not_there_is_absent(served: Served, listing: Lister, path: str, count: int) -> None:
    assert await listing(served.port, path, count) == (1, [], "absent")


# lies


def lying(adversary: Adversary, change: Any) -> None:
    async def on_reply(reply: Reply) -> None:
        if reply.procedure is not m.ENTRIES:
            await reply.send()
            return
        found = reply.ok.range
        changed = m.EntriesOk(replace(found, **change(found)))
        await reply.send(reply.call.reply(changed))

    adversary.on_reply = on_reply


LIES = {
    "invented": lambda r: {"entries": (*r.entries[:-1], Entry(r.entries[-1].parent, b"\xff", DirectoryNode()))},
    "swapped": lambda r: {"entries": (r.entries[1], r.entries[0], *r.entries[2:])},
    "proof": lambda r: {"proof": bytes(len(r.proof))},
}
RESHAPED = {
    "moved": lambda r: {"first": r.first ^ 2},
    "without the first": lambda r: {"entries": r.entries[1:], "first": r.first + 1},
    "without the last": lambda r: {"entries": r.entries[:-1]},
    "of nothing": lambda r: {"entries": (), "first": 0, "proof": b""},
    "at no index": lambda r: {"first": 2**64 - 1},
}


@pytest.mark.spec("fim-range-1", "fip-entries-6")
@pytest.mark.parametrize("lie", [*LIES, *RESHAPED])
@pytest.mark.parametrize("path", ["many", "many/none"])
async def test_a_page_that_was_altered_is_not_printed(served: Served, listing: Lister, lie: str, path: str) -> None:
    async with between(served.port) as adversary:
        lying(adversary, {**LIES, **RESHAPED}[lie])
        status, printed, message = await listing(adversary.port, path, 7)
    assert printed == []
    if lie in RESHAPED:  # a proof of the length that is due may fold to something else
        assert (status, message.split(":")[0]) in [(3, "malformed-reply"), (1, "mismatch")]
    else:
        assert (status, message) == (1, "mismatch")


@pytest.mark.spec("fim-range-4", "fip-entries-6")
@pytest.mark.parametrize(
    ("asked", "given"),
    [(b"000", b"010"), (b"", b"010"), (b"", b"zz")],
    ids=["a gap", "not from the start", "from behind it"],
)
async def test_true_ranges_from_elsewhere_are_refused(
    served: Served, listing: Lister, asked: bytes, given: bytes
) -> None:
    """They fold, and are not what was asked for."""

    async def on_call(call: Call) -> None:
        is_page = call.procedure is m.ENTRIES and call.arguments.parent == b"many"
        elsewhere = is_page and (call.arguments.name == asked or (asked and call.arguments.name != b""))
        await call.forward(replace(call.arguments, name=given) if elsewhere else None)

    async with between(served.port) as adversary:
        adversary.on_call = on_call
        status, printed, message = await listing(adversary.port, "many", 7)
    assert (status, message.split(":")[0]) == (3, "malformed-reply")
    assert b"039" not in printed


@pytest.mark.spec("fim-range-4")
async def test_a_listing_that_does_not_go_on_ends(served: Served, listing: Lister) -> None:
    async def on_call(call: Call) -> None:
        await call.forward(replace(call.arguments, count=2) if call.procedure is m.ENTRIES else None)

    async with between(served.port) as adversary:
        adversary.on_call = on_call
        status, _, message = await listing(adversary.port, "many", 7)
        assert len(adversary.calls) < 10
    assert (status, message) == (3, "malformed-reply: a listing that does not go on")


@pytest.mark.spec("fim-range-2")
async def test_a_volume_that_was_signed_out_of_order_is_malformed(served: Served, listing: Lister) -> None:
    made = MadeVolume(
        [file(b"b", b"b"), directory(b"a"), file(b"c", b"c")], id=listing.volume, sort=False, signer=keys()
    )
    async with between(served.port) as adversary:
        adversary.on_call = made.serve
        assert await listing(adversary.port, "") == (1, [], "malformed")


@pytest.mark.spec("fim-head-3", "fip-vol-3", "fip-entries-3")
@pytest.mark.parametrize("at", ["the first page", "the second page"])
async def test_the_head_moves_on(published: Published, served: Served, listing: Lister, at: str) -> None:
    """Begun again where nothing was printed; never pages of two heads."""
    pages = 0

    async def on_call(call: Call) -> None:
        nonlocal pages
        if call.procedure is m.ENTRIES and call.arguments.parent == b"many":
            pages += 1
            if pages == (1 if at == "the first page" else 2):
                (published.root / "many/new").write_bytes(b"new")
                published.sign_volume()
        await call.forward()

    async with between(served.port) as adversary:
        adversary.on_call = on_call
        status, printed, message = await listing(adversary.port, "many", 7)
    if at == "the first page":
        assert (status, printed, message) == (0, on_disk(published.root / "many"), "")
    else:
        assert (status, message) == (1, "stale")
        assert b"new" not in printed


async def test_a_head_that_is_refused_everywhere(served: Served, listing: Lister) -> None:
    async def on_call(call: Call) -> None:
        await (call.answer(m.Status.CHANGED) if call.procedure is m.ENTRIES else call.forward())

    async with between(served.port) as adversary:
        adversary.on_call = on_call
        status, printed, message = await listing(adversary.port, "")
    assert (status, printed, message.split(":")[0]) == (3, [], "malformed-reply")
