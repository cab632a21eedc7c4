# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Every figure that File Integrity Metadata states is computed here, or is checked against a library."""

from __future__ import annotations

import hashlib
import re
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric import mldsa

from nfsverity_proto import hashes, messages, rpc, signature, verification
from nfsverity_proto.certificate import CHAIN_MAX, DER_MAX, DOCUMENT_SIGNING
from nfsverity_proto.entry import TARGET_MAX, Entry, FileNode, LinkNode, encode_entry
from nfsverity_proto.entry_range import PROOF_MAX, RANGE_ENTRIES_MAX, EntryRange
from nfsverity_proto.errors import VERDICTS
from nfsverity_proto.hashes import SHA256
from nfsverity_proto.membership import Membership
from nfsverity_proto.path import DEPTH_MAX, NAME_MAX, PATH_MAX
from nfsverity_proto.record import ATTESTATIONS_MAX, RECORD_MAX, encode_record, membership_attestation
from nfsverity_proto.statement import (
    FORMAT,
    GENERATION_MAX,
    ITEMS_MAX,
    MAGIC,
    NO_END,
    STATEMENT_MAX,
    VERSION,
    Item,
    Kind,
    Revocation,
    Statement,
    Tag,
    When,
    encode_content,
    encode_statement,
)
from nfsverity_proto.tree import SIZE_MAX, UNIT_LOG2_DEFAULT, UNIT_LOG2_MAX, UNIT_LOG2_MIN, height

from . import worked_example as example
from .drafts import METADATA, SPEC, code, table, text_of

TEXT = text_of(ElementTree.parse(METADATA).getroot())
GIB = 2**30


def number(text: str) -> int:
    return int(text.replace(",", ""), 0)


def test_what_a_unit_size_costs() -> None:
    rows = table(METADATA, "unit-table")
    for unit, units, leaf_bytes, proof in rows:
        count = GIB // number(unit)
        assert [number(units), number(leaf_bytes)] == [count, 32 * count]
        assert 2 ** number(proof) == count
    assert [number(row[0]) for row in rows] == [2**12, 2**16, 2**20, 2**24]


def test_the_proofs_that_the_rationale_compares() -> None:
    units, wide, levels = GIB // 4096, 4096 // 32, 0
    while wide**levels < units:
        levels += 1
    assert (wide, levels, levels * 4096) == (128, 3, 12_288)
    assert "18 hashes or 576 bytes for 1 GiB in units of 4,096, where three wide nodes have 12,288." in TEXT
    assert (units, 576) == (2**18, 18 * 32)


@pytest.mark.spec("fim-hash-4")
def test_the_lengths_of_digests() -> None:
    known = {
        "SHA-256": hashlib.sha256(),
        "SHA-384": hashlib.sha384(),
        "SHA-512": hashlib.sha512(),
        "SHA3-256": hashlib.sha3_256(),
        "SHA3-384": hashlib.sha3_384(),
        "SHA3-512": hashlib.sha3_512(),
        "BLAKE3, 256 bits of output": blake3(),
    }
    rows = table(METADATA, "hash-table")
    assert [row[1] for row in rows] == list(known)
    for digits, name, length, _ in rows:
        assert number(length) == known[name].digest_size == hashes.digest_length(number(digits))
    numbers = {number(row[0]) for row in rows}
    assert set(hashes.HASH_NUMBERS) == numbers - {11, 12}
    assert {2, 3, 4, 5, 6} == hashes.TRUNCATED
    assert not numbers & hashes.TRUNCATED


def der_integer(bits: int) -> int:
    """Bytes of the longest INTEGER of that many bits."""
    return 2 + bits // 8 + 1


def test_the_lengths_of_signatures() -> None:
    lengths = {
        0x0403: f"8 to {2 + 2 * der_integer(256)}",
        0x0503: f"8 to {2 + 2 * der_integer(384)}",
        0x0804: f"{signature.RSA_BITS_MIN // 8} to {signature.RSA_BITS_MAX // 8}",
        0x0807: "64",
        0x0904: f"{len(mldsa.MLDSA44PrivateKey.generate().sign(b'')):,}",
        0x0905: f"{len(mldsa.MLDSA65PrivateKey.generate().sign(b'')):,}",
        0x0906: f"{len(mldsa.MLDSA87PrivateKey.generate().sign(b'')):,}",
    }
    rows = table(METADATA, "scheme-table")
    assert {number(row[0]): row[3] for row in rows} == lengths
    assert set(signature.SCHEME_NUMBERS) == set(lengths)
    assert f"{signature.RSA_BITS_MIN:,} to {signature.RSA_BITS_MAX:,} bits" in rows[2][2]


