# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whom a session believes: pins and CAs, certificates from the server, and the volume of first use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adversary import Call, Reply, between
from nfsverity_client.listing import list_below
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_client.state import State
from nfsverity_client.trust_store import Bindings
from nfsverity_proto import messages as m
from nfsverity_proto.certificate import parse_certificate
from nfsverity_proto.entry import EntryType
from nfsverity_proto.errors import (
    BadCertificate,
    Expired,
    NoCertificate,
    NotYetValid,
    OutOfScope,
    PeerError,
    RecordExpired,
    TimedOut,
    Untrusted,
    VerificationError,
    WrongPath,
    WrongUsage,
    WrongVolume,
)
from nfsverity_proto.messages import Status
from nfsverity_proto.trust import TrustEntry
from nfsverity_publisher.keys import SigningKey
from oracle import signers
from serving import Authority, Keys, Published, Served, authority, calls_made, keys, publish_tree, serving, session

DAY = 86_400
NOW = int(time.time())
FILES = {"one": b"1" * 10, "d/two": b"2" * 20}


def self_signed(**options: Any) -> Keys:
    private = signers.KEYS[signers.ED25519]()
    lifetime = {"not_before": NOW - DAY, "not_after": NOW + DAY}
    name = signers.common_name("publisher")
    der = signers.certificate(private.public_key(), name, private, **({"signs": True} | lifetime | options))
    return Keys(b"", b"", SigningKey(private, parse_certificate(der)))


@pytest.fixture(scope="module")
def issuer() -> Authority:
    return authority()


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_tree(tmp_path_factory.mktemp("pinned") / "tree", FILES)


@pytest.fixture(scope="module")
def served(pinned: Published) -> Iterator[Served]:
    with serving(pinned.root) as served:
        yield served


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory, issuer: Authority) -> tuple[Published, TrustEntry]:
    """A tree of a signer whom a CA below a CA vouches for, and the entry for the upper one."""
    published = publish_tree(tmp_path_factory.mktemp("issued") / "tree", FILES, signer=issuer.issue())
    return published, issuer.entry(published.sign().volume)


@pytest.fixture(scope="module")
def issued_served(issued: tuple[Published, TrustEntry]) -> Iterator[Served]:
    with serving(issued[0].root) as served:
        yield served


async def verdict(where: Served, *trust: TrustEntry, path: bytes = b"one") -> type[Exception] | None:
    async with session(where, *trust) as opened:
        try:
            await open_file(opened, path)
        except VerificationError as error:
            return type(error)
    return None


# pins


async def test_a_pin_within_its_scope(served: Served) -> None:
    volume = await volume_of(served)
    pin = keys().pin
    assert await verdict(served, pin) is None
    assert await verdict(served, replace(pin, volumes=(volume,))) is None
    assert await verdict(served, replace(pin, prefixes=(served.url,))) is None
    assert await verdict(served, replace(pin, prefixes=(f"{served.url}d/",)), path=b"d/two") is None
    assert await verdict(served, replace(pin, prefixes=(f"{served.url}d/",))) is OutOfScope
    assert await verdict(served, replace(pin, prefixes=("nfsv://elsewhere:1/",))) is OutOfScope
    assert await verdict(served, replace(pin, schemes=(signers.ECDSA_P256,))) is OutOfScope
    assert await verdict(served, replace(pin, volumes=(bytes(16),))) is WrongVolume
    other = replace(pin, volumes=(bytes(16),), prefixes=("nfsv://elsewhere:1/",))
    assert await verdict(served, other) is OutOfScope


async def volume_of(served: Served) -> bytes:
    async with session(served) as opened:
        return (await open_file(opened, b"one")).verified.file.volume


async def test_a_signer_whom_nobody_knows(served: Served) -> None:
    assert await verdict(served, keys("stranger").pin) is Untrusted


@pytest.mark.parametrize(
    ("certificate", "error"),
    [
        ({"not_after": NOW - 10}, Expired),
        ({"not_before": NOW + 1000}, NotYetValid),
        ({"signs": False}, WrongUsage),
        ({"purposes": None}, None),
    ],
)
async def test_a_pinned_certificate(
    tmp_path: Path, certificate: dict[str, Any], error: type[VerificationError] | None
) -> None:
    signer = self_signed(**certificate)
    published = publish_tree(tmp_path / "tree", FILES, signer=signer)
    with serving(published.root) as served:
        assert await verdict(served, signer.pin) is error


async def test_a_record_that_has_expired(tmp_path: Path) -> None:
    published = publish_tree(tmp_path / "tree", FILES, not_after=NOW - 1)
    with serving(published.root) as served:
        assert await verdict(served, published.pin) is RecordExpired


