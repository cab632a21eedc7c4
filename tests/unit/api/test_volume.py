# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The library's view of a volume that is served: verified listings, links, and what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nfsverity
from nfsverity import State, Tree, open_tree, open_tree_async
from nfsverity_client.trust_store import Bindings
from nfsverity_proto.entry import EntryType
from nfsverity_proto.errors import Absent, LinkOutside, StatusError
from serving import Published, Served, publish_as_volume, publish_tree, serving

FILES = {"a": b"first", "d/e/deep": b"deep", "d/one": b"one", "d/two": b"two"}


@pytest.fixture
def published(tmp_path: Path) -> Published:
    published = publish_as_volume(tmp_path / "tree", FILES)
    (published.root / "to").symlink_to("d/e")
    (published.root / "out").symlink_to("../x")
    (published.root / "d" / "one").chmod(0o755)
    (published.root / "empty").mkdir()
    published.sign_volume()
    return published


@pytest.fixture
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


def opened(served: Served, published: Published, tmp_path: Path, path: str = "") -> Tree:
    bindings = Bindings(tmp_path / "state")
    state = State(tmp_path / "state")
    return open_tree(served.url + path, trust=[published.pin], bindings=bindings, state=state, cache=False)


@pytest.mark.spec("fim-range-4")
def test_listings_are_verified(served: Served, published: Published, tmp_path: Path) -> None:
    with opened(served, published, tmp_path) as tree:
        entries = {entry.name: entry for entry in tree.list()}
        assert list(entries) == [b"a", b"d", b"empty", b"out", b"to"]
        assert all(entry.is_verified for entry in entries.values())
        assert (entries[b"to"].type, entries[b"to"].target) == (EntryType.LINK, b"d/e")
        assert entries[b"a"].size == len(b"first")
        assert [(entry.name, entry.executable) for entry in tree.list("d")] == [
            (b"e", False),
            (b"one", True),
            (b"two", False),
        ]
        assert list(tree.list("empty")) == []
        assert list(tree.walk()) == [b"a", b"d/one", b"d/two", b"d/e/deep"]
        assert list(tree.walk("to")) == [b"to/deep"]
        assert [entry.path for entry in tree.list("to")] == [b"d/e/deep"]
        next(tree.walk())  # and no more of it
        assert tree.read("to/deep") == b"deep"


def test_the_head_says_whose_it_is(served: Served, published: Published, tmp_path: Path) -> None:
    with opened(served, published, tmp_path) as tree:
        head = tree.head()
        assert head is not None
        with tree.open("a") as file:
            assert (file.verified.volume, file.verified.when) == (head.volume, head.when)
            assert file.verified.signers == head.signers
        generation = head.when.generation
        published.write({"d/two": b"newer"})
        published.sign_volume()
        assert tree.read("d/two") == b"newer"
        newer = tree.head()
        assert newer is not None
        assert newer.when.generation > generation


@pytest.mark.spec("fim-member-4", "fim-link-1")
def test_what_is_not_there(served: Served, published: Published, tmp_path: Path) -> None:
    with opened(served, published, tmp_path) as tree:
        for name in ("none", "d/none", "a/below", "to/none"):
            with pytest.raises(Absent):
                tree.read(name)
            with pytest.raises(Absent):
                list(tree.list(name))
        with pytest.raises(LinkOutside):
            tree.read("out")
        with pytest.raises(StatusError, match="a file"):
            list(tree.list("a"))


def test_a_tree_below_a_link(served: Served, published: Published, tmp_path: Path) -> None:
    with opened(served, published, tmp_path, "to") as tree:
        assert list(tree.walk()) == [b"deep"]
        assert tree.read("deep") == b"deep"


def test_stand_alone_records_are_listed_by_word(tmp_path: Path) -> None:
    published = publish_tree(tmp_path / "tree", FILES)
    with serving(published.root) as served, opened(served, published, tmp_path) as tree:
        assert tree.head() is None
        assert [(entry.name, entry.is_verified) for entry in tree.list()] == [(b"a", False), (b"d", False)]
        assert sorted(tree.walk()) == sorted(name.encode() for name in FILES)


async def test_in_an_event_loop(served: Served, published: Published, tmp_path: Path) -> None:
    bindings, state = Bindings(tmp_path / "state"), State(tmp_path / "state")
    async with open_tree_async(served.url, trust=[published.pin], bindings=bindings, state=state, cache=False) as tree:
        assert [entry.name async for entry in tree.list("d")] == [b"e", b"one", b"two"]
        head = await tree.head()
        assert isinstance(head, nfsverity.Verified)