P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


@pytest.mark.spec("fim-sig-5")
def test_the_keys_of_small_order() -> None:
    """The printed y are those of points that double to y = 0, the points of order 4 (RFC 8032 section 5.1)."""
    printed = [
        int.from_bytes(bytes.fromhex(line), "little") for line in code(METADATA, "hex-dump")["small-order"].split()
    ]
    for y in printed:
        x_squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        assert pow(x_squared, (P - 1) // 2, P) == 1
        assert (y * y + x_squared) % P == 0
    assert printed[0] != printed[1]
    assert {0, 1, P - 1, *printed} == signature._ED25519_SMALL_ORDER_Y


def test_the_signed_bytes_begin_with_109_bytes() -> None:
    label = "File Integrity Metadata, statement, format 1"
    assert f'the {len(label)} bytes of the ASCII string "{label}"' in TEXT
    assert f"The first three, {64 + len(label) + 1} bytes" in TEXT
    assert f"after {64 + len(label) + 1} bytes that are no XDR" in TEXT


def test_the_bounds_of_the_code_are_those_of_the_text() -> None:
    constants = {}
    for line in (SPEC / "fim.x").read_text().splitlines():
        if line.startswith("const "):
            name, value = line.removeprefix("const ").split(";")[0].split(" = ")
            constants[name.removeprefix("FIM_")] = int(value, 0)
    schemes = {name.replace("-", "_").upper(): value for name, value in signature.SCHEME_NAMES.items()}
    for name, value in {
        "MAGIC": MAGIC,
        "FORMAT": FORMAT,
        "RECORD_MAX": RECORD_MAX,
        "STATEMENT_MAX": STATEMENT_MAX,
        "ATTESTATIONS_MAX": ATTESTATIONS_MAX,
        "UNIT_LOG2_MIN": UNIT_LOG2_MIN,
        "UNIT_LOG2_MAX": UNIT_LOG2_MAX,
        "DEPTH_MAX": DEPTH_MAX,
        "SKEW": verification.SKEW,
        **{f"SCHEME_{name}": value for name, value in schemes.items()},
    }.items():
        assert constants[name] == value, name
    assert struct.pack(">I", MAGIC) == b"NFSV"
    assert (1 << UNIT_LOG2_DEFAULT, NAME_MAX, PATH_MAX, DEPTH_MAX) == (65_536, 255, 4_095, 256)
    assert (SIZE_MAX, GENERATION_MAX, NO_END) == (2**63 - 1, 2**64 - 2, 2**63 - 1)
    assert f"longer than {DER_MAX:,} bytes" in TEXT
    assert f"at most {CHAIN_MAX} certificates below" in TEXT
    assert DOCUMENT_SIGNING in TEXT
    for row in table(METADATA, "kind-table"):
        assert Kind[row[1].upper()] == number(row[0])


def test_no_product_of_the_tree_exceeds_2_to_the_52() -> None:
    units = (2**63 - 1 >> UNIT_LOG2_MIN) + 1
    height = (units - 1).bit_length()
    assert units == 2**51
    for level in range(height + 1):
        width = (units - 1 >> level) + 1
        assert width << level <= 2**52


def test_the_verdicts_of_the_code_are_those_of_the_text_in_their_order() -> None:
    rows = table(METADATA, "verdict-table")
    assert [row[1] for row in rows] == [verdict.verdict for verdict in VERDICTS]
    assert [int(row[0].split(",")[0]) for row in rows] == [verdict.step for verdict in VERDICTS]


# Every figure of running text. What a table or a block of code has is computed by the tests of these.

NOT_RUNNING = ("sourcecode", "artwork", "references", "table", "title", "reference")
NAMES = re.compile(
    r"(?:RFC|BCP|FIPS|X\.|P-|SHA3?-|ML-DSA-|Section|Test) ?[0-9.-]+|[0-9]{4}-[0-9]{2}-[0-9]{2}\S*"
    r"|[0-9]+(?:\.[0-9]+){2,}|0x[0-9a-fA-F]+|2\^[0-9]+(?: - 1)?|\b20th\b|\bin 2020\b|:[0-9]+/"
)
"""Numbers that are names, dates or ports, and powers of two, which are their own computation."""
FIGURE = re.compile(r"\b[0-9]{1,3}(?:,[0-9]{3})+\b|\b[0-9]{3,}\b")


def figures(source: Path) -> set[int]:
    found: set[int] = set()

    def walk(element: ElementTree.Element) -> None:
        if element.tag not in NOT_RUNNING:
            for text in (element.text, *(child.tail for child in element)):
                found.update(number(figure) for figure in FIGURE.findall(NAMES.sub(" ", text or "")))
            for child in element:
                walk(child)

    walk(ElementTree.parse(source).getroot())
    return found


def longest_revocation(digest: int) -> int:
    """Bytes of a statement with all the items there can be, of digests of this length, and the longest label."""
    items = tuple(Item(VERSION, 99, i.to_bytes(digest)) for i in range(ITEMS_MAX))
    claim = Revocation(bytes(16), b"l" * NAME_MAX, When(0, 0, 0), items)
    return len(encode_statement(Statement(1, claim)))


def test_how_many_items_fit() -> None:
    assert longest_revocation(48) <= STATEMENT_MAX
    with pytest.raises(ValueError, match="a statement of"):
        longest_revocation(64)


CONTENT = encode_content(SHA256, 0, 16, 1, bytes(32))
"""A statement of kind content."""


def test_two_entries_and_the_longest_proof_have_less_than_is_always_asked_for() -> None:
    longest = Entry(b"/".join([b"n" * 255] * 15), b"n" * 254, LinkNode(b"t" * TARGET_MAX))
    assert len(longest.path) == PATH_MAX - 1
    assert 2 * len(encode_entry(longest)) + PROOF_MAX + 100 < 2**15


def padded_entry() -> Entry:
    """One whose parent and name both have three bytes of padding."""
    return Entry(b"p", b"n", FileNode(False, bytes(32)))


def member_in_a_million() -> bytes:
    found = EntryRange(0, (padded_entry(),), bytes(20 * 32))
    return encode_record(CONTENT, [membership_attestation(Membership(Tag(SHA256, bytes(32)), found))])


PER_FILE = len(CONTENT) + len(encode_entry(padded_entry())) - 2 + 2 * 32
MEMBER = len(member_in_a_million()) - 2
"""Bytes beside the path, of which the parent and the name of the entry here have one each."""


def test_what_a_file_of_a_volume_costs() -> None:
    assert len(encode_entry(Entry(b"four", b"four", FileNode(False, bytes(32))))) == 52 + 8
    assert len(encode_entry(padded_entry())) == 52 + 2 + 6
    assert height(2**20) == 20
    assert f"its statement, {len(CONTENT)} bytes; its entry, 52 bytes, the bytes of its path, and up to 6" in TEXT


K, K_MAX = 4096 // 32, 2**24 // 32
"""Hashes of a block of tree type 2."""
KNOWN: dict[str, set[int]] = {
    "metadata": {
        RECORD_MAX, DER_MAX, PATH_MAX, NAME_MAX, DEPTH_MAX, verification.SKEW, 999_999_999, 2**16 - 1, 2**24 - 1,
        2**31 - 1, 2**32 - 1, 1 << UNIT_LOG2_MIN, 1 << UNIT_LOG2_MAX, signature.RSA_BITS_MIN, signature.RSA_BITS_MAX,
        signature.RSA_EXPONENT_MIN, 64 + 44 + 1, 2 * (K - 1), 2 * (K_MAX - 1), 18 * 32, 3 * 4096, K, 256, 512,
        len(example.CONTENT), len(example.CONTENT) % 4096, 251, len(example.statement()),
        len(example.signed(example.statement())),
        len(example.record()), len(example.head()), len(example.member()), example.NOW, STATEMENT_MAX,
        longest_revocation(32),
        PER_FILE, MEMBER, 20 * 32, 2**20,
    },
    "protocol": {
        128, NAME_MAX, DEPTH_MAX, PATH_MAX, 999_999_999, 2**16 - 1, 2**24 - 1, 2**31 - 1, 2**32 - 1, messages.PROGRAM,
        rpc.MESSAGE_MAX, messages.DATA_MAX, messages.DATA_MIN, messages.TREE_MAX, messages.ENTRIES_MAX, 4096, 5280,
        messages.WAIT_MAX, 2 * 51 * 64, 100, messages.BULK_MAX,
    },
    "nfsv42": {
        2049, DER_MAX, 2**17, (2**20 - 100) // 32, 4096, RECORD_MAX, 2**20, 2**18 + 4096, 100, 256,
        RANGE_ENTRIES_MAX, 2**15,
    },
}  # fmt: skip
"""100 is a client's pause in milliseconds, 2049 the port of NFS, 5,280 the longest call (test_messages.py)."""


@pytest.mark.parametrize("draft", KNOWN)
def test_a_figure_in_running_text_is_a_bound_or_is_computed(draft: str) -> None:
    (source,) = SPEC.glob(f"draft-*{draft}*.xml")
    found = figures(source)
    assert found - KNOWN[draft] == set()
    assert KNOWN[draft] - found == set(), "known, and not in the text any more"
