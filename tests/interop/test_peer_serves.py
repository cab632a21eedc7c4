# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The peer in C serves files to our client, and answers every call as our server does."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import nfsverity
from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.errors import Mismatch, Stale, StatusError, Unreachable, VerificationError
from nfsverity_proto.record import Fingerprint
from nfsverity_proto.statement import Tag
from nfsverity_proto.url import Url
from nfsverity_store.published import open_published
from nfsverity_store.revocation import revocation_path
from oracle import merkle, records, signers
from serving import HOST, Published, keys, publish_tree, serving, session

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

PRESENTATIONS = ("ahead", "on-demand", "inline", "reconstruct")
VOLUME = bytes(range(16))
PATH = "a/directory/" + "n" * 255 + "/file"


def record_of(published: Published, path: str) -> bytes:
    _, index = open_published(published.root)
    try:
        entry = index.by_path(path.encode())
    finally:
        index.close()
    assert entry is not None
    assert entry.record is not None
    return entry.record


@dataclass(frozen=True)
class Exported:
    """A signed file as the peer takes it: three files."""

    record: Path
    data: Path
    certificate: Path

    @contextlib.contextmanager
    def served(self, programs: Path, *more: Path) -> Iterator[int]:
        """The port of a server, until the block ends. `more`: the file of a revocation."""
        command = [programs / "serve", self.record, self.data, self.certificate, *more]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            port = process.stdout.readline()
            assert port, process.wait()
            try:
                yield int(port)
                assert process.poll() is None
            finally:
                process.stdin.close()
        assert process.returncode == 0


def export(folder: Path, data: bytes, unit_size: int, path: str = PATH, **options: Any) -> Exported:
    """Sign a file in a tree of ours, and take it out."""
    published = publish_tree(folder / "tree", {path: data}, unit_size=unit_size, volume=VOLUME, **options)
    (folder / "record").write_bytes(record_of(published, path))
    return Exported(folder / "record", published.root / path, published.keys.write(folder)[1])


def open_tree(port: int, **options: Any) -> nfsverity.Tree:
    return nfsverity.open_tree(f"nfsv://{HOST}:{port}/", trust=[keys().pin], volume=VOLUME, timeout=20.0, **options)


U12, U16, U20, U23, U24 = (2**log2 for log2 in (12, 16, 20, 23, 24))
SIZES = [
    *((U12, size) for size in (0, 1, U12 - 1, U12, U12 + 1, 7 * U12 + 5, 300 * U12 - 1, 1025 * U12)),
    *((U16, size) for size in (0, U16 - 1, U16 + 1, 50 * U16 + 3)),
    *((U20, size) for size in (U20, 5 * U20 + 5)),
    (U23, U23 // 2 + 1),
    (U24, U24 + 3),
]


@pytest.mark.spec("fip-rpc-2", "fip-rpc-16", "fip-client-6", "fip-client-15", "fip-slice-2")
@pytest.mark.parametrize(("unit_size", "size"), SIZES)
def test_a_file_is_read(tmp_path: Path, programs: Path, unit_size: int, size: int) -> None:
    data = random.Random(size).randbytes(size)
    with export(tmp_path, data, unit_size).served(programs) as port, open_tree(port) as tree:
        assert list(tree.walk()) == [PATH.encode()]
        for presentation in PRESENTATIONS:
            with tree.open(PATH, presentation=presentation) as file:
                assert file.read() == data
                for start, length in ((size // 2, 10), (max(size - 5, 0), 10), (size // 3, size // 3)):
                    file.seek(start)
                    assert file.read(length) == data[start : start + length]


@pytest.mark.spec("fip-hole-1", "fip-hole-2", "fip-hole-5", "fim-hole-1")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
def test_holes_are_read_as_zeros(tmp_path: Path, programs: Path, presentation: str) -> None:
    data = bytearray(700 * U12 + 100)
    for start in (0, U12, 300 * U12, 302 * U12 - 1, 699 * U12):
        data[start : start + 10] = b"0123456789"
    exported = export(tmp_path, bytes(data), U12)
    with exported.served(programs) as port, open_tree(port) as tree:
        assert tree.open(PATH, presentation=presentation).read() == data


@pytest.mark.parametrize("hash", ["sha384", "sha512", "sha3-256"])
def test_hashes(tmp_path: Path, programs: Path, hash: str) -> None:
    data = random.Random(hash).randbytes(20 * U12 + 7)
    with export(tmp_path, data, U12, hash=hash).served(programs) as port, open_tree(port) as tree:
        for presentation in PRESENTATIONS:
            with tree.open(PATH, presentation=presentation) as file:
                assert file.read() == data


@pytest.mark.spec("fim-proof-7", "fip-client-10", "fip-client-20")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
@pytest.mark.parametrize("unit", [0, 255, 256, 300])
def test_a_changed_byte_is_a_mismatch(tmp_path: Path, programs: Path, presentation: str, unit: int) -> None:
    exported = export(tmp_path, random.Random(unit).randbytes(301 * U12 - 9), U12)
    with exported.data.open("r+b") as file:
        file.seek(unit * U12 + 33)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x80]))
    with exported.served(programs) as port, open_tree(port) as tree, pytest.raises(Mismatch):
        tree.open(PATH, presentation=presentation).read()


