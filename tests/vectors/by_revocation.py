# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Revocations, judged; and what they do to files and marks (fim-rev, fim-mark-8, fim-kind-3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from oracle import merkle, records

from . import certificates, keys, sample
from .case import (
    ACCEPTED,
    NOTHING_REVOKED,
    Attestation,
    Case,
    certificates_for,
    entry,
    example_case,
    fault,
    signed_by,
)
from .certificates import Signer, authority, example, issued, pinned, self_signed
from .form import Long, Vector
from .sample import revocation, statement
from .trees import HASHES

FLAG = "revocations"
Item = tuple[int, int, bytes]
LAST = 2**64 - 2
"""The greatest generation: what a thief signs, so that nothing comes after it."""


def build() -> Iterator[Vector]:
    yield from _judged()
    yield from _successors()
    yield from _revoked_files()
    yield from _fresh_files()
    yield from _marks()


def key(signer: Signer, hash: int = 1) -> Item:
    return records.PUBLIC_KEY, hash, HASHES[hash](signer.key.spki)


def version(data: bytes, hash: int = 1) -> Item:
    return records.VERSION, hash, HASHES[hash](data)


def second() -> Signer:
    return pinned(keys.ED25519)


def items(*given: Item) -> list[dict[str, Any]]:
    return [{"what": what, "hash": hash, "digest": digest} for what, hash, digest in sorted(given)]


def accepted(
    signer: Signer, generation: int, given: Sequence[Item] = (), not_after: int = sample.NO_END
) -> dict[str, Any]:
    """A revocation that the verifier accepted before."""
    return {
        "signer": signer.name,
        "generation": Long(generation),
        "not_after": Long(not_after),
        "items": items(*given),
    }


def revoked(*given: Item, by: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"items": items(*given), "accepted": list(by)}


def mark(signer: Signer, generation: int, digest: bytes = bytes(32), entry: int = 0, **more: Any) -> dict[str, Any]:
    """Of a revocation, unless told otherwise."""
    found = {
        "entry": entry,
        "volume": sample.VOLUME,
        "kind": records.REVOCATION,
        "path": b"",
        "signer": signer.name,
        "generation": Long(generation),
        "tag": {"hash": 1, "digest": digest},
    }
    return found | more


FILE = {"kind": records.FILE, "path": sample.PATH}
"""Of a mark of the worked example."""


def revoking(*given: Item, by: Sequence[Signer] = (), **changed: Any) -> Case:
    """A revocation by the example's signer, whom the verifier pins together with a second one."""
    fields = {name: changed.pop(name) for name in list(changed) if name in records.Statement.__dataclass_fields__}
    case = signed_by(*(by or (example(),)))
    parts: dict[str, Any] = {
        "statement": revocation(items=sorted(given), **fields).encode(),
        "trust": (entry(example().name), entry(second().name)),
        "wanted": records.REVOCATION,
        "path": b"",
        "content": None,
    }
    return replace(case, **(parts | changed)).ordered()


