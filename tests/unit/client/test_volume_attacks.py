# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Servers that lie about a volume, one attack each, and the verdict that it ends with (fim, "Volumes").

Each is the real server with an adversary in front of it that changes replies, gives those of another publication of
the volume, or answers in its place; or a volume that was signed with what no good publisher signs.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adversary import Adversary, Call, Reply, between
from made_volume import MadeVolume, directory, file, link
from nfsverity_client.listing import Listed, list_below, take_below
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_client.state import State
from nfsverity_proto import messages as m
from nfsverity_proto.entry import DirectoryNode, Entry, LinkNode
from nfsverity_proto.errors import (
    Absent,
    Equivocation,
    Hidden,
    LinkOutside,
    Malformed,
    MalformedMessage,
    Mismatch,
    NfsVerityError,
    NotMember,
    OtherHead,
    Rollback,
    Stale,
    StatusError,
    TimedOut,
    Unsigned,
    VerificationError,
    WrongKind,
    WrongPath,
    WrongVolume,
)
from nfsverity_proto.messages import Status
from serving import Published, Served, keys, publish_as_volume, publish_tree, serving, session

FILES = {
    "a": b"first",
    "d/big": b"big " * 50_000,
    "d/e/deep": b"deep",
    "d/one": b"one",
    "d/two": b"two",
    "z": b"last",
}
NAMES = ("a", "d", "l", "z")


@pytest.fixture
def published(tmp_path: Path) -> Published:
    published = publish_as_volume(tmp_path / "tree", FILES)
    (published.root / "l").symlink_to("d/one")
    published.sign_volume()
    return published


@pytest.fixture
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


async def listed(opened: Session, path: bytes = b"", *, deep: bool = True) -> list[Listed]:
    async with aclosing(list_below(opened, path, deep=deep)) as found:
        return [entry async for entry in found]


async def taken(opened: Session, path: bytes = b"") -> dict[bytes, bytes | VerificationError | None]:
    """What comes with a listing of files: content, or why not."""
    async with aclosing(take_below(opened, path, deep=True, most=m.BULK_MAX)) as found:
        return {
            member.path: member.error or (None if member.content is None else bytes(member.content))
            async for member in found
            if member.is_file
        }


async def read(opened: Session, path: bytes) -> bytes:
    return await (await open_file(opened, path)).pread()


Change = Callable[[Any], Any]


def changing(procedure: m.Procedure[Any, Any], change: Change) -> Callable[[Reply], Awaitable[None]]:
    """The replies to one procedure that are OK, changed."""

    async def on_reply(reply: Reply) -> None:
        if reply.procedure is not procedure:
            await reply.send()
            return
        try:
            ok = reply.ok
        except StatusError:
            await reply.send()
            return
        await reply.send(reply.call.reply(change(ok)))

    return on_reply


def answering(**answers: Any) -> Callable[[Call], Awaitable[None]]:
    """Answer procedures, by name, in the server's place; what is callable is asked, and None passes the call on."""

    async def on_call(call: Call) -> None:
        answer = answers.get(call.procedure.name)
        if callable(answer):
            answer = answer(call.arguments)
        await (call.forward() if answer is None else call.answer(answer))

    return on_call


def of_ranges(change: Callable[[Any], Any]) -> Change:
    """A change of a range, for a reply to ENTRIES or BULK."""
    return lambda ok: replace(ok, range=change(ok.range))


def with_entries(change: Callable[[list[Entry]], list[Entry]]) -> Change:
    return of_ranges(lambda found: replace(found, entries=tuple(change(list(found.entries)))))


# hiding


