# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Steps V1 to V4, with a publisher that replaces files underneath (fip, "Versions and Updates")."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adversary import Adversary, Call, Reply, between
from nfsverity_client.budget import WaitBudget
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import Reader, open_file
from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.errors import (
    Mismatch,
    Stale,
    StatusError,
    Unsigned,
    Updating,
)
from nfsverity_proto.messages import Status
from nfsverity_proto.record import decode_record, encode_record
from serving import Published, Served, calls_made, keys, publish_tree, serving, session

UNIT = 4096
SIZE = 20 * UNIT + 9
OLD, NEW = (random.Random(seed).randbytes(SIZE) for seed in (1, 2))
LONGER = random.Random(3).randbytes(SIZE + 5 * UNIT)
ALL = tuple(Presentation)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish_tree(tmp_path / "tree", {"f": OLD, "g": OLD[:UNIT]}, unit_size=UNIT)


@pytest.fixture
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


def change(published: Published, data: bytes, *, rename: bool) -> None:
    (published.replace if rename else lambda name, data: published.write({name: data}))("f", data)


async def sign(published: Published) -> None:
    """As another process would."""
    await asyncio.to_thread(published.sign, unit_size=UNIT)


async def answers(adversary: Adversary, procedure: m.Procedure[Any, Any], count: int) -> None:
    """Wait until so many calls of a procedure have come."""
    while adversary.names.count(procedure.name) < count:
        await asyncio.sleep(0.01)


def instead(**answers: Any) -> Callable[[Call], Awaitable[None]]:
    """Answer procedures, by name, in the server's place."""

    async def on_call(call: Call) -> None:
        if call.procedure.name in answers:
            await call.answer(answers[call.procedure.name])
        else:
            await call.forward()

    return on_call


def polls(adversary: Adversary) -> list[m.RecordArgs]:
    return [call.arguments for call in adversary.calls if call.procedure is m.RECORD and call.arguments.wait]


# a following reader


@pytest.mark.spec("fip-client-20", "fip-client-22", "fip-handle-4")
@pytest.mark.parametrize("rename", [True, False], ids=["renamed", "in place"])
@pytest.mark.parametrize("new", [NEW, LONGER, OLD[:-1]], ids=["same size", "longer", "shorter"])
@pytest.mark.parametrize("how", ALL)
async def test_it_goes_over_to_the_new_version_content_first(
    published: Published, adversary: Adversary, how: Presentation, new: bytes, rename: bool
) -> None:
    async with session(adversary.where, presentation=how) as opened:
        reader = await open_file(opened, b"f", most=0)
        generation = reader.verified.file.when.generation
        change(published, new, rename=rename)
        reading = asyncio.create_task(reader.pread())
        await answers(adversary, m.RECORD, 2)
        assert not reading.done(), "it waits"
        await sign(published)
        assert await reading == new
        assert reader.verified.file.when.generation > generation
        assert reader.size == len(new)
        assert await reader.pread(5, 2 * UNIT) == new[5 : 5 + 2 * UNIT]


@pytest.mark.spec("fip-client-20")
@pytest.mark.parametrize("most", [0, 8 * UNIT, 65536, 2**20])
@pytest.mark.parametrize("new", [NEW, LONGER], ids=["same size", "longer"])
async def test_a_file_that_is_being_replaced_can_be_opened(
    published: Published, adversary: Adversary, new: bytes, most: int
) -> None:
    change(published, new, rename=True)
    async with session(adversary.where) as opened:

        async def whole() -> bytes:
            return await (await open_file(opened, b"f", most=most)).pread()

        reading = asyncio.create_task(whole())
        await answers(adversary, m.RECORD, 2)
        await sign(published)
        assert await reading == new


