# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The pseudocode of File Integrity Metadata, run as it is printed, gives what `proto` gives.

It is a subset of Python, which `test_the_pseudocode_is_in_the_subset` holds it to: so each block is executed in a
namespace that has a few builtins and what the text says is not shown. `proto` takes other ways (level by level, without
recursion; trust entries with methods), so that two ways of writing the same rules are compared here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes as crypto_hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_proto import fsverity, proof, tree
from nfsverity_proto.certificate import DOCUMENT_SIGNING, check_chain, parse_certificate
from nfsverity_proto.entry import EntryType
from nfsverity_proto.errors import BadCertificate, BadSignature, VerificationError
from nfsverity_proto.hashes import HASH_NUMBERS, SHA256, hash_by_number
from nfsverity_proto.marks import Mark
from nfsverity_proto.record import (
    Attestation,
    Fingerprint,
    Signature,
    decode_record,
    encode_record,
    fingerprint_of,
    signature_attestation,
    signature_of,
    signed_bytes,
)
from nfsverity_proto.revocation import NOTHING_REVOKED, Accepted, Revoked, key_item, version_item
from nfsverity_proto.signature import SCHEME_NUMBERS, check_signature, scheme_by_number
from nfsverity_proto.statement import (
    NO_END,
    PUBLIC_KEY,
    VERSION,
    Content,
    Extension,
    File,
    Item,
    Kind,
    Revocation,
    Statement,
    Tag,
    Time,
    Tree,
    When,
    decode_statement,
    encode_statement,
    tag_of,
)
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import verify_head, verify_record, verify_revocation
from nfsverity_proto.verifier import ALL_ALGORITHMS, Algorithms, Expected, Verifier
from nfsverity_store import update as store_update

from .drafts import METADATA, code, table

BLOCKS = code(METADATA, "pseudocode")
BUILTINS: dict[str, Any] = {f.__name__: f for f in (bytes, len, min, range, set)} | {"replace": bytes.replace}
SUBSET = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.For, ast.While, ast.If,
    ast.Raise, ast.Try, ast.ExceptHandler, ast.Expr, ast.Name, ast.Load, ast.Store, ast.Constant, ast.Tuple, ast.List,
    ast.ListComp, ast.comprehension, ast.Call, ast.Attribute, ast.Subscript, ast.Slice, ast.IfExp, ast.BinOp, ast.Add,
    ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Pow, ast.UnaryOp, ast.USub, ast.Not, ast.BoolOp, ast.And, ast.Or,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot,
)  # fmt: skip
HASH = hash_by_number(SHA256)
H = HASH.digest


def run(*names: str, **given: Any) -> dict[str, Any]:
    """The functions of some blocks."""
    namespace: dict[str, Any] = {"__builtins__": BUILTINS, **given}
    for name in names:
        exec(compile(BLOCKS[name], f"pseudocode {name}", "exec"), namespace)
    return namespace


class Refused(Exception):
    pass


class Verdict(Exception):
    def __init__(self, step: int, name: str) -> None:
        super().__init__(name)
        self.step, self.name = step, name


DRAFT = run(
    "tree", "canonical", "zeros", "proof", "updating", "tree2", "compare", "volume",
    Refused=Refused, Verdict=Verdict, ENTRY_FILE=EntryType.FILE,
)  # fmt: skip


def test_all_blocks_are_run_here() -> None:
    assert set(BLOCKS) == {
        "tree", "canonical", "zeros", "proof", "updating", "tree2", "volume", "verification", "compare",
    }  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_the_pseudocode_is_in_the_subset(name: str) -> None:
    for element in ast.walk(ast.parse(BLOCKS[name])):
        assert isinstance(element, SUBSET), ast.dump(element)


