# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import dataclasses
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.errors import Malformed, RefusedAlgorithm, Unsupported, WrongKind
from nfsverity_proto.statement import (
    NO_END,
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
from oracle import merkle, records

names = st.text(string.ascii_letters + "é ", min_size=1, max_size=80).map(str.encode)
int64 = st.integers(-(2**63), 2**63 - 1)
extensions = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.booleans(), st.binary(max_size=20)), max_size=16, unique_by=lambda e: e[0]
).map(sorted)
lengths = {number: len(digest(b"")) for number, (_, digest) in merkle.HASHES.items()} | {11: 48, 12: 64}


@st.composite
def items(draw: st.DrawFn) -> tuple[int, int, bytes]:
    """Of a revocation, whether or not what it names is known."""
    number = draw(st.sampled_from(list(lengths)) | st.integers(0, 2**32 - 1).filter(lambda n: n not in lengths))
    length = lengths.get(number) or draw(st.integers(0, 64))
    return (
        draw(st.integers(0, 3) | st.integers(0, 2**32 - 1)),
        number,
        draw(st.binary(min_size=length, max_size=length)),
    )


@st.composite
def statements(draw: st.DrawFn) -> records.Statement:
    """Any that may be signed, of kind file or content, or a revocation."""
    number = draw(st.sampled_from(list(lengths)) | st.integers(0, 2**32 - 1).filter(lambda n: n not in lengths))
    length = lengths.get(number) or draw(st.integers(0, 64))
    return records.Statement(
        hash=number,
        kind=draw(st.sampled_from([records.CONTENT, records.FILE, records.REVOCATION])),
        volume=draw(st.binary(min_size=16, max_size=16)),
        label=draw(names),
        path=b"/".join(draw(st.lists(names, min_size=1, max_size=8))),
        generation=draw(st.integers(0, 2**64 - 2)),
        issued=draw(int64),
        not_after=draw(int64),
        executable=draw(st.integers(0, 1)),
        seconds=draw(int64),
        nseconds=draw(st.integers(0, 999_999_999)),
        tree_type=draw(st.integers(0, 2**32 - 1)),
        unit_log2=draw(st.integers(12, 24)),
        size=draw(st.integers(0, 2**63 - 1)),
        root=draw(st.binary(min_size=length, max_size=length)),
        extensions=draw(extensions),
        items=sorted(draw(st.sets(items(), max_size=12))),
    )


def value_of(statement: records.Statement) -> Statement:
    content = Content(
        Time(statement.seconds, statement.nseconds),
        Tree(statement.tree_type, statement.unit_log2, statement.size, statement.root),
    )
    claim: Content | File | Revocation = content
    when = When(statement.generation, statement.issued, statement.not_after)
    if statement.kind == records.REVOCATION:
        claim = Revocation(statement.volume, statement.label, when, tuple(Item(*item) for item in statement.items))
    if statement.kind == records.FILE:
        claim = File(statement.volume, statement.label, statement.path, when, statement.executable == 1, content)
    return Statement(statement.hash, claim, tuple(Extension(n, bool(c), v) for n, c, v in statement.extensions))


@given(statements())
def test_statements_are_encoded_as_the_draft_says_and_decoded_again(statement: records.Statement) -> None:
    data, value = statement.encode(), value_of(statement)
    assert encode_statement(value) == data
    for form in (data, bytearray(data), memoryview(data)):
        assert decode_statement(form) == value
    assert decode_statement(data, Kind(statement.kind)) == value
    assert value.kind == statement.kind


@pytest.mark.spec("fim-dec-1")
@given(statements(), st.data())
def test_other_encodings_are_malformed(statement: records.Statement, data: st.DataObject) -> None:
    whole = statement.encode()
    with pytest.raises(Malformed):
        decode_statement(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(Malformed):
        decode_statement(whole + data.draw(st.binary(min_size=1, max_size=8)))


@given(statements(), st.data())
def test_a_changed_statement_is_refused_or_another_one(statement: records.Statement, data: st.DataObject) -> None:
    changed = bytearray(statement.encode())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_statement(changed)
    except (Malformed, Unsupported, WrongKind):
        return
    assert other != value_of(statement)
    assert encode_statement(other) == changed


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: records.Statement().encode()[:16] + rest))
def test_any_bytes_decode_or_raise_the_one_error(data: bytes) -> None:
    try:
        value = decode_statement(data)
    except (Malformed, Unsupported, WrongKind):
        return
    assert encode_statement(value) == data


