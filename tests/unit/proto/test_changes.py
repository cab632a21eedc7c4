# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Each row of the draft's table of changes, carried out: what a single change of a signed file ends in.

The table is the oracle, as `spec/build.py` takes it from the draft. Rows that list values are read as they are
written; what others say in words is in `IN_WORDS`, by their ids.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_proto.certificate import parse_certificate
from nfsverity_proto.errors import Mismatch, VerificationError
from nfsverity_proto.hashes import HASH_NUMBERS, hash_by_number
from nfsverity_proto.proof import fold
from nfsverity_proto.revocation import NOTHING_REVOKED, Accepted, Revoked, key_item, version_item
from nfsverity_proto.statement import Item, Tag
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, verify_record
from nfsverity_proto.verifier import Algorithms, Expected, Verifier
from oracle import merkle, records, signers

SPEC = Path(__file__).parents[3] / "spec"
ROWS: list[dict[str, str]] = json.loads((SPEC / "verdicts.json").read_text())["changes"]
DRAFT = ElementTree.parse(SPEC / "draft-nfsverity-file-integrity-metadata-00.xml")


def example(name: str) -> bytes:
    """A block of hexadecimal in the draft's worked example, without its comments."""
    text = next(block.text for block in DRAFT.iter("sourcecode") if block.get("name") == name) or ""
    return bytes.fromhex("".join(line[:35] for line in text.splitlines() if "as above" not in line))


SIGNER = signers.Signer(signers.key(signers.ED25519, "example"), signers.ED25519, example("example-certificate"))
BASE = records.Statement()
UNITS = merkle.cut(records.CONTENT_BYTES, 4096)


@dataclass
class Case:
    """The base, or what became of it. `signature` replaces fields of the attestation's body."""

    statement: records.Statement = field(default_factory=lambda: dataclasses.replace(BASE))
    resigned: bool = False
    statement_bytes: Callable[[bytes], bytes] = lambda data: data
    signature: dict[str, Any] = field(default_factory=dict)
    body: Callable[[bytes], bytes] = lambda data: data
    type: int = records.SIGNATURE
    attestations: Callable[[tuple[int, bytes]], Sequence[tuple[int, bytes]]] = lambda own: [own]
    record: Callable[[bytes], bytes | None] = lambda data: data
    content: bytes = records.CONTENT_BYTES
    proof: list[bytes] = field(default_factory=lambda: merkle.range_proof(merkle.SHA256, UNITS, 1, 2, 2))
    volumes: frozenset[bytes] | None = frozenset({BASE.volume})
    path: bytes = BASE.path
    trust: list[dict[str, Any]] = field(default_factory=lambda: [{"anchor": SIGNER.der}])
    accepted: Algorithms = field(default_factory=Algorithms)
    revoked: Revoked = NOTHING_REVOKED
    now: int = signers.NOW

    def data(self) -> bytes | None:
        statement = self.statement_bytes(self.statement.encode())
        signed = statement if self.resigned else BASE.encode()
        message = records.signed_bytes(1, SIGNER.digest, SIGNER.scheme, signed)
        fields = {
            "hash": 1,
            "digest": SIGNER.digest,
            "scheme": SIGNER.scheme,
            "value": signers.sign(SIGNER.key, message),
        }
        own = self.type, self.body(records.signature(**fields | self.signature))
        return self.record(records.record(statement, self.attestations(own)))

    def outcome(self) -> str:
        try:
            verified = verify_record(
                self.data(),
                Expected(self.path, self.volumes, None),
                Verifier(
                    [TrustEntry(**entry) for entry in self.trust], {}, self.now, self.accepted, revoked=self.revoked
                ),
            )
            self.read(verified)
        except VerificationError as error:
            return error.verdict
        return "verified"

    def read(self, verified: Verified) -> None:
        """Step 13 for all of the content, without a proof; then for unit 1, with its proof under the root."""
        tree, hash = verified.content.tree, hash_by_number(verified.statement.hash)
        if len(self.content) != tree.size:
            raise Mismatch("another size")
        leaves = [hash.leaf(unit) for unit in merkle.cut(self.content, tree.shape.unit_size)]
        height = tree.shape.height
        top = fold(hash, len(leaves), 0, leaves, height, []).top if leaves else hash.digest(b"")
        if top != tree.root or fold(hash, len(leaves), 1, leaves[1:2], height, self.proof).top != tree.root:
            raise Mismatch("another root")


# Fields whose values a row lists


def text(most: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=1, max_size=most)


def is_name(name: bytes) -> bool:
    return 1 <= len(name) <= 255 and not {0, 47} & set(name) and name not in (b".", b"..")


def is_path(path: bytes) -> bool:
    names = path.split(b"/")
    return len(path) <= 4095 and len(names) <= 256 and all(map(is_name, names))


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high) | st.sampled_from([low, min(low + 1, high), max(high - 1, low), high])


