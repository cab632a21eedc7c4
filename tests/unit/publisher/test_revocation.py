# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Revoking: what a new revocation says, who may sign it, and that it is there whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from nfsverity_proto.errors import IsRevoked, RecordExpired
from nfsverity_proto.record import decode_record
from nfsverity_proto.revocation import NOTHING_REVOKED, Revoked, key_item, version_item
from nfsverity_proto.statement import NO_END, Item, Kind, Revocation, Tag, decode_statement, tag_of
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, verify_record, verify_revocation
from nfsverity_proto.verifier import Expected, Verifier
from nfsverity_publisher.keys import load_signing_key
from nfsverity_publisher.lock import PublicationError
from nfsverity_publisher.revocation import RevocationReport, Stranger, revoke
from nfsverity_store.layout import DIRECTORY, NotPublished, StoreError, read_head
from nfsverity_store.published import open_published
from nfsverity_store.revocation import PublishedRevocation, certificates_path, revocation_path
from serving import Keys, Published, fresh_keys, keys, publish_tree

VOLUME = bytes(range(16))
OTHER = Item(1, 1, b"o" * 32)


@pytest.fixture
def tree(tmp_path: Path) -> Published:
    return publish_tree(tmp_path / "tree", {"a": b"a", "d/b": b"b"}, volume=VOLUME)


@pytest.fixture(scope="module")
def second() -> Keys:
    return fresh_keys(name="second")


def run(tree: Published, *items: Item, by: Keys | None = None, **options: object) -> RevocationReport:
    return revoke(tree.root, items, [(by or tree.keys).signing], **options)  # type: ignore[arg-type]


def published(tree: Published) -> Revocation:
    claim = PublishedRevocation(tree.root).claim(VOLUME)
    assert claim is not None
    return claim


def verified(tree: Published, by: Keys, revoked: Revoked = NOTHING_REVOKED, now: int | None = None) -> Verified:
    expected = Expected(b"", frozenset({VOLUME}), "nfsv://host:1/")
    now = int(time.time()) if now is None else now
    return verify_revocation(
        revocation_path(tree.root).read_bytes(), expected, Verifier([by.pin], {}, now, revoked=revoked)
    )


def record(tree: Published, path: bytes) -> bytes:
    _, index = open_published(tree.root)
    try:
        entry = index.by_path(path)
    finally:
        index.close()
    assert entry is not None
    assert entry.record is not None
    return entry.record


def tag(tree: Published, path: bytes) -> Tag:
    statement = decode_record(record(tree, path)).statement
    return tag_of(statement, decode_statement(statement, Kind.FILE).hash)


