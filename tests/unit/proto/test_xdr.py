# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.xdr import (
    Array,
    Bool,
    Codec,
    Enumerated,
    Fixed,
    Hyper,
    Opaque,
    Optional,
    Structure,
    Tail,
    UHyper,
    UInt,
    Union,
    XdrError,
)
from oracle import xdr


class Colour(IntEnum):
    RED = 1
    BLUE = 7


@dataclass(frozen=True, slots=True)
class Inner:
    number: int
    flag: bool

    def __post_init__(self) -> None:
        if self.number == 13:
            raise ValueError("13 is not allowed")


@dataclass(frozen=True, slots=True)
class Everything:
    small: int
    large: int
    signed: int
    flag: bool
    colour: Colour
    id: bytes
    text: bytes
    items: tuple[Inner, ...]
    maybe: int | None
    either: Inner | Colour


@dataclass(frozen=True, slots=True)
class Message:
    number: int
    data: bytes | memoryview


INNER = Structure(Inner, number=UInt, flag=Bool)
EVERYTHING: Codec[Everything] = Codec(
    Structure(
        Everything,
        small=UInt,
        large=UHyper,
        signed=Hyper,
        flag=Bool,
        colour=Enumerated(Colour),
        id=Fixed(8),
        text=Opaque(11),
        items=Array(INNER, 3),
        maybe=Optional(UInt),
        either=Union(
            Enumerated(Colour),
            {Colour.RED: INNER, Colour.BLUE: None},
            lambda value: Colour.RED if isinstance(value, Inner) else value,
        ),
    )
)
MESSAGE: Codec[Message] = Codec(Structure(Message, number=UInt, data=Tail(70_000)), has_tail=True)

