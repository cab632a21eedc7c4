# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The worked example: the draft has what a script computes from its text, and `proto` has the same."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, LinkNode, encode_entry, key_of
from nfsverity_proto.entry_range import ENTRY_RANGE, EntryRange, entry_at, verify_range
from nfsverity_proto.errors import WrongPath
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.member import verify_member
from nfsverity_proto.proof import fold, prove
from nfsverity_proto.record import (
    Signature,
    decode_record,
    encode_record,
    fingerprint_of,
    signature_attestation,
    signature_of,
    signed_bytes,
)
from nfsverity_proto.statement import (
    NO_END,
    Content,
    File,
    Statement,
    Time,
    Tree,
    Volume,
    When,
    decode_statement,
    encode_statement,
    tag_of,
)
from nfsverity_proto.tree import RFC9162, levels, root
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import verify_head, verify_record
from nfsverity_proto.verifier import Expected, Verifier
from nfsverity_proto.xdr import Codec

from . import worked_example as example
from .drafts import METADATA, code, text_of

BLOCKS = example.blocks()
HASH = hash_by_number(SHA256)
PRINTED = code(METADATA, "hex-dump")
RANGE: Codec[EntryRange] = Codec(ENTRY_RANGE)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_draft_prints_what_its_text_gives(name: str) -> None:
    assert PRINTED[name] == BLOCKS[name]


def test_every_block_of_the_example_is_recomputed() -> None:
    assert {name for name in PRINTED if name.startswith("example-")} == set(BLOCKS)


def test_the_lengths_in_the_text_are_those_of_the_example() -> None:
    text = text_of(ElementTree.parse(METADATA).getroot())
    assert len(example.PATH) == 40
    assert len(example.LABEL) == 7
    assert "a label of 7 bytes and a path of 40 bytes it has 312 bytes" in text
    assert re.findall(r"Statement, (\d+) Bytes", text) == [str(len(example.statement()))]
    assert re.findall(r"Signed Bytes, (\d+) Bytes", text) == [str(len(example.signed(example.statement())))]
    assert re.findall(r"Record, (\d+) Bytes", text) == [str(len(example.record()))] == ["312"]
    assert re.findall(r"Statement of Kind Content, (\d+) Bytes", text) == [str(len(example.content()))]
    assert re.findall(r"Head, (\d+) Bytes", text) == [str(len(example.head()))]
    assert re.findall(r"Record of the Member, (\d+) Bytes", text) == [str(len(example.member()))]
    assert f"= {example.NOW} (2026-11-24T06:00:00Z)" in text


@pytest.mark.spec("fim-tree-1", "fim-tree-2")
def test_proto_has_the_tree() -> None:
    leaves = [HASH.leaf(unit) for unit in example.units()]
    assert leaves == example.leaves()
    assert root(HASH, leaves) == example.top(example.leaves())


@pytest.mark.spec("fim-st-1", "fim-tag-1")
def test_proto_has_the_statement_and_its_tag() -> None:
    tree = Tree(RFC9162, example.UNIT_LOG2, len(example.CONTENT), example.top(example.leaves()))
    claim = File(
        example.VOLUME,
        example.LABEL,
        example.PATH,
        When(example.GENERATION, example.ISSUED, NO_END),
        False,
        Content(Time(*example.MTIME), tree),
    )
    statement = Statement(SHA256, claim)
    assert encode_statement(statement) == example.statement()
    assert decode_statement(example.statement()) == statement
    assert tag_of(example.statement(), SHA256).digest == example.sha256(example.statement())


@pytest.mark.spec("fim-signed-1", "fim-signed-2", "fim-rec-7")
def test_proto_signs_the_same_bytes_and_makes_the_same_record() -> None:
    signer = fingerprint_of(example.certificate())
    assert signed_bytes(signer, 0x0807, example.statement()) == example.signed(example.statement())
    attestation = signature_attestation(Signature(signer, 0x0807, example.signature(example.statement())))
    assert encode_record(example.statement(), [attestation]) == example.record()
    assert signature_of(decode_record(example.record()).attestations[0]).value == example.signature(example.statement())


@pytest.mark.spec("fim-cert-9", "fim-ver-4")
def test_proto_verifies_the_record() -> None:
    trust = [TrustEntry(example.certificate())]
    verified = verify_record(
        example.record(), Expected(example.PATH, frozenset([example.VOLUME])), Verifier(trust, {}, example.NOW)
    )
    assert verified.content.tree.root == example.top(example.leaves())
    with pytest.raises(WrongPath):
        verify_record(
            example.record(), Expected(b"another", frozenset([example.VOLUME])), Verifier(trust, {}, example.NOW)
        )


@pytest.mark.spec("fim-proof-3")
def test_proto_has_the_proof_and_folds_it() -> None:
    leaves = example.leaves()
    nodes = list(levels(HASH, leaves))
    proof = prove(lambda level, index: nodes[level][index], 3, 1, 2, 2)
    assert proof == [leaves[0], leaves[2]]
    assert fold(HASH, 3, 1, [HASH.leaf(example.units()[1])], 2, proof).top == example.top(leaves)


@pytest.mark.spec("fim-vol-1", "fim-vol-2", "fim-vol-4", "fim-member-1", "fim-member-2")
def test_proto_has_the_volume_and_verifies_the_member() -> None:
    content = example.sha256(example.content())
    entries = [
        Entry(b"", b"docs", DirectoryNode()),
        Entry(b"docs", b"README.md", FileNode(False, content)),
        Entry(b"docs", b"latest", LinkNode(b"README.md")),
    ]
    assert [encode_entry(entry) for entry in entries] == example.entries()
    assert entries == sorted(entries, key=lambda entry: entry.key)
    expected = Expected(b"", frozenset([example.VOLUME]))
    head = verify_head(example.head_record(), expected, Verifier([TrustEntry(example.certificate())], {}, example.NOW))
    assert head.head.root == root(HASH, example.entry_leaves())
    member = verify_member(example.member(), b"docs/README.md", head)
    assert member.tag.digest == content
    assert member.content.tree.root == example.top(example.leaves())
    assert not member.file.executable


@pytest.mark.spec("fim-range-3")
def test_proto_takes_what_is_absent_for_that() -> None:
    volume = decode_statement(example.head()).claim
    assert isinstance(volume, Volume)
    found = RANGE.decode(example.joined(example.absence_parts()))
    verify_range(volume, HASH, found)
    assert entry_at(volume, found, key_of(b"docs", b"a")) is None
    assert entry_at(volume, found, key_of(b"docs", b"latest")) is not None
    with pytest.raises(ValueError, match="range"):
        entry_at(volume, found, key_of(b"a", b""))
