# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""REVOCATION: what the publisher put there, and another as soon as there is one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from nfsverity_proto import messages as m
from nfsverity_proto.messages import Status
from nfsverity_proto.record import Fingerprint
from nfsverity_store.layout import read_head
from nfsverity_store.revocation import certificates_path, joined, revocation_path
from oracle import records, signers
from serving import Published
from unit.server.raw import Raw

REVOCATION = 4


def put(path: Path, data: bytes) -> None:
    """As a publisher does: under another name, and then renamed."""
    path.with_name(path.name + ".new").write_bytes(data)
    os.replace(path.with_name(path.name + ".new"), path)


def revocation(root: Path, generation: int = 1, volume: bytes | None = None, items: int = 1) -> bytes:
    """A record of the oracle's making."""
    revoked = tuple((1, 1, bytes([number]) * 32) for number in range(items))
    volume = read_head(root).volume if volume is None else volume
    return signers.signed(records.Statement(kind=REVOCATION, volume=volume, generation=generation, items=revoked))


def ask(client: Raw, known: bytes = b"", of: bytes = b"") -> object:
    return client.call(m.REVOCATION, m.RevocationArgs(of, known))


@pytest.mark.spec("fip-revoke-1", "fip-revoke-2", "fip-revoke-4", "fip-revoke-5")
def test_the_current_one_without_a_restart(client: Raw, published: Published) -> None:
    assert ask(client) is Status.UNSIGNED
    assert ask(client, bytes(32)) is Status.UNSIGNED
    for generation, items in ((1, 0), (2, 1), (3, 128)):
        data = revocation(published.root, generation, items=items)
        put(revocation_path(published.root), data)
        for of in (b"", client.handle(b"d"), client.handle(b"d/run")):
            assert ask(client, of=of) == m.RevocationOk(data)
            assert ask(client, bytes(32), of) == m.RevocationOk(data)
            assert ask(client, hashlib.sha256(data).digest(), of) is Status.UNCHANGED
    revocation_path(published.root).unlink()
    assert ask(client) is Status.UNSIGNED


@pytest.mark.spec("fip-revoke-2")
def test_that_of_another_volume_is_none(client: Raw, published: Published) -> None:
    """A tree that was given a new volume ID still has the file of before."""
    put(revocation_path(published.root), revocation(published.root, volume=b"another volume!!"))
    assert ask(client) is Status.UNSIGNED
    kept = revocation(published.root)
    put(revocation_path(published.root), kept)
    assert ask(client) == m.RevocationOk(kept)
    published.sign(volume=b"another volume!!")
    assert ask(client) is Status.UNSIGNED


@pytest.mark.spec("fip-revoke-3")
@pytest.mark.parametrize("length", [1, 31])
def test_a_known_that_is_no_digest(client: Raw, length: int) -> None:
    assert ask(client, bytes(length)) is Status.INVALID
    assert ask(client, bytes(length), b"nonsense") is Status.INVALID


@pytest.mark.parametrize("damage", ["empty", "cut", "too long", "another kind"])
def test_what_is_no_revocation_is_trouble_of_the_server(client: Raw, published: Published, damage: str) -> None:
    good = revocation(published.root)
    bad = {
        "empty": b"",
        "cut": good[:-1],
        "too long": good + bytes(65_536),
        "another kind": client.record(b"top"),
    }[damage]
    put(revocation_path(published.root), bad)
    assert ask(client) is Status.IO
    assert ask(client) is Status.IO
    put(revocation_path(published.root), good)
    assert ask(client) == m.RevocationOk(good)


@pytest.mark.spec("fip-server-6")
def test_it_is_no_object(client: Raw, published: Published) -> None:
    put(revocation_path(published.root), revocation(published.root))
    assert client.call(m.RESOLVE, m.ResolveArgs(b"", b".nfsverity/revocation")) is Status.NOT_FOUND


@pytest.mark.spec("fip-cert-1", "fip-cert-3")
def test_the_certificates_of_its_signers(client: Raw, published: Published) -> None:
    """Who only ever signed a revocation has none in the index."""
    der = signers.signer(signers.ECDSA_P256).der
    named = Fingerprint(1, hashlib.sha256(der).digest())
    assert client.call(m.CERTIFICATE, m.CertificateArgs(named)) is Status.NOT_FOUND
    put(certificates_path(published.root), joined([der]))
    assert client.call(m.CERTIFICATE, m.CertificateArgs(named)) == m.CertificateOk((der,))
    for damaged in (joined([der])[:-1], joined([der]) + b"x", bytes(4), b"\xff" * 2**21):
        put(certificates_path(published.root), damaged)
        assert client.call(m.CERTIFICATE, m.CertificateArgs(named)) is Status.NOT_FOUND
        own = Fingerprint(1, hashlib.sha256(published.keys.der).digest())
        assert client.call(m.CERTIFICATE, m.CertificateArgs(own)) == m.CertificateOk((published.keys.der,))