UINT, UHYPER, HYPER = integers(0, 2**32 - 1), integers(0, 2**64 - 1), integers(-(2**63), 2**63 - 1)
HASH = st.binary(min_size=32, max_size=32)
ALLOWED: dict[str, st.SearchStrategy[Any]] = {
    "statement.magic": UINT,
    "statement.format": UINT,
    "statement.hash": UINT,
    "statement.claim.kind": UINT,
    "file.volume": st.binary(min_size=16, max_size=16),
    "file.label": text(255).filter(is_name),
    "file.path": st.lists(text(20).filter(is_name), min_size=1, max_size=5).map(b"/".join),
    "file.when.generation": UHYPER,
    "file.when.issued": HYPER,
    "file.when.not_after": HYPER,
    "file.executable": UINT,
    "file.content.mtime.seconds": HYPER,
    "file.content.mtime.nseconds": UINT,
    "file.content.tree.type": UINT,
    "file.content.tree.unit_log2": UINT,
    "file.content.tree.size": UHYPER,
    "file.content.tree.root": HASH,
    "attestation.type": UINT,
    "signature.signer.hash": UINT,
    "signature.signer.digest": HASH,
    "signature.scheme": UINT,
    "signature.value": st.binary(max_size=100),
    "expected volume": st.binary(min_size=16, max_size=16).map(lambda volume: frozenset({volume})),
    "expected path": st.lists(text(20).filter(is_name), min_size=1, max_size=5).map(b"/".join),
    "now": integers(0, 253_402_300_799),
}
"""By the row's name of a field: what its type, and for some its rules, allow."""
PLACES = {"attestation.type": "type", "expected volume": "volumes", "expected path": "path", "now": "now"}
SIGNATURE_FIELDS = {"signer.hash": "hash", "signer.digest": "digest", "scheme": "scheme", "value": "value"}


def value_of(case: Case, name: str) -> Any:
    if name in PLACES:
        return getattr(case, PLACES[name])
    if name.startswith("signature."):
        return {"hash": 1, "digest": SIGNER.digest, "scheme": SIGNER.scheme}.get(SIGNATURE_FIELDS[name[10:]])
    return getattr(case.statement, attribute_of(name))


def attribute_of(name: str) -> str:
    last = name.rpartition(".")[2]
    return "tree_type" if name.endswith("tree.type") else last


def with_value(name: str, value: Any, resigned: bool) -> Case:
    case = Case(resigned=resigned)
    if name in PLACES:
        setattr(case, PLACES[name], value)
    elif name.startswith("signature."):
        case.signature[SIGNATURE_FIELDS[name[10:]]] = value
    else:
        setattr(case.statement, attribute_of(name), value)
    return case


LIST = re.compile(r"(?:re-signed, )?to (-?\d+(?: to -?\d+)?(?:, -?\d+(?: to -?\d+)?)*)")
ANY_OTHER = re.compile(r"(?:re-signed, )?to any other(?: of 32 bytes)?")


def listed(change: str) -> list[tuple[int, int]] | None:
    """The ranges of values that a row names, ends included; None where it names none."""
    match = LIST.fullmatch(change)
    if match is None:
        return None
    parts = [part.split(" to ") for part in match[1].split(", ")]
    return [(int(part[0]), int(part[-1])) for part in parts]


def values(row: dict[str, str]) -> st.SearchStrategy[Any]:
    """The values to which the row sets its field."""
    name, resigned = row["field"], row["change"].startswith("re-signed")
    base = value_of(Case(), name)
    ranges = listed(row["change"])
    if ranges is not None:
        return st.one_of(*(integers(low, high) for low, high in ranges)).filter(lambda value: value != base)
    same = [other for other in ROWS if other["field"] == name and other["change"].startswith("re-signed") == resigned]
    taken = [pair for other in same for pair in listed(other["change"]) or []]
    return ALLOWED[name].filter(lambda value: value != base and not any(low <= value <= high for low, high in taken))


# Rows in words


junk = st.binary(min_size=1, max_size=40)
extension_values = st.binary(max_size=30)
other_types = integers(2, 2**32 - 1)
unknown_types = integers(3, 2**32 - 1)


def cut(data: st.DataObject, whole: bytes) -> bytes:
    return whole[: data.draw(st.integers(0, len(whole) - 1))]


def flip(data: st.DataObject, whole: bytes) -> bytes:
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


def pad_label(data: st.DataObject) -> Case:
    value = data.draw(st.integers(1, 255))
    at = BASE.encode().index(b"\0\0\0\7example\0") + 11
    return Case(statement_bytes=lambda whole: whole[:at] + bytes([value]) + whole[at + 1 :])