@pytest.mark.spec("fip-client-20")
@pytest.mark.parametrize("how", ALL)
async def test_it_waits_for_content_that_comes_after_its_record(
    published: Published, adversary: Adversary, how: Presentation
) -> None:
    """The record is new, and UNCHANGED says that the content is no longer about to change."""
    change(published, NEW, rename=True)
    published.sign(unit_size=UNIT)
    kept = published.root.parent / "kept"
    (published.root / "f").rename(kept)
    change(published, OLD, rename=True)
    async with session(adversary.where, presentation=how) as opened:
        reader = await open_file(opened, b"f", most=0)
        reading = asyncio.create_task(reader.pread())
        await answers(adversary, m.RECORD, 2)
        assert not reading.done()
        kept.rename(published.root / "f")
        adversary.on_call = instead(RECORD=Status.UNCHANGED)
        await asyncio.sleep(0)
        assert await reading == NEW


async def test_it_takes_the_last_of_several_versions(published: Published, adversary: Adversary) -> None:
    async with session(adversary.where) as opened:
        reader = await open_file(opened, b"f", most=0)
        for new in (NEW, LONGER):
            change(published, new, rename=True)
            await sign(published)
        assert await reader.pread() == LONGER
        assert not polls(adversary)


@pytest.mark.spec("fip-client-22", "fip-record-5")
async def test_only_a_newer_record_that_verifies_is_taken(
    published: Published, adversary: Adversary, tmp_path: Path
) -> None:
    """Neither an older one, nor one that does not verify, nor another file's: the unit is judged by what was opened."""
    async with session(adversary.where, wait=0.0) as opened:
        old = (await open_file(opened, b"f")).verified.data
        other = (await open_file(opened, b"g")).verified.data
        change(published, NEW, rename=True)
        await sign(published)
        stranger = Published(tmp_path / "stranger", keys("stranger"))
        stranger.root.mkdir()
        stranger.write({"f": NEW})
        stranger.sign(volume=bytes(16))
        with serving(stranger.root) as elsewhere:
            async with session(elsewhere) as theirs:
                forged = (await theirs.call(m.FETCH, m.FetchArgs(b"", b"f", 0))).record
        for useless in (old, other, forged, b"", NEW[:100]):
            reader = await open_file(opened, b"f", most=0)

            async def lie(call: Call, record: bytes = useless) -> None:
                if call.procedure is m.RECORD:
                    await call.answer(m.RecordOk(record))
                elif call.procedure is m.READ:
                    await call.answer(m.ReadOk(b"", (), bytes(SIZE)))
                else:
                    await call.forward()

            adversary.on_call = lie
            reader.version.nodes.set_level(0, [bytes(32)] * 21)  # so that no proof is due
            with pytest.raises(Mismatch):
                await reader.pread()
            adversary.on_call = None
            assert reader.verified.file.when.generation == (await open_file(opened, b"f")).verified.file.when.generation


async def test_another_signature_on_the_same_statement(published: Published, adversary: Adversary) -> None:
    """It is the same version: what was opened, with other attestations."""
    async with session(adversary.where, wait=0.0) as opened:
        reader = await open_file(opened, b"f", most=0)
        record = decode_record(reader.verified.data)
        signatures = [keys().signing.sign(record.statement), keys("second").signing.sign(record.statement)]
        both = encode_record(record.statement, signatures)
        told: list[int] = []

        async def on_call(call: Call) -> None:
            if call.procedure is m.RECORD:
                told.append(call.index)
                await call.answer(m.RecordOk(both) if len(told) == 1 else Status.UNCHANGED)
            else:
                await call.answer(Status.CHANGED)

        adversary.on_call = on_call
        with pytest.raises(Stale):
            await reader.pread(0, 1)
        assert reader.verified.data == both
        adversary.on_call = None
        assert await reader.pread() == OLD


# verdicts


@pytest.mark.spec("fip-client-20")
@pytest.mark.parametrize("how", ALL)
async def test_tampering_fails_at_once_when_the_server_claims_nothing(published: Published, how: Presentation) -> None:
    with serving(published.root, update_window=0.0) as served:
        async with between(served.port) as adversary, session(adversary.where, presentation=how) as opened:
            reader = await open_file(opened, b"f", most=0)
            change(published, OLD[: 7 * UNIT] + b"!" + OLD[7 * UNIT + 1 :], rename=False)
            with pytest.raises(Mismatch) as raised:
                await reader.pread()
            assert (raised.value.offset, raised.value.length) == (7 * UNIT, UNIT)
            assert adversary.names.count("RECORD") == 2, "V3 asks again, once"
            assert not polls(adversary)