@pytest.mark.spec("fim-member-3", "fip-vol-2")
@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.NOT_DIRECTORY, Status.UNSIGNED, Status.IS_DIRECTORY])
async def test_a_file_that_is_said_not_to_be_there_is_hidden(adversary: Adversary, status: Status) -> None:
    adversary.on_call = answering(FETCH=status)
    async with session(adversary.where) as opened:
        with pytest.raises(Hidden) as caught:
            await open_file(opened, b"d/one")
        assert caught.value.where == f"{adversary.where}d/one"
        with pytest.raises(StatusError) as said:
            await open_file(opened, b"d")
        assert said.value.status is Status.IS_DIRECTORY
        with pytest.raises(Absent):
            await open_file(opened, b"d/none")


@pytest.mark.spec("fim-member-3", "fip-vol-2")
async def test_a_file_that_cannot_be_resolved_is_hidden(adversary: Adversary) -> None:
    adversary.on_call = answering(FETCH=Status.UPDATING, RESOLVE=Status.NOT_FOUND)
    async with session(adversary.where) as opened:
        with pytest.raises(Hidden):
            await open_file(opened, b"d/one")
        with pytest.raises(Absent):
            await open_file(opened, b"d/none")


@pytest.mark.spec("fim-member-4", "fim-range-3", "fip-vol-2")
@pytest.mark.parametrize("path", [b"0", b"aa", b"zz", b"d/none", b"d/e/a", b"d/e/zz", b"none/x", b"a/below", b"z/z"])
async def test_what_is_not_there_is_shown_not_to_be(adversary: Adversary, path: bytes) -> None:
    async with session(adversary.where) as opened:
        with pytest.raises(Absent):
            await open_file(opened, path)
        with pytest.raises(Absent):
            await listed(opened, path)
        assert "ENTRIES" in adversary.names


@pytest.mark.spec("fim-range-1", "fim-range-3", "fip-entries-6")
@pytest.mark.parametrize("name", [b"d/one", b"d/none"])
@pytest.mark.parametrize("left_out", ["first", "last", "middle", "all"])
async def test_entries_that_are_left_out_are_missed(adversary: Adversary, name: bytes, left_out: str) -> None:
    cut = {
        "first": lambda entries: entries[1:],
        "last": lambda entries: entries[:-1],
        "middle": lambda entries: entries[:1] + entries[2:],
        "all": lambda _: [],
    }[left_out]
    adversary.on_call = answering(FETCH=Status.NOT_FOUND)
    adversary.on_reply = changing(m.ENTRIES, with_entries(cut))
    async with session(adversary.where) as opened:
        with pytest.raises((Mismatch, MalformedMessage)):
            await open_file(opened, name)
    adversary.on_reply = changing(m.BULK, lambda ok: replace(with_entries(cut)(ok), items=tuple(cut(list(ok.items)))))
    async with session(adversary.where) as opened:
        with pytest.raises((Mismatch, MalformedMessage)):
            await listed(opened)


@pytest.mark.spec("fim-range-3", "fip-entries-6")
async def test_a_true_range_from_elsewhere_shows_nothing(adversary: Adversary) -> None:
    """Both neighbours are due: a range that folds and is behind or before the place is no proof of absence."""
    for name in (b"0", b"zz"):

        async def on_call(call: Call, name: bytes = name) -> None:
            if call.procedure is m.ENTRIES and call.arguments.name == b"one":
                await call.forward(replace(call.arguments, parent=b"", name=name))
            elif call.procedure is m.FETCH:
                await call.answer(Status.NOT_FOUND)
            else:
                await call.forward()

        adversary.on_call = on_call
        async with session(adversary.where) as opened:
            with pytest.raises(MalformedMessage):
                await open_file(opened, b"d/one")


@pytest.mark.spec("fip-vol-2")
async def test_a_server_that_does_not_answer_entries_shows_nothing(adversary: Adversary) -> None:
    adversary.on_call = answering(FETCH=Status.NOT_FOUND, ENTRIES=Status.NOT_SUPPORTED)
    async with session(adversary.where) as opened:
        with pytest.raises(StatusError) as caught:
            await open_file(opened, b"d/one")
        assert caught.value.status is Status.NOT_SUPPORTED


# listings


