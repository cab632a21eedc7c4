# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The peer in C reads members of a volume from our server, and has it shown that a file is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nfsverity_store.layout import read_head
from serving import Published, Served, fresh_keys, publish_as_volume, serving

from .test_peer_reads import PRESENTATIONS, Peer, content

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

FILES = {
    "README": b"read me",
    "empty": b"",
    "a/b/c": content(65_536),
    "a/b-": content(65_537),
    "a-b": content(3 * 2**20 + 5),
    "zz/z": b"the last",
}


@pytest.fixture
def published(tmp_path: Path) -> Published:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to("README")
    return publish_as_volume(tmp_path / "tree", FILES)


@pytest.fixture
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


@pytest.fixture
def peer(programs: Path, published: Published, tmp_path: Path) -> Peer:
    (tmp_path / "keys").mkdir()
    return Peer(programs, published.keys.write(tmp_path / "keys")[1])


@pytest.mark.spec("fim-member-1", "fip-head-1", "fip-head-2")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
def test_members_are_read(published: Published, served: Served, peer: Peer, presentation: str) -> None:
    volume = read_head(published.root).volume
    for path, expected in FILES.items():
        assert peer.read(served.port, path, presentation, volume=volume) == (0, expected, "")
    (published.root / "README").write_bytes(b"read me again")
    published.sign_volume()
    assert peer.read(served.port, "README", presentation, volume=volume) == (0, b"read me again", "")
    (published.root / "README").write_bytes(b"not signed")
    status, data, _ = peer.read(served.port, "README", presentation, volume=volume)
    assert (status, data) != (0, b"not signed")


@pytest.mark.spec("fim-range-3", "fip-vol-2", "fim-member-3", "fim-member-4")
@pytest.mark.parametrize("presentation", ["ahead", "inline"])
def test_what_is_not_there_is_shown(published: Published, served: Served, peer: Peer, presentation: str) -> None:
    volume = read_head(published.root).volume
    for path in ("\x01", "README-", "a/b/d", "a/none", "none/x", "zz/zz", "zzz"):
        assert peer.read(served.port, path, presentation, volume=volume) == (1, b"", "absent")
    (published.root / "a/b/c").unlink()
    status, data, verdict = peer.read(served.port, "a/b/c", presentation, volume=volume)
    assert (status, data) == (1, b"")
    assert verdict != "absent"


def test_the_head_of_somebody_else(published: Published, served: Served, programs: Path, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    peer = Peer(programs, fresh_keys().write(tmp_path / "others")[1])
    volume = read_head(published.root).volume
    assert peer.read(served.port, "README", "ahead", volume=volume) == (1, b"", "untrusted")


def test_another_volume(served: Served, peer: Peer) -> None:
    assert peer.read(served.port, "README", "ahead", volume=bytes(16)) == (1, b"", "wrong-volume")
