# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The pseudocode of volumes, run as it is printed, gives what `proto` gives: ranges, heads, members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfsverity_proto import entry_range, tree
from nfsverity_proto.entry import DirectoryNode, Entry, EntryType, FileNode, LinkNode, Node, encode_entry, key_of
from nfsverity_proto.entry_range import EntryRange, prove_range, verify_range
from nfsverity_proto.errors import Malformed, Mismatch, VerificationError
from nfsverity_proto.hashes import HASH_NUMBERS, SHA256, hash_by_number
from nfsverity_proto.member import verify_member
from nfsverity_proto.membership import Membership
from nfsverity_proto.record import (
    Attestation,
    decode_record,
    encode_record,
    membership_attestation,
    membership_of,
)
from nfsverity_proto.revocation import NOTHING_REVOKED, Revoked, version_item
from nfsverity_proto.statement import (
    NO_END,
    VERSION,
    Content,
    Extension,
    Item,
    Kind,
    Statement,
    Tag,
    Time,
    Tree,
    Volume,
    When,
    decode_statement,
    encode_statement,
    tag_of,
)
from nfsverity_proto.verification import Verified, check_revoked, verify_head
from nfsverity_proto.verifier import ALL_ALGORITHMS, Algorithms, Verifier

from .test_pseudocode import (
    DRAFT,
    GENERATION,
    HASH,
    NOW,
    OTHER,
    OTHER_TYPE,
    OTHER_VOLUME,
    VOLUME,
    Case,
    H,
    Refused,
    Verdict,
    as_verdict,
    before,
    both,
    case,
    keys,
    marks,
    pin,
    revoking,
    run,
)

# Ranges


@dataclass(frozen=True)
class ShownNode:
    type: EntryType
    content: bytes


@dataclass(frozen=True)
class ShownEntry:
    parent: bytes
    name: bytes
    node: ShownNode


def shown(entry: Entry) -> ShownEntry:
    match entry.node:
        case FileNode():
            node = ShownNode(EntryType.FILE, entry.node.content)
        case LinkNode():
            node = ShownNode(EntryType.LINK, b"")
        case _:
            node = ShownNode(EntryType.DIRECTORY, b"")
    return ShownEntry(entry.parent, entry.name, node)


NAMES = st.sampled_from([b"a", b"a-b", b"b", b"a.b", b"\xff", b"\x01", b"ab"])
PARENTS = st.lists(NAMES, max_size=3).map(b"/".join)
FILE_NODE = FileNode(False, bytes(32))
NODES: st.SearchStrategy[Node] = st.sampled_from([FILE_NODE, LinkNode(b"x"), DirectoryNode()])
VOLUMES = st.lists(st.builds(Entry, PARENTS, NAMES, NODES), max_size=24, unique_by=lambda entry: entry.key).map(
    lambda entries: sorted(entries, key=lambda entry: entry.key)
)


def headed(entries: Sequence[Entry]) -> tuple[Volume, Callable[[int, int], bytes]]:
    leaves = [HASH.leaf(encode_entry(entry)) for entry in entries]
    levels = list(tree.levels(HASH, leaves)) if leaves else []
    volume = Volume(VOLUME, b"label", When(GENERATION, NOW, NO_END), len(entries), tree.root(HASH, leaves))
    return volume, lambda level, index: levels[level][index]


def a_range(entries: Sequence[Entry], first: int, end: int) -> tuple[Volume, EntryRange]:
    volume, node = headed(entries)
    return volume, prove_range(volume, node, entries.__getitem__, first, end)


def by_the_draft(volume: Volume, found: EntryRange) -> str:
    proof = [found.proof[at : at + 32] for at in range(0, len(found.proof), 32)]
    encoded = [encode_entry(entry) for entry in found.entries]
    try:
        DRAFT["verify_range"](H, volume, found.first, [shown(entry) for entry in found.entries], encoded, proof)
    except Refused:
        return "refused"
    except Verdict as verdict:
        return verdict.name
    return "verified"


def by_proto(volume: Volume, found: EntryRange) -> str:
    try:
        verify_range(volume, HASH, found)
    except (Mismatch, Malformed) as error:
        return error.verdict
    except ValueError:
        return "refused"
    return "verified"


