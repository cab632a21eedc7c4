# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""RFC 4506, writing only. It checks nothing, so that it can write what is wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterable


def uint(value: int) -> bytes:
    return struct.pack(">I", value)


def hyper(value: int) -> bytes:
    return struct.pack(">q", value)


def uhyper(value: int) -> bytes:
    return struct.pack(">Q", value)


def boolean(value: bool) -> bytes:
    return uint(1 if value else 0)


def fixed(data: bytes, padding: bytes = b"\0\0\0") -> bytes:
    return data + padding[: -len(data) % 4]


def opaque(data: bytes, padding: bytes = b"\0\0\0") -> bytes:
    return uint(len(data)) + fixed(data, padding)


def array(items: Iterable[bytes]) -> bytes:
    encoded = list(items)
    return uint(len(encoded)) + b"".join(encoded)


def optional(item: bytes | None) -> bytes:
    return uint(0) if item is None else uint(1) + item
