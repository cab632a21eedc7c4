# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""DER (X.690), writing only."""

from __future__ import annotations

from datetime import UTC, datetime


def item(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def sequence(*items: bytes) -> bytes:
    return item(0x30, *items)


def set_of(*items: bytes) -> bytes:
    return item(0x31, *sorted(items))


def integer(value: int) -> bytes:
    return item(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def boolean(value: bool) -> bytes:
    return item(0x01, b"\xff" if value else b"\0")


def null() -> bytes:
    return item(0x05)


def octets(data: bytes) -> bytes:
    return item(0x04, data)


def bits(data: bytes, unused: int = 0) -> bytes:
    return item(0x03, bytes([unused]) + data)


def utf8(text: str) -> bytes:
    return item(0x0C, text.encode())


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    return item(0x06, b"".join(_base128(number) for number in (40 * first + second, *rest)))


def _base128(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | number & 0x7F)
    return bytes(reversed(groups))


def time(seconds: int) -> bytes:
    """UTCTime to 2049, GeneralizedTime from 2050 on (RFC 5280 section 4.1.2.5)."""
    when = datetime.fromtimestamp(seconds, UTC)
    if when.year < 2050:
        return item(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
    return item(0x18, when.strftime("%Y%m%d%H%M%SZ").encode())
