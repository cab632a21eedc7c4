# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signing, and verifying where files lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

from nfsverity_client.revocations import RevokedList
from nfsverity_client.state import State
from nfsverity_client.trust_store import Bindings
from nfsverity_proto.hashes import hash_by_name
from nfsverity_proto.statement import NO_END
from nfsverity_proto.verification import Verified

from ._local import LocalTree
from ._local_place import find_link, locate
from ._tree import GateOptions, Trust, announce, gates_for, refused, trust_entries

if TYPE_CHECKING:
    from nfsverity_publisher.transaction import Report


def sign(
    path: str | os.PathLike[str],
    *,
    key: str | os.PathLike[str],
    certificate: str | os.PathLike[str],
    unit_size: int | None = None,
    hash: str | None = None,
    changed: Sequence[tuple[int, int | None]] = (),
    appended: bool = False,
    replace_with: str | os.PathLike[str] | None = None,
    wait: float = 30.0,
    form: Literal["volume", "records"] | None = None,
    not_after: int | None = None,
) -> Report:
    """Sign a file or a tree of files, and publish what was signed in `.nfsverity` at the root of the tree.

    `form`: a volume, with one signature for all, or a record for each file; by default what the tree has, or else a
    volume for a tree and a record for a lone file. `not_after`: when it expires, in Unix seconds.

    `key`: a PEM file, a `pkcs11:` URI (RFC 7512), or `command:PROGRAM ARGUMENTS`, which gets what is to be signed on
    standard input and gives the signature on standard output.

    `unit_size`: bytes, a power of two from 4,096 to 16,777,216; `hash`: sha256, sha384, sha512, sha3-256 or blake3.
    By default they are what a file has already, or else 65,536 and sha256. What could not be signed is in the report.

    For one file that was signed before: `changed` are the bytes, (offset, length), of it that are other ones (length
    None: all that follow), and `appended` says that it only grew. Then only this is hashed, and the rest is taken
    over from the kept tree, as your word: where it is wrong, reading what was not named ends in `Mismatch`. What the
    report has under `whole` was hashed all the same, and why. `replace_with` is a file on the same file system that is
    moved to `path` when its record is ready, which follows at once. `wait`: seconds, for another process that signs the
    tree.
    Raises `PublicationError`, `StoreError`, `OSError`, `ValueError`.
    """
    from nfsverity_publisher.external import is_external, load_key
    from nfsverity_publisher.form import publish
    from nfsverity_publisher.plan import plan
    from nfsverity_publisher.transaction import Form, Options

    if unit_size is not None and (unit_size & (unit_size - 1) or not 2**12 <= unit_size <= 2**24):
        raise ValueError(f"a unit of {unit_size} bytes")
    if any(offset < 0 or (length is not None and length < 0) for offset, length in changed):
        raise ValueError("a range that begins or ends before the file")
    named = os.fspath(key)
    signing = load_key(named, Path(certificate))
    options = Options(
        unit_log2=None if unit_size is None else unit_size.bit_length() - 1,
        hash=None if hash is None else hash_by_name(hash).number,
        changed=tuple(changed),
        appended=appended,
        wait=wait,
        replacement=None if replace_with is None else Path(replace_with),
        form=None if form is None else Form(form),
        not_after=NO_END if not_after is None else not_after,
    )
    ((root, below),) = plan([Path(path)], new=replace_with is not None).items()
    return publish(root, below, [signing], options, private=[] if is_external(named) else [Path(named)])


def verify(
    path: str | os.PathLike[str],
    *,
    trust: Trust | None = None,
    volume: bytes | None = None,
    state: State | None = None,
    **options: Unpack[GateOptions],
) -> Verified:
    """Verify all of a local file against its record in the published tree that holds it.

    A link in a volume stands for the file that it leads to, as it was signed.
    `trust`, `volume`, `state`, `policy` and `audit_log` are as for `open_tree`. Raises the `VerificationError` of what
    does not verify, `ValueError` where a rule of the policy does not enforce that, `PolicyError`, `StoreError`,
    `StateError`, `OSError`.
    """
    link = find_link(Path(path))
    root, below = link or locate(Path(path))
    volumes = None if volume is None else frozenset((volume,))
    tree = LocalTree(
        root,
        trust_entries(trust),
        volumes,
        Bindings(),
        announce,
        state=state or State(),
        refused=refused,
        revoked=RevokedList().items(),
        gates=gates_for(options),
    )
    try:
        result = tree.verify_file(below if link is None else tree.follow(below))
    finally:
        tree.close()
    if result.error is not None:
        raise result.error
    if result.unverified is not None:
        raise ValueError(f"{path} is not verified: {result.unverified}")
    if result.verified is None:
        raise ValueError("a result with neither a record nor an error")
    return result.verified
