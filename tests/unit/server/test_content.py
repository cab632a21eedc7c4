# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Records, certificates, trees, proofs and data: what an OK reply holds, compared with the oracle."""

from __future__ import annotations

import ast
import datetime
import os
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_proto import messages as m
from nfsverity_proto.certificate import parse_certificate
from nfsverity_proto.messages import Status
from nfsverity_proto.record import Fingerprint, decode_record
from nfsverity_publisher.keys import SigningKey
from nfsverity_publisher.publication import publish
from nfsverity_publisher.transaction import Options
from nfsverity_server import connection, data, listener, service
from nfsverity_store.layout import DIRECTORY, read_head
from nfsverity_store.published import open_published
from oracle import merkle, signers
from serving import Published, publish_tree
from unit.server.raw import Raw
from unit.server.running import Running, running

UNIT = 4096
SIZES = {
    "0": 0, "1": 1, "u-1": UNIT - 1, "u": UNIT, "u+1": UNIT + 1, "3u": 3 * UNIT, "7u+5": 7 * UNIT + 5, "16u": 16 * UNIT,
}  # fmt: skip
CONTENTS = {name: os.urandom(size) for name, size in SIZES.items()}
HASHES = {"sha256": 1, "sha384": 7, "sha512": 8, "sha3-256": 10, "blake3": 0x10000}


