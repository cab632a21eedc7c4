# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Names and paths: byte strings, never folded or normalised (fim, "Identity and paths")."""

from __future__ import annotations

NAME_MAX, PATH_MAX, DEPTH_MAX = 255, 4095, 256


def check_name(name: bytes) -> bytes:
    """The name itself, or `ValueError` where it is none (fim-path-2)."""
    if not 1 <= len(name) <= NAME_MAX:
        raise ValueError(f"a name of {len(name)} bytes")
    if name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise ValueError(f"{name!r} is not a name")
    return name


def split_path(path: bytes) -> tuple[bytes, ...]:
    """The names of a path; none for the root directory. `ValueError` where it is no path (fim-path-3)."""
    if not path:
        return ()
    if len(path) > PATH_MAX:
        raise ValueError(f"a path of {len(path)} bytes")
    names = tuple(path.split(b"/"))
    if len(names) > DEPTH_MAX:
        raise ValueError(f"a path of {len(names)} names")
    for name in names:
        check_name(name)
    return names


def join_path(*parts: bytes) -> bytes:
    """Paths one below the other; empty ones add nothing. `ValueError` where the result is no path."""
    path = b"/".join(part for part in parts if part)
    split_path(path)
    return path
