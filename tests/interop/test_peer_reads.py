# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The peer in C reads files from our server, and takes nothing that was not signed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from adversary import Reply, between, flipped
from nfsverity_proto import messages as m
from nfsverity_proto.record import decode_record
from nfsverity_proto.revocation import key_item, version_item
from nfsverity_proto.statement import NO_END, Item, tag_of
from nfsverity_publisher.revocation import revoke
from nfsverity_store.published import open_published
from nfsverity_store.revocation import revocation_path
from serving import HOST, Keys, Published, Served, fresh_keys, publish_tree, serving, session

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

PRESENTATIONS = ("ahead", "on-demand", "inline", "reconstruct")
VOLUME = bytes(range(16))


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def sparse(size: int, *data: tuple[int, int]) -> bytes:
    """Zeros, but for some ranges."""
    whole = bytearray(size)
    for start, end in data:
        whole[start:end] = content(end - start)
    return bytes(whole)


U12, U16, U20, U23, U24 = (2**log2 for log2 in (12, 16, 20, 23, 24))
FILES: dict[int, dict[str, bytes]] = {
    U12: {
        **{f"u12/{size}": content(size) for size in (0, 1, U12 - 1, U12, U12 + 1, 7 * U12, 9 * U12 + 5)},
        "u12/300 units": content(300 * U12 - 77),
        "u12/1,025 units": content(1025 * U12),
        "u12/sparse": sparse(700 * U12 + 100, (U12, 2 * U12), (260 * U12, 262 * U12 + 1), (699 * U12, 700 * U12)),
        "u12/zeros": bytes(600 * U12 + 9),
        "u12/below/" + "n" * 255 + "/deep": b"at a long path",
        os.fsdecode(b"u12/not UTF-8 \xff\xfe"): b"named by bytes",
    },
    U16: {f"u16/{size}": content(size) for size in (0, U16 - 1, U16, U16 + 1, 50 * U16 + 3)},
    U20: {f"u20/{size}": content(size) for size in (1, U20, U20 + 1, 3 * U20 + 5)},
    U23: {
        "u23/divided": content(U23 // 2 + 1),
        "u23/holes": sparse(2 * U23 + 9, (U23 // 2 + 7, U23), (2 * U23, 2 * U23 + 9)),
    },
    U24: {"u24/divided": content(U24 + 3)},
}
ALL = [(name, data) for files in FILES.values() for name, data in files.items()]


def write_sparse(path: Path, data: bytes) -> None:
    """With holes where there are blocks of zeros, which a server sends as holes."""
    with path.open("wb") as file:
        for at in range(0, len(data), U12):
            if any(data[at : at + U12]):
                file.seek(at)
                file.write(data[at : at + U12])
        file.truncate(len(data))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("tree")
    published = Published(root)
    for unit_size, files in FILES.items():
        published.write(dict.fromkeys(files, b""))
        for name, data in files.items():
            write_sparse(root / name, data)
        published.sign(*files, unit_size=unit_size, volume=VOLUME)
    return published


@pytest.fixture(scope="module")
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


class Peer:
    """The program, with what it is told each time."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        self.folder, self.certificate = folder, certificate

    def read(
        self,
        port: int,
        path: str,
        presentation: str,
        *,
        volume: bytes = VOLUME,
        now: int | None = None,
        program: str = "peer",
        marks: Path | None = None,
    ) -> tuple[int, bytes, str]:
        """Exit status, what was delivered, and the verdict (or what the trouble was)."""
        words: list[str | Path] = [
            self.folder / program,
            HOST,
            str(port),
            volume.hex(),
            path,
            self.certificate,
            presentation,
        ]
        if now is not None or marks is not None:
            words.append(str(int(time.time()) if now is None else now))
        done = subprocess.run([*words, *([] if marks is None else [marks])], capture_output=True, timeout=60)
        return done.returncode, done.stdout, done.stderr.decode().strip()


@pytest.fixture(scope="module")
def peer(programs: Path, published: Published, tmp_path_factory: pytest.TempPathFactory) -> Peer:
    return Peer(programs, published.keys.write(tmp_path_factory.mktemp("keys"))[1])


@pytest.mark.spec("fip-rpc-1", "fip-rpc-2", "fip-read-1", "fip-read-6", "fip-proof-1", "fip-tree-1", "fip-fetch-1")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
@pytest.mark.parametrize(("path", "expected"), ALL, ids=[ascii(name)[1:40] for name, _ in ALL])
def test_a_file_is_read(served: Served, peer: Peer, presentation: str, path: str, expected: bytes) -> None:
    status, data, message = peer.read(served.port, path, presentation)
    assert (status, message) == (0, "")
    assert data == expected


@pytest.mark.spec("fip-hole-4")
@pytest.mark.parametrize("path", ["u12/sparse", "u12/zeros", "u23/holes"])
async def test_the_server_sends_holes(served: Served, path: str) -> None:
    """So the peer has to fill them in."""
    with (served.root / path).open("rb") as file:
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) != 0:
            pytest.skip("this file system has no holes")
    async with session(served) as caller:
        fetched = await caller.call(m.FETCH, m.FetchArgs(b"", path.encode(), 0))
        statement = decode_record(fetched.record).statement
        read = await caller.call(m.READ, m.ReadArgs(fetched.object, tag_of(statement, 1), 0, 1, None))
    assert read.holes == (m.Hole(0, 1),)


@pytest.mark.parametrize("presentation", ["ahead", "reconstruct"])
@pytest.mark.parametrize("path", ["u12/36869", "u12/300 units", "u12/1,025 units", "u12/sparse", "u16/3276803"])
def test_a_peer_that_holds_eight_nodes_reads_large_files(
    served: Served, peer: Peer, presentation: str, path: str
) -> None:
    """Ahead it takes a higher level, and proves below it; and it refuses to reconstruct."""
    status, data, message = peer.read(served.port, path, presentation, program="peer-small")
    if presentation == "ahead":
        assert (status, message) == (0, "")
        assert data == dict(ALL)[path]
    else:
        assert (status, data, message) == (4, b"", "too large to reconstruct")


@pytest.mark.spec("fip-server-10")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
def test_a_server_that_keeps_no_trees_looks_the_same(published: Published, peer: Peer, presentation: str) -> None:
    with serving(published.root, keep=False) as served:
        for path in ("u12/sparse", "u12/300 units", "u23/holes"):
            assert peer.read(served.port, path, presentation) == (0, dict(ALL)[path], "")


@pytest.mark.spec("fip-rpc-3", "fip-limits-2", "fip-cert-1", "fip-dir-1", "fip-dir-3", "fip-dir-4")
@pytest.mark.parametrize("count", [1, 3, 1024])
def test_the_stubs_of_rpcgen_list_the_tree(programs: Path, published: Published, served: Served, count: int) -> None:
    fingerprint = hashlib.sha256(published.keys.der).hexdigest()
    words = [programs / "list", HOST, str(served.port), str(count), fingerprint]
    done = subprocess.run(words, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.splitlines()
    limits = {name.decode(): int(value) for name, value in (line.split() for line in lines[:5])}
    assert limits["capabilities"] == 3
    assert 2**20 <= limits["max_data"] <= 2**22
    assert 4096 <= limits["max_hashes"] <= 2**16
    assert limits["max_calls"] >= 32
    assert limits["max_wait"] <= 60_000
    assert lines[5] == b"certificate %d" % len(published.keys.der)
    assert lines[6:] == sorted_as_walked((os.fsencode(name), len(data)) for name, data in ALL)


def sorted_as_walked(files: Iterable[tuple[bytes, int]]) -> list[bytes]:
    """A directory's names ascend, and what is in a directory comes where its name does."""
    ordered = sorted(files, key=lambda file: file[0].split(b"/"))
    return [b"file /%b %d" % file for file in ordered]


@pytest.mark.parametrize("presentation", PRESENTATIONS)
def test_what_is_not_served_is_no_verdict(served: Served, peer: Peer, presentation: str) -> None:
    status, data, message = peer.read(served.port, "u12/none", presentation)
    assert (status, data) == (3, b"")
    assert "server" in message


@pytest.mark.spec("fim-ver-4", "fim-ver-9", "fip-client-13")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
def test_another_volume_is_wrong(served: Served, peer: Peer, presentation: str) -> None:
    read = peer.read(served.port, "u12/1", presentation, volume=bytes(16))
    assert read == (1, b"", "wrong-volume")


@pytest.mark.spec("fim-ver-4")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
@pytest.mark.parametrize(("now", "verdict"), [(0, "not-yet-valid"), (2**40, "expired")])
def test_the_certificate_is_judged_now(served: Served, peer: Peer, presentation: str, now: int, verdict: str) -> None:
    assert peer.read(served.port, "u12/1", presentation, now=now) == (1, b"", verdict)


@pytest.mark.spec("fim-sig-1", "fim-sig-2", "fim-hash-2")
@pytest.mark.parametrize(
    ("algorithm", "hash"),
    [
        ("ed25519", "sha384"),
        ("ed25519", "sha512"),
        ("ed25519", "sha3-256"),
        ("ecdsa-p256", "sha256"),
        ("ecdsa-p384", "sha256"),
        ("rsa-pss", "sha256"),
    ],
)
def test_algorithms(tmp_path: Path, programs: Path, algorithm: str, hash: str) -> None:
    keys = fresh_keys(algorithm)
    data = content(20 * U12 + 1)
    tree = publish_tree(tmp_path / "tree", {"a": data}, signer=keys, unit_size=U12, hash=hash, volume=VOLUME)
    peer = Peer(programs, keys.write(tmp_path)[1])
    with serving(tree.root) as served:
        for presentation in PRESENTATIONS:
            assert peer.read(served.port, "a", presentation) == (0, data, "")


@pytest.mark.spec("fim-rec-3", "fim-ver-5", "fim-ver-6")
def test_a_scheme_that_the_peer_does_not_know_is_skipped(tmp_path: Path, programs: Path) -> None:
    """As an old reader does with a record that is signed both ways."""
    new, old = fresh_keys("ml-dsa-65"), fresh_keys("ecdsa-p256")
    tree = publish_tree(tmp_path / "tree", {"a": b"both", "b": b"new"}, signer=new, volume=VOLUME)
    tree.sign("a", keys=(new, old))
    peer = Peer(programs, old.write(tmp_path)[1])
    with serving(tree.root) as served:
        assert peer.read(served.port, "a", "inline") == (0, b"both", "")
        assert peer.read(served.port, "b", "inline") == (1, b"", "unsupported")


def test_a_signer_that_is_not_pinned_is_untrusted(served: Served, programs: Path, tmp_path: Path) -> None:
    other = Peer(programs, fresh_keys(name="other").write(tmp_path)[1])
    assert other.read(served.port, "u12/1", "inline") == (1, b"", "untrusted")


# What the publisher revoked


class Revoking:
    """A tree of ours with two signers, both of whom the peer believes."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.first, self.second = fresh_keys(name="first"), fresh_keys(name="second")
        self.tree = publish_tree(folder / "tree", {"a": b"a", "b": b"b"}, signer=self.first, volume=VOLUME)
        self.tree.sign("b", keys=(self.first, self.second))
        (folder / "both.crt").write_bytes(self.first.certificate + self.second.certificate)
        self.peer = Peer(programs, folder / "both.crt")

    def revoke(self, by: Keys, *items: Item, not_after: int = NO_END) -> None:
        revoke(self.tree.root, items, [by.signing], not_after=not_after)

    def reads(self, now: int | None = None) -> dict[str, tuple[int, bytes, str]]:
        with serving(self.tree.root) as served:
            found = {}
            for name in ("a", "b"):
                (found[name],) = {self.peer.read(served.port, name, how, now=now) for how in PRESENTATIONS}
            return found


@pytest.fixture
def revoking(tmp_path: Path, programs: Path) -> Revoking:
    return Revoking(tmp_path, programs)


def key_of(keys: Keys) -> Item:
    return key_item(keys.signing.certificate.key_id(), 1)


@pytest.mark.spec("fip-revoke-1", "fim-rev-7")
def test_what_a_revoked_key_signed_is_revoked(revoking: Revoking) -> None:
    revoking.revoke(revoking.second)
    assert revoking.reads() == {"a": (0, b"a", ""), "b": (0, b"b", "")}
    revoking.revoke(revoking.second, key_of(revoking.first))
    assert revoking.reads() == {"a": (1, b"", "revoked"), "b": (0, b"b", "")}
    revoking.tree.sign(keys=(revoking.second,))
    assert revoking.reads() == {"a": (0, b"a", ""), "b": (0, b"b", "")}


def test_a_key_revokes_itself(revoking: Revoking) -> None:
    revoking.revoke(revoking.first, key_of(revoking.first))
    assert revoking.reads()["a"] == (1, b"", "revoked")


def test_a_version_is_revoked(revoking: Revoking) -> None:
    with contextlib.closing(open_published(revoking.tree.root)[1]) as index:
        entry = index.by_path(b"b")
    assert entry is not None
    assert entry.record is not None
    revoking.revoke(revoking.first, version_item(tag_of(decode_record(entry.record).statement, 1)))
    assert revoking.reads() == {"a": (0, b"a", ""), "b": (1, b"", "revoked")}


@pytest.mark.spec("fim-rev-12")
def test_a_revocation_that_has_expired_lets_nothing_pass(revoking: Revoking) -> None:
    now = int(time.time())
    revoking.revoke(revoking.first, not_after=now + 1000)
    assert revoking.reads(now + 900)["a"] == (0, b"a", "")
    expired = (1, b"", "revocation: record-expired\nrecord-expired")
    assert revoking.reads(now + 1100) == {"a": expired, "b": expired}
    revoking.revoke(revoking.second, not_after=now + 2000)
    assert revoking.reads(now + 1100)["a"] == (0, b"a", "")


def test_a_revocation_that_does_not_verify_is_named_and_changes_nothing(revoking: Revoking) -> None:
    """It could as well have been withheld."""
    revoking.revoke(fresh_keys(name="stranger"), key_of(revoking.first))
    named = (0, b"a", "revocation: untrusted")
    assert revoking.reads()["a"] == named
    revoking.revoke(revoking.second, key_of(revoking.first))
    path = revocation_path(revoking.tree.root)
    published = path.read_bytes()
    path.write_bytes(published[:-1] + bytes([published[-1] ^ 1]))
    assert revoking.reads()["a"] == (0, b"a", "revocation: bad-signature")
    path.write_bytes(b"damaged")
    assert revoking.reads()["a"] == (3, b"", "the server does not tell what is revoked")


# What the storage did


@pytest.fixture
def own(tmp_path: Path) -> Published:
    """A tree that a test may alter, of the signer that the peer believes."""
    return publish_tree(
        tmp_path / "own",
        {"large": content(300 * U12), "small": content(9000), "other": content(300 * U12 - 1)},
        unit_size=U12,
        volume=VOLUME,
    )


def alter(path: Path, at: int, data: bytes) -> None:
    """Write into a file, and leave no trace but the content."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.spec("fim-proof-7", "fip-client-15", "fip-client-20")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
@pytest.mark.parametrize("unit", [0, 1, 255, 256, 299])
def test_a_byte_that_was_changed_is_found(own: Published, peer: Peer, presentation: str, unit: int) -> None:
    before = (own.root / "large").read_bytes()
    at = unit * U12 + 17
    alter(own.root / "large", at, bytes([before[at] ^ 1]))
    with serving(own.root) as served:
        status, data, verdict = peer.read(served.port, "large", presentation)
    assert (status, verdict) == (1, "mismatch")
    assert before.startswith(data)
    assert len(data) <= unit * U12
    if presentation == "reconstruct":
        assert data == b""  # fip-client-19


@pytest.mark.spec("fim-proof-9", "fip-client-20", "fip-client-24")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize(("window", "verdict"), [(0.0, "stale"), (3600.0, "updating")])
def test_another_size_is_what_the_server_says(
    own: Published, peer: Peer, presentation: str, change: int, window: float, verdict: str
) -> None:
    """It knows that this is not the version; whether it expects another depends on how long ago that came about."""
    os.truncate(own.root / "small", 9000 + change)
    with serving(own.root) as served:
        served.service.trees.update_window = window
        assert peer.read(served.port, "small", presentation) == (1, b"", verdict)


@pytest.mark.spec("fim-ver-4")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
def test_a_file_in_the_place_of_another_has_the_wrong_path(own: Published, peer: Peer, presentation: str) -> None:
    """Both are signed, and of one signer; the server's index has their names swapped."""
    swap_names(own.root, "large", "other")
    with serving(own.root) as served:
        assert peer.read(served.port, "other", presentation) == (1, b"", "wrong-path")


def swap_names(root: Path, one: str, two: str) -> None:
    """In the index and in the tree: each name leads to the record and the content of the other."""
    (index,) = (root / ".nfsverity").glob("index*")
    with contextlib.closing(sqlite3.connect(index)) as database, database:
        for old, new in ((one, "x"), (two, one), ("x", two)):
            (root / old).rename(root / new)
            database.execute("UPDATE entry SET name = ? WHERE name = ?", (new.encode(), old.encode()))


@pytest.mark.spec("fip-client-20")
@pytest.mark.parametrize("presentation", PRESENTATIONS)
@pytest.mark.parametrize("times", [1, 2])
async def test_what_failed_is_asked_for_again_once(own: Published, peer: Peer, presentation: str, times: int) -> None:
    """An update that ended between the trouble and V1 looks just so: once for the first units, once when pinned."""
    large = (own.root / "large").read_bytes()
    spoilt: Counter[int] = Counter()

    async def spoil(reply: Reply) -> None:
        call = reply.call
        where = getattr(call.arguments, "first", 0)
        if call.procedure in (m.FETCH, m.READ) and spoilt[where] < times:
            spoilt[where] += 1
            await reply.send(flipped(reply.message, len(reply.message) - 1, 1))
        else:
            await reply.send()

    with serving(own.root) as served:
        async with between(served.port) as adversary:
            adversary.on_reply = spoil
            read = await asyncio.to_thread(peer.read, adversary.port, "large", presentation)
    assert read == ((0, large, "") if times == 1 else (1, b"", "mismatch"))
    assert times == 2 or set(spoilt) == {0, 256}


@pytest.mark.spec("fip-client-22", "fim-upd-3")
def test_a_new_publication_is_served_and_verifies(own: Published, peer: Peer) -> None:
    with serving(own.root) as served:
        assert peer.read(served.port, "small", "inline")[0] == 0
        own.replace("small", b"the next version")
        own.sign("small")
        for presentation in PRESENTATIONS:
            assert peer.read(served.port, "small", presentation) == (0, b"the next version", "")


@pytest.mark.spec("fip-plain-1", "fip-plain-3", "fip-plain-4")
@pytest.mark.parametrize("name", ["small", "large", "other", "unsigned", "empty"])
def test_what_is_read_without_verification(own: Published, peer: Peer, name: str) -> None:
    """Also what was changed since it was signed, and what never was."""
    own.replace("small", b"not what was signed")
    (own.root / "unsigned").write_bytes(content(3 * 2**20 + 5))
    (own.root / "empty").write_bytes(b"")
    with serving(own.root, show_all=True) as served:
        assert peer.read(served.port, name, "plain") == (0, (own.root / name).read_bytes(), "")


def test_a_server_that_is_not_there_is_no_verdict(peer: Peer) -> None:
    status, data, message = peer.read(1, "u12/1", "inline")
    assert (status, data) == (3, b"")
    assert message.startswith("unreachable")
