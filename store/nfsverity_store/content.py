# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Opening what is in a published tree, and only that: no link is followed, nothing outside is reached."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from nfsverity_proto.path import check_path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Descent:
    """Directories below a root, one after the other: those that lead to the last one stay open for the next.

    Every step is made from the directory before it and follows no link, as in `open_below`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: list[bytes] = []
        self._opened: list[int] = []
        """The root, and then one for each of the names."""

    def open(self, path: bytes) -> int:
        """A descriptor of the directory at `path`, which lasts until the next call. Raises `OSError`."""
        if not self._opened:
            self._opened.append(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        names = path.split(b"/") if path else []
        same = 0
        for have, wanted in zip(self._names, names, strict=False):
            if have != wanted:
                break
            same += 1
        self._leave(same)
        for name in names[same:]:
            self._opened.append(open_directory(name, self._opened[-1]))
            self._names.append(name)
        return self._opened[-1]

    def file(self, path: bytes) -> int:
        """A descriptor of the regular file at `path`, for the caller to close. Raises `NotRegular`, `OSError`."""
        check_path(path)  # which may come from an index: no name leads out
        above, _, name = path.rpartition(b"/")
        return open_file(name, self.open(above))

    def refresh(self) -> bool:
        """Leave directories that are not where they were opened any more; whether it was so. Raises `OSError`."""
        if not self._opened:
            return False
        try:
            now = open_below(self._root, self._names, directory=True)
        except (FileNotFoundError, NotADirectoryError):
            self.close()
            return True
        try:
            same = os.path.sameopenfile(now, self._opened[-1])
        finally:
            os.close(now)
        if not same:
            self.close()
        return not same

    def _leave(self, depth: int) -> None:
        while len(self._names) > depth:
            self._names.pop()
            os.close(self._opened.pop())

    def close(self) -> None:
        self._leave(0)
        if self._opened:
            os.close(self._opened.pop())


class NotRegular(OSError):
    """A symbolic link, a directory or a special file, where a file is due."""


def open_directory(name: bytes, above: int) -> int:
    """A descriptor of the directory `name` in the open directory `above`. Raises `OSError`, for a link too."""
    return os.open(name, _DIRECTORY, dir_fd=above)


def open_file(name: bytes, above: int | None) -> int:
    """A descriptor of the regular file `name` in the open directory `above`. Raises `NotRegular`, `OSError`."""
    fd = os.open(name, _FILE, dir_fd=above)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegular("not a regular file")
    return fd


def open_below(root: Path | int, names: Iterable[bytes], *, directory: bool = False) -> int:
    """A descriptor of the file (or directory) at `names` below `root`, which may be open already.

    Every step is made from the directory before it and follows no link, so that no name can leave the
    tree. Raises `NotRegular`, `OSError`.
    """
    at = os.dup(root) if isinstance(root, int) else os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        steps = list(names)
        for name in steps if directory else steps[:-1]:
            below = open_directory(name, at)
            os.close(at)
            at = below
        if directory:
            found, at = at, -1
            return found
        return open_file(steps[-1], at)
    finally:
        if at >= 0:
            os.close(at)