@pytest.mark.spec("fip-status-6", "fip-client-20")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
@pytest.mark.parametrize("size", [0, 8999, 9001])
def test_content_of_another_size_is_stale(tmp_path: Path, programs: Path, presentation: str, size: int) -> None:
    """The server knows that it has not got the version, and expects no other."""
    exported = export(tmp_path, random.Random(1).randbytes(9000), U12)
    os.truncate(exported.data, size)
    with exported.served(programs) as port, open_tree(port) as tree, pytest.raises(Stale):
        tree.open(PATH, presentation=presentation).read()


@pytest.mark.spec("fim-ver-4", "fip-client-9")
@pytest.mark.parametrize(
    ("at", "verdict"),
    [(20, "wrong-volume"), (41, "bad-signature"), (-1, "bad-signature")],
    ids=["volume", "label", "signature"],
)
def test_a_changed_record_ends_in_its_verdict(tmp_path: Path, programs: Path, at: int, verdict: str) -> None:
    exported = export(tmp_path, b"data", U12)
    record = bytearray(exported.record.read_bytes())
    record[at] ^= 1
    exported.record.write_bytes(record)
    with exported.served(programs) as port, open_tree(port) as tree, pytest.raises(VerificationError) as raised:
        tree.read(PATH)
    assert raised.value.verdict == verdict


# Both servers


@dataclass(frozen=True)
class Both:
    """The same file at our server and at the peer."""

    ours: int
    theirs: int
    record: bytes
    data: bytes
    certificate: bytes

    @property
    def tag(self) -> Tag:
        length = int.from_bytes(self.record[:4], "big")
        return Tag(1, hashlib.sha256(self.record[4 : 4 + length]).digest())