def _judged() -> Iterator[Vector]:
    """Steps 0 to 12 of a revocation."""
    some = key(self_signed("rev-lost", keys.ed25519("rev-lost")))
    taken_back = version(statement().encode())
    rule = ("fim-ver-4", "fim-kind-3")
    empty = revoking().vector("rev", "a revocation of nothing", (*rule, "fim-rev-2"), [FLAG])
    yield empty
    both = revoking(some, taken_back).vector("rev-both", "of a key and a version", (*rule, "fim-rev-4"), [FLAG])
    yield both
    for slug, about, case in (
        ("itself", "of the key that signs it", revoking(key(example()))),
        ("by-two", "by two signers", revoking(by=(example(), second()))),
        ("hashes", "of one key under several hashes", revoking(*(key(second(), hash) for hash in (1, 7, 8, 10)))),
        (
            "unknown-version",
            "of a version whose tag has a hash that nobody knows",
            revoking((records.VERSION, 99, b"tag")),
        ),
        ("truncated-version", "of a version whose tag has a truncated hash", revoking((records.VERSION, 6, bytes(4)))),
        ("128", "of 128 versions", revoking(*((records.VERSION, 1, i.to_bytes(32)) for i in range(128)))),
        ("any-volume", "where any volume is expected", revoking(volumes=None)),
    ):
        yield case.vector(f"rev-{slug}", about, (*rule, "fim-rev-4"), [FLAG])

    def bad(
        base: Vector, slug: str, about: str, verdict: str, case: Case, clauses: Sequence[str], step: int | None = None
    ) -> Vector:
        return fault(base, slug, about, verdict, step, case, clauses, [FLAG, "re-signed"])

    yield fault(
        empty, "file", "a file's record", "wrong-kind", 2, revoking(statement=statement().encode()), rule,
        [FLAG, "re-signed"],
    )  # fmt: skip
    content = statement(kind=records.CONTENT).encode()
    yield bad(empty, "content", "a statement of kind content", "wrong-kind", revoking(statement=content), rule)
    yield fault(
        empty, "wanted", "where a file's record is wanted", "wrong-kind", 2, replace(revoking(), wanted=records.FILE),
        ("fim-kind-1", "fim-kind-2"), [FLAG],
    )  # fmt: skip
    yield bad(
        empty, "volume", "of another volume", "wrong-volume", revoking(volume=bytes(16)), ("fim-ver-4", "fim-ver-1")
    )
    critical = revoking(extensions=[(1, 1, b"")])
    yield bad(empty, "extension", "a critical extension", "unknown-extension", critical, ("fim-ver-4",))
    yield bad(empty, "hash", "a hash that nobody knows", "unsupported", revoking(hash=99), ("fim-ver-4",), 5)
    yield bad(empty, "truncated", "a truncated hash", "refused-algorithm", revoking(hash=6), ("fim-hash-3",), 5)
    yield fault(
        empty, "not-accepted", "a hash that is not accepted", "refused-algorithm", 5,
        revoking(accepted={**ACCEPTED, "hashes": [8]}), ("fim-ver-4",), [FLAG],
    )  # fmt: skip
    for what in (0, 3, 2**32 - 1):
        case = revoking(some, (what, 1, bytes(32)))
        about = f"an item that names what has number {what}"
        yield bad(both, f"what-{what}", about, "unsupported", case, ("fim-rev-4",), 5)
    for number in (0, 9, 99):
        case = revoking((records.PUBLIC_KEY, number, bytes(32)))
        yield bad(both, f"key-hash-{number}", f"a key under hash {number}", "unsupported", case, ("fim-rev-4",), 5)
    for number in (2, 6):
        case, about = revoking((records.PUBLIC_KEY, number, bytes(16))), f"a key under hash {number}, a truncated one"
        yield bad(both, f"key-hash-{number}", about, "refused-algorithm", case, ("fim-hash-3",), 5)
    unordered = records.Statement.encode(revocation(items=[taken_back, some]))
    yield bad(both, "order", "items that fall", "malformed", revoking(statement=unordered), ("fim-rev-2",))
    changed = revocation(items=sorted([some, version(b"other")])).encode()
    yield fault(
        both, "item", "another item than the one that was signed", "bad-signature", 9,
        replace(revoking(statement=changed), signed=revoking(some, taken_back).statement), ("fim-signed-1",), [FLAG],
    )  # fmt: skip
    stranger = self_signed("rev-stranger", keys.ed25519("rev-stranger"))
    yield bad(empty, "stranger", "by a signer whom nobody knows", "untrusted", revoking(by=(stranger,)), ("fim-ver-4",))
    yield fault(
        empty, "few", "by one signer where two are needed", "too-few-signers", 10,
        revoking(trust=(entry(example().name), entry(second().name, signers=2))), ("fim-trust-7",), [FLAG],
    )  # fmt: skip
    by_revoked = revoking(revoked=revoked(key(example())))
    yield fault(empty, "by-revoked", "by a key that is revoked", "revoked", 8, by_revoked, ("fim-rev-3",), [FLAG])
    taken = revoking(revoked=revoked(version(revoking().statement)))
    yield fault(empty, "taken-back", "one that was taken back", "revoked", 11, taken, ("fim-ver-4",), [FLAG])
    late = revoking(issued=sample.NOW + 301)
    yield bad(empty, "future", "issued 301 seconds ahead", "issued-in-future", late, ("fim-ver-4",))
    ended = revoking(some, not_after=sample.NOW - 1)
    yield bad(both, "expired", "whose own time has passed", "record-expired", ended, ("fim-ver-4",))