# calls


async def test_a_result_is_not_a_view_of_memory_for_the_next_reply(served: Served) -> None:
    async with session(served) as opened:
        verified = (await open_file(opened, b"one")).verified
        fetched = await opened.call(m.FETCH, m.FetchArgs(b"", b"one", 4096))
        tree = await opened.call(m.TREE, m.TreeArgs(fetched.object, verified.tag, 0, 0, 1))
        read = await opened.call(m.READ, m.ReadArgs(fetched.object, verified.tag, 0, 1, None))
        await opened.call(m.FETCH, m.FetchArgs(b"", b"d/two", 4096))
    assert {type(data) for data in (fetched.data, tree.hashes, read.data)} == {bytes}
    assert (fetched.data, read.data) == (FILES["one"], FILES["one"])
    assert tree.hashes == verified.file.content.tree.root, "the tree of one unit"


# CAs


@pytest.mark.spec("fip-cert-2", "fip-cert-6")
async def test_a_chain_from_the_server(issued: tuple[Published, TrustEntry], issued_served: Served) -> None:
    _, entry = issued
    async with session(issued_served, entry) as opened:
        with calls_made() as calls:
            reader = await open_file(opened, b"one")
            await open_file(opened, b"d/two")
        assert [call.name for call in calls] == ["FETCH", "CERTIFICATE", "FETCH"], "it is asked for once"
        assert reader.verified.signers[0].entry == entry


@pytest.mark.spec("fip-cert-7", "fim-trust-2")
async def test_what_the_server_sends_is_not_trusted(
    issued: tuple[Published, TrustEntry], issued_served: Served
) -> None:
    _, entry = issued
    assert await verdict(issued_served, keys().pin) is Untrusted, "no CA is trusted"
    assert await verdict(issued_served, replace(entry, anchor=authority().root)) is BadCertificate, "another one is"
    assert await verdict(issued_served, replace(entry, subject="CN=somebody")) is OutOfScope
    assert await verdict(issued_served, replace(entry, volumes=(bytes(16),))) is WrongVolume
    elsewhere = replace(entry, volumes=(), prefixes=("nfsv://elsewhere:1/",))
    assert await verdict(issued_served, elsewhere) is OutOfScope


@pytest.mark.parametrize(
    ("certificate", "error"),
    [
        ({"not_after": NOW - 10}, Expired),
        ({"not_before": NOW + 1000}, NotYetValid),
        ({"signs": False}, WrongUsage),
        ({"purposes": None}, WrongUsage),
        ({"purposes": (signers.CODE_SIGNING,)}, WrongUsage),
    ],
)
async def test_an_issued_certificate(
    tmp_path: Path, issuer: Authority, certificate: dict[str, Any], error: type[VerificationError]
) -> None:
    published = publish_tree(tmp_path / "tree", FILES, signer=issuer.issue(**certificate))
    entry = issuer.entry(published.sign().volume)
    with serving(published.root) as served:
        assert await verdict(served, entry) is error


OnCall = Callable[[Call], Awaitable[None]]


def certificates(result: Any) -> OnCall:
    async def on_call(call: Call) -> None:
        await (call.answer(result) if call.procedure is m.CERTIFICATE else call.forward())

    return on_call


@pytest.mark.spec("fip-cert-1", "fip-cert-3", "fip-cert-5", "fip-status-4")
async def test_certificates_that_are_not_to_be_had(
    issued: tuple[Published, TrustEntry], issued_served: Served, issuer: Authority
) -> None:
    published, entry = issued
    leaf, stranger = published.keys.der, issuer.issue().der
    async with between(issued_served.port) as adversary, session(adversary.where, entry) as opened:

        async def given(result: Any) -> type[Exception] | None:
            adversary.on_call = certificates(result)
            try:
                await open_file(opened, b"one")
            except (VerificationError, PeerError) as error:
                return type(error)
            return None

        assert await given(Status.NOT_FOUND) is NoCertificate
        assert await given(Status.IO) is NoCertificate
        assert await given(m.CertificateOk((leaf,))) is BadCertificate, "no path"
        assert await given(m.CertificateOk((stranger, issuer.middle))) is BadCertificate, "another one"
        assert await given(m.CertificateOk((issuer.middle, leaf))) is BadCertificate, "in another order"
        assert await given(m.CertificateOk((b"no certificate",))) is BadCertificate
        assert await given(m.CertificateOk((leaf, b"no certificate", stranger, issuer.middle))) is None
        adversary.on_call = certificates(Status.IO)
        await open_file(opened, b"one")  # it is known by now