@pytest.mark.spec("fip-client-20")
@pytest.mark.parametrize("most", [0, 65536])
@pytest.mark.parametrize("how", ALL)
async def test_an_update_that_has_ended_by_V1_is_no_tampering(
    published: Published, adversary: Adversary, how: Presentation, most: int
) -> None:
    """The record was first; the content came between the failed unit and RECORD, whose answer is UNCHANGED."""
    (published.root / "f").write_bytes(NEW)
    await sign(published)
    change(published, OLD, rename=True)
    ended = []

    async def on_call(call: Call) -> None:
        if call.procedure is m.RECORD and not ended and call.arguments.known:
            ended.append(call)
            change(published, NEW, rename=True)
            await call.answer(Status.UNCHANGED)
        else:
            await call.forward()

    adversary.on_call = on_call
    async with session(adversary.where, presentation=how) as opened:
        reader = await open_file(opened, b"f", most=most)
        assert await reader.pread() == NEW
    assert ended


@pytest.mark.spec("fip-client-20", "fip-client-21")
@pytest.mark.parametrize("rename", [True, False], ids=["renamed", "in place"])
@pytest.mark.parametrize("how", ALL)
async def test_a_pinned_reader_ends_as_stale(
    published: Published, adversary: Adversary, how: Presentation, rename: bool
) -> None:
    async with session(adversary.where, presentation=how) as opened:
        reader = await open_file(opened, b"f", most=0)
        assert await reader.pread(0, 1) == OLD[:1]
        verified = reader.verified
        change(published, NEW, rename=rename)
        await sign(published)
        with pytest.raises(Stale):
            await reader.pread()
        assert reader.verified is verified


@pytest.mark.parametrize("length", [0, 1])
async def test_what_pins_a_reader(published: Published, served: Served, length: int) -> None:
    """A byte, or the end of the file; a read of nothing tells nothing."""
    async with session(served) as opened:
        reader = await open_file(opened, b"f", most=0)
        assert await reader.pread(SIZE, length) == b""
        change(published, NEW, rename=True)
        await sign(published)
        if length:
            with pytest.raises(Stale):
                await reader.pread()
        else:
            assert await reader.pread() == NEW


async def test_a_version_that_the_server_does_not_have(adversary: Adversary) -> None:
    async with session(adversary.where) as opened:
        reader = await open_file(opened, b"f", most=0)
        adversary.on_call = instead(READ=Status.CHANGED)
        with pytest.raises(Stale):
            await reader.pread()
        assert not polls(adversary)


@pytest.mark.parametrize("pinned", [False, True])
async def test_a_record_that_goes_away(adversary: Adversary, pinned: bool) -> None:
    async with session(adversary.where) as opened:
        reader = await open_file(opened, b"f", most=0)
        if pinned:
            await reader.pread(0, 1)
        adversary.on_call = instead(READ=Status.UNSIGNED, RECORD=Status.UNSIGNED)
        with pytest.raises(Stale if pinned else Unsigned):
            await reader.pread(5 * UNIT, 1)


@pytest.mark.spec("fip-handle-7")
@pytest.mark.parametrize("pinned", [False, True])
async def test_a_name_that_goes_away(published: Published, adversary: Adversary, pinned: bool) -> None:
    async with session(adversary.where, wait=0.0) as opened:
        reader = await open_file(opened, b"f", most=0)
        if pinned:
            await reader.pread(0, 1)
        (published.root / "f").unlink()
        await sign(published)
        with pytest.raises(Stale if pinned else StatusError) as raised:
            await reader.pread(5 * UNIT, 1)
        if isinstance(raised.value, StatusError):
            assert raised.value.status is Status.NOT_FOUND