def _successors() -> Iterator[Vector]:
    """Step 11: what was accepted before (fim-rev-7, fim-rev-8)."""
    first, other = key(self_signed("rev-lost", keys.ed25519("rev-lost"))), version(b"other")
    rule = ("fim-rev-1", "fim-rev-7")
    before = sample.GENERATION - 1
    kept = revoked(first, by=[accepted(example(), before, [first])])
    base = revoking(first, other, revoked=kept).vector("rev-next", "with all that was before", rule, [FLAG])
    yield base
    for slug, about, case in (
        ("nothing", "without what the one before it revoked", revoking(revoked=kept)),
        ("other", "with something else instead", revoking(other, revoked=kept)),
        (
            "of-second",
            "without what the second signer's revoked",
            revoking(other, revoked=revoked(first, by=[accepted(second(), before, [first])])),
        ),
        (
            "one-of-two",
            "with what one of two before it revoked, and not the other",
            revoking(first, revoked=revoked(first, other, by=[
                accepted(example(), before, [first]), accepted(second(), before, [first, other]),
            ])),
        ),
    ):  # fmt: skip
        yield fault(base, slug, about, "rollback", 11, case, rule, [FLAG, "re-signed"])
    for slug, about, case in (
        (
            "over-revoked",
            "without what a revoked key revoked",
            revoking(other, revoked=revoked(key(second()), first, by=[accepted(second(), before, [first])])),
        ),
        (
            "over-thief",
            "without what the key revoked that it revokes",
            revoking(key(second()), revoked=revoked(first, by=[accepted(second(), LAST, [first])])),
        ),
        (
            "over-expired",
            "after one whose time has passed",
            revoking(first, revoked=revoked(first, by=[accepted(example(), before, [first], 0)])),
        ),
    ):
        yield case.vector(f"rev-{slug}", about, (*rule, "fim-rev-8"), [FLAG])
    digest = merkle.SHA256(revoking().statement)
    plain = {"without_marks": "verified"}
    rule = ("fim-mark-7", "fim-mark-6", "fim-rev-8", "fim-gen-5")
    base = revoking(marks=(mark(example(), sample.GENERATION, digest),)).vector(
        "rev-mark", "a mark of this very revocation", rule, [FLAG, "marks"], output=plain
    )
    yield base
    for slug, about, marks in (
        ("of-file", "a mark of a file, above", mark(example(), LAST, **FILE)),
        ("of-volume", "a mark of another volume's revocation, above", mark(example(), LAST, volume=bytes(16))),
    ):
        yield revoking(marks=(marks,)).vector(f"rev-mark-{slug}", about, rule, [FLAG, "marks"], output=plain)
    for slug, about, verdict, marks in (
        ("above", "a mark above", "rollback", mark(example(), sample.GENERATION + 1)),
        ("of-second", "a mark above, of a signer who did not sign this one", "rollback", mark(second(), LAST, entry=1)),
        ("same", "a mark of this generation, with another tag", "equivocation", mark(example(), sample.GENERATION)),
    ):
        case = revoking(marks=(marks,))
        yield fault(base, slug, about, verdict, 11, case, rule, [FLAG, "marks"], plain)
    overtaking = revoking(key(second()), marks=(mark(second(), LAST, entry=1),)).vector(
        "rev-overtakes", "it revokes the key whose revocation has the last generation", rule, [FLAG, "marks"],
        output=plain,
    )  # fmt: skip
    yield overtaking
    yield fault(
        overtaking, "and-not", "a mark above, of its own signer, whom it does not revoke", "rollback", 11,
        revoking(key(second()), marks=(mark(second(), LAST, entry=1), mark(example(), LAST))), rule,
        [FLAG, "marks"], plain,
    )  # fmt: skip
    yield revoking(key(example()), marks=(mark(example(), LAST),)).vector(
        "rev-overtakes-itself", "it revokes its own key, whose mark is above", rule, [FLAG, "marks"], output=plain
    )