@pytest.mark.spec("fim-range-1", "fim-range-4", "fip-entries-6", "fip-bulk-6")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda e: [e[1], e[0], *e[2:]], id="reordered"),
        pytest.param(lambda e: [e[0], *e], id="doubled"),
        pytest.param(lambda e: [*e[:2], Entry(b"", b"b", DirectoryNode()), *e[2:]], id="invented"),
        pytest.param(lambda e: [Entry(b"", b"c", e[0].node), *e[1:]], id="renamed"),
        pytest.param(lambda e: [replace(e[0], node=replace(e[0].node, executable=True)), *e[1:]], id="executable"),
        pytest.param(
            lambda e: [replace(one, node=LinkNode(b"z")) if one.name == b"l" else one for one in e], id="retargeted"
        ),
        pytest.param(
            lambda e: [replace(one, node=DirectoryNode()) if one.name == b"l" else one for one in e], id="another type"
        ),
        pytest.param(
            lambda e: [
                replace(one, node=e[-1].node) if one.name == b"a" else one for one in e
            ], id="another content"
        ),
    ],
)  # fmt: skip
async def test_a_listing_that_was_altered_is_not_looked_at(adversary: Adversary, change: Any) -> None:
    def altered(ok: m.BulkOk) -> m.BulkOk:
        entries = change(list(ok.range.entries))
        items = [m.BulkItem(b"", 0)] * len(entries)
        return m.BulkOk(replace(ok.range, entries=tuple(entries)), tuple(items), b"")

    async with session(adversary.where) as opened:
        names = [entry.path for entry in await listed(opened, deep=False)]
        assert names == [name.encode() for name in NAMES]
        adversary.on_reply = changing(m.BULK, altered)
        for deep in (True, False):
            with pytest.raises((Mismatch, MalformedMessage)):
                await listed(opened, deep=deep)


@pytest.mark.spec("fim-range-4", "fip-entries-6")
@pytest.mark.parametrize("count", [3, 4, 5])
async def test_a_listing_in_the_smallest_pages_is_whole(adversary: Adversary, count: int) -> None:
    async def on_call(call: Call) -> None:
        await call.forward(replace(call.arguments, count=count) if call.procedure is m.BULK else None)

    adversary.on_call = on_call
    async with session(adversary.where) as opened:
        assert len(await listed(opened)) == len(FILES) + 3
        assert [entry.path for entry in await listed(opened, b"d/e")] == [b"d/e/deep"]


@pytest.mark.spec("fim-range-4", "fip-entries-6")
async def test_a_listing_that_does_not_go_on_ends(adversary: Adversary) -> None:
    """True ranges again and again, and nothing behind what was there already."""

    async def on_call(call: Call) -> None:
        at_start = replace(call.arguments, parent=b"", name=b"", count=2) if call.procedure is m.BULK else None
        await call.forward(at_start)

    adversary.on_call = on_call
    async with session(adversary.where) as opened:
        with pytest.raises(MalformedMessage):
            await listed(opened)
    assert adversary.names.count("BULK") == 2


@pytest.mark.spec("fim-range-4", "fip-entries-6")
async def test_a_page_with_a_gap_before_it_is_refused(adversary: Adversary) -> None:
    async def on_call(call: Call) -> None:
        arguments = call.arguments
        if call.procedure is m.BULK:
            skips = arguments.name == b"l"
            await call.forward(replace(arguments, count=3, **({"parent": b"d", "name": b"one"} if skips else {})))
        else:
            await call.forward()

    adversary.on_call = on_call
    async with session(adversary.where) as opened:
        with pytest.raises(MalformedMessage):
            await listed(opened)
    assert adversary.names.count("BULK") == 2


@pytest.mark.spec("fim-range-2")
async def test_a_volume_that_was_signed_out_of_order_is_malformed(adversary: Adversary) -> None:
    made = MadeVolume([file(b"b", b"b"), file(b"a", b"a"), file(b"c", b"c")], sort=False)
    adversary.on_call = made.serve
    async with session(adversary.where) as opened:
        with pytest.raises(Malformed):
            await listed(opened)


