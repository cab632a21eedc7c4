# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity.diff_trees` of two volumes: against what is on the disk, and against servers that lie."""

from __future__ import annotations

import os
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import made_volume
import nfsverity
from adversary import Reply, between
from nfsverity._diff import ServedPlace, compare_trees
from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.errors import MalformedMessage, Mismatch
from nfsverity_proto.statement import (
    RFC9162,
    VERSION,
    Content,
    Item,
    Statement,
    Time,
    Tree,
    encode_statement,
)
from serving import Published, keys, publish_as_volume, serving, session

FILE, EXECUTABLE, LINK, DIRECTORY = "file", "executable", "link", "directory"
NODE = st.one_of(
    st.tuples(st.sampled_from((FILE, EXECUTABLE)), st.sampled_from((b"", b"one", b"two", b"one of three"))),
    st.tuples(st.just(LINK), st.sampled_from((b"x", b"../y"))),
    st.tuples(st.just(DIRECTORY), st.just(b"")),
)
TREE = st.dictionaries(st.sampled_from(("a", "a-b", "a.c", "d", "d/a", "d/e", "d/e/f", "d-e", "g/h/i")), NODE)


def make(root: Path, nodes: dict[str, tuple[str, bytes]]) -> Published:
    """What fits in place of all that is asked for: what is below something else than a directory is left out."""
    root.mkdir()
    for name in sorted(nodes):
        kind, content = nodes[name]
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            continue
        if not path.parent.is_dir() or path.is_dir():
            continue
        if kind == LINK:
            path.symlink_to(os.fsdecode(content))
        elif kind == DIRECTORY:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content)
            path.chmod(0o755 if kind == EXECUTABLE else 0o644)
    published = Published(root, keys())
    published.sign_volume()
    return published


