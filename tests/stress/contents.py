# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Contents that say in each block which file, which place and which version they are of."""

from __future__ import annotations

BLOCK = 512


def content(name: str, version: int, blocks: int) -> bytes:
    return b"".join(block(name, version, index) for index in range(blocks))


def block(name: str, version: int, index: int) -> bytes:
    return f"{name} {index} {version} ".encode().ljust(BLOCK, b"%d" % (version % 10))


def version_of(data: bytes, name: str, offset: int) -> int:
    """The version of one block. Raises `AssertionError` where it is no block of that file and place."""
    said, index, version = data.split(b" ", 3)[:3]
    assert data == block(name, int(version), offset // BLOCK), f"no block of {name} at {offset}"
    assert (said.decode(), int(index)) == (name, offset // BLOCK)
    return int(version)
