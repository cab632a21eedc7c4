# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where the links of a volume lead to, without I/O: entry by entry, and never out of it (fim, "Taking Files Out")."""

from __future__ import annotations

from collections.abc import Generator

from nfsverity_proto.entry import Entry, LinkNode
from nfsverity_proto.errors import Absent, LinkOutside
from nfsverity_proto.path import shown_path, split_path

LINKS_MAX = 40
"""Links that are followed for one path."""
Following = Generator[bytes, Entry | None, tuple[bytes, Entry | None]]
"""Asks for the entries at some paths, one after the other; last, a path and its entry (None for the root)."""


def target_of(path: bytes, target: bytes) -> bytes:
    """The path that a link at `path` leads to, by names alone. Raises `LinkOutside` (fim-link-1), `ValueError`."""
    names = list(split_path(path))[:-1]
    if target.startswith(b"/"):
        raise LinkOutside("the link is absolute", found=shown_path(target))
    for name in target.split(b"/"):
        if name in (b"", b"."):
            continue
        if name == b"..":
            if not names:
                raise LinkOutside("the link leads above the root of the volume", found=shown_path(target))
            names.pop()
        else:
            names.append(name)
    found = b"/".join(names)
    split_path(found)
    return found


def following(path: bytes, *, last: bool = True) -> Following:
    """The path and the entry that a path leads to once all links in it are followed; its `last` name, too, or not.

    A ".." in a target is what is above the directory that was come to, as for those who follow links on a disk.
    Raises `Absent`, `LinkOutside`.
    """
    followed = 0
    names = list(reversed(split_path(path)))
    done = b""
    entry: Entry | None = None
    while names:
        name = names.pop()
        if name == b"..":
            if not done:
                raise LinkOutside("a link leads above the root of the volume")
            done, entry = done.rpartition(b"/")[0], None
            continue
        here = done + b"/" + name if done else name
        entry = yield here
        if entry is None and followed:
            raise Absent(f"a link on the way leads to {shown_path(here)}, and the volume has nothing of this name")
        if entry is None:
            raise Absent("the volume has nothing of this name")
        if not isinstance(entry.node, LinkNode) or not (names or last):
            done = here
            continue
        followed += 1
        if followed > LINKS_MAX:
            raise Absent(f"more than {LINKS_MAX} links, one after the other")
        target_of(here, entry.node.target)
        names += [one for one in reversed(entry.node.target.split(b"/")) if one not in (b"", b".")]
        entry = None
    if done and entry is None:
        entry = yield done
    return done, entry