def on_disk(root: Path) -> dict[bytes, tuple[Any, ...]]:
    """Type, content and mode of all below."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for path in root.rglob("*"):
        if ".nfsverity" in path.parts:
            continue
        name = os.fsencode(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("directory",)
        else:
            found[name] = ("file", path.read_bytes(), bool(path.stat().st_mode & 0o111))
    return found


def by_the_disk(a: dict[bytes, tuple[Any, ...]], b: dict[bytes, tuple[Any, ...]]) -> set[tuple[bytes, str, str]]:
    found = set()
    for name in a.keys() | b.keys():
        one, other = a.get(name), b.get(name)
        if one is not None and other is not None and one[0] == other[0]:
            state = "same" if one == other else "mode" if one[0] == "file" and one[1] == other[1] else "changed"
            found.add((name, one[0], state))
            continue
        found |= {(name, one[0], "removed")} if one is not None else set()
        found |= {(name, other[0], "added")} if other is not None else set()
    return found


@pytest.mark.spec("fim-diff-5")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(one=TREE, other=TREE)
def test_any_two_volumes(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, tuple[str, bytes]], other: dict[str, tuple[str, bytes]]
) -> None:
    directory = tmp_path_factory.mktemp("any")
    a, b = make(directory / "a", one), make(directory / "b", other)
    found = list(nfsverity.diff_trees(a.root, b.root, trust=[a.pin]))
    told = [(one.path, one.type.name.lower(), str(one.state)) for one in found]
    assert set(told) == by_the_disk(on_disk(a.root), on_disk(b.root))
    assert len(told) == len(set(told))


@pytest.mark.spec("fim-diff-5")
def test_served_as_on_this_machine(tmp_path: Path) -> None:
    one = {"a": (FILE, b"one"), "d/l": (LINK, b"x"), "d/e": (DIRECTORY, b""), "d/f": (FILE, b"f"), "g": (LINK, b"d")}
    other = {"a": (EXECUTABLE, b"one"), "d/l": (LINK, b"y"), "d/f/g": (FILE, b"f"), "g": (LINK, b"d")}
    a, b = make(tmp_path / "a", one), make(tmp_path / "b", other)
    here = list(nfsverity.diff_trees(a.root, b.root, trust=[a.pin]))
    with serving(a.root) as served, serving(b.root) as newer:
        assert list(nfsverity.diff_trees(served.url, newer.url, trust=[a.pin])) == here
        below = list(nfsverity.diff_trees(served.url + "d", newer.url + "g", trust=[a.pin]))
    expected = [replace(each, path=each.path[2:]) for each in here if each.path.startswith(b"d/")]
    assert below == expected, "a link to a directory is followed to it"
    assert {(each.path, str(each.state), each.targets) for each in below if each.type.name == "LINK"} == {
        (b"l", "changed", (b"x", b"y"))
    }


async def compared(a: Session, b: Session, *, with_ranges: bool = False, every: bool = True) -> list[tuple[bytes, str]]:
    found = compare_trees(ServedPlace(a, b""), ServedPlace(b, b""), with_ranges=with_ranges, every=every)
    async with aclosing(found) as differences:
        return [(difference.path, str(difference.state)) async for difference in differences]


@pytest.mark.spec("fim-diff-4")
async def test_equal_heads_are_all_that_is_asked_for(tmp_path: Path) -> None:
    files = {f"d{number}/f{name}": b"%d" % name for number in range(4) for name in range(300)}
    published = publish_as_volume(tmp_path / "tree", files)
    with serving(published.root) as served, serving(published.root) as copy:
        async with session(served.where) as a, session(copy.where) as b:
            assert await compared(a, b, every=False) == []
            assert a.traffic.calls <= 2
            every = await compared(a, b)
            assert [state for _, state in every] == ["same"] * (len(files) + 4)
            assert a.traffic.calls < 12, "some for all, and not some for each"


@pytest.mark.spec("fim-diff-4", "fim-diff-1")
@pytest.mark.parametrize("every", [False, True])
async def test_equal_heads_say_nothing_of_what_is_revoked(tmp_path: Path, every: bool) -> None:
    published = publish_as_volume(tmp_path / "tree", {"a": b"one", "b": b"two"})
    with serving(published.root) as served:
        async with session(served.where) as opened:
            found = compare_trees(ServedPlace(opened, b""), ServedPlace(opened, b""), with_ranges=False)
            async with aclosing(found) as differences:
                tag = (await anext(differences)).a.tag
        item = Item(VERSION, tag.hash, tag.digest)
        async with session(served.where, revoked=frozenset((item,))) as a, session(served.where) as b:
            assert await compared(a, b, every=every) == [(b"a", "failed"), (b"b", "same")]
            assert await compared(b, a, every=every) == [(b"a", "failed"), (b"b", "same")]


@pytest.mark.spec("fim-diff-1", "fim-diff-5")
@pytest.mark.parametrize("left_out", ["first", "middle", "last"])
async def test_a_list_with_a_gap_ends_it(tmp_path: Path, left_out: str) -> None:
    published = publish_as_volume(tmp_path / "tree", {name: name.encode() for name in "abc"})
    (tmp_path / "other").mkdir()
    other = publish_as_volume(tmp_path / "other" / "tree", {name: name.encode() for name in "abcd"})

    async def on_reply(reply: Reply) -> None:
        if reply.procedure is not m.BULK:
            await reply.send()
            return
        cut = {"first": slice(1, None), "middle": slice(0, None, 2), "last": slice(0, -1)}[left_out]
        ok = reply.ok
        shorter = replace(ok.range, entries=ok.range.entries[cut])
        await reply.send(reply.call.reply(m.BulkOk(shorter, ok.items[cut], ok.data)))

    with serving(published.root) as served, serving(other.root) as newer:
        async with between(newer.port) as adversary:
            adversary.on_reply = on_reply
            async with session(served.where) as a, session(adversary.where) as b:
                with pytest.raises((Mismatch, MalformedMessage)):
                    await compared(a, b)


@pytest.mark.spec("fim-diff-1")
async def test_what_does_not_come_with_its_entry_is_asked_for(tmp_path: Path) -> None:
    """A server need not send statements with entries, and then each file is opened."""
    published = publish_as_volume(tmp_path / "tree", {"a": b"one", "b": b"two"})
    (tmp_path / "other").mkdir()
    other = publish_as_volume(tmp_path / "other" / "tree", {"a": b"one", "b": b"too", "c": b"new"})

    async def on_reply(reply: Reply) -> None:
        if reply.procedure is not m.BULK:
            await reply.send()
            return
        ok = reply.ok
        nothing = tuple(m.BulkItem(b"", 0) for _ in ok.items)
        await reply.send(reply.call.reply(m.BulkOk(ok.range, nothing, b"")))

    with serving(published.root) as served, serving(other.root) as newer:
        async with between(newer.port) as adversary:
            adversary.on_reply = on_reply
            async with session(served.where) as a, session(adversary.where) as b:
                assert await compared(a, b) == [(b"a", "same"), (b"b", "changed"), (b"c", "added")]


@pytest.mark.spec("fim-diff-1")
async def test_an_empty_file_with_another_root_is_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was signed by a publisher who means no good."""

    def statement(content: bytes) -> bytes:
        tree = Tree(RFC9162, 12, len(content), bytes(32))
        return encode_statement(Statement(made_volume.SHA256, Content(Time(1_700_000_000, 5), tree)))

    monkeypatch.setattr(made_volume, "statement_of", statement)
    made = made_volume.MadeVolume([made_volume.file(b"a", b""), made_volume.file(b"b", b"x")])
    published = publish_as_volume(tmp_path / "tree", {"a": b"", "b": b"x"})
    with serving(published.root) as served:
        async with between(served.port) as adversary:
            adversary.on_call = made.serve
            async with session(served.where) as a, session(adversary.where) as b:
                assert await compared(a, b) == [(b"a", "failed"), (b"b", "incomparable")]