def _revoked_files() -> Iterator[Vector]:
    """The worked example where its key, or its version, is revoked."""
    case = example_case()
    rule = ("fim-rev-3", "fim-ver-4")

    def known(*given: Item, base: Case = case) -> Case:
        return replace(base, revoked=revoked(*given))

    lost = self_signed("rev-lost", keys.ed25519("rev-lost"))
    base = known(key(lost), version(b"other")).vector(
        "revoked-others", "another key and another version are revoked", rule, [FLAG]
    )
    yield base
    for hash in (1, 7, 8, 10):
        about = f"the signer's key is revoked, under hash {hash}"
        yield fault(base, f"key-{hash}", about, "revoked", 8, known(key(example(), hash)), rule, [FLAG])
    yield fault(
        base, "key-among", "the signer's key is revoked, among others", "revoked", 8,
        known(key(lost), key(example()), version(b"other")), rule, [FLAG],
    )  # fmt: skip
    yield fault(
        base, "version", "the version is revoked", "revoked", 11, known(version(case.statement)), ("fim-ver-4",), [FLAG]
    )
    der, raw = HASHES[1](example().der), HASHES[1](example().key.spki[-32:])
    tag = HASHES[1](case.statement)
    for slug, about, item in (
        ("certificate", "the digest of the certificate is no digest of the key", (records.PUBLIC_KEY, 1, der)),
        ("raw", "nor is that of the key without its algorithm", (records.PUBLIC_KEY, 1, raw)),
        ("tag-as-key", "the version's digest as that of a key", (records.PUBLIC_KEY, 1, tag)),
        ("key-as-tag", "the key's digest as that of a version", (records.VERSION, 1, key(example())[2])),
        ("other-hash", "the version's digest with the number of another hash", (records.VERSION, 10, tag)),
    ):
        yield known(item).vector(f"revoked-{slug}", about, (*rule, "fim-tag-1"), [FLAG])
    two = signed_by(example(), second())
    passing = known(key(example()), base=two).vector(
        "revoked-one-of-two", "one of two signers is revoked", ("fim-ver-5", "fim-rev-3"), [FLAG]
    )
    yield passing
    yield fault(passing, "both", "both are", "revoked", 8, known(key(example()), key(second()), base=two), rule, [FLAG])
    needed = replace(two, trust=(entry(example().name, signers=2), entry(second().name)))
    enough = known(base=needed).vector("revoked-none-of-two", "two signers are needed, and are there", rule, [FLAG])
    yield enough
    yield fault(
        enough, "one", "one of the two that are needed is revoked", "too-few-signers", 10,
        known(key(second()), base=needed), ("fim-trust-7", "fim-trust-8"), [FLAG],
    )  # fmt: skip
    renewed = self_signed("rev-renewed", keys.ed25519("example"), serial=2)
    again = signed_by(renewed)
    base_renewed = again.vector("revoked-renewed", "another certificate of the key, pinned", rule, [FLAG])
    yield base_renewed
    yield fault(
        base_renewed, "key", "whose key is revoked: so is this certificate", "revoked", 8,
        known(key(example()), base=again), rule, [FLAG],
    )  # fmt: skip
    ca = authority("rev-ca")
    leaf = issued("rev-leaf", keys.ed25519("rev-leaf"), ca)
    subject = [{"type": certificates.COMMON_NAME, "value": "rev-leaf"}]
    below = replace(
        example_case(attestations=(Attestation(leaf),)),
        trust=(entry(ca.name, ca=True, subject=subject, volumes=[sample.VOLUME]),),
        certificates=(certificates_for(leaf),),
    )
    of_ca = known(key(ca), base=below).vector(
        "revoked-ca", "the key of the CA is revoked, which is no signer's", rule, [FLAG]
    )
    yield of_ca
    yield fault(of_ca, "leaf", "the signer's is", "revoked", 8, known(key(leaf), base=below), rule, [FLAG])
    ended = self_signed("rev-ended", keys.ed25519("rev-ended"), not_after=sample.NOW - 1)
    several = [FLAG, "several-faults"]
    for slug, about, verdict, step, changed in (
        ("before-expiry", "a revoked key, and its certificate has ended: it is revoked", "revoked", 8,
         known(key(ended), base=signed_by(ended))),
        ("after-scheme", "a revoked key that is not one for the scheme: that comes first", "bad-certificate", 8,
         known(key(example()), base=replace(case, attestations=(Attestation(example(), scheme=keys.ECDSA_P256),)))),
        ("before-signature", "a revoked key, and a bad signature: it is revoked", "revoked", 8,
         known(key(example()), base=replace(case, attestations=(Attestation(example(), value=bytes(64)),)))),
        ("before-rollback", "a revoked version below a mark: it is revoked", "revoked", 11,
         known(version(case.statement), base=replace(case, marks=(mark(example(), LAST, **FILE),)))),
        ("after-scope", "a revoked key out of scope: that comes first", "out-of-scope", 7,
         known(key(example()), base=replace(case, trust=(entry(example().name, volumes=[bytes(16)]),)))),
    ):  # fmt: skip
        yield fault(base, slug, about, verdict, step, changed, ("fim-ver-4",), several)