@pytest.mark.spec("fip-client-9", "fip-cert-4")
async def test_trouble_with_certificates_matters_only_where_they_are_needed(
    issued: tuple[Published, TrustEntry], issued_served: Served
) -> None:
    _, entry = issued

    async def broken(reply: Reply) -> None:
        await reply.send(reply.message[:28] + bytes(4) if reply.procedure is m.CERTIFICATE else None)

    async def silent(reply: Reply) -> None:
        if reply.procedure is not m.CERTIFICATE:
            await reply.send()

    for on_reply, error in ((broken, PeerError), (silent, TimedOut)):
        async with between(issued_served.port) as adversary:
            adversary.on_reply = on_reply
            async with session(adversary.where, entry, timeout=0.3) as opened:
                with pytest.raises(error):
                    await open_file(opened, b"one")
            async with session(adversary.where, keys().pin, timeout=0.3) as opened:
                with pytest.raises(Untrusted):
                    await open_file(opened, b"one")
            async with session(adversary.where, entry, timeout=0.3) as opened:
                record = (await opened.call(m.FETCH, m.FetchArgs(b"", b"one", 0))).record
                with pytest.raises(WrongPath):
                    await opened.verify(record, b"two")


async def test_a_signer_is_asked_for_where_one_is_not_enough(tmp_path: Path, issuer: Authority) -> None:
    """The other one is pinned, and would do for a reader who asks for one."""
    published = publish_tree(tmp_path / "tree", FILES)
    volume = published.sign(keys=[keys(), issuer.issue()], rehash=True).volume
    entry = issuer.entry(volume)
    with serving(published.root) as served:
        for needed, expected in ((1, ["FETCH"]), (2, ["FETCH", "CERTIFICATE"])):
            async with session(served, replace(keys().pin, signers=needed), entry) as opened:
                with calls_made() as calls:
                    reader = await open_file(opened, b"one")
                assert [call.name for call in calls] == expected
                assert len(reader.verified.signers) == needed


# the volume of first use


@pytest.mark.spec("fim-ver-2", "fim-ver-3")
async def test_the_volume_is_bound_at_first_use_and_said_once(
    tmp_path: Path, pinned: Published, served: Served
) -> None:
    said: list[tuple[str, bytes]] = []
    bindings = Bindings(tmp_path)
    async with Session(
        served.where, Settings(trust=(keys().pin,)), bindings, lambda *what: said.append(what)
    ) as opened:
        await opened.resolve(b"one")
        assert not bindings.all(), "nothing was verified yet"
        readers = await asyncio.gather(*(open_file(opened, name) for name in (b"one", b"d/two")))
    volume = readers[0].verified.file.volume
    assert said == [(f"nfsv://127.0.0.1:{served.port}", volume)]
    assert list(bindings.all().values()) == [volume]
    async with Session(
        served.where, Settings(trust=(keys().pin,)), bindings, lambda *what: said.append(what)
    ) as opened:
        await open_file(opened, b"one")
    assert len(said) == 1


@pytest.mark.spec("fim-ver-1", "fim-ver-3")
async def test_a_binding_is_kept(tmp_path: Path, served: Served) -> None:
    bindings = Bindings(tmp_path)
    bindings.bind(served.where.server, bytes(16))
    said: list[Any] = []
    settings = Settings(trust=(keys().pin,))
    async with Session(served.where, settings, bindings, lambda *what: said.append(what)) as opened:
        with pytest.raises(WrongVolume):
            await open_file(opened, b"one")
    assert bindings.all() == {served.where.server: bytes(16)}
    assert not said


async def test_a_volume_that_is_given_needs_no_binding(tmp_path: Path, served: Served) -> None:
    volume = await volume_of(served)
    bindings = Bindings(tmp_path)
    settings = Settings(trust=(keys().pin,), volume=volume)
    async with Session(served.where, settings, bindings) as opened:
        await open_file(opened, b"one")
    async with Session(served.where, replace(settings, volume=bytes(16)), bindings) as opened:
        with pytest.raises(WrongVolume):
            await open_file(opened, b"one")
    assert not bindings.all()


async def test_what_does_not_verify_binds_nothing(tmp_path: Path, served: Served) -> None:
    bindings = Bindings(tmp_path)
    async with Session(served.where, Settings(trust=(keys("stranger").pin,)), bindings) as opened:
        with pytest.raises(Untrusted):
            await open_file(opened, b"one")
    assert not bindings.all()


async def test_another_process_may_be_first(tmp_path: Path, served: Served) -> None:
    """Between the look at the bindings and the new one."""

    class Late(Bindings):
        def get(self, server: str) -> bytes | None:
            return None

    bindings = Late(tmp_path)
    bindings.bind(served.where.server, bytes(16))
    async with Session(served.where, Settings(trust=(keys().pin,)), bindings) as opened:
        with pytest.raises(WrongVolume):
            await open_file(opened, b"one")


