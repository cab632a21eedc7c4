# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""DER (ITU-T X.690 section 10), as far as a certificate needs it: definite lengths in their shortest form.

A certificate is taken apart here, and not by a library, because all verifiers have to agree on which ones can
be decoded (fim-cert-3), and libraries do not.
"""

from __future__ import annotations

from datetime import UTC, datetime

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING, UTC_TIME, GENERALIZED_TIME = 0x0C, 0x13, 0x16, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

_TIMES = {UTC_TIME: 12, GENERALIZED_TIME: 14}
"""The digits of a time, which Z follows (RFC 5280 section 4.1.2.5)."""


class Reader:
    """The elements of some bytes, one after the other. Each method raises `ValueError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def _take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) < count:
            raise ValueError("DER that is cut short")
        self._at += count
        return part

    @property
    def tag(self) -> int | None:
        """That of the next element; None at the end."""
        return self._data[self._at] if self else None

    def read(self, *tags: int) -> bytes:
        """The content of the next element, which has one of these tags; any tag where none are given."""
        tag = self._take(1)[0]
        if tag & 0x1F == 0x1F or (tags and tag not in tags):
            raise ValueError(f"an element with the tag {tag:#04x}")
        length = self._take(1)[0]
        if length >= 0x80:
            digits = self._take(length & 0x7F)
            length = int.from_bytes(digits)
            if not digits or digits[0] == 0 or length < 0x80:
                raise ValueError("a length that is not in its shortest form")
        return self._take(length)

    def read_whole(self, tag: int) -> bytes:
        """The next element with its tag and length."""
        start = self._at
        self.read(tag)
        return self._data[start : self._at]

    def end(self) -> None:
        if self:
            raise ValueError("something follows the last element")


def only(data: bytes, tag: int) -> bytes:
    """The content of the one element that some bytes are."""
    reader = Reader(data)
    content = reader.read(tag)
    reader.end()
    return content


def object_identifier(content: bytes) -> str:
    """With dots."""
    numbers: list[int] = []
    number, fresh = 0, True
    for byte in content:
        if fresh and byte == 0x80:
            raise ValueError("an object identifier that is not in its shortest form")
        number = number << 7 | byte & 0x7F
        fresh = byte < 0x80
        if fresh:
            numbers.append(number)
            number = 0
    if not fresh or not numbers:
        raise ValueError("an object identifier that is cut short")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def named_bits(content: bytes) -> bytes:
    """The bits of a BIT STRING whose bits have names: zeros at its end are left out."""
    if not content or content[0] > 7 or (len(content) == 1 and content[0]):
        raise ValueError("a BIT STRING that is none")
    bits = content[1:]
    if bits and (bits[-1] & -bits[-1]) != 1 << content[0]:
        raise ValueError("a BIT STRING that is not in its shortest form")
    return bits


def time(reader: Reader) -> int:
    """The next element, which is a time, in Unix seconds."""
    tag = reader.tag
    text = reader.read(*_TIMES).decode("ascii")
    digits = text[:-1]
    if tag is None or len(digits) != _TIMES[tag] or not digits.isdigit() or text[-1] != "Z":
        raise ValueError(f"{text!r} is no time")
    if tag == UTC_TIME:
        digits = ("20" if digits < "50" else "19") + digits
    year, parts = int(digits[:4]), [int(digits[at : at + 2]) for at in range(4, 14, 2)]
    month, day, hour, minute, second = parts
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