@pytest.mark.spec("fim-range-1", "fim-range-2", "fim-vol-1", "fim-vol-2")
@settings(max_examples=150)
@given(VOLUMES, st.data())
def test_ranges_and_what_is_no_range(entries: list[Entry], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, max(len(entries) - 1, 0)))
    end = data.draw(st.integers(first + 1, len(entries))) if entries else 0
    volume, found = a_range(entries, first, end)
    assert by_the_draft(volume, found) == by_proto(volume, found) == "verified"
    for wrong in (
        replace(found, first=found.first + 1),
        replace(found, entries=found.entries[1:]),
        replace(found, entries=found.entries[::-1]),
        replace(found, proof=found.proof + bytes(32)),
        replace(found, proof=found.proof[:-32]),
        replace(found, proof=bytes(len(found.proof))),
    ):
        if wrong != found:
            assert by_the_draft(volume, wrong) == by_proto(volume, wrong) != "verified"
    other = replace(volume, root=bytes(32))
    assert by_the_draft(other, found) == by_proto(other, found) != "verified"
    more = replace(volume, entries=volume.entries + 1)  # may fold: that number is signed, and nobody else can choose it
    assert by_the_draft(more, found) == by_proto(more, found)


@pytest.mark.spec("fim-range-2")
@pytest.mark.parametrize(
    "entries",
    [
        [Entry(b"", b"b", FILE_NODE), Entry(b"", b"a", FILE_NODE)],
        [Entry(b"", b"a", FILE_NODE), Entry(b"", b"a", DirectoryNode())],
        [Entry(b"a-b", b"c", FILE_NODE), Entry(b"a/b", b"c", FILE_NODE)],
        [Entry(b"", b"a", FileNode(False, bytes(48)))],
    ],
    ids=["descending", "twice", "slash as itself", "another digest"],
)
def test_what_a_publisher_signed_against_the_rules(entries: list[Entry]) -> None:
    volume, found = a_range(entries, 0, len(entries))
    assert by_the_draft(volume, found) == by_proto(volume, found) == "malformed"


def or_refused(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (Refused, ValueError):
        return "refused"


@pytest.mark.spec("fim-range-3", "fim-range-4")
@settings(max_examples=200)
@given(VOLUMES, PARENTS, NAMES | st.just(b""), st.data())
def test_what_a_range_shows(entries: list[Entry], parent: bytes, name: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, max(len(entries) - 1, 0)))
    end = data.draw(st.integers(first + 1, len(entries))) if entries else 0
    volume, found = a_range(entries, first, end)
    seen = [shown(entry) for entry in found.entries]
    drafted = or_refused(DRAFT["entry_at"], volume, found.first, seen, DRAFT["position"](parent, name))
    ours = or_refused(entry_range.entry_at, volume, found, key_of(parent, name))
    assert drafted == (shown(ours) if isinstance(ours, Entry) else ours)
    if ours is None:
        assert all(entry.key != key_of(parent, name) for entry in entries)
    drafted = or_refused(DRAFT["children"], volume, found.first, seen, parent, name, 0)
    ours = or_refused(entry_range.children, volume, found, parent, name)
    assert drafted == (ours if ours == "refused" else ([shown(entry) for entry in ours[0]], ours[1]))
    if ours != "refused" and ours[1]:
        rest = [entry for entry in entries if entry.parent == parent and entry.name > name]
        assert list(ours[0]) == rest
        last = DRAFT["children"](volume, found.first, seen, parent, name, found.first)  # as one that follows another
        assert last == drafted


# Heads


def head_case(*, by: Sequence[str] = ("pin",), added: Sequence[Attestation] = (), **changes: Any) -> Case:
    when = When(changes.pop("generation", GENERATION), changes.pop("issued", NOW), changes.pop("not_after", NO_END))
    volume = Volume(changes.pop("volume", VOLUME), b"label", when, 7, bytes(32))
    data = encode_statement(Statement(changes.pop("hash", SHA256), volume, changes.pop("extensions", ())))
    made = case(["pin"], [pin("pin"), pin("second")])
    record = encode_record(data, [*(keys()[name].attest(data) for name in by), *added])
    return replace(made, data=record, kind=Kind.VOLUME, expected=replace(made.expected, path=b""), **changes)