# two states of the volume


@pytest.fixture
async def two(published: Published, tmp_path: Path) -> AsyncIterator[tuple[Served, Served]]:
    """Servers of the volume as it was, and of a later state of it."""
    older = tmp_path / "older"
    shutil.copytree(published.root, older, symlinks=True)
    published.write({"a": b"newer", "d/two": b"newer"})
    (published.root / "z").unlink()
    published.sign_volume()
    with serving(older) as old, serving(published.root) as new:
        yield old, new


@pytest.mark.spec("fim-head-3", "fip-vol-3")
async def test_a_file_of_an_older_state_beside_the_head(two: tuple[Served, Served]) -> None:
    """A of version 5 with B of version 4: the older member names another head, and there is no newer one."""
    old, new = two
    async with between(new.port) as adversary, session(old) as of_old:
        reply = await of_old.call(m.FETCH, m.FetchArgs(m.ROOT_HANDLE, b"d/two", 65536))
        async with session(adversary.where) as opened:
            assert await read(opened, b"a") == b"newer"
            record = await of_old.call(m.RECORD, m.RecordArgs(reply.object, b"", 0))
            adversary.on_call = answering(
                FETCH=reply, RECORD=lambda arguments: record if arguments.object != m.ROOT_HANDLE else None
            )
            with pytest.raises(OtherHead):
                await open_file(opened, b"d/two")
            adversary.on_call = None
            assert await read(opened, b"d/two") == b"newer"


@pytest.mark.spec("fim-head-3", "fim-member-1")
async def test_an_older_statement_under_the_newer_head(two: tuple[Served, Served]) -> None:
    old, new = two
    async with between(new.port) as adversary, session(old) as of_old:
        older = await taken(of_old)
        assert older[b"d/two"] == b"two"
        ok = await of_old.call(
            m.BULK,
            m.BulkArgs((await of_old.heads.current()).verified.tag, b"", b"", 512, 0),  # type: ignore[union-attr]
        )
        statements = {entry.path: item.statement for entry, item in zip(ok.range.entries, ok.items, strict=True)}

        def swapped(ok: m.BulkOk) -> m.BulkOk:
            items = [
                m.BulkItem(statements[entry.path], 0) if entry.path == b"d/two" else m.BulkItem(item.statement, 0)
                for entry, item in zip(ok.range.entries, ok.items, strict=True)
            ]
            return m.BulkOk(ok.range, tuple(items), b"")

        adversary.on_reply = changing(m.BULK, swapped)
        async with session(adversary.where) as opened:
            found = await taken(opened)
            assert isinstance(found.pop(b"d/two"), NotMember)
            assert set(found.values()) == {None}


@pytest.mark.spec("fim-head-3", "fim-range-4")
async def test_pages_of_two_heads(two: tuple[Served, Served]) -> None:
    """The first page is of one head, and the next of another: neither an old one nor a newer one goes with it."""
    old, new = two
    async with between(old.port) as adversary:

        async def small(call: Call) -> None:
            if call.procedure is m.BULK:
                if call.arguments.name and adversary.server == old.port:
                    adversary.server = new.port
                    call.line.close()
                    return
                await call.forward(replace(call.arguments, count=4))
            else:
                await call.forward()

        adversary.on_call = small
        async with session(adversary.where) as opened:
            found: list[bytes] = []

            async def all_below() -> None:
                async with aclosing(take_below(opened, b"", deep=True, most=0)) as members:
                    async for member in members:
                        found.append(member.path)

            with pytest.raises(Stale):
                await all_below()
            assert found == [b"a", b"d", b"l", b"z"]
            adversary.on_call = None
            assert b"z" not in {entry.path for entry in await listed(opened)}, "from the newer head now"


