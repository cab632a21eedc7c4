# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Names and paths: byte strings, never folded or normalised (fim, "Identity and paths")."""

from __future__ import annotations

from functools import lru_cache

NAME_MAX, PATH_MAX, DEPTH_MAX = 255, 4095, 256


def shown_path(path: bytes) -> str:
    """A name, path or target of a link in a text for people: on one line, whoever chose it."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(f"\\x{ord(char):02x}" if char < " " or char == "\x7f" else char for char in text)


def check_name(name: bytes) -> bytes:
    """The name itself, or `ValueError` where it is none (fim-path-2)."""
    if not 1 <= len(name) <= NAME_MAX:
        raise ValueError(f"a name of {len(name)} bytes")
    if name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise ValueError(f'"{shown_path(name)}" is not a name')
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


@lru_cache(maxsize=1024)
def _depth(path: bytes) -> int:
    """The number of names of a directory: of the files that are met one after the other, many are in the same."""
    return len(split_path(path))


def check_path(path: bytes) -> None:
    """Raise `ValueError` where `split_path` does, and for the root directory."""
    above, slash, name = path.rpartition(b"/")
    if slash and not above:
        raise ValueError("a path that begins with a slash")
    check_name(name)
    if len(path) > PATH_MAX:
        raise ValueError(f"a path of {len(path)} bytes")
    if above and _depth(above) >= DEPTH_MAX:
        raise ValueError(f"a path of more than {DEPTH_MAX} names")


def join_path(*parts: bytes) -> bytes:
    """Paths one below the other; empty ones add nothing. `ValueError` where the result is no path."""
    path = b"/".join(part for part in parts if part)
    if path:
        check_path(path)
    return path