uints = st.integers(0, 2**32 - 1)
inners = st.builds(Inner, uints.filter(lambda value: value != 13), st.booleans())
everything = st.builds(
    Everything,
    uints,
    st.integers(0, 2**64 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.sampled_from(Colour),
    st.binary(min_size=8, max_size=8),
    st.binary(max_size=11),
    st.lists(inners, max_size=3).map(tuple),
    st.none() | uints,
    inners | st.just(Colour.BLUE),
)


def encode_inner(inner: Inner) -> bytes:
    return xdr.uint(inner.number) + xdr.boolean(inner.flag)


def encode(value: Everything) -> bytes:
    maybe = None if value.maybe is None else xdr.uint(value.maybe)
    either = xdr.uint(1) + encode_inner(value.either) if isinstance(value.either, Inner) else xdr.uint(7)
    return b"".join(
        (
            xdr.uint(value.small),
            xdr.uhyper(value.large),
            xdr.hyper(value.signed),
            xdr.boolean(value.flag),
            xdr.uint(value.colour),
            xdr.fixed(value.id),
            xdr.opaque(value.text),
            xdr.array(map(encode_inner, value.items)),
            xdr.optional(maybe),
            either,
        )
    )


@given(everything)
def test_values_are_encoded_as_rfc_4506_says_and_decoded_again(value: Everything) -> None:
    data = EVERYTHING.encode(value)
    assert data == encode(value)
    for form in (data, bytearray(data), memoryview(data)):
        assert EVERYTHING.decode(form) == value


@given(everything, st.data())
def test_every_prefix_and_every_continuation_is_refused(value: Everything, data: st.DataObject) -> None:
    whole = encode(value)
    with pytest.raises(XdrError):
        EVERYTHING.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(XdrError):
        EVERYTHING.decode(whole + data.draw(st.binary(min_size=1, max_size=9)))


@given(everything, st.data())
def test_a_changed_encoding_is_refused_or_is_that_of_another_value(value: Everything, data: st.DataObject) -> None:
    changed = bytearray(encode(value))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = EVERYTHING.decode(changed)
    except XdrError:
        return
    assert other != value
    assert EVERYTHING.encode(other) == changed


@given(st.binary(max_size=120))
def test_any_bytes_decode_to_what_has_that_encoding_or_raise_the_one_error(data: bytes) -> None:
    try:
        value = EVERYTHING.decode(data)
    except XdrError:
        return
    assert EVERYTHING.encode(value) == data


@pytest.mark.parametrize("declaration", [Opaque(11), Tail(11)])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_padding_must_be_zero(declaration: Opaque, at: int) -> None:
    codec: Codec[bytes] = Codec(declaration)
    padding = bytearray(3)
    assert codec.decode(xdr.opaque(b"abcde", bytes(padding))) == b"abcde"
    padding[at] = 1
    with pytest.raises(XdrError, match="padding"):
        codec.decode(xdr.opaque(b"abcde", bytes(padding)))


@pytest.mark.parametrize("value", [2, 3, 256, 2**31, 2**32 - 1])
def test_a_bool_is_0_or_1(value: int) -> None:
    with pytest.raises(XdrError):
        Codec(Bool).decode(xdr.uint(value))
    with pytest.raises(XdrError):
        Codec(Optional(UInt)).decode(xdr.uint(value) + xdr.uint(5))


@pytest.mark.parametrize("value", [0, 2, 6, 8, 2**32 - 1])
def test_an_enum_has_one_of_its_values(value: int) -> None:
    codec: Codec[Colour] = Codec(Enumerated(Colour))
    with pytest.raises(XdrError):
        codec.decode(xdr.uint(value))
    with pytest.raises(XdrError):
        codec.encode(value)  # type: ignore[arg-type]


def test_a_union_has_no_arm_but_those_declared() -> None:
    codec: Codec[object] = Codec(Union(UInt, {1: UInt}, lambda value: 2))
    with pytest.raises(XdrError, match="no arm 2"):
        codec.decode(xdr.uint(2))
    with pytest.raises(XdrError, match="no arm 2"):
        codec.encode(5)


@pytest.mark.parametrize(
    ("declaration", "low", "high"),
    [(UInt, 0, 2**32 - 1), (UHyper, 0, 2**64 - 1), (Hyper, -(2**63), 2**63 - 1)],
    ids=["unsigned int", "unsigned hyper", "hyper"],
)
def test_integers_fit_their_type(declaration: object, low: int, high: int) -> None:
    codec: Codec[int] = Codec(declaration)
    for value in (low, high):
        assert codec.decode(codec.encode(value)) == value
    for value in (low - 1, high + 1):
        with pytest.raises(XdrError):
            codec.encode(value)


@pytest.mark.parametrize("length", [0, 1, 5, 6])
def test_lengths_keep_their_bounds_both_ways(length: int) -> None:
    text: Codec[bytes] = Codec(Opaque(5, 1))
    items: Codec[tuple[int, ...]] = Codec(Array(UInt, 5, 1))
    if 1 <= length <= 5:
        assert text.decode(xdr.opaque(bytes(length))) == bytes(length)
        assert items.decode(xdr.array([xdr.uint(3)] * length)) == (3,) * length
        return
    for codec, value, encoded in (
        (text, bytes(length), xdr.opaque(bytes(length))),
        (items, (3,) * length, xdr.array([xdr.uint(3)] * length)),
    ):
        with pytest.raises(XdrError, match=f"length {length}"):
            codec.decode(encoded)
        with pytest.raises(XdrError, match=f"length {length}"):
            codec.encode(value)  # type: ignore[arg-type]


def test_a_fixed_opaque_has_its_length() -> None:
    codec: Codec[bytes] = Codec(Fixed(8))
    for length in (7, 9):
        with pytest.raises(XdrError):
            codec.encode(bytes(length))
        with pytest.raises(XdrError):
            codec.decode(bytes(length))
    with pytest.raises(ValueError, match="padding"):
        Fixed(6)


@pytest.mark.spec("fim-dec-3")
@pytest.mark.parametrize("declaration", [Opaque(2**32 - 1), Tail(2**32 - 1), Array(UInt, 2**32 - 1)])
def test_nothing_is_made_of_a_length_that_is_only_announced(declaration: object) -> None:
    codec: Codec[object] = Codec(declaration)
    data = xdr.uint(2**32 - 2) + bytes(64)
    tracemalloc.start()
    try:
        with pytest.raises(XdrError):
            codec.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 65_536
    finally:
        tracemalloc.stop()


def test_what_a_dataclass_refuses_is_no_encoding() -> None:
    with pytest.raises(XdrError, match="13 is not allowed"):
        Codec(INNER).decode(xdr.uint(13) + xdr.uint(0))


def test_the_fields_of_a_structure_are_those_of_its_dataclass_in_their_order() -> None:
    with pytest.raises(ValueError, match="Inner"):
        Structure(Inner, flag=Bool, number=UInt)


@given(uints, st.binary(max_size=9) | st.just(b"\xab" * 65_537))
def test_a_tail_is_neither_copied_in_nor_out(number: int, data: bytes) -> None:
    whole = xdr.uint(number) + xdr.opaque(data)
    parts = MESSAGE.encode_parts(Message(number, data))
    assert b"".join(parts) == whole == MESSAGE.encode(Message(number, data))
    assert parts[1] is data
    memory = bytearray(whole)
    decoded = MESSAGE.decode(memory)
    assert isinstance(decoded.data, memoryview)
    assert (decoded.number, bytes(decoded.data)) == (number, data)
    assert decoded.data.obj is memory


@given(uints, st.binary(max_size=40), st.data())
def test_a_message_with_a_tail_is_as_strict(number: int, payload: bytes, data: st.DataObject) -> None:
    whole = xdr.uint(number) + xdr.opaque(payload)
    with pytest.raises(XdrError):
        MESSAGE.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(XdrError):
        MESSAGE.decode(whole + b"\0")
    with pytest.raises(XdrError):
        MESSAGE.decode(xdr.uint(number) + xdr.opaque(bytes(70_001)))


def test_a_head_can_be_decoded_with_more_behind_it() -> None:
    assert Codec(INNER).decode_head(xdr.uint(5) + xdr.uint(1) + b"more") == (Inner(5, True), 8)
