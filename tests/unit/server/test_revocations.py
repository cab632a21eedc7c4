# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""REVOCATION: the file that the publisher put there, and another as soon as there is one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from nfsverity_proto import messages as m
from nfsverity_proto.messages import Status
from nfsverity_store.layout import revocation_path
from serving import Published
from unit.server.raw import Raw


def put(root: Path, data: bytes) -> None:
    """As a publisher does: under another name, and then renamed."""
    path = revocation_path(root)
    path.with_suffix(".new").write_bytes(data)
    os.replace(path.with_suffix(".new"), path)


def ask(client: Raw, known: bytes = b"", of: bytes = b"") -> object:
    return client.call(m.REVOCATION, m.RevocationArgs(of, known))


@pytest.mark.spec("fip-revoke-1", "fip-revoke-2", "fip-revoke-4", "fip-revoke-5")
def test_the_current_one_without_a_restart(client: Raw, published: Published) -> None:
    assert ask(client) is Status.UNSIGNED
    assert ask(client, bytes(32)) is Status.UNSIGNED
    for data in (b"the first", b"the other", os.urandom(65_536)):
        put(published.root, data)
        for of in (b"", client.handle(b"d"), client.handle(b"d/run")):
            assert ask(client, of=of) == m.RevocationOk(data)
            assert ask(client, bytes(32), of) == m.RevocationOk(data)
            assert ask(client, hashlib.sha256(data).digest(), of) is Status.UNCHANGED
    revocation_path(published.root).unlink()
    assert ask(client) is Status.UNSIGNED


@pytest.mark.spec("fip-revoke-3")
@pytest.mark.parametrize("length", [1, 31])
def test_a_known_that_is_no_digest(client: Raw, length: int) -> None:
    assert ask(client, bytes(length)) is Status.INVALID
    assert ask(client, bytes(length), b"nonsense") is Status.INVALID


@pytest.mark.parametrize("size", [0, 65_537, 200_000])
def test_what_is_no_record_is_trouble_of_the_server(client: Raw, published: Published, size: int) -> None:
    put(published.root, bytes(size))
    assert ask(client) is Status.IO
    put(published.root, b"mended")
    assert ask(client) == m.RevocationOk(b"mended")


@pytest.mark.spec("fip-server-6")
def test_it_is_no_object(client: Raw, published: Published) -> None:
    put(published.root, b"a revocation")
    assert client.call(m.RESOLVE, m.ResolveArgs(b"", b".nfsverity/revocation")) is Status.NOT_FOUND
