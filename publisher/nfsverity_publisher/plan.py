# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is to be signed: the trees that paths are in, and where in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from nfsverity_store.layout import DIRECTORY, find_root

from .lock import PublicationError


def plan(paths: Sequence[Path], *, new: bool = False) -> dict[Path, list[bytes]]:
    """The published root of each path (found upward, or made from it), with the paths below it.

    With `new`, the name of a file that is not there yet is one too. Raises `PublicationError`, `FileNotFoundError`.
    """
    found: list[tuple[Path, Path]] = []
    for given in paths:
        mode = stat.S_IFREG if new and not os.path.lexists(given) else os.lstat(given).st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise PublicationError(f"{given} is neither a file nor a directory")
        path = given.parent.resolve() / given.name if given.name not in ("", "..") else given.resolve()
        if DIRECTORY in path.parts:
            raise PublicationError(f"{given} is metadata ({DIRECTORY}); sign the tree that it belongs to")
        start = path if stat.S_ISDIR(mode) else path.parent
        root = find_root(start) or start
        outer = find_root(root.parent)
        if outer is not None and outer != root:
            raise PublicationError(f"{root / DIRECTORY} is inside the published tree of {outer / DIRECTORY}")
        found.append((root, path))
    roots: dict[Path, set[bytes]] = {}
    made = {root for root, _ in found}
    for root, path in found:
        outermost = [above for above in reversed(root.parents) if above in made] or [root]
        if outermost[0] != root and find_root(root) is not None:
            raise PublicationError(f"{root / DIRECTORY} is inside {outermost[0]}, which would be published too")
        below = os.fsencode(path.relative_to(outermost[0]))
        roots.setdefault(outermost[0], set()).add(b"" if below == b"." else below)
    return {root: _outermost(below) for root, below in roots.items()}


def _outermost(paths: set[bytes]) -> list[bytes]:
    """The paths that are not below another one."""
    if b"" in paths:
        return [b""]
    kept: list[bytes] = []
    for path in sorted(paths, key=lambda path: path.split(b"/")):
        if not kept or not path.startswith(kept[-1] + b"/"):
            kept.append(path)
    return kept