async def test_a_name_that_comes_again(published: Published, adversary: Adversary) -> None:
    async with session(adversary.where) as opened:
        reader = await open_file(opened, b"f", most=0)
        (published.root / "f").unlink()
        await sign(published)
        published.write({"f": NEW})
        await sign(published)
        assert await reader.pread() == NEW


# the budget


@pytest.mark.spec("fip-client-23", "fip-poll-8", "fim-upd-4")
@pytest.mark.parametrize("status", [Status.UPDATING, Status.BUSY])
async def test_updating_for_ever_ends_with_the_budget(adversary: Adversary, status: Status) -> None:
    """Several readers share it, and the server answers each poll at once."""
    loop = asyncio.get_running_loop()

    async def updating(call: Call) -> None:
        if call.procedure is m.RECORD:
            assert call.arguments.wait <= 500
            await call.answer(status if call.arguments.wait else Status.UPDATING)
        elif call.procedure is m.READ:
            await call.answer(Status.UPDATING)
        else:
            await call.forward()

    async with session(adversary.where, wait=0.5) as opened:
        readers = [await open_file(opened, name, most=0) for name in (b"f", b"g", b"f")]
        adversary.on_call = updating
        start = loop.time()
        with calls_made() as calls:
            ended = await asyncio.gather(*(reader.pread() for reader in readers), return_exceptions=True)
        took = loop.time() - start
        assert [type(error) for error in ended] == [Updating] * 3
        assert took >= 0.49
        assert opened.budget.left() < 0.001
        with pytest.raises(Updating):
            await readers[1].pread()
    times: dict[bytes, list[float]] = {}
    for call in calls:
        if call.name == "RECORD" and call.arguments.wait:
            times.setdefault(call.arguments.object, []).append(call.at)
    assert len(times) == 2
    for sent in times.values():
        pauses = [later - earlier for earlier, later in itertools.pairwise(sent)]
        assert min(pauses, default=1) >= 0.08, "of 100 ms, less what may have delayed the first one"


@pytest.mark.spec("fip-poll-9")
async def test_more_files_that_wait_than_polls_are_held(adversary: Adversary, published: Published) -> None:
    """Those beyond four ask now and then without a wait, and all end with the update."""
    names = [f"file{number}" for number in range(7)]
    published.write(dict.fromkeys(names, OLD))
    await sign(published)
    updated = asyncio.Event()
    held: list[asyncio.Task[None]] = []

    async def hold(call: Call) -> None:
        await updated.wait()
        await call.answer(Status.UPDATING)

    async def updating(call: Call) -> None:
        if updated.is_set() or call.procedure not in (m.RECORD, m.READ):
            await call.forward()
        elif call.procedure is m.RECORD and call.arguments.wait:
            held.append(asyncio.create_task(hold(call)))
        else:
            await call.answer(Status.UPDATING)

    async with session(adversary.where, wait=10) as opened:
        readers = [await open_file(opened, name.encode(), most=0) for name in names]
        adversary.on_call = updating
        with calls_made() as calls:
            reads = [asyncio.ensure_future(reader.pread()) for reader in readers]
            await asyncio.sleep(1.5)
            asked = [call.arguments.wait for call in calls if call.name == "RECORD"]
            updated.set()
            assert await asyncio.gather(*reads) == [OLD] * 7
    assert len(held) == len([wait for wait in asked if wait]) == 4
    assert len(asked) <= 7 + 4 + 2 * 3  # each once, the four polls, and the others again after a second


@pytest.mark.spec("fip-client-23")
async def test_unchanged_and_trouble_in_turns_end_with_the_budget(adversary: Adversary) -> None:
    """From V3 to V1 and back: each turn costs."""

    async def turns(call: Call) -> None:
        if call.procedure is m.RECORD:
            await call.answer(Status.UNCHANGED if call.arguments.wait else Status.UPDATING)
        elif call.procedure is m.READ:
            await call.answer(Status.UPDATING)
        else:
            await call.forward()

    async with session(adversary.where, wait=0.35) as opened:
        reader = await open_file(opened, b"g", most=0)
        adversary.on_call = turns
        with pytest.raises(Updating):
            await reader.pread()
    assert 2 <= len(polls(adversary)) <= 5


