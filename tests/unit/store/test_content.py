# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Opening what is in a tree, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nfsverity_store.content import Descent, NotRegular, open_below


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "d" / "f").write_bytes(b"content")
    (root / "d" / "link").symlink_to("f")
    (root / "out").symlink_to("../outside")
    (root / "in").symlink_to("d")
    os.mkfifo(root / "fifo")
    return root


def test_a_file(tree: Path) -> None:
    fd = open_below(tree, [b"d", b"f"])
    assert os.read(fd, 99) == b"content"
    os.close(fd)


@pytest.mark.spec("fip-server-3", "fip-server-4")
@pytest.mark.parametrize("names", [(b"out", b"secret"), (b"in", b"f"), (b"d", b"link"), (b"none",), (b"d", b"f", b"x")])
def test_no_link_is_followed(tree: Path, names: tuple[bytes, ...]) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(OSError):
        open_below(tree, names)
    assert before == (len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0)


@pytest.mark.spec("fip-server-5")
@pytest.mark.parametrize("names", [(b"fifo",), (b"d",)])
def test_only_regular_files(tree: Path, names: tuple[bytes, ...]) -> None:
    with pytest.raises(NotRegular):
        open_below(tree, names)


def test_directories_where_they_are_asked_for(tree: Path) -> None:
    fd = open_below(tree, [b"d"], directory=True)
    assert sorted(os.listdir(fd)) == ["f", "link"]
    os.close(fd)
    for names in ([b"in"], [b"d", b"f"], [b"fifo"]):
        with pytest.raises(OSError):
            open_below(tree, names, directory=True)


def test_one_directory_after_the_other(tmp_path: Path) -> None:
    paths = [b"", b"a", b"a/b", b"a/b/c", b"a/d", b"a-b", b"a/b/c", b""]
    for path in paths:
        (tmp_path / os.fsdecode(path)).mkdir(parents=True, exist_ok=True)
    descent = Descent(tmp_path)
    for path in paths:
        assert os.path.samestat(os.fstat(descent.open(path)), (tmp_path / os.fsdecode(path)).stat())
    descent.close()
    descent.close()


def test_no_link_is_followed_from_directory_to_directory(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a" / "out").symlink_to("/")
    descent = Descent(tmp_path)
    for path in (b"link", b"link/b", b"a/out", b"a/out/etc", b"a/none"):
        with pytest.raises(OSError):
            descent.open(path)
    assert os.path.samestat(os.fstat(descent.open(b"a/b")), (tmp_path / "a/b").stat())
    descent.close()
