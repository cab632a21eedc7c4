# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Revoking keys and versions of a published tree: the next revocation of its volume (fim, "Revocation").

Each one says all that those before it said (fim-rev-1), of a greater generation. It is written beside and renamed
into its place, so a publisher may be killed at any moment: readers have the old one or the new one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfsverity_proto.certificate import Certificate, parse_certificate
from nfsverity_proto.errors import BadCertificate, VerificationError
from nfsverity_proto.hashes import SHA256
from nfsverity_proto.record import SIGNATURE, Fingerprint, decode_record, encode_record, signature_of
from nfsverity_proto.revocation import Revoked
from nfsverity_proto.statement import (
    GENERATION_MAX,
    NO_END,
    VERSION,
    Item,
    Revocation,
    Statement,
    When,
    decode_statement,
    encode_statement,
    tag_of,
)
from nfsverity_store.layout import DIRECTORY, StoreError, naming, read_head
from nfsverity_store.published import Published, open_published
from nfsverity_store.revocation import (
    PublishedRevocation,
    certificates_path,
    joined,
    revocation_path,
)
from nfsverity_store.volume_view import VolumeView

from .keys import SigningKey
from .lock import PublicationError, locked


@dataclass(frozen=True, slots=True)
class RevocationReport:
    """The revocation that was published."""

    root: Path
    revocation: Revocation
    new: tuple[Item, ...]
    """Items that the one before it had not."""
    end_before: int
    """The `not_after` of the one before; `NO_END` where there was none."""
    invalid: tuple[bytes, ...]
    """Paths of files whose record does not verify any more, whatever else is believed."""
    unknown: tuple[Certificate, ...] = ()
    """Of the signers: those by whom nothing in the tree is signed, nor the revocation before."""


class Stranger(PublicationError):
    """The tree has a revocation, and none of the keys has signed anything in the tree."""

    advice = "sign with a key of the tree, too; where those are lost or stolen, --take-over"

    def __init__(self, root: Path) -> None:
        super().__init__(
            f"{root} has a revocation, which would be replaced, and nothing there is signed by any of the keys: readers"
            " who do not believe them would be left without one"
        )