@pytest.mark.spec("fim-head-4", "fip-vol-3")
async def test_an_older_head_within_a_session(two: tuple[Served, Served]) -> None:
    old, new = two
    async with between(new.port) as adversary, session(adversary.where) as opened:
        head = await opened.heads.current()
        assert head is not None
        adversary.server = old.port
        for line in adversary.lines:
            line.close()
        with pytest.raises(Rollback):
            await read(opened, b"a")
        with pytest.raises(Rollback):
            await listed(opened)
        with pytest.raises(Rollback):
            await read(opened, b"z")  # it was there once, and is not in the volume any more
        assert opened.heads.accepted is head


def remembering(where: Any, state: State) -> Session:
    volumes = Settings(trust=(keys().pin,), timeout=20.0)
    return Session(where, volumes, Known(), None, None, state)


class Known:
    """The volume of first use, kept from session to session."""

    def __init__(self) -> None:
        self.volume = VOLUMES

    def get(self, server: str) -> bytes | None:
        return self.volume.get("it")

    def bind(self, server: str, volume: bytes) -> bytes:
        return self.volume.setdefault("it", volume)


VOLUMES: dict[str, bytes] = {}


@pytest.fixture
def state(tmp_path: Path) -> State:
    VOLUMES.clear()
    return State(tmp_path / "state")


@pytest.mark.spec("fim-head-4", "fim-mark-2")
async def test_an_older_head_in_a_later_session(two: tuple[Served, Served], state: State) -> None:
    old, new = two
    async with remembering(new.where, state) as opened:
        assert await read(opened, b"a") == b"newer"
    async with remembering(old.where, state) as opened:
        for path in (b"a", b"z"):
            with pytest.raises(Rollback):
                await read(opened, path)
        with pytest.raises(Rollback):
            await listed(opened)
    async with remembering(new.where, state) as opened:
        assert await read(opened, b"a") == b"newer"


# other heads and records


@pytest.mark.spec("fip-vol-1")
@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (Status.IS_DIRECTORY, Unsigned),
        (Status.UNSIGNED, Unsigned),
        (Status.ACCESS, StatusError),
        (Status.IO, StatusError),
    ],
)
async def test_a_head_that_is_not_given_any_more(
    adversary: Adversary, state: State, status: Status, problem: type[Exception]
) -> None:
    """Nothing is delivered; the verdict is unsigned only where the server says that there is no head (fip-status-4)."""
    async with remembering(adversary.where, state) as opened:
        await read(opened, b"a")
    adversary.on_call = answering(RECORD=lambda arguments: status if arguments.object == m.ROOT_HANDLE else None)
    async with remembering(adversary.where, state) as opened:
        with pytest.raises(problem):
            await listed(opened)
        with pytest.raises(problem):
            await open_file(opened, b"a")
        with pytest.raises(problem):
            await open_file(opened, b"d/none")


@pytest.mark.spec("fip-vol-1")
async def test_a_head_that_never_comes(adversary: Adversary) -> None:
    async def silent(call: Call) -> None:
        if call.procedure is not m.RECORD:
            await call.forward()

    adversary.on_call = silent
    async with session(adversary.where, timeout=0.5) as opened:
        with pytest.raises(TimedOut):
            await listed(opened)
        with pytest.raises(TimedOut):
            await open_file(opened, b"a")


@pytest.mark.spec("fim-head-2")
async def test_stand_alone_records_beside_a_head(published: Published, tmp_path: Path, state: State) -> None:
    """Also those of the same volume and signer, from before it was one: the head is known, or its mark is."""
    with serving(published.root) as of_volume:
        async with session(of_volume) as opened:
            head = await opened.heads.current()
            assert head is not None
            volume = head.verified.volume
    alone = publish_tree(tmp_path / "alone", FILES, volume=volume)
    with serving(published.root) as of_volume, serving(alone.root) as of_records:
        async with session(of_records) as before:
            assert await read(before, b"d/two") == b"two"
        async with between(of_volume.port) as adversary:
            async with remembering(adversary.where, state) as opened:
                await opened.heads.current()
                adversary.server = of_records.port
                for line in adversary.lines:
                    line.close()
                with pytest.raises(WrongKind):
                    await read(opened, b"d/two")
            async with remembering(adversary.where, state) as opened:
                with pytest.raises(WrongKind):
                    await read(opened, b"d/two")
                with pytest.raises(Unsigned):
                    await listed(opened)


