# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto import der


@given(st.integers(0, 300), st.binary(max_size=3))
def test_an_element_is_read_whole_and_what_follows_is_left(length: int, after: bytes) -> None:
    content = bytes(length)
    head = (
        bytes([length])
        if length < 128
        else b"\x81" + bytes([length])
        if length < 256
        else b"\x82\1" + bytes([length - 256])
    )
    data = b"\4" + head + content
    reader = der.Reader(data + after)
    assert reader.tag == 4
    assert reader.read(der.INTEGER, der.OCTET_STRING) == content
    assert bool(reader) is bool(after)
    assert der.Reader(data + after).read_whole(der.OCTET_STRING) == data
    assert der.only(data, der.OCTET_STRING) == content
    if after:
        with pytest.raises(ValueError, match="follows"):
            der.only(data + after, der.OCTET_STRING)
    with pytest.raises(ValueError, match="cut short"):
        der.only(data[:-1], der.OCTET_STRING)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "04",
        "0401",
        "0480",
        "048100",
        "04810141",
        "0481",
        "04820001" + "41",
        "0482007f" + "41" * 127,
        "04ff",
        "1f0100",
        "3f0100",
    ],
)
def test_other_forms_are_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r"cut short|shortest|tag"):
        der.Reader(bytes.fromhex(data)).read()


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**40), max_size=5))
def test_an_object_identifier(first: int, second: int, rest: list[int]) -> None:
    dotted = ".".join(map(str, (first, second, *rest)))
    encoded = x509.ExtendedKeyUsage([x509.ObjectIdentifier(dotted)]).public_bytes()
    assert der.object_identifier(der.only(der.only(encoded, der.SEQUENCE), der.OBJECT_IDENTIFIER)) == dotted


@pytest.mark.parametrize("content", ["", "80", "2a80", "2a8001", "2aff"])
def test_what_is_no_object_identifier(content: str) -> None:
    with pytest.raises(ValueError, match="object identifier"):
        der.object_identifier(bytes.fromhex(content))


@pytest.mark.parametrize(
    ("content", "bits"),
    [("00", ""), ("0780", "80"), ("05a0", "a0"), ("0001", "01"), ("078080", "8080"), ("0080", None),
     ("0781", None), ("0600", None), ("0880", None), ("", None), ("01", None), ("078000", None)],
)  # fmt: skip
def test_bits_with_names_have_one_form(content: str, bits: str | None) -> None:
    if bits is None:
        with pytest.raises(ValueError, match="BIT STRING"):
            der.named_bits(bytes.fromhex(content))
    else:
        assert der.named_bits(bytes.fromhex(content)) == bytes.fromhex(bits)


@given(st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31, 23, 59, 59)).map(lambda at: at.replace(microsecond=0)))
def test_a_time_in_either_form(at: datetime) -> None:
    seconds = int(at.replace(tzinfo=UTC).timestamp())
    long = at.strftime("%Y%m%d%H%M%SZ").encode()
    assert der.time(der.Reader(b"\x18\x0f" + long)) == seconds
    if at.year < 2050:
        assert der.time(der.Reader(b"\x17\x0d" + long[2:])) == seconds


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x17, "2601010000Z"),
        (0x17, "260101000000"),
        (0x17, "260101000000+0000"),
        (0x17, "20260101000000Z"),
        (0x17, "260230000000Z"),
        (0x17, "260101240000Z"),
        (0x17, "260101000060Z"),
        (0x17, "26010100000 Z"),
        (0x18, "260101000000Z"),
        (0x18, "20260101000000.0Z"),
        (0x18, "00000101000000Z"),
        (0x18, "20261301000000Z"),
        (0x04, "20260101000000Z"),
    ],
)
def test_other_times_are_none(tag: int, text: str) -> None:
    with pytest.raises(ValueError):
        der.time(der.Reader(bytes([tag, len(text)]) + text.encode()))