def above(signer: str, *, kind: Kind = Kind.VOLUME, generation: int = 2**64 - 2, **of: Any) -> Any:
    return marks((signer, signer, generation, OTHER), kind=kind, path=b"", **of)


A_MEMBERSHIP = membership_attestation(Membership(OTHER, EntryRange(0, (Entry(b"", b"a", FILE_NODE),), b"")))
HEADS: dict[str, tuple[str, Callable[[], Case]]] = {
    "head": ("verified", head_case),
    "where a file is asked for": ("wrong-kind", lambda: replace(head_case(), kind=Kind.FILE)),
    "where a revocation is asked for": ("wrong-kind", lambda: replace(head_case(), kind=Kind.REVOCATION)),
    "a file where it is asked for": ("wrong-kind", lambda: replace(case(["pin"], [pin("pin")]), kind=Kind.VOLUME)),
    "of another volume": ("wrong-volume", lambda: head_case(volume=OTHER_VOLUME)),
    "critical extension": ("unknown-extension", lambda: head_case(extensions=(Extension(1, True, b""),))),
    "truncated hash": ("refused-algorithm", lambda: head_case(hash=2)),
    "membership alone": ("unsupported", lambda: head_case(by=(), added=[A_MEMBERSHIP])),
    "membership beside": ("verified", lambda: head_case(added=[A_MEMBERSHIP])),
    "by a stranger": ("untrusted", lambda: head_case(by=["stranger"])),
    "by a revoked key": ("revoked", lambda: head_case(revoked=revoking("pin"))),
    "revoked": ("revoked", lambda: head_case(revoked=Revoked(frozenset([version_item(own_tag())])))),
    "below a mark": ("rollback", lambda: head_case(marks=above("second"))),
    "at a mark": ("equivocation", lambda: head_case(marks=above("pin", generation=GENERATION))),
    "at its own mark": (
        "verified",
        lambda: head_case(marks=marks(("pin", "pin", GENERATION, own_tag()), kind=Kind.VOLUME, path=b"")),
    ),
    "below a mark of a revoked key": ("verified", lambda: head_case(marks=above("second"), revoked=revoking("second"))),
    "below a mark of a revocation": ("verified", lambda: head_case(marks=above("pin", kind=Kind.REVOCATION))),
    "issued later": ("issued-in-future", lambda: head_case(issued=NOW + 301)),
    "expired": ("record-expired", lambda: head_case(not_after=NOW - 1)),
    "after a revocation has expired": (
        "record-expired",
        lambda: head_case(revoked=before(("second", []), not_after=NOW - 1)),
    ),
    "a file where there is a head": (
        "wrong-kind",
        lambda: replace(case(["pin"], [pin("pin"), pin("second")]), marks=above("second", generation=1)),
    ),
    "a file where there is a head of a revoked key": (
        "verified",
        lambda: replace(case(["pin"], [pin("pin"), pin("second")]), marks=above("second"), revoked=revoking("second")),
    ),
    "a file where there is a head of another volume": (
        "verified",
        lambda: replace(case(["pin"], [pin("pin")]), marks=above("pin", volume=OTHER_VOLUME)),
    ),
    "a file where there is a head for elsewhere": (
        "verified",
        lambda: replace(
            case(["pin"], [pin("pin"), pin("second", prefixes=("nfsv://elsewhere:1/",))]), marks=above("second")
        ),
    ),
}


def own_tag() -> Tag:
    return tag_of(decode_record(head_case().data or b"").statement, SHA256)


@pytest.mark.spec("fim-kind-4", "fim-head-1", "fim-head-2", "fim-head-4", "fim-rec-10")
@pytest.mark.parametrize("name", HEADS)
def test_the_pseudocode_and_proto_agree_on_heads(name: str) -> None:
    verdict, make_case = HEADS[name]
    assert both(make_case()) == verdict


# Members

FILES = [b"a", b"a-b", b"a/b", b"bin/tool", b"link"]
BEHIND = b"lonely"
"""A name without an entry."""