async def test_the_head_of_another_volume(published: Published, tmp_path: Path) -> None:
    other = publish_as_volume(tmp_path / "other", FILES)
    with serving(published.root) as here, serving(other.root) as there:
        async with session(here) as opened:
            head = await opened.heads.current()
            assert head is not None
            volume = head.verified.volume
        for path in (b"a", b"d/none"):
            async with session(there, volume=volume) as opened:
                with pytest.raises(WrongVolume):
                    await open_file(opened, path)
        async with session(there, volume=volume) as opened:
            with pytest.raises(WrongVolume):
                await listed(opened)
        async with between(here.port) as adversary, session(adversary.where) as opened:  # of first use: it is bound
            assert await read(opened, b"a") == b"first"
            adversary.server = there.port
            for line in adversary.lines:
                line.close()
            with pytest.raises(WrongVolume):
                await read(opened, b"a")


@pytest.mark.spec("fim-head-1")
async def test_a_member_is_no_head(adversary: Adversary, served: Served) -> None:
    async with session(served) as opened:
        member = (await opened.call(m.FETCH, m.FetchArgs(m.ROOT_HANDLE, b"a", 0))).record
    adversary.on_call = answering(
        RECORD=lambda arguments: m.RecordOk(member) if arguments.object == m.ROOT_HANDLE else None
    )
    async with session(adversary.where) as opened:
        with pytest.raises(WrongKind):
            await listed(opened)


# members


@pytest.mark.spec("fim-member-1")
async def test_two_files_that_are_swapped(adversary: Adversary) -> None:
    async def on_call(call: Call) -> None:
        if call.procedure is m.FETCH and call.arguments.path == b"d/one":
            await call.forward(replace(call.arguments, path=b"d/two"))
        else:
            await call.forward()

    adversary.on_call = on_call
    async with session(adversary.where) as opened:
        with pytest.raises(WrongPath):
            await open_file(opened, b"d/one")
        assert await read(opened, b"d/two") == b"two"


@pytest.mark.spec("fim-member-1")
async def test_an_invented_file(adversary: Adversary) -> None:
    """Of the right path, from a volume of the same signer: its membership is under another head."""
    made = MadeVolume([file(b"d/none", b"invented")])
    adversary.on_call = answering(
        FETCH=lambda arguments: (
            m.FetchOk(b"h" * 8, made.record_of(b"d/none"), b"", b"invented") if arguments.path == b"d/none" else None
        ),
    )
    async with session(adversary.where) as opened:
        with pytest.raises((OtherHead, Absent)):
            await open_file(opened, b"d/none")


@pytest.mark.spec("fim-member-2")
async def test_only_the_entry_makes_a_program(published: Published, adversary: Adversary) -> None:
    (published.root / "a").chmod(0o755)
    published.sign_volume()

    def lying(attributes: m.Attributes) -> m.Attributes:
        return replace(attributes, executable=not attributes.executable, size=7)

    def change(ok: Any) -> Any:
        if isinstance(ok, m.ResolveOk):
            return replace(ok, attributes=lying(ok.attributes))
        entries = [replace(entry, attributes=lying(entry.attributes)) for entry in ok.entries]
        return replace(ok, entries=tuple(entries))

    async def on_reply(reply: Reply) -> None:
        if reply.procedure in (m.RESOLVE, m.READDIR):
            await reply.send(reply.call.reply(change(reply.ok)))
        else:
            await reply.send()

    adversary.on_reply = on_reply
    async with session(adversary.where) as opened:
        assert {entry.path: entry.executable for entry in await listed(opened) if entry.size is not None} == {
            path.encode(): path == "a" for path in FILES
        }
        for path in (b"a", b"z"):
            assert (await open_file(opened, path)).verified.file.executable == (path == b"a")