def spki_digest(one: Keys) -> bytes:
    """By cryptography alone."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(one.der).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


@pytest.mark.spec("fim-rev-1", "fim-rev-2", "fim-gen-5")
def test_the_list_grows_and_the_generation_rises(tree: Published) -> None:
    before, items = 0, set()
    for number in (9, 3, 7, 3):
        item = Item(1, 1, bytes([number]) * 32)
        report = run(tree, item)
        assert report.new == (() if item in items else (item,))
        items.add(item)
        claim = verified(tree, tree.keys).revocation
        assert claim == published(tree) == report.revocation
        assert claim.items == tuple(sorted(items))
        assert (claim.volume, claim.label) == (VOLUME, b"tree")
        assert claim.when.generation > max(before, int(time.time()) * 1_000_000 - 10_000_000)
        assert claim.when.not_after == NO_END
        before = claim.when.generation
    names = {path.name for path in (tree.root / DIRECTORY).iterdir() if not path.name.startswith("index-")}
    assert names == {"head", "lock", "trees", "revocation", "revocation.certs"}


def test_the_generation_rises_whatever_the_clock_says(tree: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tree)
    first = published(tree).when.generation
    monkeypatch.setattr("nfsverity_publisher.revocation.time.time_ns", lambda: 10**18)
    run(tree)
    assert published(tree).when.generation == first + 1


@pytest.mark.spec("fim-rev-5")
def test_without_new_items_it_is_signed_anew_for_longer(tree: Published) -> None:
    now = int(time.time())
    run(tree, OTHER, not_after=now + 60)
    with pytest.raises(RecordExpired):
        verified(tree, tree.keys, now=now + 100)
    report = run(tree, not_after=now + 600)
    assert report.new == ()
    assert verified(tree, tree.keys, now=now + 100).revocation.items == (OTHER,)


@pytest.mark.spec("fim-rev-3")
def test_a_key_is_named_by_the_digest_of_its_spki(tree: Published, second: Keys) -> None:
    item = key_item(tree.keys.signing.certificate.key_id(), 1)
    assert item == Item(1, 1, spki_digest(tree.keys))
    report = run(tree, item, by=second)
    assert report.invalid == (b"a", b"d/b")
    revoked = Revoked(frozenset(report.revocation.items))
    expected = Expected(b"a", frozenset({VOLUME}), "nfsv://host:1/a")
    trust: list[TrustEntry] = [tree.pin, second.pin]
    assert verify_record(record(tree, b"a"), expected, Verifier(trust, {}, int(time.time())))
    with pytest.raises(IsRevoked):
        verify_record(record(tree, b"a"), expected, Verifier(trust, {}, int(time.time()), revoked=revoked))


def test_a_version_is_named_by_its_tag(tree: Published) -> None:
    report = run(tree, version_item(tag(tree, b"d/b")))
    assert report.invalid == (b"d/b",)
    tree.write({"d/b": b"another"})
    tree.sign()
    assert run(tree).invalid == ()


def test_a_record_with_a_signer_that_is_left_is_not_invalid(tree: Published, second: Keys) -> None:
    tree.sign("a", keys=(tree.keys, second))
    report = run(tree, key_item(tree.keys.signing.certificate.key_id(), 1), by=second)
    assert report.invalid == (b"d/b",)


def test_a_key_that_revokes_itself_signs_nothing_more(tree: Published, second: Keys) -> None:
    own = key_item(tree.keys.signing.certificate.key_id(), 1)
    run(tree, own)
    assert verified(tree, tree.keys).revocation.items == (own,)
    before = revocation_path(tree.root).read_bytes()
    with pytest.raises(PublicationError, match='the key of "CN=publisher" is revoked'):
        run(tree, OTHER)
    with pytest.raises(PublicationError, match="revoked"):
        revoke(tree.root, [], [second.signing, tree.keys.signing])
    assert revocation_path(tree.root).read_bytes() == before
    assert run(tree, OTHER, by=second).new == (OTHER,)


def test_who_follows_a_key_that_revoked_itself_takes_nothing_over(
    tree: Published, second: Keys, tmp_path: Path
) -> None:
    """Whatever issuers came with that: theirs are not revoked, and have signed nothing."""
    key, certificate = tree.keys.write(tmp_path)
    certificate.write_bytes(certificate.read_bytes() + fresh_keys(name="issuer").certificate)
    signing = load_signing_key(key, certificate)
    revoke(tree.root, [key_item(signing.certificate.key_id(), 1)], [signing])
    assert len(PublishedRevocation(tree.root).certificates()) == 2
    assert run(tree, OTHER, by=second).new == (OTHER,)


def test_sign_refuses_a_key_that_is_revoked(tree: Published, second: Keys) -> None:
    before = record(tree, b"a")
    run(tree, key_item(tree.keys.signing.certificate.key_id(), 1), by=second)
    with pytest.raises(PublicationError, match='the key of "CN=publisher" is revoked'):
        tree.sign()
    assert record(tree, b"a") == before
    tree.sign(keys=(second,))
    assert run(tree, by=second).invalid == ()


def test_a_new_volume_begins_without_a_revocation(tree: Published) -> None:
    run(tree, OTHER)
    tree.sign(volume=b"another volume!!")
    assert PublishedRevocation(tree.root).claim(b"another volume!!") is None
    assert run(tree).revocation.items == ()


def test_as_many_items_as_there_can_be(tree: Published) -> None:
    many = [Item(1, 1, number.to_bytes(32, "big")) for number in range(128)]
    assert len(run(tree, *many).revocation.items) == 128
    before = revocation_path(tree.root).read_bytes()
    with pytest.raises(PublicationError, match="129 items are too many"):
        run(tree, OTHER)
    assert revocation_path(tree.root).read_bytes() == before
    assert len(run(tree, many[5]).revocation.items) == 128


def test_where_nothing_is_published_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotPublished):
        revoke(tmp_path, [], [keys().signing])
    assert list(tmp_path.iterdir()) == []


def test_keys_are_needed_each_once_and_outside_of_the_tree(tree: Published) -> None:
    with pytest.raises(PublicationError, match="one key or more"):
        revoke(tree.root, [], [])
    with pytest.raises(PublicationError, match="once"):
        revoke(tree.root, [], [keys().signing] * 2)
    inside, _ = tree.keys.write(tree.root)
    with pytest.raises(PublicationError, match="holds the private key"):
        run(tree, private=[inside])
    assert not revocation_path(tree.root).exists()


def test_a_damaged_revocation_is_not_forgotten_over(tree: Published) -> None:
    """What it revoked would be lost: so nothing is made in its place."""
    run(tree, OTHER)
    good = revocation_path(tree.root).read_bytes()
    revocation_path(tree.root).write_bytes(good[:-1])
    with pytest.raises(StoreError, match="damaged"):
        run(tree)
    with pytest.raises(StoreError, match="damaged"):
        tree.sign()
    revocation_path(tree.root).write_bytes(good)
    certificates_path(tree.root).write_bytes(b"damaged")
    assert run(tree).revocation.items == (OTHER,)
    assert PublishedRevocation(tree.root).certificates() == (tree.keys.der,)


@pytest.mark.parametrize("what", ["fifo", "link"])
def test_one_that_is_no_file_is_told(tree: Published, tmp_path: Path, what: str) -> None:
    run(tree, OTHER)
    path = revocation_path(tree.root)
    path.rename(tmp_path / "elsewhere")
    if what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is no regular file"):
        tree.sign()


def test_nothing_outside_is_written(tree: Published, tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"precious")
    for path in (revocation_path(tree.root), certificates_path(tree.root)):
        path.with_name(path.name + ".new").symlink_to(tmp_path / "letter")
    assert run(tree, OTHER).revocation.items == (OTHER,)
    assert (tmp_path / "letter").read_bytes() == b"precious"


def test_a_stranger_takes_over_only_where_that_is_meant(tree: Published, second: Keys) -> None:
    """Nobody's revocation is replaced by mistake."""
    run(tree, by=second)  # the first one replaces nothing
    run(tree, OTHER)
    before = revocation_path(tree.root).read_bytes()
    stranger = fresh_keys(name="stranger")
    with pytest.raises(Stranger, match="nothing there is signed by any of the keys"):
        run(tree, by=stranger)
    assert revocation_path(tree.root).read_bytes() == before
    assert run(tree, by=stranger, take_over=True).revocation.items == (OTHER,)
    revoke(tree.root, [], [second.signing, tree.keys.signing])
    assert run(tree, by=second).unknown == ()