@cache
def contents() -> dict[bytes, bytes]:
    """The statements of the files, by path."""
    return {
        path: encode_statement(Statement(SHA256, Content(Time(NOW, 0), Tree(1, 12, 9, H(path)))))
        for path in [*FILES, BEHIND]
    }


@cache
def volume_entries() -> list[Entry]:
    entries = [
        Entry(*path.rpartition(b"/")[::2], FileNode(path == b"bin/tool", H(contents()[path]))) for path in FILES[:-1]
    ]
    entries += [Entry(b"", b"bin", DirectoryNode()), Entry(b"", b"link", LinkNode(b"a"))]
    return sorted(entries, key=lambda entry: entry.key)


@cache
def accepted_head() -> Verified:
    volume, _ = headed(volume_entries())
    data = encode_statement(Statement(SHA256, volume))
    made = case(["pin"], [pin("pin")])
    record = encode_record(data, [keys()["pin"].attest(data)])
    return verify_head(record, made.expected, Verifier(made.trust, {}, NOW))


def attested(path: bytes, **changes: Any) -> Attestation:
    entries = volume_entries()
    at = next(index for index, entry in enumerate(entries) if entry.path == path)
    _, found = a_range(entries, at, at + 1)
    return membership_attestation(Membership(changes.pop("head", accepted_head().tag), replace(found, **changes)))


def member(path: bytes, attestation: Attestation | None = None, statement: bytes | None = None) -> bytes:
    return encode_record(statement or contents()[path], [attestation or attested(path)])


def content_of(hash: int = SHA256, extensions: Sequence[Extension] = (), **changes: Any) -> bytes:
    parts = {"type": 1, "unit_log2": 12, "size": 9, "root": hash_by_number(hash).digest(b"a")} | changes
    return encode_statement(Statement(hash, Content(Time(NOW, 0), Tree(**parts)), tuple(extensions)))