def extended(*items: tuple[int, int, bytes], resigned: bool = False) -> Case:
    return Case(dataclasses.replace(BASE, extensions=items), resigned)


def two_extensions(data: st.DataObject) -> Case:
    first = data.draw(UINT)
    return extended((first, 0, b""), (data.draw(st.integers(0, first)), 0, b"x"))


def many_extensions(data: st.DataObject) -> Case:
    return extended(*((number, 0, data.draw(extension_values)) for number in range(17)))


def entry(**changes: Any) -> Case:
    return Case(trust=[{"anchor": SIGNER.der} | changes])


def other_certificate(data: st.DataObject) -> Case:
    scheme = data.draw(st.sampled_from(list(signers.KEYS)))
    return entry(anchor=signers.signer(scheme, "example" if scheme == signers.ED25519 else "other").der)


def other_signer(certificate: bytes) -> Case:
    """The base, signed by the same key under another certificate, which is pinned."""
    digest = hashlib.sha256(certificate).digest()
    value = signers.sign(SIGNER.key, records.signed_bytes(1, digest, SIGNER.scheme, BASE.encode()))
    return Case(trust=[{"anchor": certificate}], signature={"digest": digest, "value": value})


KEY, TAG = parse_certificate(SIGNER.der).key_id(), Tag(1, hashlib.sha256(BASE.encode()).digest())


def revoking(item: Item) -> Case:
    return Case(revoked=Revoked(frozenset([item])))


def another_item(data: st.DataObject) -> Case:
    own = {key_item(KEY, 1), version_item(TAG)}
    items = st.builds(Item, st.sampled_from([1, 2]), st.sampled_from([1, 10]), HASH | st.sampled_from([TAG.digest]))
    return revoking(data.draw(items.filter(lambda item: item not in own)))