# contents that come many at a time


@pytest.mark.spec("fip-bulk-6", "fim-member-1")
async def test_contents_that_are_not_as_signed(adversary: Adversary) -> None:
    def altered(ok: m.BulkOk) -> m.BulkOk:
        at = bytes(ok.data).index(b"two")
        return replace(ok, data=bytes(ok.data[:at]) + b"tow" + bytes(ok.data[at + 3 :]))

    adversary.on_reply = changing(m.BULK, altered)
    async with session(adversary.where) as opened:
        found = await taken(opened)
        assert isinstance(found.pop(b"d/two"), Mismatch)
        assert found == {path.encode(): data for path, data in FILES.items() if path != "d/two"}


@pytest.mark.spec("fip-bulk-6", "fim-member-1")
async def test_contents_that_are_swapped(adversary: Adversary) -> None:
    """Statement and content of one file for another: the entry names the digest of its own."""

    def swapped(ok: m.BulkOk) -> m.BulkOk:
        paths = [entry.path for entry in ok.range.entries]
        one, two = paths.index(b"d/one"), paths.index(b"d/two")
        items = list(ok.items)
        items[one], items[two] = items[two], items[one]
        data = bytes(ok.data).replace(b"onetwo", b"twoone")
        return replace(ok, items=tuple(items), data=data)

    adversary.on_reply = changing(m.BULK, swapped)
    async with session(adversary.where) as opened:
        found = await taken(opened)
        assert isinstance(found[b"d/one"], NotMember)
        assert isinstance(found[b"d/two"], NotMember)
        assert found[b"a"] == b"first"


@pytest.mark.spec("fip-bulk-6")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda ok: replace(ok, items=ok.items[:-1]), id="too few items"),
        pytest.param(lambda ok: replace(ok, items=(*ok.items, ok.items[-1])), id="too many items"),
        pytest.param(lambda ok: replace(ok, data=bytes(ok.data) + b"more"), id="more data"),
        pytest.param(lambda ok: replace(ok, data=bytes(ok.data)[:-1]), id="less data"),
        pytest.param(
            lambda ok: replace(
                ok, items=tuple(item if item.statement else ok.items[0] for item in ok.items)
            ), id="a link with a statement"
        ),
        pytest.param(
            lambda ok: replace(
                ok, items=(replace(ok.items[0], length=1), *ok.items[1:]), data=bytes(ok.data)[4:]
            ), id="a part of a file"
        ),
        pytest.param(lambda ok: replace(ok, data=bytes(ok.data) + bytes(m.BULK_MAX)[len(ok.data) :]), id="too much"),
    ],
)  # fmt: skip
async def test_replies_whose_parts_do_not_fit(adversary: Adversary, change: Change) -> None:
    adversary.on_reply = changing(m.BULK, change)
    async with session(adversary.where) as opened:
        with pytest.raises(MalformedMessage):
            await taken(opened)


# heads that change for ever


@pytest.mark.spec("fip-vol-3")
async def test_a_server_that_always_has_another_head(adversary: Adversary) -> None:
    adversary.on_call = answering(FETCH=Status.NOT_FOUND, ENTRIES=Status.CHANGED, BULK=Status.CHANGED)
    async with session(adversary.where) as opened:
        with pytest.raises(MalformedMessage):
            await open_file(opened, b"a")
        with pytest.raises(MalformedMessage):
            await listed(opened)
    assert len(adversary.calls) < 20