@pytest.mark.spec("fim-dec-1", "fim-path-2", "fim-path-3", "fim-path-4", "fim-path-8", "fim-gen-3", "fim-ext-1")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("magic", 0),
        ("magic", 0x5653464E),
        ("kind", 0),
        ("kind", 5),
        ("kind", 2**32 - 1),
        ("label", b""),
        ("label", b".."),
        ("label", b"a/b"),
        ("label", b"a\0"),
        ("label", b"x" * 256),
        ("path", b""),
        ("path", b"/a"),
        ("path", b"a/"),
        ("path", b"a//b"),
        ("path", b"a/../b"),
        ("path", b"./a"),
        ("path", b"a\0b"),
        ("path", b"a" * 256),
        ("path", b"/".join([b"a"] * 257)),
        ("path", b"/".join([b"a" * 200] * 21)),
        ("generation", 2**64 - 1),
        ("executable", 2),
        ("executable", 2**32 - 1),
        ("nseconds", 1_000_000_000),
        ("nseconds", 2**32 - 1),
        ("unit_log2", 11),
        ("unit_log2", 25),
        ("unit_log2", 2**32 - 1),
        ("size", 2**63),
        ("size", 2**64 - 1),
        ("root", b""),
        ("root", bytes(31)),
        ("root", bytes(33)),
        ("root", bytes(65)),
        ("hash", 7),
        ("hash", 8),
        ("hash", 11),
        ("hash", 12),
        ("extensions", [(5, 2, b"")]),
        ("extensions", [(5, 0, b""), (5, 0, b"")]),
        ("extensions", [(5, 0, b""), (4, 0, b"")]),
        ("extensions", [(5, 0, bytes(1025))]),
        ("extensions", [(n, 0, b"") for n in range(17)]),
    ],
)
def test_a_field_beyond_its_rules_is_malformed(field: str, value: Any) -> None:
    statement = dataclasses.replace(records.Statement(), **{field: value})
    with pytest.raises(Malformed):
        decode_statement(statement.encode())


@pytest.mark.spec("fim-st-2", "fim-path-4", "fim-gen-3", "fim-ext-1")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("volume", bytes(15)),
        ("label", b""),
        ("label", b"a/b"),
        ("path", b""),
        ("path", b"a//b"),
        ("generation", 2**64 - 1),
        ("generation", -1),
        ("issued", 2**63),
        ("nseconds", 1_000_000_000),
        ("nseconds", -1),
        ("unit_log2", 11),
        ("size", 2**63),
        ("size", -1),
        ("root", bytes(31)),
        ("extensions", [(5, 0, b""), (4, 0, b"")]),
        ("extensions", [(5, 0, bytes(1025))]),
        ("extensions", [(n, 0, b"") for n in range(17)]),
    ],
)
def test_no_statement_is_made_that_is_malformed(field: str, value: Any) -> None:
    with pytest.raises(ValueError):
        encode_statement(value_of(dataclasses.replace(records.Statement(), **{field: value})))


@pytest.mark.spec("fim-dec-1")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", b"x" * 255),
        ("path", b"a" * 255),
        ("path", b"/".join([b"a"] * 256)),
        ("path", b"/".join([b"a" * 255] * 15 + [b"a" * 127] * 2)),
        ("generation", 0),
        ("generation", 2**64 - 2),
        ("issued", -(2**63)),
        ("not_after", NO_END),
        ("executable", 1),
        ("nseconds", 0),
        ("nseconds", 999_999_999),
        ("unit_log2", 24),
        ("size", 0),
        ("size", 2**63 - 1),
        ("tree_type", 2**32 - 1),
        ("hash", 10),
        ("hash", 2),
        ("hash", 0x10000),
        ("extensions", [(0, 0, b""), (2**32 - 1, 1, bytes(1024))]),
        ("extensions", [(n, 1, b"") for n in range(16)]),
    ],
)
def test_a_field_at_its_bound_is_decoded(field: str, value: Any) -> None:
    statement = dataclasses.replace(records.Statement(), **{field: value})
    assert decode_statement(statement.encode(), Kind.FILE) == value_of(statement)


@pytest.mark.spec("fim-dec-5")
@pytest.mark.parametrize("format", [0, 2, 2**32 - 1])
def test_another_format_is_unsupported_whatever_follows(format: int) -> None:
    for kind in (records.FILE, 9):
        data = records.Statement(format=format, kind=kind).encode()
        for length in (8, 9, 12, 16, len(data)):
            with pytest.raises(Unsupported):
                decode_statement(data[:length], Kind.FILE)


@pytest.mark.spec("fim-dec-5")
def test_the_magic_is_judged_before_the_format() -> None:
    with pytest.raises(Malformed):
        decode_statement(records.Statement(magic=1, format=2).encode())


@pytest.mark.spec("fim-dec-5", "fim-kind-1", "fim-kind-2")
@pytest.mark.parametrize("kind", [records.CONTENT, records.VOLUME, records.REVOCATION])
def test_the_kind_is_judged_before_anything_behind_it(kind: int) -> None:
    for data in (records.Statement(kind=kind).encode(), records.Statement(kind=kind).encode()[:16] + b"\xff" * 9):
        with pytest.raises(WrongKind) as caught:
            decode_statement(data, Kind.FILE)
        assert (caught.value.expected, caught.value.found) == ("file", Kind(kind).name.lower())


