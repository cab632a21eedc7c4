# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Handles: which object, and under which name (fip, "Handles and Paths").

A handle holds the volume ID and the path. So nothing has to be remembered for it: it survives restarts and new
publications (fip-handle-3), and stands for whatever is at its path then (fip-handle-4). A path that is too long
is named by its digest, and by a byte for each of its names, by which it is found again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from nfsverity_proto.messages import HANDLE_MAX
from nfsverity_proto.path import DEPTH_MAX, split_path

_PATH, _DIGEST = b"\x01", b"\x02"
_VOLUME = 16
_DIGEST_LENGTH = 16
_START = 1 + _VOLUME
_PATH_MAX = HANDLE_MAX - _START
_NAMES_MAX = _PATH_MAX - _DIGEST_LENGTH

Names = Callable[[Sequence[bytes]], Iterable[bytes]]
"""The names in the directory at some names."""


class BadHandle(ValueError):
    """A handle that was not made here, or of which nothing is there."""


def encode(volume: bytes, path: bytes) -> bytes:
    """The handle of a path that is not empty."""
    if len(path) <= _PATH_MAX:
        return _PATH + volume + path
    return _DIGEST + volume + _digest(path) + bytes(map(_mark, path.split(b"/")))[:_NAMES_MAX]


def decode(volume: bytes, handle: bytes, names: Names) -> bytes:
    """The path of a handle; `names` tells where to look for one that is too long. Raises `BadHandle`."""
    kind, found, rest = handle[:1], handle[1:_START], handle[_START:]
    if found != volume:
        raise BadHandle("of another volume")
    if kind == _DIGEST:
        path = _find(rest[:_DIGEST_LENGTH], rest[_DIGEST_LENGTH:], names)
    else:
        path = rest
    try:
        split_path(path)
    except ValueError as error:
        raise BadHandle(str(error)) from error
    if not path or encode(volume, path) != handle:
        raise BadHandle("not made here")
    return path


def _digest(path: bytes) -> bytes:
    return hashlib.sha256(path).digest()[:_DIGEST_LENGTH]


def _mark(name: bytes) -> int:
    return hashlib.sha256(name).digest()[0]


def _find(digest: bytes, marks: bytes, names: Names) -> bytes:
    """The path with a digest, below directories whose names have these marks; empty where there is none."""
    open_paths: list[tuple[bytes, ...]] = [()]
    while open_paths:
        above = open_paths.pop()
        depth = len(above)
        for name in names(above):
            if depth < len(marks) and _mark(name) != marks[depth]:
                continue
            path = (*above, name)
            if len(path) >= len(marks) and _digest(b"/".join(path)) == digest:
                return b"/".join(path)
            if len(path) < len(marks) or _NAMES_MAX <= len(path) < DEPTH_MAX:
                open_paths.append(path)
    return b""


def is_long(handle: bytes) -> bool:
    """Whether the path had to be looked for."""
    return handle[:1] == _DIGEST
