# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verifier in C and ours judge the same revocations, one after the other, and then the same file.

Each keeps in its own way what it accepted. Several keys are pinned, any of which may be the thief's.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfsverity_proto.certificate import parse_certificate
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verifier import Expected
from oracle import records, signers
from oracle.records import CONTENT_BYTES, Statement
from oracle.signers import NOW, Signer
from unit.proto.remembering import Remembering

from .test_check import pem

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

SIGNERS = [signers.signer(name=name) for name in ("first", "second", "third")]
FILE = Statement()
LAST = 2**64 - 2
Item = tuple[int, int, bytes]


def key(one: Signer, hash: str = "sha256", number: int = 1) -> Item:
    return records.PUBLIC_KEY, number, hashlib.new(hash, parse_certificate(one.der).key_id()).digest()


def version(data: bytes) -> Item:
    return records.VERSION, 1, hashlib.sha256(data).digest()


ITEMS = [
    *map(key, SIGNERS),
    key(SIGNERS[0], "sha512", 8),
    version(FILE.encode()),
    version(b"another"),
]


def revocation(*items: Item, **fields: int) -> Statement:
    return Statement(kind=records.REVOCATION, issued=NOW, items=sorted(items), **fields)  # type: ignore[arg-type]


def by_ours(revocations: Sequence[bytes], record: bytes) -> list[str]:
    trust = [TrustEntry(one.der) for one in SIGNERS]
    kept = Remembering(trust, Expected(FILE.path, frozenset([FILE.volume])), NOW)
    return [*map(kept.revoke, revocations), kept.verify(record)]


def by_c(program: Path, folder: Path, revocations: Sequence[bytes], record: bytes) -> list[str]:
    (folder / "record").write_bytes(record)
    (folder / "content").write_bytes(CONTENT_BYTES)
    (folder / "pins").write_bytes(b"".join(pem(one.der) for one in SIGNERS))
    names = [folder / f"revocation-{at}" for at in range(len(revocations))]
    for name, data in zip(names, revocations, strict=True):
        name.write_bytes(data)
    words: list[str | Path | bytes] = [program, folder / "record", folder / "content", FILE.volume.hex(), FILE.path]
    done = subprocess.run([*words, folder / "pins", str(NOW), *names], capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    return done.stdout.split()


def signed(statement: Statement, *by: Signer) -> bytes:
    return signers.signed(statement, *by)


FIRST, SECOND, THIRD = SIGNERS
CASES: dict[str, tuple[list[str], list[bytes], bytes]] = {
    "nothing": (["verified"], [], signed(FILE, FIRST)),
    "of nothing": (["verified", "verified"], [signed(revocation(), FIRST)], signed(FILE, FIRST)),
    "of the signer": (["verified", "revoked"], [signed(revocation(key(FIRST)), SECOND)], signed(FILE, FIRST)),
    "of itself": (["verified", "revoked"], [signed(revocation(key(FIRST)), FIRST)], signed(FILE, FIRST)),
    "of itself, twice": (["verified", "revoked", "revoked"], [signed(revocation(key(FIRST)), FIRST)] * 2,
                         signed(FILE, FIRST)),
    "of one of two": (["verified", "verified"], [signed(revocation(key(FIRST)), SECOND)], signed(FILE, FIRST, SECOND)),
    "of the version": (["verified", "revoked"], [signed(revocation(version(FILE.encode())), FIRST)],
                       signed(FILE, FIRST)),
    "expired": (["record-expired", "record-expired"], [signed(revocation(not_after=NOW - 1), FIRST)],
                signed(FILE, FIRST)),
    "expired, of the signer": (["record-expired", "revoked"],
                               [signed(revocation(key(FIRST), not_after=NOW - 1), SECOND)], signed(FILE, FIRST)),
    "expired, then renewed": (["record-expired", "verified", "verified"],
                              [signed(revocation(not_after=NOW - 1), FIRST),
                               signed(revocation(generation=LAST), FIRST)], signed(FILE, FIRST)),
    "older": (["verified", "rollback", "verified"],
              [signed(revocation(generation=7), FIRST), signed(revocation(generation=6), SECOND)],
              signed(FILE, FIRST)),
    "equivocation": (["verified", "equivocation", "verified"],
                     [signed(revocation(), FIRST), signed(revocation(version(b"another")), FIRST)],
                     signed(FILE, FIRST)),
    "lacks an item": (["verified", "rollback", "verified"],
                      [signed(revocation(version(b"another"), generation=1), FIRST),
                       signed(revocation(generation=2), SECOND)], signed(FILE, FIRST)),
    "a thief's, overtaken": (["verified", "verified", "revoked"],
                             [signed(revocation(version(b"another"), generation=LAST), THIRD),
                              signed(revocation(key(THIRD)), FIRST)], signed(FILE, THIRD)),
    "a thief's, who revoked the others": (["verified", "revoked", "revoked"],
                                          [signed(revocation(key(FIRST), key(SECOND)), THIRD),
                                           signed(revocation(key(THIRD)), FIRST)], signed(FILE, FIRST)),
    "what is not known": (["unsupported", "verified"], [signed(revocation((3, 1, bytes(32))), FIRST)],
                          signed(FILE, FIRST)),
    "no revocation": (["wrong-kind", "verified"], [signed(FILE, FIRST)], signed(FILE, FIRST)),
    "a revocation as a file": (["wrong-kind"], [], signed(revocation(), FIRST)),
    "of another volume": (["wrong-volume", "verified"],
                          [signed(replace(revocation(key(FIRST)), volume=bytes(16)), FIRST)], signed(FILE, FIRST)),
    "out of order": (["malformed", "verified"],
                     [signed(replace(revocation(), items=sorted(ITEMS, reverse=True)), FIRST)], signed(FILE, FIRST)),
}  # fmt: skip


@pytest.mark.spec("fim-rev-2", "fim-rev-4", "fim-rev-6", "fim-rev-7", "fim-rev-8", "fim-rev-10", "fim-rev-12")
@pytest.mark.parametrize("name", CASES)
def test_a_case(programs: Path, tmp_path: Path, name: str) -> None:
    verdicts, revocations, record = CASES[name]
    assert by_ours(revocations, record) == verdicts
    assert by_c(programs / "check", tmp_path, revocations, record) == verdicts


some_signers = st.lists(st.sampled_from(SIGNERS), min_size=1, max_size=2, unique_by=lambda one: one.der)
some_revocations = st.builds(
    lambda items, generation, issued, not_after, by: signed(
        replace(revocation(*items, generation=generation, not_after=not_after), issued=issued), *by
    ),
    st.sets(st.sampled_from(ITEMS), max_size=3),
    st.sampled_from([1, 2, 3, LAST]),
    st.sampled_from([NOW, NOW, NOW + 300, NOW + 301]),
    st.sampled_from([2**63 - 1, 2**63 - 1, NOW, NOW - 1]),
    some_signers,
)


@pytest.mark.spec("fim-rev-7", "fim-rev-8", "fim-rev-12")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(some_revocations, max_size=5), some_signers)
def test_any_revocations_one_after_the_other(
    programs: Path, tmp_path: Path, revocations: list[bytes], by: list[Signer]
) -> None:
    record = signed(FILE, *by)
    assert by_c(programs / "check", tmp_path, revocations, record) == by_ours(revocations, record)