@pytest.mark.spec("fip-vol-3")
async def test_a_publisher_who_signs_for_ever(adversary: Adversary) -> None:
    """A newer head for each call: what is looked for is given up, and not for ever asked for again."""
    generation = 0

    async def on_call(call: Call) -> None:
        nonlocal generation
        if call.procedure is m.RECORD and call.arguments.object == m.ROOT_HANDLE:
            generation += 1
            await call.answer(m.RecordOk(MadeVolume([file(b"a", b"a")], generation=generation).record))
        elif call.procedure in (m.ENTRIES, m.BULK):
            await call.answer(Status.CHANGED)
        elif call.procedure is m.FETCH:
            await call.answer(Status.NOT_FOUND)
        else:
            await call.forward()

    adversary.on_call = on_call
    async with session(adversary.where) as opened:
        with pytest.raises(OtherHead):
            await open_file(opened, b"a")
        with pytest.raises(Stale):
            await listed(opened)
        with pytest.raises(OtherHead):
            await listed(opened, b"a")
    assert len(adversary.calls) < 60


@pytest.mark.spec("fim-head-4")
@pytest.mark.parametrize(("generation", "verdict"), [(2, Equivocation), (1, Rollback)])
async def test_another_head_that_is_not_newer(
    adversary: Adversary, generation: int, verdict: type[VerificationError]
) -> None:
    heads = [MadeVolume([file(b"a", b"a")], generation=2).record]
    heads.append(MadeVolume([file(b"b", b"b")], generation=generation).record)

    async def on_call(call: Call) -> None:
        if call.procedure is m.RECORD and call.arguments.object == m.ROOT_HANDLE:
            await call.answer(m.RecordOk(heads.pop(0)))
        elif call.procedure in (m.ENTRIES, m.BULK):
            await call.answer(Status.CHANGED)
        else:
            await call.forward()

    adversary.on_call = on_call
    async with session(adversary.where) as opened:
        head = await opened.heads.current()
        with pytest.raises(verdict):
            await listed(opened)
        assert opened.heads.accepted is head


# links


@pytest.mark.spec("fim-link-1")
@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (b"/etc/passwd", LinkOutside),
        (b"../x", LinkOutside),
        (b"d/../../x", LinkOutside),
        (b"./.././x", LinkOutside),
        (b"up/../x", LinkOutside),
        (b"deep/up/../../a", LinkOutside),
        (b"none", Absent),
        (b"self", Absent),
        (b"a/x", Absent),
    ],
)
async def test_links_that_lead_nowhere_good(adversary: Adversary, target: bytes, verdict: type[NfsVerityError]) -> None:
    """`up` leads to the root from two levels below it: what is above it, is above the root of the volume."""
    made = MadeVolume(
        [
            file(b"a", b"a"),
            directory(b"d"),
            directory(b"deep"),
            directory(b"deep/er"),
            link(b"deep/up", b"er/../.."),
            link(b"up", b"deep/up"),
            link(b"self", b"d/../self"),
            link(b"l", target),
        ]
    )
    adversary.on_call = made.serve
    async with session(adversary.where) as opened:
        with pytest.raises(verdict):
            await open_file(opened, b"l")
        assert await read(opened, b"a") == b"a"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"d/f", b"l"),
        (b"./d//f", b"l"),
        (b"d/back/f", b"l"),
        (b"d", b"l/f"),
        (b"d/home", b"l/d/f"),
    ],
)
async def test_links_inside_are_followed(adversary: Adversary, target: bytes, path: bytes) -> None:
    made = MadeVolume(
        [
            directory(b"d"),
            file(b"d/f", b"content"),
            link(b"d/back", b"../e/to"),
            directory(b"e"),
            file(b"e/f", b"not this"),
            link(b"e/to", b"../d"),
            link(b"d/home", b".."),
            link(b"l", target),
        ]
    )
    adversary.on_call = made.serve
    async with session(adversary.where) as opened:
        reader = await open_file(opened, path)
        assert await reader.pread() == b"content"
        assert reader.path == b"d/f"
