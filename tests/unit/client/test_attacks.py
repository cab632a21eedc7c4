# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Every byte of every reply, changed: the right class of error for the region it is in, or the same bytes."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adversary import HEADER, Reply, between, flipped
from nfsverity_client.listing import list_below
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import open_file
from nfsverity_proto import messages as m
from nfsverity_proto.errors import (
    BadCertificate,
    Mismatch,
    NfsVerityError,
    PeerError,
    StatusError,
    VerificationError,
)
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.url import Url
from oracle.merkle import SHA256
from serving import Published, Served, authority, publish_tree, serving, session

UNIT = 4096
FILES = {"dir/three": random.Random(3).randbytes(12_800), "dir/small": b"small", "top": b"top " * 2000}


# Where things are in a reply, by the XDR of the draft: nothing of the project's codec is used.


@dataclass(frozen=True)
class Region:
    name: str
    start: int
    end: int


class Layout:
    def __init__(self, message: bytes) -> None:
        self.message = message
        self.regions: list[Region] = []
        self.at = 0

    def take(self, name: str, length: int) -> None:
        if length:
            self.regions.append(Region(name, self.at, self.at + length))
        self.at += length

    def number(self, name: str) -> int:
        value: int = struct.unpack_from(">I", self.message, self.at)[0]
        self.take(name, 4)
        return value

    def opaque(self, name: str) -> None:
        length = self.number(f"length of {name}")
        self.take(name, length)
        self.take(f"padding of {name}", -length % 4)

    def attributes(self) -> None:
        self.take("attributes", 32)

    def layout(self, procedure: str) -> list[Region]:
        self.take("header", HEADER)
        self.take("status", 4)
        match procedure:
            case "LIMITS":
                self.take("limits", len(self.message) - self.at)
            case "GETATTR":
                self.attributes()
            case "RESOLVE":
                self.opaque("handle")
                self.attributes()
            case "RECORD":
                self.opaque("record")
            case "CERTIFICATE":
                for index in range(self.number("length of issuer")):
                    self.opaque("issuer" if index else "certificate")
            case "TREE":
                self.opaque("hashes")
            case "PROOF":
                self.opaque("proof")
            case "FETCH":
                for name in ("handle", "record", "proof", "data"):
                    self.opaque(name)
            case "READ":
                self.opaque("proof")
                self.take("holes", 8 * self.number("length of holes"))
                self.opaque("data")
            case "READDIR":
                for _ in range(self.number("length of name")):
                    self.opaque("name")
                    self.opaque("handle")
                    self.attributes()
                self.take("eof", 4)
        assert self.at == len(self.message)
        return self.regions


SAME = None
"""The same bytes as without the change."""
WORD = (SAME, StatusError, VerificationError, PeerError)
"""The server's word: it may lead nowhere, or to another object, but to no other bytes."""
HEALED = (SAME, Mismatch)
"""Only one reply is changed: what does not fold is asked for once more (V3), and comes as it is."""
ENDS_IN: dict[str, tuple[type[NfsVerityError] | None, ...]] = {
    "header": (PeerError,),
    "status": (PeerError,),
    "record": (VerificationError,),
    "certificate": (BadCertificate,),
    "issuer": (SAME, BadCertificate),
    "proof": HEALED,
    "hashes": HEALED,
    "data": HEALED,
    "holes": (PeerError, *HEALED),
    "handle": WORD,
    "name": WORD,
    "attributes": WORD,
    "eof": WORD,
    "limits": (SAME, PeerError),
}


def ends_in(region: str) -> tuple[type[NfsVerityError] | None, ...]:
    for prefix in ("length of ", "padding of "):
        if region.startswith(prefix):
            return (PeerError, *ENDS_IN[region.removeprefix(prefix)])
    return ENDS_IN[region]


# A scenario in which every procedure is called.


@dataclass
class Scene:
    published: Published
    served: Served
    trust: TrustEntry
    replies: list[tuple[str, list[Region]]]
    """What an honest server answers: the procedure, and where things are."""
    content: dict[str, bytes]


async def play(where: Url, trust: TrustEntry) -> dict[str, bytes]:
    """The bytes that are delivered."""
    async with session(where, trust, timeout=10.0, wait=0.0) as opened:
        await opened.call(m.LIMITS, None)
        await opened.call(m.GETATTR, m.GetattrArgs(b""))
        handle = (await opened.resolve(b"dir/three")).object
        record = (await opened.call(m.RECORD, m.RecordArgs(handle, b"", 0))).record
        await opened.verify(record, b"dir/three")
        _ = [entry async for entry in list_below(opened, b"", deep=True, by_word=True)]
        found = {}
        for name, how in [
            ("dir/small", Presentation.INLINE),
            ("dir/three", Presentation.INLINE),
            ("dir/three", Presentation.ON_DEMAND),
            ("dir/three", Presentation.AHEAD),
            ("dir/three", Presentation.RECONSTRUCT),
            ("holes", Presentation.INLINE),
        ]:
            reader = await open_file(opened, name.encode(), presentation=how, most=UNIT)
            last = await reader.pread(reader.size - 5, 10)
            found[f"{name} {how}"] = await reader.pread() + last
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    issuer = authority()
    root = tmp_path_factory.mktemp("attacks") / "tree"
    root.mkdir()
    with (root / "holes").open("wb") as file:
        file.seek(5 * UNIT)
        file.write(b"\1" * UNIT)
        file.truncate(9 * UNIT + 100)
    published = publish_tree(root, FILES, signer=issuer.issue(), unit_size=UNIT)
    trust = issuer.entry(published.sign().volume)

    async def honest(port: int) -> tuple[list[tuple[str, list[Region]]], dict[str, bytes]]:
        replies: dict[int, tuple[str, list[Region]]] = {}

        async def note(reply: Reply) -> None:
            name = reply.procedure.name
            replies[reply.call.index] = name, Layout(reply.message).layout(name)
            await reply.send()

        async with between(port) as adversary:
            adversary.on_reply = note
            content = await play(adversary.where, trust)
        return [replies[index] for index in sorted(replies)], content

    with serving(root) as served:
        replies, content = asyncio.run(honest(served.port))
        yield Scene(published, served, trust, replies, content)