@pytest.mark.spec("fim-kind-1")
def test_a_head_is_no_file() -> None:
    data = records.Statement(kind=records.VOLUME).encode()
    with pytest.raises(WrongKind):
        decode_statement(data, Kind.FILE)
    assert decode_statement(data).kind is Kind.VOLUME
    with pytest.raises(Malformed):
        decode_statement(records.Statement(kind=records.VOLUME, entries=2**63).encode())
    with pytest.raises(Malformed):
        decode_statement(records.Statement(kind=records.VOLUME, root=bytes(31)).encode())


KEY, OTHER_KEY = (records.PUBLIC_KEY, 1, bytes(32)), (records.PUBLIC_KEY, 1, bytes(31) + b"\1")
VERSION = (records.VERSION, 1, bytes(32))


@pytest.mark.spec("fim-dec-1", "fim-rev-2")
@pytest.mark.parametrize(
    "items",
    [
        [KEY, KEY],
        [OTHER_KEY, KEY],
        [VERSION, KEY],
        [(records.PUBLIC_KEY, 8, bytes(64)), KEY],
        [(3, 99, b"ab"), (3, 99, b"a")],
        [(records.PUBLIC_KEY, 1, bytes(31))],
        [(records.VERSION, 8, bytes(32))],
        [(7, 1, bytes(64))],
        [(records.VERSION, 99, bytes(65))],
        [(records.VERSION, 99, i.to_bytes(4)) for i in range(129)],
    ],
)
def test_items_that_are_out_of_order_or_too_long_or_too_many_are_malformed(
    items: list[tuple[int, int, bytes]],
) -> None:
    statement = records.Statement(kind=records.REVOCATION, items=items)
    with pytest.raises(Malformed):
        decode_statement(statement.encode())
    with pytest.raises(ValueError):
        encode_statement(value_of(statement))


@pytest.mark.spec("fim-dec-1", "fim-rev-2", "fim-rev-4")
@pytest.mark.parametrize(
    "items",
    [
        [],
        [KEY, OTHER_KEY, VERSION],
        [(0, 0, b""), (2**32 - 1, 2**32 - 1, bytes(64))],
        [(3, 99, b"a"), (3, 99, b"ab")],
        [(records.VERSION, 1, i.to_bytes(32)) for i in range(128)],
    ],
)
def test_items_at_their_bounds_are_decoded(items: list[tuple[int, int, bytes]]) -> None:
    """Whether what they name is known is judged later: only the form is looked at here."""
    statement = records.Statement(kind=records.REVOCATION, items=items)
    assert decode_statement(statement.encode(), Kind.REVOCATION) == value_of(statement)


@pytest.mark.parametrize("extra", [0, 4])
def test_the_bound_of_a_statement(extra: int) -> None:
    """Extensions of 8,192 bytes in all, and four more."""
    least = len(records.Statement(path=b"a").encode())
    room = 8192 - least
    numbers = -(-room // (12 + 1024))
    values = [1024] * (numbers - 1)
    values.append(room - sum(12 + value for value in values) - 12)
    assert 0 <= values[-1] <= 1020
    values[-1] += extra
    statement = records.Statement(path=b"a", extensions=[(n, 0, bytes(length)) for n, length in enumerate(values)])
    data = statement.encode()
    assert len(data) == 8192 + extra
    if not extra:
        assert encode_statement(decode_statement(data)) == data
        return
    with pytest.raises(Malformed, match="8196 bytes"):
        decode_statement(data)
    with pytest.raises(ValueError, match="8196 bytes"):
        encode_statement(value_of(statement))


@pytest.mark.spec("fim-st-1")
@pytest.mark.parametrize("number", list(merkle.HASHES))
@given(data=st.binary(max_size=100))
def test_a_tag_is_the_digest_of_the_bytes_under_the_statements_hash(number: int, data: bytes) -> None:
    tag = tag_of(data, number)
    assert tag == Tag(number, merkle.HASHES[number][1](data))
    assert str(tag) == tag.digest.hex()


def test_there_is_no_tag_under_a_hash_that_is_unknown_or_refused() -> None:
    with pytest.raises(Unsupported):
        tag_of(b"", 9)
    with pytest.raises(RefusedAlgorithm):
        tag_of(b"", 3)


@pytest.mark.spec("fip-status-5", "fim-hash-4")
@pytest.mark.parametrize("number", list(lengths))
def test_a_tag_has_the_length_of_its_hash(number: int) -> None:
    for length in {0, 31, 33, 47, 63, 64, 20} - {lengths[number]}:
        with pytest.raises(ValueError, match=f"{length} bytes"):
            Tag(number, bytes(length))
    assert Tag(99, bytes(5)).digest == bytes(5)


@given(st.integers(-(2**63) * 10**9, (2**63) * 10**9 - 1))
def test_times_before_1970_have_nanoseconds_that_count_forward(nanoseconds: int) -> None:
    time = Time.from_ns(nanoseconds)
    assert 0 <= time.nseconds <= 999_999_999
    assert time.to_ns() == nanoseconds == time.seconds * 10**9 + time.nseconds