@pytest.fixture(scope="module", params=[True, False], ids=["kept", "rebuilt"])
def keep(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module", params=HASHES)
def hashed(request: pytest.FixtureRequest, keep: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a tree that is signed with one of the hashes, and what the oracle hashes with."""
    published = publish_tree(tmp_path_factory.mktemp("tree"), CONTENTS, unit_size=UNIT, hash=request.param)
    with running(published.root, keep=keep) as server, server.client() as client:
        yield client, merkle.HASHES[HASHES[request.param]][1]


@pytest.mark.spec("fip-tree-1", "fip-tree-2", "fip-server-10")
@pytest.mark.parametrize("name", CONTENTS)
def test_every_level_of_every_tree(hashed: Any, name: str) -> None:
    client, digest = hashed
    units = merkle.cut(CONTENTS[name], UNIT)
    handle, file, tag = client.file(name.encode())
    assert file.content.tree.root == merkle.tree_hash(digest, units)
    if not units:
        assert client.call(m.TREE, m.TreeArgs(handle, tag, 0, 0, 1)) is Status.INVALID
        return
    for level in range(merkle.height(len(units)) + 1):
        width = -(-len(units) // 2**level)
        nodes = [merkle.node(digest, units, level, index) for index in range(width)]
        for first in range(width):
            for count in range(1, width - first + 1):
                result = client.call(m.TREE, m.TreeArgs(handle, tag, level, first, count))
                assert bytes(result.hashes) == b"".join(nodes[first : first + count])


@pytest.mark.spec("fip-proof-1", "fip-proof-4", "fip-read-1", "fip-read-6", "fip-slice-1", "fip-server-10")
@pytest.mark.parametrize("name", CONTENTS)
def test_every_range_under_every_node(hashed: Any, name: str) -> None:
    """READ brings the data and the very proof that PROOF brings alone."""
    client, digest = hashed
    content = CONTENTS[name]
    units = merkle.cut(content, UNIT)
    handle, _, tag = client.file(name.encode())
    for level in range(merkle.height(len(units)) + 1):
        for first in range(len(units)):
            for end in range(first + 1, len(units) + 1):
                args = handle, tag, level, first, end - first
                proof = client.call(m.PROOF, m.ProofArgs(*args))
                read = client.call(m.READ, m.ReadArgs(handle, tag, first, end - first, level))
                if first >> level != (end - 1) >> level:
                    assert (proof, read) == (Status.INVALID, Status.INVALID)
                    continue
                assert proof.proof == b"".join(merkle.range_proof(digest, units, first, end, level))
                assert (read.proof, read.holes) == (proof.proof, ())
                assert bytes(read.data) == content[first * UNIT : end * UNIT]


@pytest.mark.spec("fip-read-2", "fip-read-5", "fip-read-9")
@pytest.mark.parametrize("name", CONTENTS)
def test_reads_without_a_proof(hashed: Any, name: str) -> None:
    client, _ = hashed
    content = CONTENTS[name]
    n = -(-len(content) // UNIT)
    handle, _, tag = client.file(name.encode())
    for first, count in ((0, 0), (0, n + 1), (n, 1), (2**64 - 1, 1), (2**64 - 1, 2**32 - 1)):
        assert client.call(m.READ, m.ReadArgs(handle, tag, first, count, None)) is Status.INVALID
    if n:
        assert client.call(m.READ, m.ReadArgs(handle, tag, 0, n, None)) == m.ReadOk(b"", (), content)


@pytest.mark.spec("fip-fetch-1", "fip-fetch-2", "fip-fetch-4")
@pytest.mark.parametrize("name", CONTENTS)
def test_fetch(hashed: Any, name: str) -> None:
    client, digest = hashed
    content, size = CONTENTS[name], len(CONTENTS[name])
    units = merkle.cut(content, UNIT)
    handle, record = client.handle(name.encode()), client.record(name.encode())
    for most in {0, 1, UNIT - 1, UNIT, 2 * UNIT, 2 * UNIT + 1, size, max(size - 1, 0), size + 1, 2**20}:
        b = len(units) if size <= most else most // UNIT
        proof = merkle.range_proof(digest, units, 0, b, merkle.height(len(units))) if b else []
        expected = m.FetchOk(handle, record, b"".join(proof), content[: b * UNIT])
        assert client.call(m.FETCH, m.FetchArgs(b"", name.encode(), most)) == expected
        assert client.call(m.FETCH, m.FetchArgs(handle, b"", most)) == expected


@pytest.mark.spec("fip-record-1", "fip-record-3", "fip-server-9")
def test_the_record_is_that_which_was_published(client: Raw, published: Published) -> None:
    _, index = open_published(published.root)
    for path, entry in index.files():
        for known in (b"", b"k" * 32):
            result = client.call(m.RECORD, m.RecordArgs(client.handle(path), known, 60_000))
            assert result == m.RecordOk(entry.record)
    index.close()


@pytest.mark.spec("fip-server-10")
@pytest.mark.parametrize("unit_log2", [12, 16, 20])
def test_kept_and_rebuilt_trees_are_the_same_on_the_wire(tmp_path: Path, unit_log2: int) -> None:
    """Whole replies, byte for byte: small trees in the index, a large one in a file, and a sparse one."""
    files = {"small": os.urandom(300_000), "large": os.urandom(UNIT) * 2100, "one": b"1", "none": b""}
    published = publish_tree(tmp_path / "tree", files, unit_size=1 << unit_log2)
    with (published.root / "sparse").open("wb") as file:
        file.truncate(9 * 2**20 + 77)
        file.seek(5 * 2**20)
        file.write(b"x")
    published.sign("sparse", unit_size=1 << unit_log2)
    replies: dict[bool, list[bytes]] = {}
    for keep in (True, False):
        got = replies[keep] = []
        with running(published.root, keep=keep) as server, server.client() as client:
            for name in (*files, "sparse"):
                handle, file, tag = client.file(name.encode())
                shape = file.content.tree.shape
                last = max(shape.units - 1, 0)
                for level in range(shape.height + 1):
                    count = max(1, min(shape.width(level), 65_536))
                    got.append(client.raw(m.TREE, m.TreeArgs(handle, tag, level, 0, count)))
                for first in {0, last // 3, last // 2, last}:
                    got.append(client.raw(m.PROOF, m.ProofArgs(handle, tag, shape.height, first, 1)))
                    got.append(client.raw(m.READ, m.ReadArgs(handle, tag, first, 1, shape.height)))
                for most in (0, UNIT, 2**16, 2**20):
                    got.append(client.raw(m.FETCH, m.FetchArgs(b"", name.encode(), most)))
    assert replies[True] == replies[False]


@pytest.mark.spec("fip-server-10")
@pytest.mark.parametrize("damage", ["truncated", "other", "removed"])
def test_a_kept_tree_that_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    published = publish_tree(tmp_path / "tree", {"large": os.urandom(UNIT) * 1500}, unit_size=UNIT)
    (kept,) = (published.root / ".nfsverity" / "trees").iterdir()
    with running(published.root) as server, server.client() as client:
        handle, _, tag = client.file(b"large")
        good = client.raw(m.PROOF, m.ProofArgs(handle, tag, 11, 700, 1))
    if damage == "removed":
        kept.unlink()
    else:
        kept.write_bytes(kept.read_bytes()[:-1] if damage == "truncated" else bytes(reversed(kept.read_bytes())))
    with running(published.root) as server, server.client() as client:
        assert client.raw(m.PROOF, m.ProofArgs(handle, tag, 11, 700, 1)) == good


class TestHoles:
    """A file whose every second run of units is not stored, and is not sent."""

    UNITS = 200

    @pytest.fixture
    def sparse(self, tmp_path: Path) -> Iterator[tuple[Raw, bytes]]:
        published = publish_tree(tmp_path / "tree", {})
        path = published.root / "sparse"
        with path.open("wb") as file:
            file.truncate(self.UNITS * UNIT + 100)
            for at in range(0, self.UNITS, 8):
                file.seek(at * UNIT)
                file.write(b"x" * (3 * UNIT - 1))
        published.sign(unit_size=UNIT)
        self.stored = path.stat().st_blocks * 512
        with running(published.root) as server, server.client() as client:
            yield client, path.read_bytes()

    @pytest.mark.spec("fip-hole-1", "fip-hole-2", "fip-hole-3", "fip-hole-4", "fip-read-1", "fip-slice-1")
    @pytest.mark.parametrize(
        ("first", "count"), [(0, 201), (0, 1), (3, 5), (2, 9), (4, 2), (199, 2), (197, 4), (200, 1)]
    )
    def test_what_is_not_stored_is_not_sent(self, sparse: tuple[Raw, bytes], first: int, count: int) -> None:
        client, content = sparse
        handle, _, tag = client.file(b"sparse")
        result = client.call(m.READ, m.ReadArgs(handle, tag, first, count, None))
        asked = content[first * UNIT : (first + count) * UNIT]
        holes = {slice for hole in result.holes for slice in range(hole.first, hole.first + hole.count)}
        assert sum(hole.count for hole in result.holes) == len(holes)
        assert all(low.first + low.count < high.first for low, high in pairwise(result.holes))
        assert holes <= set(range(count))
        slices = merkle.cut(asked, UNIT)
        assert bytes(result.data) == b"".join(one for i, one in enumerate(slices) if i not in holes)
        assert all(not any(slices[i]) for i in holes)
        if self.stored < len(content) // 2:  # by a file system that stores no holes
            assert holes == {i for i in range(count) if (first + i) % 8 >= 3 or first + i == 200}

    @pytest.mark.spec("fip-hole-4", "fip-hole-1")
    def test_no_more_than_256_holes(self, tmp_path: Path) -> None:
        published = publish_tree(tmp_path / "tree", {})
        path = published.root / "sparse"
        with path.open("wb") as file:
            for at in range(0, 1024, 2):
                file.seek(at * UNIT)
                file.write(b"x" * UNIT)
            file.truncate(1024 * UNIT)
        published.sign(unit_size=UNIT)
        with running(published.root) as server, server.client() as client:
            handle, _, tag = client.file(b"sparse")
            result = client.call(m.READ, m.ReadArgs(handle, tag, 0, 1024, None))
            assert result.holes == tuple(m.Hole(2 * i + 1, 1) for i in range(256))
            assert len(result.data) == (1024 - 256) * UNIT

    @pytest.mark.spec("fip-fetch-1")
    def test_fetch_has_no_holes(self, sparse: tuple[Raw, bytes]) -> None:
        client, content = sparse
        assert bytes(client.call(m.FETCH, m.FetchArgs(b"", b"sparse", 2**20)).data) == content

    @pytest.mark.spec("fip-hole-4")
    def test_ranges_of_a_sparse_tebibyte(self, tmp_path: Path) -> None:
        published = publish_tree(tmp_path / "tree", {})
        with (published.root / "sparse").open("wb") as file:
            file.truncate(2**40 + 5)
            file.seek(777 * 2**30)
            file.write(b"here")
        published.sign()
        with running(published.root) as server, server.client() as client:
            handle, file, tag = client.file(b"sparse")
            assert file.content.tree.shape.height == 25
            nothing = client.call(m.READ, m.ReadArgs(handle, tag, 5, 64, None))
            assert (nothing.holes, len(nothing.data)) == ((m.Hole(0, 64),), 0)
            last = client.call(m.READ, m.ReadArgs(handle, tag, 2**24, 1, 25))
            assert (last.holes, len(last.data), len(last.proof)) == ((m.Hole(0, 1),), 0, 32)
            unit = 777 * 2**30 >> 16
            found = client.call(m.READ, m.ReadArgs(handle, tag, unit, 1, 25))
            assert bytes(found.data).startswith(b"here")
            digest = merkle.SHA256(b"\0" + bytes(found.data))
            for at, sibling in enumerate(_path(found.proof, unit)):
                digest = merkle.SHA256(b"\1" + (sibling + digest if unit >> at & 1 else digest + sibling))
            assert digest == file.content.tree.root


def _path(proof: bytes, unit: int) -> list[bytes]:
    """A proof of one unit in order of levels: what is left of it is there from the top down, the rest upward."""
    hashes = [proof[i : i + 32] for i in range(0, len(proof), 32)]
    lefts = [at for at in range(24) if unit >> at & 1]
    left, right = hashes[: len(lefts)][::-1], hashes[len(lefts) :]
    return [left.pop(0) if unit >> at & 1 else right.pop(0) for at in range(25)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Raw, bytes]]:
    content = os.urandom(2**20) * 21 + b"end"
    published = publish_tree(tmp_path_factory.mktemp("tree"), {"large": content}, unit_size=2**24)
    published.write({"m": content})
    published.sign("m", unit_size=2**20)
    with running(published.root) as server, server.client() as client:
        yield client, content


class TestSlices:
    """Units of 16 MiB are read in slices of 4 MiB; and no reply has more than 4 MiB of data."""

    @pytest.mark.spec("fip-slice-1", "fip-read-1", "fip-limits-1", "fip-mark-6", "fip-read-6")
    def test_each_slice(self, large: tuple[Raw, bytes]) -> None:
        client, content = large
        handle, file, tag = client.file(b"large")
        units = merkle.cut(content, 2**24)
        for j, expected in enumerate(merkle.cut(content, 2**22)):
            result = client.call(m.READ, m.ReadArgs(handle, tag, j, 1, 1))
            assert bytes(result.data) == expected
            proof = merkle.range_proof(merkle.SHA256, units, j // 4, j // 4 + 1, 1)
            assert result.proof == b"".join(proof)
        assert client.call(m.READ, m.ReadArgs(handle, tag, 6, 1, 1)) is Status.INVALID
        assert file.content.tree.root == merkle.tree_hash(merkle.SHA256, units)

    @pytest.mark.spec("fip-read-3", "fip-read-4")
    def test_no_more_than_four_mebibytes(self, large: tuple[Raw, bytes]) -> None:
        client, content = large
        handle, _, tag = client.file(b"large")
        assert client.call(m.READ, m.ReadArgs(handle, tag, 0, 2, None)) is Status.INVALID
        assert client.call(m.READ, m.ReadArgs(handle, tag, 4, 2, None)) is Status.INVALID
        handle, _, tag = client.file(b"m")
        assert bytes(client.call(m.READ, m.ReadArgs(handle, tag, 1, 4, None)).data) == content[2**20 : 5 * 2**20]
        assert client.call(m.READ, m.ReadArgs(handle, tag, 1, 5, None)) is Status.INVALID
        assert client.call(m.READ, m.ReadArgs(handle, tag, 17, 5, None)) is Status.INVALID

    @pytest.mark.spec("fip-fetch-1", "fip-limits-1")
    def test_fetch_of_units_that_do_not_fit(self, large: tuple[Raw, bytes]) -> None:
        client, content = large
        result = client.call(m.FETCH, m.FetchArgs(b"", b"large", 2**20))
        assert (result.proof, bytes(result.data)) == (b"", b"")
        result = client.call(m.FETCH, m.FetchArgs(b"", b"m", 2**20))
        assert bytes(result.data) == content[: 2**20]

    @pytest.mark.spec("fip-limits-1")
    def test_the_largest_level(self, tmp_path: Path) -> None:
        published = publish_tree(tmp_path / "tree", {})
        with (published.root / "sparse").open("wb") as file:
            file.truncate(UNIT * 70_000)
        published.sign(unit_size=UNIT, hash="sha512")
        with running(published.root) as server, server.client() as client:
            handle, _, tag = client.file(b"sparse")
            result = client.call(m.TREE, m.TreeArgs(handle, tag, 0, 4464, 65_536))
            assert bytes(result.hashes) == merkle.HASHES[8][1](b"\0" + bytes(UNIT)) * 65_536


@given(st.data())
@settings(max_examples=40)
def test_any_range_of_a_file_with_holes(any_sparse: tuple[Raw, bytes], data: st.DataObject) -> None:
    client, content = any_sparse
    handle, _, tag = client.file(b"f")
    n = -(-len(content) // UNIT)
    first = data.draw(st.integers(0, n - 1))
    count = data.draw(st.integers(1, n - first))
    result = client.call(m.READ, m.ReadArgs(handle, tag, first, count, None))
    holes = {i for hole in result.holes for i in range(hole.first, hole.first + hole.count)}
    slices = merkle.cut(content[first * UNIT : (first + count) * UNIT], UNIT)
    assert bytes(result.data) == b"".join(one for i, one in enumerate(slices) if i not in holes)
    assert all(not any(slices[i]) for i in holes)


@pytest.fixture(scope="module")
def any_sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Raw, bytes]]:
    published = publish_tree(tmp_path_factory.mktemp("tree"), {})
    path = published.root / "f"
    with path.open("wb") as file:
        for at, length in ((1, 5), (3 * UNIT - 1, 2), (9 * UNIT, UNIT), (20 * UNIT + 7, 6 * UNIT), (40 * UNIT - 3, 1)):
            file.seek(at)
            file.write(b"x" * length)
        file.truncate(44 * UNIT + 9)
    published.sign(unit_size=UNIT)
    with running(published.root) as server, server.client() as client:
        yield client, path.read_bytes()


class TestWaysToSend:
    """Data goes out by sendfile where it can, and through memory where it cannot: the bytes are the same."""

    @pytest.mark.parametrize("way", ["nobody-knows", "not-in-memory", "no-sendfile", "all-copied", "none-copied"])
    def test_the_same_bytes(self, published: Published, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        if way == "nobody-knows":
            monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
        elif way == "not-in-memory":

            def would_wait(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
                if flags:
                    raise BlockingIOError
                return preadv(fd, buffers, offset)

            preadv = os.preadv
            monkeypatch.setattr(data.os, "preadv", would_wait)
        elif way == "no-sendfile":

            def sendfile(*_: object) -> int:
                raise OSError(22, "Invalid argument")

            monkeypatch.setattr(connection.os, "sendfile", sendfile)
            monkeypatch.setattr(service, "COPIED_MAX", 0)
        else:
            monkeypatch.setattr(service, "COPIED_MAX", 2**23 if way == "all-copied" else 0)
        published.write({"large": os.urandom(UNIT) * 900 + b"odd"})
        published.sign(unit_size=UNIT)
        with running(published.root) as server, server.client() as client:
            for name in ("big", "large", "top"):
                content = (published.root / name).read_bytes()
                handle, file, tag = client.file(name.encode())
                n = file.content.tree.shape.units
                result = client.call(m.READ, m.ReadArgs(handle, tag, 0, n, file.content.tree.shape.height))
                assert (bytes(result.data), result.proof) == (content, b"")
                fetched = client.call(m.FETCH, m.FetchArgs(b"", name.encode(), 2**18))
                assert bytes(fetched.data) == content[: 2**18]


def _chained() -> tuple[SigningKey, list[bytes]]:
    """A signer under an intermediate under a root: the key, and the certificates from it upward."""
    keys = [signers.key(signers.ED25519 if at == 0 else 0x0403, f"chain {at}") for at in range(3)]
    names = [signers.common_name(name) for name in ("leaf", "intermediate", "root")]
    ders = []
    for at in range(3):
        above = min(at + 1, 2)
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[at])
            .issuer_name(names[above])
            .public_key(keys[at].public_key())
            .serial_number(at + 1)
            .not_valid_before(_day())
            .not_valid_after(_day(365))
        )
        certificate = builder.sign(keys[above], hashes.SHA256())
        ders.append(certificate.public_bytes(serialization.Encoding.DER))
    return SigningKey(keys[0], parse_certificate(ders[0]), ders[1:]), ders


def _day(days: int = 0) -> Any:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1) + datetime.timedelta(days=days)


class TestCertificates:
    @pytest.mark.spec("fip-cert-1", "fip-cert-2", "fip-cert-3", "fip-server-8")
    def test_a_certificate_and_its_issuers(self, tmp_path: Path) -> None:
        key, ders = _chained()
        other = signers.signer(name="other").der
        root = tmp_path / "tree"
        root.mkdir()
        (root / "f").write_bytes(b"f")
        one_more = SigningKey(signers.signer(name="other").key, parse_certificate(other))
        publish(root, [b""], [key, one_more], Options())
        with running(root) as server, server.client() as client:
            for at, der in enumerate(ders):
                for number, (_, digest) in merkle.HASHES.items():
                    asked = m.CertificateArgs(Fingerprint(number, digest(der)))
                    assert client.call(m.CERTIFICATE, asked) == m.CertificateOk(tuple(ders[at:]))
            asked = m.CertificateArgs(Fingerprint(1, merkle.SHA256(other)))
            assert client.call(m.CERTIFICATE, asked) == m.CertificateOk((other,))
            for unknown in (Fingerprint(1, b"x" * 32), Fingerprint(8, b"x" * 64), Fingerprint(999, b"")):
                assert client.call(m.CERTIFICATE, m.CertificateArgs(unknown)) is Status.NOT_FOUND


@pytest.mark.spec("fip-server-8")
def test_nothing_of_the_server_can_sign() -> None:
    """Its modules import none that holds keys."""
    for path in Path(listener.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(
                name.startswith(("nfsverity_publisher", "cryptography", "nfsverity_client")) for name in names
            )


@pytest.mark.spec("fim-fmt-4")
def test_a_damaged_record_is_trouble_of_the_server(published: Published, server: Running) -> None:
    """Which has the record all the same, as the bytes that it is."""
    with server.client() as client:
        _, _, tag = client.file(b"big")
    with sqlite3.connect(published.root / DIRECTORY / read_head(published.root).index) as db:
        db.execute("UPDATE entry SET record = x'00' WHERE name = x'746f70'")
    db.close()
    with running(published.root) as again, again.client() as client:
        assert client.record(b"top") == b"\0"
        assert client.call(m.READ, m.ReadArgs(client.handle(b"top"), tag, 0, 1, None)) is Status.IO
        with pytest.raises(Exception, match="cannot be decoded"):
            decode_record(client.record(b"top"))