# names


async def test_names_are_bytes(tmp_path: Path) -> None:
    names = [b"a", b"a b", b"\xff\xfe", "\N{GREEK SMALL LETTER ALPHA}".encode(), b"z" * 255]
    root = tmp_path / "tree"
    root.mkdir()
    for name in names:
        (root / name.decode("utf-8", "surrogateescape")).write_bytes(name)
    published = publish_tree(root, {})
    with serving(published.root) as served:
        async with session(served) as opened:
            assert [entry.name async for entry in opened.list(b"")] == sorted(names)
            for name in names:
                assert await (await open_file(opened, name)).pread() == name


async def files_below(opened: Session, path: bytes) -> list[bytes]:
    async with aclosing(list_below(opened, path, deep=True, by_word=True)) as found:
        return [entry.path async for entry in found if entry.type is EntryType.FILE]


async def test_a_directory_of_more_entries_than_a_reply_has(tmp_path: Path) -> None:
    published = publish_tree(tmp_path / "tree", {f"many/{i:04}": b"" for i in range(1100)})
    with serving(published.root) as served:
        async with session(served) as opened:
            names = [entry.name async for entry in opened.list(b"many")]
            assert names == [b"%04d" % i for i in range(1100)]
            assert await files_below(opened, b"") == [b"many/" + name for name in names]


async def test_a_walk_meets_every_file_once(tmp_path: Path) -> None:
    names = ["a/b/c/1", "a/b/2", "a-b/3", "a/4", "5", "b/" * 100 + "6"]
    published = publish_tree(tmp_path / "tree", dict.fromkeys(names, b""))
    with serving(published.root) as served:
        async with session(served) as opened:
            assert sorted(await files_below(opened, b"")) == sorted(name.encode() for name in names)
            assert await files_below(opened, b"a/b") == [b"a/b/2", b"a/b/c/1"]


async def test_a_version_that_others_have_gone_beyond_is_asked_for_once_more(tmp_path: Path) -> None:
    """The server's answer is under way while another process of the user accepts the next version."""
    published = publish_tree(tmp_path / "tree", {"f": b"one"})
    state = State(tmp_path / "state")
    settings = Settings(trust=(keys().pin,), timeout=20.0)
    with serving(published.root) as served:
        async with between(served.port) as adversary:

            async def late(reply: Reply) -> None:
                if reply.procedure is m.FETCH:
                    adversary.on_reply = None
                    published.replace("f", b"two")
                    published.sign()
                    async with Session(served.where, settings, state=State(tmp_path / "state")) as other:
                        assert await (await open_file(other, b"f")).pread() == b"two"
                await reply.send()

            adversary.on_reply = late
            async with Session(adversary.where, settings, state=state) as opened:
                assert await (await open_file(opened, b"f")).pread() == b"two"
            assert adversary.names == ["FETCH", "REVOCATION", "RESOLVE", "RECORD", "READ"]


async def test_a_version_that_others_go_beyond_before_its_first_byte_gives_way(tmp_path: Path) -> None:
    published = publish_tree(tmp_path / "tree", {"f": b"one"})
    settings = Settings(trust=(keys().pin,), timeout=20.0)
    with serving(published.root) as served:
        async with Session(served.where, settings, state=State(tmp_path / "state")) as opened:
            following = await open_file(opened, b"f")
            published.replace("f", b"two")
            published.sign()
            async with Session(served.where, settings, state=State(tmp_path / "state")) as other:
                assert await (await open_file(other, b"f")).pread() == b"two"
            assert await following.pread() == b"two"


async def test_a_version_that_others_go_beyond_again_while_the_next_is_asked_for(tmp_path: Path) -> None:
    published = publish_tree(tmp_path / "tree", {"f": b"one"})
    settings = Settings(trust=(keys().pin,), timeout=20.0)
    contents = [b"two", b"three", b"four"]

    async def go_beyond() -> None:
        published.replace("f", contents.pop(0))
        published.sign()
        async with Session(served.where, settings, state=State(tmp_path / "state")) as other:
            await (await open_file(other, b"f")).pread()

    async def late(reply: Reply) -> None:
        if reply.procedure is m.RECORD and contents:
            await go_beyond()
        await reply.send()

    with serving(published.root) as served:
        async with (
            between(served.port) as adversary,
            Session(adversary.where, settings, state=State(tmp_path / "state")) as opened,
        ):
            following = await open_file(opened, b"f")
            await go_beyond()
            adversary.on_reply = late
            assert await following.pread() == b"four"
