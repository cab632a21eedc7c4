# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""PLAIN: what the storage has, with a record and without, and never what may not be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfsverity_proto import messages as m
from nfsverity_proto.messages import Status
from serving import Published
from unit.server.raw import Raw
from unit.server.running import Running

NAMES = ("top", "empty", "big", "d/run", "d/e/deep")
SIZE = 37 * 4096 + 123
"""Of the file big."""


def plain(client: Raw, path: bytes, offset: int = 0, count: int = m.DATA_MAX) -> m.PlainOk:
    found = client.call(m.PLAIN, m.PlainArgs(client.handle(path), offset, count))
    assert isinstance(found, m.PlainOk), found
    return found


@pytest.mark.spec("fip-plain-1", "fip-plain-4")
@pytest.mark.parametrize("path", NAMES)
def test_a_file_with_a_record(client: Raw, published: Published, path: str) -> None:
    content = (published.root / path).read_bytes()
    assert plain(client, path.encode()) == m.PlainOk(len(content), True, content)


@pytest.mark.spec("fip-plain-1", "fip-plain-4", "fip-plain-5")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offset=st.integers(0, SIZE + 2) | st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64 - 1]),
    count=st.integers(1, SIZE + 2) | st.just(m.DATA_MAX),
)
def test_every_range(client: Raw, published: Published, offset: int, count: int) -> None:
    """This server returns all of what was asked for."""
    expected = (published.root / "big").read_bytes()[offset : offset + count]
    assert plain(client, b"big", offset, count) == m.PlainOk(SIZE, offset + count >= SIZE, expected)


@pytest.mark.spec("fip-plain-3")
def test_a_file_without_a_record_where_such_files_are_served(client: Raw, all_server: Running) -> None:
    with all_server.client() as all_client:
        assert plain(all_client, b"unsigned") == m.PlainOk(8, True, b"unsigned")
        assert plain(all_client, b"unsigned-directory/u", 0, 1) == m.PlainOk(1, True, b"u")
        handle = all_client.handle(b"unsigned")
    assert client.call(m.PLAIN, m.PlainArgs(handle, 0, 1)) is Status.BAD_HANDLE


@pytest.mark.spec("fip-plain-1", "fip-plain-3")
def test_content_that_is_not_that_of_the_record(client: Raw, published: Published) -> None:
    """Whatever happened to the file: its bytes of now, of whatever size."""
    handle = client.handle(b"top")
    for content in (b"TOP of the tree", b"shorter", b"", os.urandom(200_000)):
        (published.root / "top").write_bytes(content)
        assert client.call(m.PLAIN, m.PlainArgs(handle, 0, m.DATA_MAX)) == m.PlainOk(len(content), True, content)
    (published.root / "new").write_bytes(b"put in its place")
    os.replace(published.root / "new", published.root / "top")
    assert client.call(m.PLAIN, m.PlainArgs(handle, 4, 2)) == m.PlainOk(16, False, b"in")


@pytest.mark.spec("fip-plain-1")
def test_more_than_a_socket_takes_at_once(all_server: Running, published: Published) -> None:
    content = os.urandom(6 * 2**20 + 3)
    (published.root / "large").write_bytes(content)
    with all_server.client(receive_buffer=4096) as client:
        first = plain(client, b"large")
        assert first == m.PlainOk(len(content), False, content[: m.DATA_MAX])
        rest = plain(client, b"large", m.DATA_MAX)
        assert rest == m.PlainOk(len(content), True, content[m.DATA_MAX :])


@pytest.mark.spec("fip-plain-2")
@pytest.mark.parametrize("count", [0, m.DATA_MAX + 1, 2**32 - 1])
def test_counts_that_are_none(client: Raw, count: int) -> None:
    assert client.call(m.PLAIN, m.PlainArgs(client.handle(b"top"), 0, count)) is Status.INVALID


def test_neither_directories_nor_what_is_never_served(client: Raw, published: Published, tmp_path: Path) -> None:
    assert client.call(m.PLAIN, m.PlainArgs(b"", 0, 1)) is Status.IS_DIRECTORY
    assert client.call(m.PLAIN, m.PlainArgs(client.handle(b"d"), 0, 1)) is Status.IS_DIRECTORY
    handle = client.handle(b"top")
    (published.root / "top").unlink()
    (published.root / "top").symlink_to(tmp_path / "outside")
    assert client.call(m.PLAIN, m.PlainArgs(handle, 0, 1)) is Status.BAD_HANDLE
