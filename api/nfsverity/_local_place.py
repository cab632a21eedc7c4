# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where a path of this machine lies in a published tree, and what is at a path of the tree."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from urllib.parse import quote

from nfsverity_proto.errors import (
    Unsigned,
)
from nfsverity_store.content import open_below
from nfsverity_store.layout import DIRECTORY, DIRECTORY_BYTES, find_root, read_head
from nfsverity_store.published import open_published
from nfsverity_store.volume_view import VolumeView


def file_url(path: bytes) -> str:
    """The URL (RFC 8089) of an absolute path."""
    return "file://" + url_path(path)


def url_path(path: bytes) -> str:
    """A path as it is in a URL."""
    return quote(path, safe="/!$&'()*+,;=:@~")


def locate(path: Path) -> tuple[Path, bytes]:
    """The published tree that holds a file or directory, and the path in it.

    One that is missing and was signed has its place, too. Raises `Unsigned` where there is no tree, and for a symbolic
    link to a file; `FileNotFoundError`, `NotADirectoryError`.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        missing = _find_missing(path)
        if missing is None:
            raise
        return missing
    if stat.S_ISLNK(status.st_mode) and not path.is_dir():
        link = find_link(path)
        if link is None:
            raise Unsigned("this symbolic link is not signed: name the file that it leads to", where=str(path))
        raise Unsigned("it is a symbolic link: name the file that it leads to", where=str(path))
    whole = path.resolve()
    start = whole if whole.is_dir() else whole.parent
    found = find_root(start)
    if found is None:
        raise Unsigned(f"neither it nor a directory above it has a {DIRECTORY}", where=str(path))
    below = os.fsencode(whole.relative_to(found))
    return found, b"" if below == b"." else below


def _find_missing(path: Path) -> tuple[Path, bytes] | None:
    """The place of what is not there any more and was signed; None for what was not. Raises `StoreError`."""
    whole = path.parent.resolve() / path.name
    start = next((above for above in whole.parents if above.is_dir()), None)
    root = None if start is None else find_root(start)
    if root is None:
        return None
    below = os.fsencode(whole.relative_to(root))
    _, index = open_published(root)
    with contextlib.closing(index):
        try:
            entry = index.at(below) if isinstance(index, VolumeView) else index.by_path(below)
        except ValueError:  # deeper or longer than what can be signed
            return None
    return None if entry is None else (root, below)


def find_link(path: Path) -> tuple[Path, bytes] | None:
    """The published volume in which a symbolic link lies, and its path there; None for what is no link of a volume."""
    if not path.is_symlink():
        return None
    above = path.parent.resolve()
    root = find_root(above)
    if root is None or read_head(root).nodes is None:
        return None
    return root, os.fsencode((above / path.name).relative_to(root))


def locate_file(path: Path) -> tuple[Path, bytes]:
    """As `locate`; but of a link in a volume it is the place of the link itself, which `LocalTree.follow` follows."""
    return find_link(path) or locate(path)


def list_directory(base: Path, path: bytes) -> dict[bytes, str]:
    """What is in a directory of the tree, and of which kind; metadata left out. Raises `OSError`."""
    try:
        fd = open_below(base, path.split(b"/") if path else (), directory=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        with os.scandir(fd) as scan:
            found = {os.fsencode(item.name): _kind(item) for item in scan}
    finally:
        os.close(fd)
    found.pop(DIRECTORY_BYTES, None)
    return found


def kind_at(base: Path, path: bytes) -> str | None:
    """What is at a path of the tree; None for nothing. Raises `OSError`."""
    *above, name = path.split(b"/")
    try:
        fd = open_below(base, above, directory=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)
    if stat.S_ISLNK(mode):
        return "symbolic link"
    return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "special file"


def _kind(item: os.DirEntry[str]) -> str:
    if item.is_symlink():
        return "symbolic link"
    if item.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if item.is_file(follow_symlinks=False) else "special file"
