# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Contents that say in each block which file, which place and which version they are of.

Those below `bin/` are programs, of which each block is a line that prints the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

BLOCK = 512
_MARK = re.compile(rb"(?:#!/bin/sh\n)?(?:echo )?(\S+) (\d+) (\d+) ")


def content(name: str, versions: Sequence[int], first: int = 0) -> bytes:
    """Blocks from `first` on, each of its version."""
    return b"".join(block(name, version, index) for index, version in enumerate(versions, first))


def block(name: str, version: int, index: int) -> bytes:
    text = f"{name} {index} {version} "
    if not name.startswith("bin/"):
        return text.encode().ljust(BLOCK, b"%d" % (version % 10))
    return f"{'' if index else '#!/bin/sh' + chr(10)}echo {text}#".encode().ljust(BLOCK - 1, b".") + b"\n"


def versions_of(data: bytes, name: str, first: int = 0) -> list[int]:
    """The version of each block. Raises `AssertionError` where it is no block of that file and place."""
    assert len(data) % BLOCK == 0, f"{len(data)} bytes of {name}"
    found = []
    for at in range(0, len(data), BLOCK):
        one, index = data[at : at + BLOCK], first + at // BLOCK
        mark = _MARK.match(one)
        assert mark is not None, f"no block of {name} at {index}"
        assert one == block(name, int(mark[3]), index), f"no block of {name} at {index}"
        found.append(int(mark[3]))
    return found


def versions_printed(output: bytes, name: str) -> list[int]:
    """The same of what a program printed."""
    lines = [line.split(b" ") for line in output.splitlines()]
    assert [(line[0].decode(), int(line[1])) for line in lines] == [(name, index) for index in range(len(lines))]
    return [int(line[2]) for line in lines]