@pytest.fixture(scope="module")
def both(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    data = random.Random(7).randbytes(11 * U12 + 5)
    exported = export(folder, data, U12)
    os.utime(exported.data, (10**9, 10**9 + 0.5))
    published = Published(folder / "tree")
    published.sign(volume=VOLUME)
    exported.record.write_bytes(record_of(published, PATH))
    with serving(published.root) as ours, exported.served(programs) as theirs:
        yield Both(ours.port, theirs, exported.record.read_bytes(), data, published.keys.der)


async def answer(caller: Session, procedure: m.Procedure[Any, Any], arguments: Any) -> Any:
    """The result, or the status. What is a view in it stays as it is until the next call."""
    try:
        return await caller.call(procedure, arguments)
    except StatusError as error:
        return error.status


async def from_both(both: Both, call: Any) -> list[Any]:
    """What `call`, given a session and the handle of the file, gets from each server."""
    answers = []
    for port in (both.ours, both.theirs):
        async with session(Url(HOST, port)) as caller:
            found = await caller.call(m.RESOLVE, m.ResolveArgs(b"", PATH.encode()))
            answers.append(await call(caller, found.object))
    return answers


BAD = b"no handle of theirs or ours"
OTHER = Tag(1, bytes(32))
RESOLVED = [
    b"", b"a", b"a/directory", b"none", b"a/none", PATH.encode(), PATH.encode() + b"/more", b"a//b", b"/a", b"a/",
    b".", b"a/..", b"a\0", b"x" * 256, b"a/" * 255 + b"a", b"a/" * 256 + b"a",
]  # fmt: skip


@pytest.mark.spec("fip-resolve-1", "fip-resolve-2", "fip-resolve-3", "fip-resolve-4", "fip-resolve-5", "fip-status-2")
@pytest.mark.parametrize("path", RESOLVED, ids=[ascii(path)[:40] for path in RESOLVED])
@pytest.mark.parametrize("base", ["root", "file", "bad"])
async def test_both_resolve_alike(both: Both, path: bytes, base: str) -> None:
    async def call(caller: Session, file: bytes) -> Any:
        handle = {"root": b"", "file": file, "bad": BAD}[base]
        found = await answer(caller, m.RESOLVE, m.ResolveArgs(handle, path))
        fetched = await answer(caller, m.FETCH, m.FetchArgs(handle, path, 0))
        if isinstance(found, m.Status):
            assert fetched == found  # fip-fetch-5
            return found
        is_file = found.attributes.type is m.FileType.FILE
        assert (fetched == m.Status.IS_DIRECTORY) == (not is_file)
        # times of directories are the storage's affair
        return found.attributes if is_file else (found.attributes.type, found.attributes.size)

    ours, theirs = await from_both(both, call)
    assert ours == theirs


def _ranges(n: int, height: int) -> list[tuple[int, int, int]]:
    """Level, first, count: good and bad."""
    firsts = (0, 1, 4, n - 1, n, 2**63, 2**64 - 1)
    counts = (0, 1, 2, 3, n, n + 1, 65536, 65537, 2**32 - 1)
    levels = (0, 1, 2, height, height + 1, 63, 64, 2**32 - 1)
    return [(level, first, count) for level in levels for first in firsts for count in counts]


@pytest.mark.spec("fip-tree-1", "fip-tree-2", "fip-tree-3", "fip-tree-4", "fip-server-10")
async def test_both_answer_tree_alike(both: Both) -> None:
    async def call(caller: Session, file: bytes) -> Any:
        found = {}
        for level, first, count in _ranges(12, 4):
            answered = await answer(caller, m.TREE, m.TreeArgs(file, both.tag, level, first, count))
            found[level, first, count] = answered if isinstance(answered, m.Status) else bytes(answered.hashes)
        return found

    ours, theirs = await from_both(both, call)
    assert ours == theirs
    units = merkle.cut(both.data, U12)
    expected = b"".join(merkle.node(merkle.SHA256, units, 1, index) for index in (4, 5))
    assert ours[1, 4, 2] == expected
    assert sum(isinstance(one, bytes) for one in ours.values()) > 20


@pytest.mark.spec("fip-proof-1", "fip-proof-2", "fip-proof-3", "fip-proof-4", "fip-read-2", "fip-read-6", "fip-read-7")
async def test_both_answer_proof_and_read_alike(both: Both) -> None:
    async def call(caller: Session, file: bytes) -> Any:
        found = {}
        for level, first, count in _ranges(12, 4):
            proof = await answer(caller, m.PROOF, m.ProofArgs(file, both.tag, level, first, count))
            read = await answer(caller, m.READ, m.ReadArgs(file, both.tag, first, count, level))
            if isinstance(proof, m.ProofOk):
                assert read.data == both.data[first * U12 : (first + count) * U12]
                assert (read.proof, read.holes) == (proof.proof, ())
                bare = await answer(caller, m.READ, m.ReadArgs(file, both.tag, first, count, None))
                assert bare.data == both.data[first * U12 : (first + count) * U12]
                assert (bare.proof, bare.holes) == (b"", ())
                found[level, first, count] = proof.proof
            else:
                found[level, first, count] = (proof, read)
        return found

    ours, theirs = await from_both(both, call)
    assert ours == theirs
    units = merkle.cut(both.data, U12)
    assert ours[4, 1, 2] == b"".join(merkle.range_proof(merkle.SHA256, units, 1, 3, 4))
    assert sum(isinstance(one, bytes) for one in ours.values()) > 20


@pytest.mark.spec("fip-status-2", "fip-status-5", "fip-status-6", "fip-handle-5")
@pytest.mark.parametrize("handle", ["root", "file", "bad"])
@pytest.mark.parametrize("tag", ["own", "other", "short", "unknown"])
@pytest.mark.parametrize("count", [0, 1, 100])
async def test_both_take_the_same_status_first(both: Both, handle: str, tag: str, count: int) -> None:
    named = {"own": both.tag, "other": OTHER, "unknown": Tag(99, b"x"), "short": OTHER}[tag]
    if tag == "short":  # our declarations do not let it through
        object.__setattr__(named := Tag(1, bytes(32)), "digest", bytes(31))

    async def call(caller: Session, file: bytes) -> Any:
        of = {"root": b"", "file": file, "bad": BAD}[handle]
        calls: list[tuple[m.Procedure[Any, Any], Any]] = [
            (m.TREE, m.TreeArgs(of, named, 0, 0, count)),
            (m.PROOF, m.ProofArgs(of, named, 4, 0, count)),
            (m.READ, m.ReadArgs(of, named, 0, count, None)),
        ]
        answers = []
        for procedure, arguments in calls:
            try:
                answered = await answer(caller, procedure, arguments)
            except nfsverity.PeerError:
                answered = "garbage"
            answers.append(answered if isinstance(answered, m.Status | str) else "ok")
        return answers

    ours, theirs = await from_both(both, call)
    if tag == "short":  # fip-status-5 leaves the choice
        assert ours == ["garbage"] * 3
        assert theirs == [m.Status.INVALID] * 3
    else:
        assert ours == theirs


@pytest.mark.spec("fip-record-1", "fip-record-2", "fip-record-3", "fip-poll-2", "fip-poll-3")
@pytest.mark.parametrize("handle", ["root", "file", "bad"])
async def test_both_answer_record_alike(both: Both, handle: str) -> None:
    held = hashlib.sha256(both.record).digest()

    async def call(caller: Session, file: bytes) -> Any:
        of = {"root": b"", "file": file, "bad": BAD}[handle]
        return [
            await answer(caller, m.RECORD, m.RecordArgs(of, known, wait))
            for known in (b"", bytes(32), held, held[:31])
            for wait in (0, 1, 60_001)
        ]

    ours, theirs = await from_both(both, call)
    assert ours == theirs
    if handle == "file":
        assert ours[0] == m.RecordOk(both.record)
        assert ours[6] == m.Status.UNCHANGED


@pytest.mark.spec("fip-fetch-1", "fip-fetch-2", "fip-fetch-3")
@pytest.mark.parametrize("most", [0, 1, U12 - 1, U12, 3 * U12 + 1, 11 * U12 + 4, 11 * U12 + 5, 2**20, 2**20 + 1])
async def test_both_answer_fetch_alike(both: Both, most: int) -> None:
    async def call(caller: Session, file: bytes) -> Any:
        ok = await answer(caller, m.FETCH, m.FetchArgs(b"", PATH.encode(), most))
        return ok if isinstance(ok, m.Status) else (ok.record, ok.proof, bytes(ok.data), ok.object == file)

    ours, theirs = await from_both(both, call)
    assert ours == theirs
    assert (ours == m.Status.INVALID) == (most > 2**20)


@pytest.mark.spec("fip-plain-1", "fip-plain-2", "fip-plain-4")
@pytest.mark.parametrize("handle", ["root", "file", "bad"])
async def test_both_answer_plain_alike(both: Both, handle: str) -> None:
    size = len(both.data)

    async def call(caller: Session, file: bytes) -> Any:
        of = {"root": b"", "file": file, "bad": BAD}[handle]
        found = {}
        for offset in (0, 1, U12, size - 1, size, size + 1, 2**63, 2**64 - 1):
            for count in (0, 1, U12, size - 1, size, size + 1, 2**22, 2**22 + 1, 2**32 - 1):
                ok = await answer(caller, m.PLAIN, m.PlainArgs(of, offset, count))
                found[offset, count] = ok if isinstance(ok, m.Status) else (ok.size, ok.eof, bytes(ok.data))
        return found

    ours, theirs = await from_both(both, call)
    assert ours == theirs
    if handle == "file":
        assert ours[0, size] == (size, True, both.data)
        assert ours[U12, U12] == (size, False, both.data[U12 : 2 * U12])


@pytest.mark.spec("fip-revoke-1", "fip-revoke-2", "fip-revoke-3", "fip-revoke-4")
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("handle", ["root", "file", "bad"])
async def test_both_answer_revocation_alike(
    both: Both, programs: Path, tmp_path: Path, handle: str, there: bool
) -> None:
    exported = export(tmp_path, both.data, U12)
    current = signers.signed(records.Statement(kind=4, volume=VOLUME, items=((1, 1, bytes(32)),)))
    (tmp_path / "revocation").write_bytes(current)

    async def call(caller: Session, file: bytes) -> Any:
        of = {"root": b"", "file": file, "bad": BAD}[handle]
        known = (b"", bytes(32), hashlib.sha256(current).digest(), bytes(31))
        return [await answer(caller, m.REVOCATION, m.RevocationArgs(of, one)) for one in known]

    if there:
        revocation_path(tmp_path / "tree").write_bytes(current)
    more = [tmp_path / "revocation"] if there else []
    with serving(tmp_path / "tree") as served, exported.served(programs, *more) as port:
        ours, theirs = await from_both(replace(both, ours=served.port, theirs=port), call)
    assert ours == theirs
    if handle != "bad":
        ok = m.RevocationOk(current) if there else m.Status.UNSIGNED
        unchanged = m.Status.UNCHANGED if there else m.Status.UNSIGNED
        assert ours == [ok, ok, unchanged, m.Status.INVALID]


@pytest.mark.spec("fip-dir-1", "fip-dir-2", "fip-dir-4", "fip-dir-5")
@pytest.mark.parametrize("after", [b"", b"director", b"directory", b"directory\0", b"e", b"\xff" * 255])
@pytest.mark.parametrize("count", [0, 1, 1024, 1025])
async def test_both_list_alike(both: Both, after: bytes, count: int) -> None:
    async def call(caller: Session, file: bytes) -> Any:
        directory = (await caller.call(m.RESOLVE, m.ResolveArgs(b"", b"a"))).object
        answers = []
        for handle in (directory, file, BAD):
            ok = await answer(caller, m.READDIR, m.ReaddirArgs(handle, after, count))
            if isinstance(ok, m.ReaddirOk):
                entries = [(entry.name, entry.attributes.type, entry.attributes.has_record) for entry in ok.entries]
                answers.append((entries, ok.eof))
            else:
                answers.append(ok)
        return answers

    ours, theirs = await from_both(both, call)
    assert ours == theirs


@pytest.mark.spec("fip-cert-1", "fip-cert-3")
async def test_both_have_the_certificate(both: Both) -> None:
    names = [Fingerprint(1, hashlib.sha256(both.certificate).digest()), Fingerprint(8, bytes(64)), Fingerprint(99, b"")]
    names.append(Fingerprint(10, hashlib.sha3_256(both.certificate).digest()))

    async def call(caller: Session, file: bytes) -> Any:
        return [await answer(caller, m.CERTIFICATE, m.CertificateArgs(name)) for name in names]

    ours, theirs = await from_both(both, call)
    assert ours == theirs
    assert ours[0] == ours[3] == m.CertificateOk((both.certificate,))
    assert ours[1] == ours[2] == m.Status.NOT_FOUND


@pytest.mark.spec("fip-limits-2", "fip-limits-4", "fip-limits-6")
async def test_limits_are_within_their_bounds(both: Both) -> None:
    async def call(caller: Session, file: bytes) -> Any:
        return await answer(caller, m.LIMITS, None)

    for limits in await from_both(both, call):
        assert limits.capabilities == m.CAP_CORE | m.CAP_DATA
        assert 2**20 <= limits.max_data <= 2**22
        assert 4096 <= limits.max_hashes <= 65536
        assert limits.max_calls >= 32
        assert limits.max_wait <= 60_000
        assert list(limits.hashes) == sorted(set(limits.hashes))
        assert {1} <= set(limits.hashes)
        assert 1 in limits.tree_types


async def test_a_server_that_ended_is_unreachable(tmp_path: Path, programs: Path) -> None:
    with export(tmp_path, b"data", U12).served(programs) as port:
        pass
    async with session(Url(HOST, port)) as caller:
        with pytest.raises(Unreachable):
            await caller.call(m.LIMITS, None)