@pytest.mark.spec("fip-client-24", "fim-upd-5")
async def test_without_a_budget_it_asks_once(published: Published, adversary: Adversary) -> None:
    async with session(adversary.where, wait=0.0) as opened:
        reader = await open_file(opened, b"f", most=0)
        change(published, LONGER, rename=True)
        with pytest.raises(Updating):
            await reader.pread(0, 1)
        records = [call.arguments for call in adversary.calls if call.procedure is m.RECORD]
        assert [arguments.wait for arguments in records] == [0]
        assert len(records[0].known) == 32
        await sign(published)
        assert await reader.pread() == LONGER


@pytest.mark.spec("fip-record-2", "fip-client-1")
async def test_a_poll_waits_at_most_a_minute(adversary: Adversary) -> None:
    arrived = asyncio.Event()

    async def hold(call: Call) -> None:
        if call.procedure is m.READ:
            await call.answer(Status.UPDATING)
        elif call.procedure is m.RECORD:
            if call.arguments.wait:
                arrived.set()
            else:
                await call.answer(Status.UPDATING)
        else:
            await call.forward()

    async with session(adversary.where, wait=1000.0) as opened:
        reader = await open_file(opened, b"f", most=0)
        adversary.on_call = hold
        reading = asyncio.create_task(reader.pread())
        await arrived.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert [arguments.wait for arguments in polls(adversary)] == [60_000]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
async def test_waits_at_the_same_time_count_once(seconds: float) -> None:
    budget = WaitBudget(seconds)
    assert budget.left() == seconds

    async def wait() -> None:
        with budget.spending():
            await asyncio.sleep(0.01)

    await asyncio.gather(*(wait() for _ in range(100)))
    assert seconds == 0 or 0 < budget.left() < seconds
    await asyncio.sleep(0.02)
    left = budget.left()
    assert budget.left() == left, "it is not spent while nobody waits"


# one version, whoever reads at the same time


async def test_a_unit_that_failed_before_a_poll_is_asked_for_again_after_it(adversary: Adversary) -> None:
    """Two spans fail; the trouble of the first is settled by a poll. The second is not judged by what came before."""
    polled = False

    async def lie(call: Call) -> None:
        nonlocal polled
        if call.procedure is m.RECORD:
            first = not polled
            polled |= bool(call.arguments.wait)
            await call.answer(Status.UPDATING if first and not call.arguments.wait else Status.UNCHANGED)
        elif call.procedure is m.READ and not polled:
            await call.answer(Status.UPDATING)
        else:
            await call.forward()

    async with session(adversary.where) as opened:
        reader = await open_file(opened, b"f", most=0)
        adversary.on_call = lie
        found = await asyncio.gather(*(reader.pread(i * 3 * UNIT, UNIT) for i in range(6)))
    assert found == [OLD[i * 3 * UNIT : i * 3 * UNIT + UNIT] for i in range(6)]
    assert len(polls(adversary)) == 1


async def test_what_verified_under_a_version_that_was_replaced_is_not_delivered(tmp_path: Path) -> None:
    """The first span of a read is good; but before it is delivered, the second one has turned to the next version."""
    size = 3 * 2**20
    old, new = (random.Random(seed).randbytes(size) for seed in (4, 5))
    published = publish_tree(tmp_path / "large", {"f": old})
    with serving(published.root) as served:
        async with between(served.port) as adversary, session(adversary.where) as opened:
            reader = await open_file(opened, b"f", most=0)
            tag = reader.verified.tag
            first: list[Reply] = []
            others: list[Call] = []

            async def keep_first(reply: Reply) -> None:
                arguments = reply.call.arguments
                if reply.procedure is m.READ and arguments.tag == tag and not arguments.first:
                    first.append(reply)
                else:
                    await reply.send()

            async def keep_others(call: Call) -> None:
                if call.procedure is m.READ and call.arguments.tag == tag and call.arguments.first:
                    others.append(call)
                else:
                    await call.forward()

            adversary.on_call, adversary.on_reply = keep_others, keep_first
            reading = asyncio.create_task(reader.pread())
            while not (first and others):
                await asyncio.sleep(0.01)
            published.replace("f", new)
            await asyncio.to_thread(published.sign)
            await others[0].answer(Status.CHANGED)
            while reader.verified.tag == tag:
                await asyncio.sleep(0.01)
            await first[0].send()
            assert await reading == new


