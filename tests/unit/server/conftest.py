# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A published tree, a server that serves it, and a client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Published, publish_tree
from unit.server.raw import Raw
from unit.server.running import Running, running

UNIT = 4096
BIG = os.urandom(37 * UNIT + 123)
FILES = {
    "top": b"top of the tree",
    "empty": b"",
    "big": BIG,
    "d/run": b"#!/bin/true\n",
    "d/e/deep": b"deep" * 5000,
    "names/a": b"a",
    "names/a-b": b"a-b",
    "names/a.c": b"a.c",
    "names/b": b"b",
}


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """Signed in units of 4,096 bytes; and beside it what must never be served."""
    (tmp_path / "outside").write_bytes(b"outside")
    root = tmp_path / "tree"
    root.mkdir()
    (root / "d").mkdir()
    (root / "d" / "run").write_bytes(b"")
    (root / "d" / "run").chmod(0o755)
    published = publish_tree(root, FILES, unit_size=UNIT)
    (root / "unsigned").write_bytes(b"unsigned")
    (root / "unsigned-directory").mkdir()
    (root / "unsigned-directory" / "u").write_bytes(b"u")
    (root / "link").symlink_to("top")
    (root / "out").symlink_to("../outside")
    (root / "directory-link").symlink_to("d")
    os.mkfifo(root / "fifo")
    return published


@pytest.fixture
def server(published: Published) -> Iterator[Running]:
    with running(published.root) as server:
        yield server


@pytest.fixture
def all_server(published: Published) -> Iterator[Running]:
    """One that shows what is not signed, too."""
    with running(published.root, show_all=True) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[Raw]:
    with server.client() as client:
        yield client