def _fresh_files() -> Iterator[Vector]:
    """The end of step 12: until when the latest revocation holds (fim-rev-12)."""
    case, rule = example_case(), ("fim-rev-12",)
    now, ended = sample.NOW, sample.NOW - 1

    def after(*by: dict[str, Any], items: Sequence[Item] = ()) -> Case:
        return replace(case, revoked=revoked(*items, by=by))

    base = after(accepted(example(), 5, not_after=now)).vector(
        "fresh", "a revocation that holds until now", rule, [FLAG]
    )
    yield base
    late = after(accepted(example(), 5, not_after=ended))
    yield fault(base, "ended", "one that held until a second ago", "record-expired", 12, late, rule, [FLAG])
    latest = after(accepted(example(), 5, not_after=now), accepted(second(), 6, not_after=ended))
    yield fault(base, "latest", "the latest of two has ended", "record-expired", 12, latest, rule, [FLAG])
    latest = after(accepted(second(), 6, not_after=ended), accepted(example(), 5, not_after=now))
    yield fault(base, "latest-first", "the same in another order", "record-expired", 12, latest, rule, [FLAG])
    for slug, about, given in (
        ("two", "the earlier of two has ended", after(
            accepted(example(), 5, not_after=ended), accepted(second(), 6, not_after=now))),
        ("thief", "the latest has ended, and its key is revoked", after(
            accepted(second(), LAST, not_after=0), accepted(example(), 6), items=[key(second())])),
        ("thief-alone", "the only one has ended, and its key is revoked", after(
            accepted(second(), 5, not_after=0), items=[key(second())])),
    ):  # fmt: skip
        yield given.vector(f"fresh-{slug}", about, rule, [FLAG])


def _marks() -> Iterator[Vector]:
    """What a thief signed with a revoked key does not block what others sign (fim-mark-8)."""
    ca = authority("rev-ca")
    leaf, thief = (issued(name, keys.ed25519(name), ca) for name in ("rev-leaf", "rev-thief"))
    subject = [{"type": certificates.COMMON_NAME, "value": "rev-leaf"}]
    rule, plain = ("fim-mark-8", "fim-mark-7"), {"without_marks": "verified"}
    flags = [FLAG, "marks"]
    case = replace(
        example_case(attestations=(Attestation(leaf),)),
        trust=(entry(ca.name, ca=True, subject=subject, volumes=[sample.VOLUME]),),
        certificates=(certificates_for(leaf),),
        revoked=revoked(key(thief)),
    )
    stolen = mark(thief, LAST, **FILE)

    def with_marks(*marks: dict[str, Any]) -> Case:
        return replace(case, marks=marks)

    base = with_marks(stolen).vector("mark-revoked", "the mark of a revoked key, above", rule, flags, output=plain)
    yield base
    known = replace(with_marks(stolen), revoked=NOTHING_REVOKED)
    yield fault(base, "known", "its key is not known as revoked", "rollback", 11, known, rule, flags, plain)
    yield with_marks(stolen, mark(leaf, sample.GENERATION - 1, **FILE)).vector(
        "mark-revoked-below", "and a mark below, of the honest signer", rule, flags, output=plain
    )
    for slug, about, verdict, held in (
        ("rollback", "and a mark above, of the honest signer", "rollback", mark(leaf, sample.GENERATION + 1, **FILE)),
        ("equivocation", "and one of this generation", "equivocation", mark(leaf, sample.GENERATION, **FILE)),
    ):
        yield fault(base, slug, about, verdict, 11, with_marks(stolen, held), rule, flags, plain)
    pins = signed_by(example())
    pins = replace(pins, trust=(*pins.trust, entry(second().name)), revoked=revoked(key(second())))
    yield replace(pins, marks=(mark(second(), LAST, entry=1, **FILE),)).vector(
        "mark-revoked-pin", "the mark of a revoked key, under its own pin", (*rule, "fim-mark-6"), flags, output=plain
    )