class Updates(RuleBasedStateMachine):
    """Whatever publisher and readers do, in whatever order: all that a reader delivers is of one version."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.random = random.Random(0)
        self.readers: list[tuple[Reader, list[int]]] = []
        self.contents: dict[int, bytes] = {}
        self.closing: list[Any] = []

    @initialize()
    def publish(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.content = self.random.randbytes(6 * UNIT + 1)
        self.published = publish_tree(Path(directory.name) / "tree", {"f": self.content}, unit_size=UNIT)
        serve = serving(self.published.root, update_window=0.0)
        self.served = serve.__enter__()
        opened = session(self.served, wait=0.0)
        self.session: Session = self.runner.run(opened.__aenter__())
        self.closing = [
            lambda: self.runner.run(opened.__aexit__(None, None, None)),
            lambda: serve.__exit__(None, None, None),
            directory.cleanup,
        ]
        self.note()

    def note(self) -> None:
        """What the present record is about."""
        reader = self.runner.run(open_file(self.session, b"f", most=0))
        self.contents.setdefault(reader.verified.file.when.generation, self.content)

    @rule(units=st.integers(0, 8), rename=st.booleans())
    def change(self, units: int, rename: bool) -> None:
        self.content = self.random.randbytes(units * UNIT + self.random.choice((0, 1)))
        change(self.published, self.content, rename=rename)

    @rule(unit=st.integers(0, 5))
    def change_a_unit(self, unit: int) -> None:
        at = unit * UNIT
        self.content = self.content[:at] + self.random.randbytes(UNIT) + self.content[at + UNIT :]
        change(self.published, self.content, rename=False)

    @rule()
    def sign(self) -> None:
        self.published.sign(unit_size=UNIT, rehash=True)
        self.note()

    @rule(how=st.sampled_from(ALL), most=st.sampled_from((0, 2 * UNIT, 65536)))
    def open(self, how: Presentation, most: int) -> None:
        try:
            reader = self.runner.run(open_file(self.session, b"f", presentation=how, most=most))
        except (Mismatch, Stale, Updating):
            assert self.content not in self.contents.values() or self.content != self.contents[max(self.contents)]
            return
        self.readers.append((reader, []))

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), offset=st.integers(0, 7 * UNIT), length=st.integers(1, 4 * UNIT), forget=st.booleans())
    def read(self, data: st.DataObject, offset: int, length: int, forget: bool) -> None:
        reader, delivered = data.draw(st.sampled_from(self.readers))
        if forget:
            reader.version.nodes.forget()
        try:
            found = self.runner.run(reader.pread(offset, length))
        except (Mismatch, Stale, Updating):
            return
        generation = reader.verified.file.when.generation
        assert found == self.contents[generation][offset : offset + length]
        delivered.append(generation)
        assert len(set(delivered)) == 1

    @invariant()
    def newest_first(self) -> None:
        assert not self.contents or max(self.contents) == [*self.contents][-1]

    def teardown(self) -> None:
        for close in self.closing:
            close()
        self.runner.close()


TestUpdates = pytest.mark.spec("fip-client-21", "fip-client-22", "fip-client-20", "fim-upd-2", "fim-upd-5")(
    Updates.TestCase
)
TestUpdates.settings = hypothesis_settings(max_examples=25, stateful_step_count=20, deadline=None)