def revoke(
    root: Path,
    items: Iterable[Item],
    keys: Sequence[SigningKey],
    *,
    not_after: int = NO_END,
    private: Sequence[Path] = (),
    take_over: bool = False,
    wait: float = 0.0,
    waiting: Callable[[], None] | None = None,
) -> RevocationReport:
    """Publish the next revocation of the tree at `root`; without items, what there is said anew (fim-rev-5).

    A key may revoke itself. Where the tree has a revocation, keys that have signed neither that nor anything else in
    the tree are refused unless they `take_over`, or those that signed it are revoked. `private` are the key files,
    which must not be in the tree; `not_after` is in Unix seconds; `wait` and `waiting` are about another publisher, as
    in `locked`. Raises `PublicationError`, `StoreError`, `OSError`; then nothing is published.
    """
    if not keys or len({key.certificate.fingerprint for key in keys}) < len(keys):
        raise PublicationError("a revocation is signed by one key or more, and by each of them once")
    for path in private:
        if root.resolve() in path.resolve().parents:
            raise PublicationError(f"{root} holds the private key {path}: move the key out of the tree first")
    read_head(root)  # where nothing is published, nothing is made
    with locked(root / DIRECTORY, wait, waiting):
        head, index = open_published(root)
        with contextlib.closing(index):
            published = PublishedRevocation(root)
            check_keys(published, head.volume, keys)
            before = published.claim(head.volume)
            known = frozenset() if before is None else frozenset(before.items)
            wanted = known | frozenset(items)
            now = time.time_ns()
            generation = max(0 if before is None else before.when.generation + 1, now // 1000)
            if generation > GENERATION_MAX:
                raise PublicationError("there is no greater generation than that of the last revocation")
            when = When(generation, now // 1_000_000_000, not_after)
            revocation = Revocation(head.volume, head.label, when, tuple(sorted(wanted)))
            record = _signed(revocation, keys)
            certificates = _certificates(keys)
            earlier = _earlier_certificates(published)
            both = dict.fromkeys([*certificates, *earlier])
            here = {*index.certificates(), *earlier}
            unknown = tuple(key.certificate for key in keys if key.certificate.der not in here)
            present = published.record(head.volume)
            revoked = set(_revoked_signers(earlier, Revoked(known)))
            if present and len(unknown) == len(keys) and not take_over and not _all_by(present, revoked):
                raise Stranger(root)
            try:
                _replace(certificates_path(root), joined(list(both)))  # for the record before, and for the new one
                _replace(revocation_path(root), record)
            except BaseException:
                if not revocation_path(root).exists():
                    certificates_path(root).unlink(missing_ok=True)
                raise
            _replace(certificates_path(root), joined(certificates))
            invalid = tuple(invalid_paths(index, revocation.items))
    end_before = NO_END if before is None else before.when.not_after
    return RevocationReport(root, revocation, tuple(sorted(wanted - known)), end_before, invalid, unknown)


def check_keys(published: PublishedRevocation, volume: bytes, keys: Sequence[SigningKey]) -> None:
    """Raises `PublicationError` for a key that is revoked for the volume: what it signs verifies nowhere."""
    claim = published.claim(volume)
    revoked = Revoked() if claim is None else Revoked(frozenset(claim.items))
    for key in keys:
        if revoked.key(key.certificate.key_id()):
            raise PublicationError(
                f'the key of "{key.certificate.subject}" is revoked for this tree: sign with another key'
            )


def _signed(revocation: Revocation, keys: Sequence[SigningKey]) -> bytes:
    try:
        statement = encode_statement(Statement(SHA256, revocation))
        return encode_record(statement, [key.sign(statement) for key in keys])
    except ValueError as error:
        raise PublicationError(f"{len(revocation.items)} items are too many for a revocation: {error}") from error


def _certificates(keys: Sequence[SigningKey]) -> list[bytes]:
    """Of all signers, then of their issuers; each once."""
    signers = [key.certificate.der for key in keys]
    return list(dict.fromkeys([*signers, *(der for key in keys for der in key.issuers)]))


def _earlier_certificates(published: PublishedRevocation) -> Sequence[bytes]:
    """None where their file is damaged: it is about to be replaced."""
    try:
        return published.certificates()
    except StoreError:
        return ()


def _replace(path: Path, data: bytes) -> None:
    """Durably, and at once."""
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)
        with naming(new), new.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def invalid_paths(index: Published, items: Iterable[Item]) -> Iterator[bytes]:
    """The files whose record does not verify any more, whatever else is believed."""
    revoked = Revoked(frozenset(items))
    if not revoked.items:
        return
    signers = set(_revoked_signers(index.certificates(), revoked))
    if isinstance(index, VolumeView):
        whole = _all_by(index.record, signers) or revoked.tag(index.tag)
        if whole or any(item.what == VERSION for item in revoked.items):
            files = (entry for entry in index.below(b"") if entry.is_file)
            yield from (entry.path for entry in files if whole or revoked.tag(index.tag_of(entry)))
        return
    for path, entry in index.files():
        if entry.record is None:
            continue
        statement = decode_record(entry.record).statement
        if _all_by(entry.record, signers) or revoked.tag(tag_of(statement, decode_statement(statement).hash)):
            yield path


def revoked_paths(root: Path) -> list[bytes]:
    """The files of a published tree that its own revocation takes back. Raises `StoreError`."""
    claim = PublishedRevocation(root).claim(read_head(root).volume)
    if claim is None:
        return []
    with contextlib.closing(open_published(root)[1]) as index:
        return list(invalid_paths(index, claim.items))


def _all_by(data: bytes, signers: Container[Fingerprint]) -> bool:
    """Whether nobody else has signed a record."""
    attestations = decode_record(data).attestations
    return all(signature_of(one).signer in signers for one in attestations if one.type == SIGNATURE)


def _revoked_signers(certificates: Iterable[bytes], revoked: Revoked) -> Iterator[Fingerprint]:
    """The fingerprints, as this publisher makes them, of those whose key is revoked."""
    for der in certificates:
        with contextlib.suppress(BadCertificate, VerificationError):
            certificate = parse_certificate(der)
            if revoked.key(certificate.key_id()):
                yield certificate.fingerprint