PATH = b"bin/tool"
SMALL = Algorithms(unit_log2s=frozenset([13]))
MEMBERS: dict[str, tuple[str, Callable[[], tuple[bytes | None, bytes, Revoked, Algorithms]]]] = {
    name: (verdict, lambda make=make, path=path, revoked=revoked, accepted=accepted: (make(), path, revoked, accepted))
    for name, verdict, make, path, revoked, accepted in [
        ("member", "verified", lambda: member(PATH), PATH, NOTHING_REVOKED, ALL_ALGORITHMS),
        ("none", "unsigned", lambda: None, PATH, NOTHING_REVOKED, ALL_ALGORITHMS),
        ("no record", "malformed", lambda: b"\0\0\0\0", PATH, NOTHING_REVOKED, ALL_ALGORITHMS),
        ("a head", "wrong-kind", lambda: accepted_head().data, PATH, NOTHING_REVOKED, ALL_ALGORITHMS),
        (
            "no membership",
            "not-member",
            lambda: encode_record(contents()[PATH], [keys()["pin"].attest(contents()[PATH])]),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "other attestations beside",
            "verified",
            lambda: encode_record(
                contents()[PATH], [attested(PATH), OTHER_TYPE, keys()["stranger"].attest(contents()[PATH])]
            ),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        ("other head", "other-head", lambda: member(PATH, attested(PATH, head=OTHER)), PATH, NOTHING_REVOKED, SMALL),
        (
            "same digest of another hash",
            "other-head",
            lambda: member(PATH, attested(PATH, head=Tag(10, accepted_head().tag.digest))),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        ("other path", "wrong-path", lambda: member(PATH), b"a/b", NOTHING_REVOKED, ALL_ALGORITHMS),
        ("a link", "wrong-kind", lambda: member(b"link"), b"link", NOTHING_REVOKED, ALL_ALGORITHMS),
        (
            "a directory",
            "wrong-kind",
            lambda: member(b"bin", statement=contents()[b"a"]),
            b"bin",
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "critical extension",
            "unknown-extension",
            lambda: member(PATH, statement=content_of(10, [Extension(1, True, b"")])),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "another hash",
            "not-member",
            lambda: member(PATH, statement=content_of(10, type=9)),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "tree type",
            "unsupported",
            lambda: member(PATH, statement=content_of(type=9)),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        ("unit size", "refused-algorithm", lambda: member(PATH), PATH, NOTHING_REVOKED, SMALL),
        (
            "other place",
            "not-member",
            lambda: member(PATH, attested(PATH, first=0)),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "place outside",
            "not-member",
            lambda: member(PATH, attested(PATH, first=2**64 - 1)),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "proof cut",
            "not-member",
            lambda: member(PATH, attested(PATH, proof=b"")),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "executable bit",
            "not-member",
            lambda: member(
                PATH, attested(PATH, entries=(Entry(b"bin", b"tool", FileNode(False, H(contents()[PATH]))),))
            ),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "another content",
            "not-member",
            lambda: member(PATH, statement=contents()[b"a"]),
            PATH,
            NOTHING_REVOKED,
            ALL_ALGORITHMS,
        ),
        (
            "revoked",
            "revoked",
            lambda: member(PATH),
            PATH,
            Revoked(frozenset([Item(VERSION, SHA256, H(contents()[b"bin/tool"]))])),
            ALL_ALGORITHMS,
        ),
        (
            "another is revoked",
            "verified",
            lambda: member(PATH),
            PATH,
            Revoked(frozenset([Item(VERSION, SHA256, H(contents()[b"a"]))])),
            ALL_ALGORITHMS,
        ),
    ]
}
"""By name: the verdict, and what is judged: record, path, what is revoked, what is accepted."""


@dataclass(frozen=True)
class ShownHead:
    tag: Tag
    claim: Volume


@dataclass(frozen=True)
class ShownRange:
    entries: Sequence[ShownEntry]
    whole: EntryRange


@dataclass(frozen=True)
class ShownMembership:
    head: Tag
    range: ShownRange


def decoded_membership(body: bytes) -> ShownMembership:
    membership = membership_of(Attestation(2, body))
    found = membership.range
    return ShownMembership(membership.head, ShownRange([shown(entry) for entry in found.entries], found))


def range_folds(_: Any, head: ShownHead, found: ShownRange) -> bool:
    return by_the_draft(head.claim, found.whole) not in ("refused", "mismatch")


@pytest.mark.spec("fim-member-1", "fim-head-3")
@pytest.mark.parametrize("name", MEMBERS)
def test_the_pseudocode_and_proto_agree_on_members(name: str) -> None:
    verdict, make_case = MEMBERS[name]
    data, path, revoked, accepted = make_case()
    head = accepted_head()
    draft = run(
        "verification",
        Verdict=Verdict,
        CONTENT=Kind.CONTENT,
        ENTRY_FILE=EntryType.FILE,
        VERSION=VERSION,
        EXTENSIONS=set(),
        TREE_TYPES={tree.RFC9162},
        HASHES=set(HASH_NUMBERS),
        decode_record=lambda data: as_verdict(decode_record, data),
        decode_statement=lambda data, kind: as_verdict(decode_statement, data, kind),
        decode_membership=decoded_membership,
        range_folds=range_folds,
        tag=lambda number, data: tag_of(data, number),
    )["verify_member"]
    try:
        draft(H, data, path, ShownHead(head.tag, head.head), revoked, accepted)
        drafted = "verified"
    except Verdict as error:
        drafted = error.name
    try:
        found = verify_member(data, path, head, accepted)
        check_revoked(found, revoked)
        ours = "verified"
    except VerificationError as error:
        ours = error.verdict
    assert (drafted, ours) == (verdict, verdict)


@pytest.mark.spec("fim-member-2", "fim-vol-4")
def test_a_member_is_made_of_head_entry_and_statement() -> None:
    head = accepted_head()
    found = verify_member(member(PATH), PATH, head)
    assert (found.volume, found.path, found.when) == (head.volume, PATH, head.when)
    assert found.file.label == head.head.label
    assert found.file.executable
    assert not verify_member(member(b"a"), b"a", head).file.executable
    assert found.file.content == decode_statement(contents()[PATH], Kind.CONTENT).claim
    assert found.signers == head.signers
    assert found.tag == Tag(SHA256, H(contents()[PATH]))