def test_the_scenario_calls_every_procedure(scene: Scene) -> None:
    others = {"PLAIN", "REVOCATION", "ENTRIES", "BULK"}  # the server's word, and what has tests of its own
    assert {name for name, _ in scene.replies} == {procedure.name for procedure in m.PROCEDURES.values()} - others
    assert {region.name for _, regions in scene.replies for region in regions} >= ENDS_IN.keys()
    for name, data in FILES.items():
        for key, found in scene.content.items():
            if key.startswith(f"{name} "):
                assert found == data + data[-5:]


@pytest.mark.spec(
    "fip-client-6",
    "fip-client-8",
    "fip-client-9",
    "fip-client-10",
    "fip-client-11",
    "fip-client-12",
    "fip-client-13",
    "fip-attr-2",
    "fip-attr-3",
    "fip-cert-5",
    "fip-limits-8",
    "fip-handle-1",
    "fip-resolve-6",
    "fim-ver-1",
)
@given(data=st.data())
@example(data=None)
@settings(max_examples=300)
def test_each_byte_of_each_reply(scene: Scene, data: st.DataObject | None) -> None:
    if data is None:  # each region once, in any case
        for index, (_, regions) in enumerate(scene.replies):
            for region in regions:
                check_flip(scene, index, region, (region.start + region.end) // 2, 1)
        return
    index = data.draw(st.integers(0, len(scene.replies) - 1), label="reply")
    region = data.draw(st.sampled_from(scene.replies[index][1]))
    at = data.draw(st.integers(region.start, region.end - 1), label="offset")
    check_flip(scene, index, region, at, data.draw(st.integers(1, 255), label="mask"))


def check_flip(scene: Scene, index: int, region: Region, at: int, mask: int) -> None:
    error, found = asyncio.run(outcome(scene, index, at, mask))
    where = f"{scene.replies[index][0]} ({index}), {region.name}, byte {at - region.start}: {error!r}"
    allowed = ends_in(region.name)
    if error is None:
        assert SAME in allowed, where
        assert found == scene.content, where
    else:
        assert isinstance(error, tuple(kind for kind in allowed if kind is not None)), where
    if region.name == "record":
        assert isinstance(error, VerificationError), where
        assert error.step <= 12, where


async def outcome(scene: Scene, index: int, at: int, mask: int) -> tuple[NfsVerityError | None, dict[str, bytes]]:
    """What the scenario ends in when one byte of one reply is changed."""

    async def change(reply: Reply) -> None:
        await reply.send(flipped(reply.message, at, mask) if reply.call.index == index else None)

    async with between(scene.served.port) as adversary:
        adversary.on_reply = change
        try:
            async with asyncio.timeout(20):
                return None, await play(adversary.where, scene.trust)
        except NfsVerityError as error:
            return error, {}


# Bytes that are bad where they are stored


@pytest.mark.spec("fip-client-25", "fim-ver-11", "fip-client-20")
@pytest.mark.parametrize("how", list(Presentation))
@pytest.mark.parametrize("at", [0, UNIT - 1, UNIT, 2 * UNIT + 7, 12_799])
def test_a_byte_that_was_changed_on_the_server_is_located(
    tmp_path_factory: pytest.TempPathFactory, how: Presentation, at: int
) -> None:
    published = publish_tree(tmp_path_factory.mktemp("located") / "tree", FILES, unit_size=UNIT)
    good = FILES["dir/three"]
    bad = flipped(good, at, 0x40)
    published.write({"dir/three": bad})

    async def run(port: Url) -> None:
        async with session(port, published.pin, wait=0.0) as opened:
            for most in (0, 65536):
                with pytest.raises(Mismatch) as raised:
                    await (await open_file(opened, b"dir/three", presentation=how, most=most, tolerant=True)).pread()
                error = raised.value
                start = at - at % UNIT
                unit = slice(start, start + UNIT)
                assert (error.offset, error.length) == (start, len(good[unit]))
                assert error.expected == SHA256(b"\0" + good[unit]).hex()
                assert error.found == SHA256(b"\0" + bad[unit]).hex()
                assert error.where is not None
                assert error.where.endswith("/dir/three")

    with serving(published.root, update_window=0.0) as served:
        asyncio.run(run(served.where))