def test_the_certificates_of_the_signers_are_there(tree: Published, second: Keys) -> None:
    run(tree)
    assert PublishedRevocation(tree.root).certificates() == (tree.keys.der,)
    revoke(tree.root, [], [second.signing, tree.keys.signing])
    assert PublishedRevocation(tree.root).certificates() == (second.der, tree.keys.der)


def test_another_publisher_is_waited_for(tree: Published) -> None:
    waits = threading.Event()
    with (tree.root / DIRECTORY / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PublicationError, match="another process"):
            run(tree)
        thread = threading.Thread(target=lambda: run(tree, OTHER, wait=60.0, waiting=waits.set))
        thread.start()
        assert waits.wait(60)
        assert not revocation_path(tree.root).exists()
    thread.join()
    assert published(tree).items == (OTHER,)


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    from nfsverity_proto.statement import Item
    from nfsverity_publisher import revocation
    from nfsverity_publisher.keys import load_signing_key
    root, key, certificate, first, last, where, at = Path(sys.argv[1]), *map(Path, sys.argv[2:4]), *sys.argv[4:]
    calls = 0
    def counting(real):
        def call(*arguments):
            global calls
            calls += 1
            if calls == int(at):
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        return call
    if where != "nowhere":
        setattr(os, where, counting(getattr(os, where)))
    signing = load_signing_key(key, certificate)
    for number in range(int(first), int(last)):
        revocation.revoke(root, [Item(1, 1, bytes([number]) * 32)], [signing], take_over=True, wait=60.0)
"""


def script(
    tree: Published, folder: Path, by: Keys, first: int, last: int, where: str = "nowhere", at: int = 0
) -> list[str]:
    folder.mkdir()
    key, certificate = by.write(folder)
    words = [tree.root, key, certificate, first, last, where, at]
    return [sys.executable, "-c", textwrap.dedent(SCRIPT), *map(str, words)]


def test_two_publishers_at_once_lose_nothing(tree: Published, tmp_path: Path) -> None:
    starts = (0, 20)
    processes = [
        subprocess.Popen(script(tree, tmp_path / str(first), tree.keys, first, first + 20)) for first in starts
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert published(tree).items == tuple(Item(1, 1, bytes([number]) * 32) for number in range(40))


@pytest.mark.parametrize(
    ("where", "at"), [*(("replace", at) for at in range(1, 4)), *(("fsync", at) for at in range(1, 7))]
)
def test_killed_at_any_moment(tree: Published, second: Keys, tmp_path: Path, where: str, at: int) -> None:
    """The old one or the new one, each with the certificate of its signer."""
    run(tree, OTHER)
    killed = subprocess.run(script(tree, tmp_path / "killed", second, 1, 2, where, at), timeout=60)
    assert killed.returncode == -signal.SIGKILL
    claim, der = published(tree), PublishedRevocation(tree.root).certificates()
    is_new = claim.items != (OTHER,)
    assert claim.items == ((Item(1, 1, b"\1" * 32), OTHER) if is_new else (OTHER,))
    assert (second if is_new else tree.keys).der in der
    assert is_new == ((where, at) in {("replace", 3), ("fsync", 4), ("fsync", 5), ("fsync", 6)})
    run(tree, by=second, take_over=True)
    assert verified(tree, second).revocation.items == claim.items
    assert PublishedRevocation(tree.root).certificates() == (second.der,)
    assert not list((tree.root / DIRECTORY).glob("*.new"))


def test_a_full_disk_is_an_error_and_changes_nothing(tree: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tree, OTHER)
    before = revocation_path(tree.root).read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run(tree)
    assert revocation_path(tree.root).read_bytes() == before


def test_a_tree_that_was_moved_keeps_it(tree: Published) -> None:
    run(tree, OTHER)
    moved = tree.root.rename(tree.root.with_name("moved"))
    assert read_head(moved).volume == VOLUME
    claim = PublishedRevocation(moved).claim(VOLUME)
    assert claim is not None
    assert claim.items == (OTHER,)
