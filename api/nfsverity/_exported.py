# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What vouches for one file, taken out of a tree to go with it: a fim_exported, or a record that stands alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from nfsverity_client.marks import MarkStore, Seen, judged
from nfsverity_client.revocations import RevocationStore, RevokedList
from nfsverity_client.state import State
from nfsverity_proto.errors import Mismatch, Unsigned, VerificationError
from nfsverity_proto.exported import Exported, decode_exported, encode_exported, is_exported, verify_exported
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.record import decode_record, membership_of
from nfsverity_proto.revocation import Revocations
from nfsverity_proto.statement import Item, Kind, decode_statement
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, verify_record
from nfsverity_proto.verifier import ALL_ALGORITHMS, Expected, Verifier
from nfsverity_store.content import open_below
from nfsverity_store.hashing import ChangedSize, build, hash_runs
from nfsverity_store.published import open_published
from nfsverity_store.volume_view import VolumeView

from ._local_place import locate_file
from ._local_volume import follow, unjudged
from ._tree import Name, Trust, trust_entries


def export(path: str | os.PathLike[str]) -> bytes:
    """What vouches for a file in a published tree on this machine, as it is there: nothing is verified.

    Of a file in a volume it has the head, too; a link there stands for the file that it leads to. Raises `Unsigned`,
    for a link `Absent` and `LinkOutside`, `StoreError`, `OSError`.
    """
    root, below = locate_file(Path(path))
    _, index = open_published(root)
    with contextlib.closing(index):
        if isinstance(index, VolumeView) and below:
            below = _followed(index, below, str(path))
        entry = index.by_path(below)
        if entry is not None and not entry.is_file:
            raise IsADirectoryError(21, "it is a directory, and only files have records", str(path))
        if entry is None or entry.record is None:
            raise Unsigned("there is no record for it in the published tree", where=str(path))
        if isinstance(index, VolumeView):
            return encode_exported(Exported(entry.record, index.record))
        return entry.record


def _followed(view: VolumeView, path: bytes, where: str) -> bytes:
    try:
        return follow(view, unjudged(view), path)[0]
    except VerificationError as error:
        error.where = where
        raise


def path_of(exported: bytes) -> bytes:
    """The path that it is about, by its own word. Raises `VerificationError`."""
    if is_exported(exported):
        (attestation, *_) = decode_record(decode_exported(exported).record).attestations
        return membership_of(attestation).entry.path
    claim = decode_statement(decode_record(exported).statement, Kind.FILE).claim
    return getattr(claim, "path", b"")


def verify_export(
    exported: bytes,
    file: str | os.PathLike[str],
    path: Name,
    *,
    trust: Trust | None = None,
    volume: bytes | None = None,
    state: State | None = None,
) -> Verified:
    """Verify all of a file, wherever it lies, by what `export` gave, as the file at `path` in its tree.

    The signers' certificates must be among those that are trusted. `volume` is the ID that is expected; None for any.
    Raises the `VerificationError` of what does not verify, `StateError`, `OSError`.
    """
    return judge_export(
        exported, Path(file), os.fsencode(path), trust_entries(trust), volume, state or State(), RevokedList().items()
    )


def judge_export(
    exported: bytes,
    file: Path,
    path: bytes,
    trust: Sequence[TrustEntry],
    volume: bytes | None,
    state: State,
    revoked_items: frozenset[Item],
) -> Verified:
    """As `verify_export`, by what is believed."""
    marks, revoked = MarkStore(state), RevocationStore(state, revoked_items)
    expected = Expected(path, None if volume is None else frozenset({volume}), None)
    seen = Seen(marks)
    known: Revocations = revoked
    with state.snapshot():
        verifier = Verifier(trust, {}, marks.now(), ALL_ALGORITHMS, seen, known)
        if is_exported(exported):
            signed, verified = verify_exported(exported, expected, verifier)
        else:
            signed = verified = verify_record(exported, expected, verifier)
    raised = judged(marks, signed, expected, trust, seen, known).raised
    _check(file, verified)
    if raised is not None:
        marks.flush()
        raised.check()
    return verified


def _check(file: Path, verified: Verified) -> None:
    """Step 13 for the whole file."""
    tree, hash = verified.content.tree, hash_by_number(verified.statement.hash)
    whole = file.resolve(strict=True)
    fd = open_below(whole.parent, (os.fsencode(whole.name),))
    try:
        size = os.fstat(fd).st_size
        if size != tree.size:
            raise Mismatch("the size is not what was signed", expected=f"{tree.size} bytes", found=f"{size} bytes")
        try:
            found = build(tree.shape, hash, hash_runs(fd, tree.shape, hash), None)
        except ChangedSize:
            raise Mismatch("its size changed while it was read", expected=f"{tree.size} bytes") from None
    finally:
        os.close(fd)
    if found != tree.root:
        raise Mismatch("the content is not what was signed", expected=tree.root.hex(), found=found.hex())
