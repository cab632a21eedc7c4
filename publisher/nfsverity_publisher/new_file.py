# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Files that must not be there yet, and get their names when they are whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from nfsverity_store.layout import naming

_DESCRIPTORS = "/proc/self/fd"


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet; where that fails, there is none. Raises `FileExistsError`, `OSError`.

    It gets its name when it is whole, where the system can do that; elsewhere a process that is killed leaves a part.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    unnamed = _unnamed(path.parent, mode)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) if unnamed is None else unnamed
    try:
        with naming(path), os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if unnamed is not None:
                _name(unnamed, path)
    except BaseException:
        if unnamed is None:
            path.unlink()
        raise


def _unnamed(directory: Path, mode: int) -> int | None:
    """A new file without a name, which can be given one; None where there is no such thing."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir(_DESCRIPTORS):
        return None
    try:
        return os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode)
    except OSError:  # a file system without them, or whatever is wrong with the directory: the name will tell
        return None


def _name(fd: int, path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # with a descriptor of the directory it follows the link that names the file
        os.link(f"{_DESCRIPTORS}/{fd}", path.name, dst_dir_fd=directory, follow_symlinks=True)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        os.close(directory)