not_names = st.sampled_from([b"", b".", b"..", b"a/b", b"a\0", b"x" * 256]) | st.binary(max_size=20).filter(
    lambda name: not is_name(name)
)
not_paths = st.sampled_from(
    [b"", b"/", b"a/", b"/a", b"a//b", b"../a", b"a/.", b"a\0b", b"x" * 256, b"a/" * 256 + b"a"]
)
IN_WORDS: dict[str, Callable[[st.DataObject], Case]] = {
    "change-record-none": lambda data: Case(record=lambda whole: None),
    "change-record-long": lambda data: Case(record=lambda whole: whole + bytes(65_537 - len(whole))),
    "change-record-cut": lambda data: Case(record=lambda whole: cut(data, whole)),
    "change-record-extended": lambda data: Case(record=lambda whole: whole + data.draw(junk)),
    "change-statement-cut": lambda data: Case(statement_bytes=lambda whole: cut(data, whole)),
    "change-statement-extended": lambda data: Case(statement_bytes=lambda whole: whole + data.draw(junk)),
    "change-statement-long": lambda data: Case(statement_bytes=lambda whole: whole + bytes(8193 - len(whole))),
    "change-label-none": lambda data: with_value("file.label", data.draw(not_names), False),
    "change-label-padding": pad_label,
    "change-path-none": lambda data: with_value("file.path", data.draw(not_paths), False),
    "change-root-length": lambda data: with_value(
        "file.content.tree.root", bytes(data.draw(st.integers(0, 70).filter(lambda length: length != 32))), False
    ),
    "change-extension-added": lambda data: extended((data.draw(UINT), 0, data.draw(extension_values))),
    "change-extension-critical": lambda data: extended((data.draw(UINT), 1, data.draw(extension_values))),
    "change-extension-bool": lambda data: extended((data.draw(UINT), data.draw(other_types), b"")),
    "change-extension-order": two_extensions,
    "change-extension-many": many_extensions,
    "change-extension-long": lambda data: extended((data.draw(UINT), 0, bytes(data.draw(st.integers(1025, 3000))))),
    "change-attestations-none": lambda data: Case(attestations=lambda own: []),
    "change-attestations-many": lambda data: Case(
        attestations=lambda own: [own, *((type, b"") for type in range(3, 11))]
    ),
    "change-attestations-twice": lambda data: Case(attestations=lambda own: [own, own]),
    "change-attestations-order": lambda data: Case(
        attestations=lambda own: [(data.draw(unknown_types), data.draw(junk)), own]
    ),
    "change-attestations-added": lambda data: Case(
        attestations=lambda own: [own, (data.draw(unknown_types), data.draw(junk))]
    ),
    "change-attestations-before": lambda data: Case(attestations=lambda own: [(0, data.draw(junk)), own]),
    "change-attestation-cut": lambda data: Case(body=lambda whole: cut(data, whole)),
    "change-attestation-extended": lambda data: Case(body=lambda whole: whole + data.draw(junk)),
    "change-attestation-long": lambda data: Case(
        type=3, body=lambda whole: bytes(data.draw(st.integers(61_441, 64_000)))
    ),
    "change-signer-digest-length": lambda data: with_value(
        "signature.signer.digest", bytes(data.draw(st.integers(0, 70).filter(lambda length: length != 32))), False
    ),
    "change-value-long": lambda data: with_value("signature.value", bytes(data.draw(st.integers(8193, 9000))), False),
    "change-content-byte": lambda data: Case(content=flip(data, records.CONTENT_BYTES)),
    "change-content-cut": lambda data: Case(content=cut(data, records.CONTENT_BYTES)),
    "change-content-extended": lambda data: Case(content=records.CONTENT_BYTES + data.draw(junk)),
    "change-proof": lambda data: Case(
        proof=merkle.cut(flip(data, b"".join(Case().proof)), 32),
    ),
    "change-signed-kind": lambda data: Case(dataclasses.replace(BASE, kind=records.CONTENT), resigned=True),
    "change-signed-extension": lambda data: extended((data.draw(UINT), 0, data.draw(extension_values)), resigned=True),
    "change-signed-extension-critical": lambda data: extended((data.draw(UINT), 1, b"x"), resigned=True),
    "change-signed-certificate": lambda data: other_signer(
        signers.certificate(SIGNER.key.public_key(), signers.common_name("example"), SIGNER.key, purposes=None)
    ),
    "change-expected-volume-any": lambda data: Case(volumes=None),
    "change-trust-none": lambda data: Case(trust=[]),
    "change-trust-pin": other_certificate,
    "change-trust-sort": lambda data: entry(ca=True, subject="CN=example", volumes=(BASE.volume,)),
    "change-trust-volumes": lambda data: entry(
        volumes=(data.draw(st.binary(min_size=16, max_size=16).filter(lambda volume: volume != BASE.volume)),)
    ),
    "change-trust-prefixes": lambda data: entry(prefixes=("nfsv://host:1/",)),
    "change-trust-subject": lambda data: entry(subject="CN=other"),
    "change-trust-schemes": lambda data: entry(
        schemes=(data.draw(st.sampled_from([1027, 1283, 2052, 2308, 2309, 2310])),)
    ),
    "change-trust-signers": lambda data: entry(signers=data.draw(st.integers(2, 100))),
    "change-revoked-key": lambda data: revoking(key_item(KEY, data.draw(st.sampled_from(HASH_NUMBERS)))),
    "change-revoked-version": lambda data: revoking(version_item(TAG)),
    "change-revoked-other": another_item,
    "change-revoked-expired": lambda data: Case(
        revoked=Revoked(latest={KEY: Accepted(1, data.draw(integers(-(2**63), signers.NOW - 1)), frozenset())})
    ),
    "change-accepted-hashes": lambda data: Case(accepted=Algorithms(hashes=Algorithms().hashes - {1})),
    "change-accepted-units": lambda data: Case(accepted=Algorithms(unit_log2s=Algorithms().unit_log2s - {12})),
    "change-accepted-schemes": lambda data: Case(accepted=Algorithms(schemes=Algorithms().schemes - {0x0807})),
}


def changed(row: dict[str, str], data: st.DataObject) -> Case:
    if row["id"] in IN_WORDS:
        return IN_WORDS[row["id"]](data)
    return with_value(row["field"], data.draw(values(row)), row["change"].startswith("re-signed"))


# The tests


def test_the_base_is_the_drafts_worked_example_and_verifies() -> None:
    assert BASE.encode() == example("example-statement")
    record = Case().data()
    assert record is not None
    statement, rest = example("example-statement"), example("example-record")
    assert record == rest[:4] + statement + rest[4:]
    assert Case().outcome() == "verified"


def test_each_row_is_either_a_list_of_values_or_in_words() -> None:
    ids = [row["id"] for row in ROWS]
    assert len(set(ids)) == len(ids)
    assert set(IN_WORDS) <= set(ids)
    for row in ROWS:
        if row["id"] not in IN_WORDS:
            assert row["field"] in ALLOWED, row
            assert listed(row["change"]) or ANY_OTHER.fullmatch(row["change"]), row


def test_every_signed_field_has_rows_signed_again_and_not() -> None:
    names = [name for name in ALLOWED if name.startswith("file.")]
    for name in names:
        assert {row["change"].startswith("re-signed") for row in ROWS if row["field"] == name} == {False, True}, name


@pytest.mark.spec("fim-ver-4", "fim-dec-1", "fim-st-6", "fim-ext-2", "fim-ext-3", "fim-proof-9", "fim-policy-6")
@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
@settings(max_examples=50)
@given(data=st.data())
def test_a_change_ends_in_the_verdict_of_its_row(row: dict[str, str], data: st.DataObject) -> None:
    assert changed(row, data).outcome() == row["verdict"]