def leaves_of(count: int) -> list[bytes]:
    return [H(bytes([i % 256, i // 256 % 256])) for i in range(count)]


# The tree


@pytest.mark.spec("fim-tree-1", "fim-tree-2", "fim-tree-3", "fim-tree-5")
@pytest.mark.parametrize("units", [*range(40), 63, 64, 65, 127, 128, 129, 255, 257])
def test_every_node_under_every_name(units: int) -> None:
    leaves = leaves_of(units)
    assert DRAFT["root"](H, leaves) == tree.root(HASH, leaves)
    if not units:
        return
    assert DRAFT["height"](units) == tree.height(units)
    for level, values in enumerate(tree.levels(HASH, leaves)):
        assert DRAFT["width"](units, level) == tree.width(units, level) == len(values)
        for index, value in enumerate(values):
            assert DRAFT["value"](H, leaves, level, index) == value
            name = DRAFT["canonical"](units, level, index)
            assert name == tree.canonical(units, level, index)
            assert DRAFT["value"](H, leaves, *name) == value


@pytest.mark.spec("fim-tree-4")
@given(st.integers(0, 2**63 - 1), st.integers(12, 24))
def test_the_number_of_units(size: int, unit_log2: int) -> None:
    units = DRAFT["units"](size, unit_log2)
    assert units == tree.Shape(size, unit_log2).units
    assert DRAFT["height"](units) == tree.height(units) <= 51
    assert units <= 2**51


def test_a_leaf_and_zero_subtrees() -> None:
    assert DRAFT["leaf"](H, b"unit") == HASH.leaf(b"unit")
    for level in range(5):
        assert DRAFT["zero_node"](H, 12, level) == tree.zero_node(HASH, 12, level)


# Range proofs


def check_range(units: int, first: int, end: int, level: int) -> None:
    leaves = leaves_of(units)
    levels = list(tree.levels(HASH, leaves))

    def at(level: int, index: int) -> bytes:
        return levels[level][index]

    index = first >> level
    found = DRAFT["prove"](at, units, first, end, level, index)
    assert found == proof.prove(at, units, first, end, level)
    assert len(found) == DRAFT["proof_length"](units, first, end, level) == proof.proof_length(units, first, end, level)
    assert len(found) <= 2 * level
    inside = leaves[first:end]
    value, rest = DRAFT["fold"](H, units, first, end, level, index, inside, found)
    assert (value, rest) == (at(level, index), [])
    assert value == proof.fold(HASH, units, first, inside, level, found).top
    check = DRAFT["verify_units"]
    assert check(H, units, first, end, level, value, inside, found)
    for wrong in ([*found, bytes(32)], found[:-1]):
        if wrong != found:
            with pytest.raises(Refused):
                check(H, units, first, end, level, value, inside, wrong)
            with pytest.raises(ValueError, match="a proof of"):
                proof.fold(HASH, units, first, inside, level, wrong)
    for i in range(len(found)):
        with pytest.raises(Refused):
            check(H, units, first, end, level, value, inside, [*found[:i], found[i][:-1], *found[i + 1 :]])
        assert not check(H, units, first, end, level, value, inside, [*found[:i], bytes(32), *found[i + 1 :]])
    assert not check(H, units, first, end, level, value, [bytes(32), *inside[1:]], found)


@pytest.mark.spec("fim-proof-3", "fim-proof-4", "fim-proof-7")
@pytest.mark.parametrize("units", [*range(1, 12), 16, 17])
def test_every_range_of_small_trees_under_every_node(units: int) -> None:
    for first in range(units):
        for end in range(first + 1, units + 1):
            for level in range(tree.height(units) + 1):
                if first >> level == (end - 1) >> level:
                    check_range(units, first, end, level)


@pytest.mark.spec("fim-proof-3", "fim-proof-4")
@settings(max_examples=60)
@given(st.integers(1, 600), st.data())
def test_a_range_of_a_larger_tree(units: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, units - 1))
    end = data.draw(st.integers(first + 1, min(first + 40, units)))
    least = next(level for level in range(12) if first >> level == (end - 1) >> level)
    check_range(units, first, end, data.draw(st.integers(least, max(least, tree.height(units)))))


@pytest.mark.spec("fim-proof-1", "fim-proof-2")
def test_a_range_that_is_none_is_refused_by_both() -> None:
    leaves = leaves_of(7)
    for first, end, level in ((2, 2, 3), (3, 2, 3), (5, 8, 3), (0, 1, 4), (3, 5, 2)):
        with pytest.raises(Refused):
            DRAFT["verify_units"](H, 7, first, end, level, bytes(32), leaves[first:end], [])
        with pytest.raises(ValueError, match=r"units|level"):
            proof.check_range(7, first, end, level)


# Updating a tree


@pytest.mark.spec("fim-keep-2")
@settings(max_examples=150)
@given(st.data())
def test_a_tree_from_the_one_before(data: st.DataObject) -> None:
    sizes = st.integers(0, 40 << 12) | st.builds(
        lambda units, more: (units << 12) + more, st.integers(0, 33), st.integers(-1, 1).map(abs)
    )
    size, new_size = data.draw(sizes), data.draw(sizes)
    old, new = tree.Shape(size, 12), tree.Shape(new_size, 12)
    spans = st.integers(0, 40 << 12).flatmap(lambda offset: st.tuples(st.just(offset), st.integers(1, 3 << 12)))
    written = [(offset, offset + length) for offset, length in data.draw(st.lists(spans, max_size=3))]
    changed = DRAFT["changed_units"](size, new_size, 12, written)
    ranges = store_update.changed_units(old, new, written)
    assert changed == {unit for first, end in ranges for unit in range(first, end)}
    if not old.units or not new.units:
        return
    before = leaves_of(old.units)
    after = [H(b"new %d" % j) if j in changed else before[j] for j in range(new.units)]
    levels = list(tree.levels(HASH, before))

    def kept(level: int, index: int) -> bytes:
        return levels[level][index]

    used = DRAFT["taken_over"](new.units, changed, new.height, 0)
    assert used == store_update.untouched(new.units, ranges)
    folded = DRAFT["fold_used"](H, old.units, used, kept, old.height, 0)
    assert folded == tree.root(HASH, before) == store_update.fold_used(HASH, old.units, kept, used)
    found = DRAFT["update"](H, new.units, changed, after.__getitem__, kept, new.height, 0)
    assert found == tree.root(HASH, after)
    for wrong in used:
        levels[wrong[0]] = list(levels[wrong[0]])
        levels[wrong[0]][wrong[1]] = bytes(32)
        assert DRAFT["fold_used"](H, old.units, used, kept, old.height, 0) != tree.root(HASH, before)
        levels = list(tree.levels(HASH, before))


# Tree type 2


@pytest.mark.spec("fim-fsv-3", "fim-fsv-4")
@pytest.mark.parametrize("number", [1, 8])
@pytest.mark.parametrize("units", [1, 2, 63, 64, 65, 127, 128, 129, 300])
def test_tree_type_2(units: int, number: int) -> None:
    hash = hash_by_number(number)
    blocks = fsverity.BlockTree(hash, tree.Shape(units << 12, 12))
    k = blocks.arity
    leaves = [hash.digest(leaf) for leaf in leaves_of(units)]
    levels = blocks.levels(leaves)

    def at(level: int, index: int) -> bytes:
        return levels[level][index]

    height = DRAFT["height2"](units, k)
    assert height == blocks.height
    assert DRAFT["value2"](hash.digest, 12, k, leaves, height, 0) == blocks.root(leaves)
    assert DRAFT["padded"](hash.digest, b"short", 12) == blocks.leaf(b"short")
    for first, end in ((0, 1), (units - 1, units), (units // 3, units // 2 + 1), (0, units)):
        found = DRAFT["prove2"](at, units, k, first, end, height, 0)
        assert found == blocks.prove(at, first, end)
        assert DRAFT["proof_length2"](units, k, first, end, height) == len(found) <= 2 * (k - 1) * height
        value, rest = DRAFT["fold2"](hash.digest, 12, units, k, first, end, height, 0, leaves[first:end], found)
        assert (value, rest) == (blocks.root(leaves), [])


# Comparing two versions


@pytest.mark.spec("fim-diff-2")
@given(
    one=st.lists(st.sampled_from("xy"), min_size=1, max_size=40),
    other=st.lists(st.sampled_from("xy"), min_size=1, max_size=40),
)
def test_comparing_finds_the_units_that_differ(one: list[str], other: list[str]) -> None:
    def at(units: list[str]) -> Callable[[int, int], bytes]:
        leaves = [H(b"\0" + unit.encode()) for unit in units]
        rows = list(tree.levels(HASH, leaves))
        return lambda level, index: rows[level][index] if level < len(rows) else rows[-1][0]

    height = max(tree.height(len(one)), tree.height(len(other)))
    found = DRAFT["compare"](at(one), len(one), at(other), len(other), height, 0)
    assert found == [index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]


# Verification. The pseudocode sees certificates and trust entries as the text describes them; `proto`'s codec,
# signatures and paths stand for what the text says is not shown.


@dataclass(frozen=True)
class Judged:
    """A certificate, by its parts."""

    key: bytes
    not_before: int
    not_after: int
    digital_signature: bool
    purposes: frozenset[str] | None
    parsed: Any = field(compare=False)


@dataclass(frozen=True)
class Signer:
    key: bytes
    entries: Sequence[TrustEntry]


@dataclass(frozen=True)
class KeptMark:
    """A mark as the pseudocode has it: with its key."""

    key: bytes
    generation: int
    tag: Tag


@dataclass(frozen=True)
class KeptRevocation:
    key: bytes
    generation: int
    not_after: int
    items: frozenset[Item]


@dataclass(frozen=True)
class KeptRevoked:
    items: frozenset[Item]
    accepted: Sequence[KeptRevocation]


Under = tuple[bytes, bytes, Kind, bytes]
"""Anchor, volume ID, kind and path."""


@dataclass(frozen=True)
class Marked:
    """Marks, as both sides want them."""

    marks: Mapping[Under, Mapping[bytes, Mark]] = field(default_factory=dict)

    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> Mapping[bytes, Mark]:
        return self.marks.get((anchor, volume, kind, path), {})

    def get(self, under: Under, default: list[KeptMark]) -> list[KeptMark]:
        if under not in self.marks:
            return default
        return [KeptMark(key, mark.generation, mark.tag) for key, mark in self.marks[under].items()]


def as_verdict(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except VerificationError as error:
        raise Verdict(error.step, error.verdict) from error


def decode_certificate(der: bytes) -> Judged | None:
    try:
        parsed = parse_certificate(der)
    except BadCertificate:
        return None
    return Judged(parsed.key_id(), parsed.not_before, parsed.not_after, parsed.signs, parsed.purposes, parsed)


def path_leads(certificate: Judged, others: Sequence[bytes], entry: TrustEntry, now: int) -> bool:
    try:
        check_chain(certificate.parsed, others, entry.certificate, now)
    except BadCertificate:
        return False
    return True


@dataclass(frozen=True)
class Case:
    """What a verification is given."""

    data: bytes | None
    trust: Sequence[TrustEntry]
    expected: Expected
    certificates: Mapping[Fingerprint, Sequence[bytes]]
    now: int
    accepted: Algorithms = ALL_ALGORITHMS
    marks: Marked = field(default_factory=Marked)
    revoked: Revoked = NOTHING_REVOKED
    kind: Kind = Kind.FILE

    def by_the_draft(self) -> str:
        keys: dict[bytes, Any] = {}

        def fits(scheme: int, key: bytes) -> bool:
            return scheme_by_number(scheme).fits(keys[key])

        def decoded(der: bytes) -> Judged | None:
            certificate = decode_certificate(der)
            if certificate is not None:
                keys[certificate.key] = certificate.parsed.public_key
            return certificate

        def get_certificate(signer: Fingerprint) -> tuple[bytes, Sequence[bytes]] | None:
            found = self.certificates.get(signer)
            return (found[0], found[1:]) if found else None

        def signature_verifies(scheme: int, key: bytes, value: bytes, message: bytes) -> bool:
            try:
                check_signature(scheme_by_number(scheme), keys[key], value, message)
            except BadSignature:
                return False
            return True

        verify = run(
            "verification",
            Verdict=Verdict,
            Signer=Signer,
            FILE=Kind.FILE,
            VOLUME=Kind.VOLUME,
            REVOCATION=Kind.REVOCATION,
            PUBLIC_KEY=PUBLIC_KEY,
            VERSION=VERSION,
            EXTENSIONS=set(),
            TREE_TYPES={tree.RFC9162},
            HASHES=set(HASH_NUMBERS),
            SCHEMES=set(SCHEME_NUMBERS),
            decode_record=lambda data: as_verdict(decode_record, data),
            decode_statement=lambda data, kind: as_verdict(decode_statement, data, kind),
            decode_signature=lambda body: signature_of(Attestation(1, body)),
            decode_certificate=decoded,
            get_certificate=get_certificate,
            digest=lambda number, data: hash_by_number(number).digest(data),
            fits=fits,
            path_leads=path_leads,
            subject_fits=lambda entry, certificate: entry.subject_fits(certificate.parsed),
            signature_verifies=signature_verifies,
            signed_bytes=signed_bytes,
            tag=lambda number, data: tag_of(data, number),
        )["verify_record"]
        try:
            verify(self.data, self.kind, self.expected, self.trust, self.marks, self.kept(), self.now, self.accepted)
        except Verdict as verdict:
            return verdict.name
        return "verified"

    def kept(self) -> KeptRevoked:
        accepted = [
            KeptRevocation(key, one.generation, one.not_after, one.items) for key, one in self.revoked.latest.items()
        ]
        return KeptRevoked(self.revoked.items, accepted)

    def by_proto(self) -> str:
        verify = {Kind.FILE: verify_record, Kind.VOLUME: verify_head, Kind.REVOCATION: verify_revocation}[self.kind]
        try:
            verify(
                self.data,
                self.expected,
                Verifier(self.trust, self.certificates, self.now, self.accepted, self.marks, self.revoked),
            )
        except VerificationError as error:
            return error.verdict
        return "verified"


NOW = 1_795_500_000
VOLUME, OTHER_VOLUME = bytes(range(16)), bytes(16)
PATH = b"a/bc"
URL = "nfsv://host:7447/a/bc"


@dataclass(frozen=True)
class Key:
    """A key with its certificate, and the certificates above it."""

    key: Any
    der: bytes
    above: tuple[bytes, ...] = ()

    def attest(self, statement: bytes, hash: int = SHA256, scheme: int | None = None) -> Attestation:
        signer = fingerprint_of(self.der, hash)
        number = (0x0807 if isinstance(self.key, ed25519.Ed25519PrivateKey) else 0x0403) if scheme is None else scheme
        message = signed_bytes(signer, number, statement)
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            value = self.key.sign(message)
        else:
            value = self.key.sign(message, ec.ECDSA(crypto_hashes.SHA256()))
        return signature_attestation(Signature(signer, number, value))


def make(
    name: str,
    *,
    issuer: Key | None = None,
    ca: bool = False,
    elliptic: bool = False,
    days: tuple[int, int] = (-10, 10),
    signs: bool = True,
    purpose: str | None = None,
) -> Key:
    """A key and its certificate, by itself or by an issuer."""
    key: Any = ec.generate_private_key(ec.SECP256R1()) if ca or elliptic else ed25519.Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.fromtimestamp(NOW, UTC)
    signing = key if issuer is None else issuer.key
    above = None if issuer is None else x509.load_der_x509_certificate(issuer.der)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if above is None else above.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(signs, False, False, False, False, ca, ca, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(purpose)]), critical=False)
    elliptic_signer = isinstance(signing, ec.EllipticCurvePrivateKey)
    certificate = builder.sign(signing, crypto_hashes.SHA256() if elliptic_signer else None)
    chain = () if issuer is None else (issuer.der, *issuer.above)
    return Key(key, certificate.public_bytes(Encoding.DER), chain)


@cache
def keys() -> dict[str, Key]:
    root = make("root", ca=True)
    middle = make("middle", issuer=root, ca=True)
    stranger, old = make("stranger", ca=True), make("old", ca=True, days=(-10, -1))
    anything = "2.5.29.37.0"
    return {
        "root": root,
        "stranger": stranger,
        "old": old,
        "leaf-of-old": make("leaf", issuer=old, purpose=DOCUMENT_SIGNING),
        "pin": make("pin"),
        "second": make("second"),
        "unused": make("unused", signs=False),
        "early": make("early", days=(1, 10)),
        "late": make("late", days=(-10, -1)),
        "purpose": make("purpose", purpose=DOCUMENT_SIGNING),
        "another-purpose": make("another-purpose", purpose=anything),
        "elliptic": make("elliptic", elliptic=True),
        "leaf": make("leaf", issuer=root, purpose=DOCUMENT_SIGNING),
        "below": make("leaf", issuer=middle, purpose=DOCUMENT_SIGNING),
        "leaf-late": make("leaf", issuer=root, purpose=DOCUMENT_SIGNING, days=(-10, -1)),
        "leaf-purposeless": make("leaf", issuer=root),
        "leaf-unused": make("leaf", issuer=root, purpose=DOCUMENT_SIGNING, signs=False),
        "leaf-named": make("another", issuer=root, purpose=DOCUMENT_SIGNING),
        "foreign": make("leaf", issuer=stranger, purpose=DOCUMENT_SIGNING),
    }


def statement(**changes: Any) -> Statement:
    when = When(NOW * 1_000_000, changes.pop("issued", NOW), changes.pop("not_after", NO_END))
    content = Content(Time(NOW, 0), Tree(changes.pop("tree_type", 1), changes.pop("unit_log2", 12), 9, bytes(32)))
    path, volume = changes.pop("path", PATH), changes.pop("volume", VOLUME)
    return Statement(
        changes.pop("hash", SHA256), File(volume, b"label", path, when, False, content), changes.pop("extensions", ())
    )


def pin(name: str, **parts: Any) -> TrustEntry:
    return TrustEntry(keys()[name].der, **parts)


def authority(name: str = "root", subject: str = "CN=leaf", **parts: Any) -> TrustEntry:
    return TrustEntry(keys()[name].der, ca=True, subject=subject, **({"volumes": (VOLUME,)} | parts))


def case(
    signers: Sequence[str],
    trust: Sequence[TrustEntry],
    *,
    given: Mapping[str, Sequence[bytes]] | None = None,
    added: Sequence[Attestation] = (),
    **changes: Any,
) -> Case:
    """A record that `signers` signed; `given` says which certificates come along, if not the right ones."""
    expected = Expected(PATH, changes.pop("volumes", frozenset([VOLUME])), changes.pop("url", URL))
    now, accepted = changes.pop("now", NOW), changes.pop("accepted", ALL_ALGORITHMS)
    data = encode_statement(statement(**changes))
    attestations = [keys()[name].attest(data) for name in signers]
    certificates = {fingerprint_of(keys()[name].der): [keys()[name].der, *keys()[name].above] for name in signers}
    for name, chain in (given or {}).items():
        certificates[fingerprint_of(keys()[name].der)] = list(chain)
    return Case(encode_record(data, [*attestations, *added]), trust, expected, certificates, now, accepted)


def without(name: str) -> Algorithms:
    everything = {"hashes": HASH_NUMBERS, "schemes": SCHEME_NUMBERS, "unit_log2s": range(12, 25)}
    gone = {"hashes": 1, "schemes": 0x0807, "unit_log2s": 12}[name]
    return replace(ALL_ALGORITHMS, **{name: frozenset(everything[name]) - {gone}})


CRITICAL = (Extension(1, True, b""),)
OTHER_TYPE = Attestation(3, b"")
CASES: dict[str, tuple[str, Callable[[], Case]]] = {
    "pinned": ("verified", lambda: case(["pin"], [pin("pin")])),
    "no record": ("unsigned", lambda: replace(case(["pin"], [pin("pin")]), data=None)),
    "not a record": ("malformed", lambda: replace(case(["pin"], [pin("pin")]), data=b"\0\0\0\0")),
    "volume": ("wrong-volume", lambda: case(["pin"], [pin("pin")], volume=OTHER_VOLUME, path=b"c")),
    "any volume": ("verified", lambda: case(["pin"], [pin("pin")], volume=OTHER_VOLUME, volumes=None)),
    "path": ("wrong-path", lambda: case(["pin"], [pin("pin")], path=b"c", extensions=CRITICAL)),
    "extension": ("unknown-extension", lambda: case(["pin"], [], extensions=CRITICAL, tree_type=9)),
    "plain extension": ("verified", lambda: case(["pin"], [pin("pin")], extensions=(Extension(1, False, b"x"),))),
    "truncated hash": ("refused-algorithm", lambda: case(["pin"], [], hash=2, tree_type=9)),
    "unknown hash": ("unsupported", lambda: case(["pin"], [], hash=99)),
    "refused hash": ("refused-algorithm", lambda: case(["pin"], [], accepted=without("hashes"))),
    "tree type": ("unsupported", lambda: case(["pin"], [], tree_type=9, accepted=without("unit_log2s"))),
    "unit": ("refused-algorithm", lambda: case(["pin"], [], accepted=without("unit_log2s"))),
    "scheme": ("refused-algorithm", lambda: case(["pin"], [], accepted=without("schemes"))),
    "nobody": ("untrusted", lambda: case(["pin"], [])),
    "somebody": ("untrusted", lambda: case(["pin"], [pin("second")])),
    "pin, other volume": ("out-of-scope", lambda: case(["pin"], [pin("pin", volumes=(OTHER_VOLUME,))])),
    "pin, above": ("verified", lambda: case(["pin"], [pin("pin", prefixes=("nfsv://host:7447/a",))])),
    "pin, above with a slash": ("verified", lambda: case(["pin"], [pin("pin", prefixes=("nfsv://host:7447/a/",))])),
    "pin, here": ("verified", lambda: case(["pin"], [pin("pin", prefixes=(URL,))])),
    "pin, part of a segment": ("out-of-scope", lambda: case(["pin"], [pin("pin", prefixes=(URL[:-1],))])),
    "pin, no URL": ("out-of-scope", lambda: case(["pin"], [pin("pin", prefixes=(URL,))], url=None)),
    "pin, subject": ("verified", lambda: case(["pin"], [pin("pin", subject="CN=pin")])),
    "pin, other subject": ("out-of-scope", lambda: case(["pin"], [pin("pin", subject="CN=other")])),
    "pin, other scheme": ("out-of-scope", lambda: case(["pin"], [pin("pin", schemes=(0x0403,))])),
    "second pin of the same": (
        "verified",
        lambda: case(["pin"], [pin("pin", volumes=(OTHER_VOLUME,)), pin("pin", schemes=(0x0807,))]),
    ),
    "pin out of scope, and its CA": (
        "out-of-scope",
        lambda: case(["leaf"], [pin("leaf", volumes=(OTHER_VOLUME,)), authority()]),
    ),
    "pin early": ("not-yet-valid", lambda: case(["early"], [pin("early")])),
    "pin late": ("expired", lambda: case(["late"], [pin("late")])),
    "pin without usage": ("wrong-usage", lambda: case(["unused"], [pin("unused")])),
    "pin with purpose": ("verified", lambda: case(["purpose"], [pin("purpose")])),
    "pin with other purpose": ("wrong-usage", lambda: case(["another-purpose"], [pin("another-purpose")])),
    "elliptic": ("verified", lambda: case(["elliptic"], [pin("elliptic")])),
    "chain": ("verified", lambda: case(["leaf"], [authority()])),
    "long chain": ("verified", lambda: case(["below"], [authority()])),
    "broken chain": ("bad-certificate", lambda: case(["below"], [authority()], given={"below": [keys()["below"].der]})),
    "chain, other volume": ("out-of-scope", lambda: case(["leaf"], [authority(volumes=(OTHER_VOLUME,))])),
    "chain, other scheme": ("out-of-scope", lambda: case(["leaf"], [authority(schemes=(0x0403,))])),
    "chain, other subject": ("out-of-scope", lambda: case(["leaf-named"], [authority()])),
    "chain, second subject": ("verified", lambda: case(["leaf-named"], [authority(), authority(subject="CN=another")])),
    "chain, none": ("no-certificate", lambda: case(["leaf"], [authority()], given={"leaf": []})),
    "chain, another": ("bad-certificate", lambda: case(["leaf"], [authority()], given={"leaf": [keys()["pin"].der]})),
    "chain, late": ("expired", lambda: case(["leaf-late"], [authority()])),
    "chain, late and foreign": ("expired", lambda: case(["leaf-late"], [authority("stranger")])),
    "chain, no purpose": ("wrong-usage", lambda: case(["leaf-purposeless"], [authority()])),
    "chain, no usage": ("wrong-usage", lambda: case(["leaf-unused"], [authority("stranger")])),
    "chain, foreign": ("bad-certificate", lambda: case(["foreign"], [authority()])),
    "chain, foreign, second CA": ("verified", lambda: case(["foreign"], [authority(), authority("stranger")])),
    "chain, foreign, other subject": (
        "out-of-scope",
        lambda: case(["foreign"], [authority("stranger", "CN=x"), authority()]),
    ),
    "CA late": ("bad-certificate", lambda: case(["leaf-of-old"], [authority("old")])),
    "other type beside": ("verified", lambda: case(["pin"], [pin("pin")], added=[OTHER_TYPE])),
    "two signers": ("verified", lambda: case(["pin", "second"], [pin("pin", signers=2), pin("second", signers=2)])),
    "one of two": ("too-few-signers", lambda: case(["pin"], [pin("pin"), pin("second", signers=2)])),
    "one of two, elsewhere": (
        "verified",
        lambda: case(["pin"], [pin("pin"), pin("second", signers=2, volumes=(OTHER_VOLUME,))]),
    ),
    "one bad, one good": ("verified", lambda: case(["late", "pin"], [pin("pin"), pin("late")])),
    "the furthest": ("expired", lambda: case(["late", "pin"], [pin("late"), pin("pin", volumes=(OTHER_VOLUME,))])),
    "issued later": ("issued-in-future", lambda: case(["pin"], [pin("pin")], issued=NOW + 301)),
    "issued soon": ("verified", lambda: case(["pin"], [pin("pin")], issued=NOW + 300)),
    "not after now": ("verified", lambda: case(["pin"], [pin("pin")], not_after=NOW)),
    "not after before": ("record-expired", lambda: case(["pin"], [pin("pin")], not_after=NOW - 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_pseudocode_and_proto_give_the_same_verdict(name: str) -> None:
    verdict, make_case = CASES[name]
    made = make_case()
    assert made.by_the_draft() == verdict
    assert made.by_proto() == verdict


def signed_twice(scheme: int, hash: int) -> Case:
    """A record whose signature says another scheme, or names its certificate under another hash."""
    made = case(["pin"], [pin("pin")])
    data = encode_statement(statement())
    return replace(made, data=encode_record(data, [keys()["pin"].attest(data, hash, scheme)]))


@pytest.mark.spec("fim-sig-3", "fim-hash-3")
@pytest.mark.parametrize(
    ("scheme", "hash", "verdict"),
    [
        (0x0807, 1, "verified"),
        (0x0807, 8, "verified"),
        (0x0807, 65536, "verified"),
        (0x0403, 1, "bad-certificate"),
        (0x0808, 1, "unsupported"),
    ],
)
def test_another_scheme_or_hash_in_the_attestation(scheme: int, hash: int, verdict: str) -> None:
    made = signed_twice(scheme, hash)
    assert (made.by_the_draft(), made.by_proto()) == (verdict, verdict)


@pytest.mark.parametrize(("number", "verdict"), [(2, "refused-algorithm"), (99, "unsupported")])
def test_a_fingerprint_under_a_hash_that_is_not_used(number: int, verdict: str) -> None:
    made = case(["pin"], [pin("pin")])
    data = encode_statement(statement())
    attestation = signature_attestation(Signature(Fingerprint(number, bytes(32)), 0x0807, bytes(64)))
    made = replace(made, data=encode_record(data, [attestation]))
    assert (made.by_the_draft(), made.by_proto()) == (verdict, verdict)


@settings(max_examples=200)
@given(st.data())
def test_a_record_with_one_bit_changed_gets_the_same_verdict(data: st.DataObject) -> None:
    made = case(["pin"], [pin("pin")], added=[OTHER_TYPE])
    record = bytearray(made.data or b"")
    bit = data.draw(st.integers(0, 8 * len(record) - 1))
    record[bit // 8] ^= 1 << bit % 8
    changed = replace(made, data=bytes(record))
    assert changed.by_the_draft() == changed.by_proto()


# Marks

GENERATION = NOW * 1_000_000
OTHER = Tag(SHA256, bytes(32))


def spki(name: str) -> bytes:
    return parse_certificate(keys()[name].der).key_id()


def marks(
    *given: tuple[str, str, int, Tag], volume: bytes = VOLUME, kind: Kind = Kind.FILE, path: bytes = PATH
) -> Marked:
    """Of entries' anchors and signers, by their names."""
    found: dict[Under, dict[bytes, Mark]] = {}
    for entry, signer, generation, tag in given:
        under = found.setdefault((keys()[entry].der, volume, kind, path), {})
        under[spki(signer)] = Mark(generation, tag)
    return Marked(found)


def both(made: Case) -> str:
    verdict = made.by_the_draft()
    assert made.by_proto() == verdict
    return verdict


@pytest.mark.spec("fim-ver-4", "fim-mark-6")
@pytest.mark.parametrize("row", table(METADATA, "mark-table"), ids=" ".join)
@pytest.mark.parametrize("signer", ["pin", "second"])
def test_a_mark_counts_whoever_of_those_that_cover_the_file_has_it(row: list[str], signer: str) -> None:
    """Two signers are believed, and the mark is that of the first, whose signature a provider may have left out."""
    made = case([signer], [pin("pin"), pin("second")])
    own = tag_of(encode_statement(statement()), SHA256)
    words = {"below that": -1, "that": 0, "above that": 1}
    generation = GENERATION + words[row[0].removesuffix(" of the record")]
    for tag in {"any": [own, OTHER], "another": [OTHER], "that of the record": [own]}[row[1]]:
        assert both(replace(made, marks=marks(("pin", "pin", generation, tag)))) == row[2]


@pytest.mark.spec("fim-mark-6")
def test_a_mark_of_an_entry_that_does_not_cover_the_file_does_not_count() -> None:
    above = ("pin", "pin", GENERATION + 1, OTHER)
    for narrow in ({"volumes": (OTHER_VOLUME,)}, {"prefixes": ("nfsv://elsewhere:1/",)}):
        made = case(["second"], [pin("pin", **narrow), pin("second")])
        assert both(replace(made, marks=marks(above))) == "verified"
    made = case(["second"], [pin("second")])
    assert both(replace(made, marks=marks(above))) == "verified"
    above = ("second", "second", GENERATION + 1, OTHER)
    assert both(replace(made, marks=marks(above, volume=OTHER_VOLUME))) == "verified"
    assert both(replace(made, marks=marks(above, kind=Kind.REVOCATION))) == "verified"
    assert both(replace(made, marks=marks(above))) == "rollback"


def test_rollback_comes_before_equivocation() -> None:
    made = case(["pin"], [pin("pin"), pin("second")])
    found = marks(("pin", "pin", GENERATION, OTHER), ("second", "second", GENERATION + 1, OTHER))
    assert both(replace(made, marks=found)) == "rollback"


@pytest.mark.spec("fim-mark-8")
def test_the_marks_of_a_revoked_key_are_passed_over_and_the_others_hold() -> None:
    """A stolen key signed a generation near the end. All marks are under one entry, a CA."""
    made = case(["leaf"], [authority()])
    blocked = ("root", "leaf-named", 2**64 - 2, OTHER)
    revoked = Revoked(frozenset([key_item(spki("leaf-named"), SHA256)]))
    assert both(replace(made, marks=marks(blocked))) == "rollback"
    assert both(replace(made, marks=marks(blocked), revoked=revoked)) == "verified"
    for generation, verdict in ((GENERATION, "equivocation"), (GENERATION + 1, "rollback"), (5, "verified")):
        found = marks(blocked, ("root", "leaf", generation, OTHER))
        assert both(replace(made, marks=found, revoked=revoked)) == verdict


# Revocation


def revocation(
    items: Sequence[Item] = (),
    *,
    by: Sequence[str] = ("pin",),
    volume: bytes = VOLUME,
    generation: int = GENERATION,
    issued: int = NOW,
    not_after: int = NO_END,
    **others: Any,
) -> Case:
    claim = Revocation(volume, b"label", When(generation, issued, not_after), tuple(sorted(items)))
    data = encode_statement(Statement(SHA256, claim))
    record = encode_record(data, [keys()[name].attest(data) for name in by])
    made = case(["pin"], [pin("pin"), pin("second")])
    changed: dict[str, Any] = {"data": record, "kind": Kind.REVOCATION, "expected": replace(made.expected, path=b"")}
    return replace(made, **(changed | others))


def revoking(*names: str) -> Revoked:
    return Revoked(frozenset(key_item(spki(name), SHA256) for name in names))


def before(*given: tuple[str, Sequence[Item]], generation: int = GENERATION - 1, not_after: int = NO_END) -> Revoked:
    """Revocations that were accepted, by signer."""
    found = Revoked()
    for name, items in given:
        claim = Revocation(VOLUME, b"label", When(generation, NOW, not_after), tuple(sorted(items)))
        found = found.after(claim, [spki(name)])
    return found


def above(signer: str, *, generation: int = 2**64 - 2, **of: Any) -> Marked:
    return marks((signer, signer, generation, OTHER), **({"kind": Kind.REVOCATION, "path": b""} | of))


def own_tag() -> Tag:
    return tag_of(encode_statement(statement()), SHA256)


def tag_of_record(data: bytes | None) -> Tag:
    return tag_of(decode_record(data or b"").statement, SHA256)


def own_key(name: str) -> Item:
    return key_item(spki(name), SHA256)


SOME = key_item(b"some key", SHA256)
MORE = version_item(OTHER)
REVOCATIONS: dict[str, tuple[str, Callable[[], Case]]] = {
    "empty": ("verified", revocation),
    "key and version": ("verified", lambda: revocation([SOME, MORE])),
    "other kind": ("wrong-kind", lambda: replace(case(["pin"], [pin("pin")]), kind=Kind.REVOCATION)),
    "where a file is asked for": ("wrong-kind", lambda: revocation(kind=Kind.FILE)),
    "other volume": ("wrong-volume", lambda: revocation(volume=OTHER_VOLUME)),
    "unknown what": ("unsupported", lambda: revocation([Item(3, 1, bytes(32))])),
    "unknown what, reserved": ("unsupported", lambda: revocation([Item(0, 1, bytes(32))])),
    "key under an unknown hash": ("unsupported", lambda: revocation([Item(PUBLIC_KEY, 99, bytes(9))])),
    "key under a truncated hash": ("refused-algorithm", lambda: revocation([Item(PUBLIC_KEY, 6, bytes(4))])),
    "version under an unknown hash": ("verified", lambda: revocation([Item(VERSION, 99, bytes(9))])),
    "stranger": ("untrusted", lambda: revocation(by=["stranger"])),
    "by a revoked key": ("revoked", lambda: revocation(revoked=revoking("pin"))),
    "by a revoked key and another": ("verified", lambda: revocation(by=["pin", "second"], revoked=revoking("pin"))),
    "of its own signer": ("verified", lambda: revocation([own_key("pin")])),
    "itself revoked": (
        "revoked",
        lambda: revocation(revoked=Revoked(frozenset([version_item(tag_of_record(revocation().data))]))),
    ),
    "issued later": ("issued-in-future", lambda: revocation(issued=NOW + 301)),
    "expired": ("record-expired", lambda: revocation(not_after=NOW - 1)),
    "with what was before": ("verified", lambda: revocation([SOME, MORE], revoked=before(("pin", [SOME])))),
    "without what was before": ("rollback", lambda: revocation([MORE], revoked=before(("pin", [SOME])))),
    "without what another said": ("rollback", lambda: revocation([MORE], revoked=before(("second", [SOME])))),
    "without what one said whom it revokes": (
        "verified",
        lambda: revocation([own_key("second")], revoked=before(("second", [SOME]))),
    ),
    "without what one said who is revoked": (
        "verified",
        lambda: revocation(revoked=before(("second", [SOME])).joined(revoking("second").items)),
    ),
    "after one that has expired": ("verified", lambda: revocation(revoked=before(("pin", []), not_after=NOW - 1))),
    "below a mark": ("rollback", lambda: revocation(marks=above("pin", generation=GENERATION + 1))),
    "at a mark": ("equivocation", lambda: revocation(marks=above("second", generation=GENERATION))),
    "below a mark of a file": ("verified", lambda: revocation(marks=above("pin", kind=Kind.FILE, path=PATH))),
    "below a mark of a key that it revokes": (
        "verified",
        lambda: revocation([own_key("second")], marks=above("second")),
    ),
    "below a mark of its own key, which it revokes": (
        "verified",
        lambda: revocation([own_key("pin")], marks=above("pin")),
    ),
    "file of a revoked key": ("revoked", lambda: replace(case(["pin"], [pin("pin")]), revoked=revoking("pin"))),
    "file of a revoked key, which expired": (
        "revoked",
        lambda: replace(case(["late"], [pin("late")]), revoked=revoking("late")),
    ),
    "file of a revoked key that is not for the scheme": (
        "bad-certificate",
        lambda: replace(signed_twice(0x0403, 1), revoked=revoking("pin")),
    ),
    "file of a revoked key below a CA": (
        "revoked",
        lambda: replace(case(["leaf"], [authority()]), revoked=revoking("leaf")),
    ),
    "file of a signer below a revoked CA": (
        "verified",
        lambda: replace(case(["leaf"], [authority()]), revoked=revoking("root")),
    ),
    "file of two keys, one revoked": (
        "verified",
        lambda: replace(case(["pin", "second"], [pin("pin"), pin("second")]), revoked=revoking("pin")),
    ),
    "file of two keys, both needed, one revoked": (
        "too-few-signers",
        lambda: replace(case(["pin", "second"], [pin("pin", signers=2), pin("second")]), revoked=revoking("pin")),
    ),
    "file that is revoked": (
        "revoked",
        lambda: replace(case(["pin"], [pin("pin")]), revoked=Revoked(frozenset([version_item(own_tag())]))),
    ),
    "file that is revoked, and below a mark": (
        "revoked",
        lambda: replace(
            case(["pin"], [pin("pin")]),
            revoked=Revoked(frozenset([version_item(own_tag())])),
            marks=marks(("pin", "pin", GENERATION + 1, OTHER)),
        ),
    ),
    "file, and a revoked version of another hash": (
        "verified",
        lambda: replace(case(["pin"], [pin("pin")]), revoked=Revoked(frozenset([Item(VERSION, 10, own_tag().digest)]))),
    ),
    "file after a revocation has expired": (
        "record-expired",
        lambda: replace(case(["pin"], [pin("pin")]), revoked=before(("pin", []), not_after=NOW - 1)),
    ),
    "file while a revocation holds": (
        "verified",
        lambda: replace(case(["pin"], [pin("pin")]), revoked=before(("pin", []), not_after=NOW)),
    ),
    "file, and the expired revocation of a revoked key": (
        "verified",
        lambda: replace(
            case(["pin"], [pin("pin")]), revoked=before(("second", []), not_after=0).joined(revoking("second").items)
        ),
    ),
    "file, and an expired revocation before one that holds": (
        "verified",
        lambda: replace(
            case(["pin"], [pin("pin")]),
            revoked=Revoked(
                frozenset(),
                {spki("second"): Accepted(1, 0, frozenset()), spki("pin"): Accepted(2, NOW, frozenset())},
            ),
        ),
    ),
}


@pytest.mark.spec("fim-kind-3", "fim-rev-3", "fim-rev-4", "fim-rev-7", "fim-rev-8", "fim-rev-12")
@pytest.mark.parametrize("name", REVOCATIONS)
def test_the_pseudocode_and_proto_agree_on_what_is_revoked(name: str) -> None:
    verdict, make_case = REVOCATIONS[name]
    assert both(make_case()) == verdict
