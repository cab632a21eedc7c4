# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Well-formed replies that are not true: other data, other records, other lengths, other names."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from adversary import Adversary, Call, Reply, between, marked
from nfsverity._diff import ServedPlace, compare_trees
from nfsverity_client import listing
from nfsverity_client.listing import list_below
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import Reader, open_file
from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.errors import (
    BadSignature,
    ListingTooLong,
    Malformed,
    MalformedMessage,
    Mismatch,
    Stale,
    StatusError,
    TooFewSigners,
    Unsigned,
    VerificationError,
    WrongPath,
    WrongVolume,
)
from nfsverity_proto.messages import Hole, Status
from nfsverity_proto.record import Record, decode_record, encode_record
from nfsverity_proto.statement import Time
from nfsverity_proto.trust import TrustEntry
from oracle import records, signers
from oracle.merkle import SHA256
from serving import Published, keys, publish_tree, serving, session

UNIT = 4096
FILES = {
    "one": random.Random(1).randbytes(9 * UNIT + 100),
    "other": random.Random(2).randbytes(8 * UNIT + 7),
    "d/a": b"a",
    "d/b": b"b",
    "d/c/d": b"d",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_tree(tmp_path_factory.mktemp("lies") / "tree", FILES, unit_size=UNIT)


def telling(procedure: m.Procedure[Any, Any], lie: Callable[[Any], Any]) -> Callable[[Reply], Awaitable[None]]:
    """`lie` makes another result from the true one."""

    async def on_reply(reply: Reply) -> None:
        await reply.send(reply.call.reply(lie(reply.ok)) if reply.procedure is procedure else None)

    return on_reply


def asking(procedure: m.Procedure[Any, Any], lie: Callable[[Any], Any]) -> Callable[[Call], Awaitable[None]]:
    """`lie` makes other arguments from the true ones: the client gets the answer to another question."""

    async def on_call(call: Call) -> None:
        await call.forward(lie(call.arguments) if call.procedure is procedure else None)

    return on_call


def answering(procedure: m.Procedure[Any, Any], result: Any) -> Callable[[Call], Awaitable[None]]:
    async def on_call(call: Call) -> None:
        await (call.answer(result) if call.procedure is procedure else call.forward())

    return on_call


async def reader_of(opened: Session, how: Presentation, path: bytes = b"one") -> Reader:
    return await open_file(opened, path, presentation=how, most=0)


# content


READ_LIES: dict[str, tuple[Callable[[m.ReadOk], m.ReadOk], type[Exception]]] = {
    "one byte less": (lambda ok: replace(ok, data=ok.data[:-1]), MalformedMessage),
    "one byte more": (lambda ok: replace(ok, data=bytes(ok.data) + b"x"), MalformedMessage),
    "no data": (lambda ok: replace(ok, data=b""), MalformedMessage),
    "one hash less": (lambda ok: replace(ok, proof=ok.proof[32:]), MalformedMessage),
    "one hash more": (lambda ok: replace(ok, proof=ok.proof + bytes(32)), MalformedMessage),
    "part of a hash": (lambda ok: replace(ok, proof=ok.proof[:-1]), MalformedMessage),
    "hashes in another order": (lambda ok: replace(ok, proof=ok.proof[32:] + ok.proof[:32]), Mismatch),
    "zeros": (lambda ok: replace(ok, data=bytes(len(ok.data))), Mismatch),
    "units in another order": (lambda ok: replace(ok, data=bytes(ok.data[UNIT:]) + bytes(ok.data[:UNIT])), Mismatch),
    "a hole where there is data": (lambda ok: replace(ok, holes=(Hole(0, 1),), data=ok.data[UNIT:]), Mismatch),
    "a hole beside its data": (lambda ok: replace(ok, holes=(Hole(0, 1),)), MalformedMessage),
    "an empty hole": (lambda ok: replace(ok, holes=(Hole(0, 0),)), MalformedMessage),
    "a hole outside": (lambda ok: replace(ok, holes=(Hole(1, 2),), data=ok.data[UNIT:]), MalformedMessage),
    "a hole far outside": (lambda ok: replace(ok, holes=(Hole(2**32 - 1, 2**32 - 1),)), MalformedMessage),
    "holes that overlap": (lambda ok: replace(ok, holes=(Hole(0, 2), Hole(1, 1)), data=b""), MalformedMessage),
    "holes in another order": (lambda ok: replace(ok, holes=(Hole(1, 1), Hole(0, 1)), data=b""), MalformedMessage),
}


@pytest.mark.spec(
    "fip-read-8", "fip-hole-1", "fip-hole-2", "fip-hole-5", "fip-client-6", "fip-client-8", "fip-client-10",
    "fim-ver-8", "fim-proof-10",
)  # fmt: skip
@pytest.mark.parametrize("what", READ_LIES)
async def test_read(adversary: Adversary, opened: Session, what: str) -> None:
    lie, error = READ_LIES[what]
    reader = await reader_of(opened, Presentation.INLINE)
    adversary.on_reply = telling(m.READ, lie)
    with pytest.raises(error):
        await reader.pread(2 * UNIT + 5, UNIT)
    adversary.on_reply = None
    assert await reader.pread(2 * UNIT + 5, UNIT) == FILES["one"][2 * UNIT + 5 : 3 * UNIT + 5], "it was not remembered"


@pytest.mark.spec("fip-read-5", "fip-read-8")
async def test_a_proof_that_was_not_asked_for(adversary: Adversary, opened: Session) -> None:
    reader = await reader_of(opened, Presentation.ON_DEMAND)
    adversary.on_reply = telling(m.READ, lambda ok: replace(ok, proof=bytes(32)))
    with pytest.raises(MalformedMessage):
        await reader.pread(0, 1)


@pytest.mark.spec("fip-hole-3")
async def test_zeros_may_come_as_data_or_as_a_hole(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = bytes(3 * UNIT) + b"x" * UNIT + bytes(2 * UNIT + 7)
    published = publish_tree(tmp_path_factory.mktemp("zeros") / "tree", {"stored": data}, unit_size=UNIT)

    def dig(ok: m.ReadOk) -> m.ReadOk:
        return replace(
            ok, holes=(Hole(1, 2), Hole(4, 3)), data=bytes(ok.data[:UNIT]) + bytes(ok.data[3 * UNIT : 4 * UNIT])
        )

    with serving(published.root) as served:
        async with between(served.port) as adversary, session(adversary.where) as opened:
            for on_reply in (None, telling(m.READ, dig)):
                adversary.on_reply = on_reply
                assert await (await reader_of(opened, Presentation.INLINE, b"stored")).pread() == data


@pytest.mark.spec("fip-client-10")
@pytest.mark.parametrize("how", list(Presentation))
async def test_units_from_elsewhere_in_the_file(adversary: Adversary, opened: Session, how: Presentation) -> None:
    """Both the data and the proof that truly belong to it."""
    reader = await reader_of(opened, how)
    adversary.on_call = asking(m.READ, lambda arguments: replace(arguments, first=arguments.first ^ 2, count=1))
    with pytest.raises((Mismatch, MalformedMessage)):
        await reader.pread(0, 1)
    with pytest.raises((Mismatch, MalformedMessage)):
        await reader.pread(4 * UNIT, UNIT)


@pytest.mark.spec("fip-proof-5", "fip-tree-6", "fip-tree-7", "fip-client-17")
@pytest.mark.parametrize(
    ("how", "procedure", "lie", "error"),
    [
        (Presentation.ON_DEMAND, m.PROOF, lambda ok: m.ProofOk(ok.proof[32:]), MalformedMessage),
        (Presentation.ON_DEMAND, m.PROOF, lambda ok: m.ProofOk(ok.proof + bytes(32)), MalformedMessage),
        (Presentation.ON_DEMAND, m.PROOF, lambda ok: m.ProofOk(b""), MalformedMessage),
        (Presentation.ON_DEMAND, m.PROOF, lambda ok: m.ProofOk(bytes(len(ok.proof))), Mismatch),
        (Presentation.AHEAD, m.TREE, lambda ok: m.TreeOk(bytes(ok.hashes)[32:]), MalformedMessage),
        (Presentation.AHEAD, m.TREE, lambda ok: m.TreeOk(bytes(ok.hashes) + bytes(32)), MalformedMessage),
        (Presentation.AHEAD, m.TREE, lambda ok: m.TreeOk(b""), MalformedMessage),
        (Presentation.AHEAD, m.TREE, lambda ok: m.TreeOk(bytes(ok.hashes)[32:] + bytes(ok.hashes)[:32]), Mismatch),
    ],
)
async def test_proofs_and_trees(
    adversary: Adversary,
    opened: Session,
    how: Presentation,
    procedure: m.Procedure[Any, Any],
    lie: Callable[[Any], Any],
    error: type[Exception],
) -> None:
    reader = await reader_of(opened, how)
    adversary.on_reply = telling(procedure, lie)
    with pytest.raises(error):
        await reader.pread(UNIT, 1)
    adversary.on_reply = None
    assert await reader.pread(UNIT, UNIT) == FILES["one"][UNIT : 2 * UNIT]


@pytest.mark.spec("fip-client-25")
async def test_without_hashes_that_fold_only_the_file_is_named(adversary: Adversary, opened: Session) -> None:
    reader = await reader_of(opened, Presentation.INLINE)

    async def lie(reply: Reply) -> None:
        if reply.procedure is m.READ:
            await reply.send(reply.call.reply(replace(reply.ok, data=bytes(len(reply.ok.data)))))
        elif reply.procedure is m.TREE:
            await reply.send(reply.call.reply(m.TreeOk(bytes(len(reply.ok.hashes)))))
        else:
            await reply.send()

    adversary.on_reply = lie
    with pytest.raises(Mismatch) as raised:
        await reader.pread(0, UNIT)
    assert raised.value.offset is None
    assert raised.value.where is not None
    adversary.on_call = answering(m.TREE, Status.NOT_SUPPORTED)
    with pytest.raises(Mismatch) as raised:
        await reader.pread(0, UNIT)
    assert raised.value.offset is None


# records


@pytest.mark.spec("fip-fetch-7", "fip-client-6")
@pytest.mark.parametrize(
    "lie",
    [
        lambda ok: replace(ok, data=bytes(ok.data)[:-1]),
        lambda ok: replace(ok, data=bytes(ok.data) + b"x"),
        lambda ok: replace(ok, data=b"", proof=b""),
        lambda ok: replace(ok, proof=b""),
        lambda ok: replace(ok, proof=ok.proof + bytes(32)),
    ],
)
async def test_fetch_of_other_lengths(adversary: Adversary, opened: Session, lie: Callable[[m.FetchOk], Any]) -> None:
    adversary.on_reply = telling(m.FETCH, lie)
    with pytest.raises(MalformedMessage):
        await open_file(opened, b"one", most=3 * UNIT)


@pytest.mark.spec("fip-fetch-6", "fip-client-9")
async def test_the_record_is_judged_before_data_and_proof(adversary: Adversary, opened: Session) -> None:
    adversary.on_call = asking(m.FETCH, lambda arguments: replace(arguments, path=b"other"))
    adversary.on_reply = telling(m.FETCH, lambda ok: replace(ok, data=b"x", proof=b"y"))
    with pytest.raises(WrongPath):
        await open_file(opened, b"one")


@pytest.mark.spec("fip-resolve-6", "fim-ver-1")
async def test_another_files_record(adversary: Adversary, opened: Session) -> None:
    adversary.on_call = asking(m.FETCH, lambda arguments: replace(arguments, path=b"other"))
    with pytest.raises(WrongPath) as raised:
        await open_file(opened, b"one")
    assert (raised.value.expected, raised.value.found) == ("one", "other")


async def test_another_files_content(adversary: Adversary, opened: Session) -> None:
    """Its record is the right one, and the handle of another file comes with it."""
    other = (await opened.resolve(b"other")).object
    adversary.on_reply = telling(m.FETCH, lambda ok: replace(ok, object=other))
    reader = await open_file(opened, b"one", most=0)
    with pytest.raises(Stale):
        await reader.pread(0, 1)


@pytest.mark.spec("fip-handle-7")
async def test_a_handle_that_leads_nowhere(adversary: Adversary, opened: Session) -> None:
    adversary.on_reply = telling(m.FETCH, lambda ok: replace(ok, object=b"nowhere"))
    reader = await open_file(opened, b"one", most=0)
    assert await reader.pread() == FILES["one"], "the path is resolved again"
    adversary.on_reply = telling(m.RESOLVE, lambda ok: replace(ok, object=b"nowhere"))
    adversary.on_call = asking(m.READ, lambda arguments: replace(arguments, object=b"nowhere"))
    reader.version.nodes.forget()
    with pytest.raises(StatusError) as raised:
        await reader.pread()
    assert raised.value.status is Status.BAD_HANDLE
    assert adversary.names.count("RESOLVE") < 10


def stripped(data: bytes, keep: int) -> bytes:
    """A record with only its first attestations."""
    record: Record = decode_record(data)
    if keep:
        return encode_record(record.statement, record.attestations[:keep])
    size = 4 + len(record.statement) + -len(record.statement) % 4
    return data[:size] + bytes(4)


async def test_a_record_without_its_signature(adversary: Adversary, opened: Session) -> None:
    adversary.on_reply = telling(m.FETCH, lambda ok: replace(ok, record=stripped(ok.record, 0)))
    with pytest.raises(Malformed):
        await open_file(opened, b"one")


async def test_no_record(adversary: Adversary, opened: Session) -> None:
    adversary.on_reply = telling(m.FETCH, lambda ok: replace(ok, record=b""))
    with pytest.raises(Malformed):
        await open_file(opened, b"one")
    adversary.on_reply = None
    adversary.on_call = answering(m.FETCH, Status.UNSIGNED)
    with pytest.raises(Unsigned) as raised:
        await open_file(opened, b"one")
    assert raised.value.where == opened.url_of(b"one")


async def test_one_of_two_signatures_is_taken_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("two") / "tree"
    published = publish_tree(root, {"one": b"1"})
    published.sign(keys=[keys(), keys("second")], rehash=True)
    pins = [replace(keys().pin, signers=2), keys("second").pin]
    with serving(root) as served:
        async with between(served.port) as adversary, session(adversary.where, *pins) as opened:
            assert len((await open_file(opened, b"one")).verified.signers) == 2
            adversary.on_reply = telling(m.FETCH, lambda ok: replace(ok, record=stripped(ok.record, 1)))
            with pytest.raises(TooFewSigners):
                await open_file(opened, b"one")


async def test_another_volumes_record(tmp_path_factory: pytest.TempPathFactory, adversary: Adversary) -> None:
    """The same path, the same signer, and all of it verifies; but it is not what this server had at first use."""
    elsewhere = publish_tree(tmp_path_factory.mktemp("elsewhere") / "tree", FILES, unit_size=UNIT)
    with serving(elsewhere.root) as impostor:
        async with session(impostor) as opened:
            foreign = await opened.call(m.FETCH, m.FetchArgs(b"", b"one", 0))
            record = foreign.record
        async with session(adversary.where) as opened:
            await open_file(opened, b"one")
            adversary.on_reply = telling(m.FETCH, lambda ok: replace(ok, record=record))
            with pytest.raises(WrongVolume):
                await open_file(opened, b"one")


async def test_signatures_of_one_file_under_another(adversary: Adversary, opened: Session) -> None:
    other = (await opened.call(m.FETCH, m.FetchArgs(b"", b"other", 0))).record
    attestations = decode_record(other).attestations
    adversary.on_reply = telling(
        m.FETCH,
        lambda ok: replace(ok, record=encode_record(decode_record(ok.record).statement, attestations)),
    )
    with pytest.raises(BadSignature):
        await open_file(opened, b"one")


@pytest.mark.spec("fim-proof-8")
async def test_an_empty_file_whose_root_is_another(adversary: Adversary) -> None:
    """Its publisher signed it so: there is no unit that could fail."""
    signer = signers.signer()
    lifetime = {"not_before": 0, "not_after": 2**32}
    name = signers.common_name("publisher")
    der = signers.certificate(signer.key.public_key(), name, signer.key, signs=True, **lifetime)
    signer = replace(signer, der=der)
    for root, error in ((SHA256(b""), None), (SHA256(b"\0"), Mismatch)):
        statement = records.Statement(path=b"one", size=0, root=root, issued=0)
        lie = m.FetchOk(b"handle", signers.signed(statement, signer), b"", b"")
        adversary.on_call = answering(m.FETCH, lie)
        for how in Presentation:
            async with session(adversary.where, TrustEntry(der), presentation=how) as opened:
                reader = await open_file(opened, b"one")
                assert [type(fault) async for fault in reader.faults()] == [Mismatch] * bool(error)
                if error is None:
                    assert await reader.pread() == b""
                    continue
                with pytest.raises(error, match="an empty file"):
                    await reader.pread()


@pytest.mark.spec("fip-record-4")
async def test_the_record_that_is_known(adversary: Adversary, opened: Session) -> None:
    reader = await open_file(opened, b"one", most=0)
    record = reader.verified.data

    async def lie(call: Call) -> None:
        if call.procedure is m.READ:
            await call.answer(Status.CHANGED)
        elif call.procedure is m.RECORD:
            await call.answer(m.RecordOk(record))
        else:
            await call.forward()

    adversary.on_call = lie
    with pytest.raises(MalformedMessage, match="fip-record-4"):
        await reader.pread(0, 1)


@pytest.mark.spec("fip-record-3", "fip-client-8")
@pytest.mark.parametrize("status", [Status.UNCHANGED, Status.UPDATING])
async def test_a_record_where_nothing_was_known(adversary: Adversary, opened: Session, status: Status) -> None:
    async def lie(call: Call) -> None:
        if call.procedure is m.FETCH:
            await call.answer(Status.UPDATING)
        elif call.procedure is m.RECORD:
            await call.answer(status)
        else:
            await call.forward()

    adversary.on_call = lie
    with pytest.raises(MalformedMessage, match="nothing was known"):
        await open_file(opened, b"one")


@pytest.mark.spec("fip-handle-7")
@pytest.mark.parametrize("times", [1, 3, 4])
async def test_a_handle_that_is_bad_when_it_is_new(adversary: Adversary, opened: Session, times: int) -> None:
    left = times

    async def lie(call: Call) -> None:
        nonlocal left
        if call.procedure is m.FETCH:
            await call.answer(Status.CHANGED)
        elif call.procedure is m.RECORD and left:
            left -= 1
            await call.answer(Status.BAD_HANDLE)
        else:
            await call.forward()

    adversary.on_call = lie
    if times > 3:
        with pytest.raises(StatusError, match="BAD_HANDLE"):
            await open_file(opened, b"one")
    else:
        assert await (await open_file(opened, b"one")).pread() == FILES["one"]
    assert adversary.names.count("RESOLVE") == min(times, 3) + 1


# statuses


@pytest.mark.spec("fip-status-4", "fip-client-12")
@pytest.mark.parametrize("status", sorted(m.FETCH.statuses - {Status.OK, Status.BUSY}))
async def test_a_status_is_no_verdict_but_for_what_only_the_server_knows(
    adversary: Adversary, opened: Session, status: Status
) -> None:
    adversary.on_call = answering(m.FETCH, status)
    if status in (Status.CHANGED, Status.UPDATING):
        assert await (await open_file(opened, b"one")).pread() == FILES["one"], "RECORD and READ give it"
        return
    with pytest.raises((StatusError, Unsigned)) as raised:
        await open_file(opened, b"one")
    assert isinstance(raised.value, Unsigned) == (status is Status.UNSIGNED)


def place(status: int) -> Callable[[Call], Awaitable[None]]:
    async def on_call(call: Call) -> None:
        whole = call.reply(Status.BUSY)
        await call.line.send(marked(whole[:-4] + status.to_bytes(4, "big")))

    return on_call


@pytest.mark.spec("fip-client-8")
@pytest.mark.parametrize("status", [5, 14, 15, 16, 20, 21, 2**31])
async def test_a_status_that_the_procedure_does_not_return(adversary: Adversary, opened: Session, status: int) -> None:
    adversary.on_call = place(status)
    with pytest.raises(MalformedMessage):
        await open_file(opened, b"one")


# names


def entry(name: bytes, size: int = 1) -> m.Entry:
    attributes = m.Attributes(m.FileType.FILE, True, False, size, Time(0, 0))
    return m.Entry(name, b"handle", attributes)


@pytest.mark.spec("fip-dir-6", "fip-dir-7")
@pytest.mark.parametrize(
    "entries",
    [
        [b"b", b"a"],
        [b"a", b"a"],
        [b""],
        [b"."],
        [b".."],
        [b"a/b"],
        [b"a\0"],
        [b"ab", b"a"],
    ],
    ids=repr,
)
async def test_a_listing_that_breaks_the_rules(adversary: Adversary, opened: Session, entries: list[bytes]) -> None:
    adversary.on_call = answering(m.READDIR, m.ReaddirOk(tuple(entry(name) for name in entries), True))
    with pytest.raises(MalformedMessage):
        _ = [found async for found in opened.list(b"d")]


@pytest.mark.spec("fip-dir-6")
async def test_a_listing_that_never_ends(adversary: Adversary, opened: Session) -> None:
    adversary.on_call = answering(m.READDIR, m.ReaddirOk((), False))
    with pytest.raises(MalformedMessage):
        _ = [found async for found in opened.list(b"d")]
    adversary.on_call = answering(m.READDIR, m.ReaddirOk((entry(b"a"),), False))
    with pytest.raises(MalformedMessage):
        _ = [found async for found in opened.list(b"d")]


async def test_directories_that_never_end(adversary: Adversary, opened: Session) -> None:
    deeper = m.Entry(b"d", b"", m.Attributes(m.FileType.DIRECTORY, False, False, 0, Time(0, 0)))
    adversary.on_call = answering(m.READDIR, m.ReaddirOk((deeper,), True))
    with pytest.raises(MalformedMessage):
        _ = [found async for found in list_below(opened, b"", deep=True, by_word=True)]
    assert len(adversary.calls) < 300


async def keep_all(opened: Session) -> None:
    _ = [entry async for entry in listing.bounded(list_below(opened, b""))]


async def go_into_each(opened: Session) -> None:
    async with aclosing(list_below(opened, b"", deep=True)) as found:
        async for _ in found:
            pass


async def compare(opened: Session) -> None:
    place = ServedPlace(opened, b"")
    async with aclosing(compare_trees(place, place, with_ranges=False)) as found:
        async for _ in found:
            pass


@pytest.mark.spec("fip-dir-8")
@pytest.mark.parametrize(
    ("use", "type"),
    [(keep_all, m.FileType.FILE), (go_into_each, m.FileType.DIRECTORY), (compare, m.FileType.DIRECTORY)],
)
async def test_names_that_never_end(
    adversary: Adversary,
    opened: Session,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[Session], Awaitable[None]],
    type: m.FileType,
) -> None:
    """Files are kept by who wants all of them at once; directories by who goes into each."""
    attributes = m.Attributes(type, False, False, 0, Time(0, 0))

    async def next_page(call: Call) -> None:
        if call.procedure is not m.READDIR:
            await call.forward()
            return
        first = int(call.arguments.after or b"0") + 1
        names = (b"%09d" % number for number in range(first, first + call.arguments.count))
        await call.answer(m.ReaddirOk(tuple(m.Entry(name, b"handle", attributes) for name in names), False))

    adversary.on_call = next_page
    monkeypatch.setattr(listing, "KEPT_MAX", 2**22)
    with pytest.raises(ListingTooLong) as caught:
        await use(opened)
    assert "directory" in caught.value.advice
    listings = 2 if use is compare else 1
    assert 7 < adversary.names.count("READDIR") / listings < 12, "4 MiB of 521 bytes each"


@pytest.mark.spec("fip-handle-7")
async def test_a_directory_whose_handle_is_bad_is_resolved_again(adversary: Adversary, opened: Session) -> None:
    async def once(call: Call) -> None:
        if call.procedure is m.READDIR:
            adversary.on_call = None
            await call.answer(Status.BAD_HANDLE)
        else:
            await call.forward()

    adversary.on_call = once
    assert [found.name async for found in opened.list(b"d")] == [b"a", b"b", b"c"]
    adversary.on_call = answering(m.READDIR, Status.BAD_HANDLE)
    with pytest.raises(StatusError):
        _ = [found async for found in opened.list(b"d")]


@pytest.mark.spec("fip-attr-3")
async def test_attributes_decide_nothing(adversary: Adversary, opened: Session) -> None:
    shrunk = m.Attributes(m.FileType.FILE, False, True, 1, Time(0, 0))
    adversary.on_reply = telling(m.RESOLVE, lambda ok: replace(ok, attributes=shrunk))
    adversary.on_call = answering(m.FETCH, Status.CHANGED)
    assert await (await open_file(opened, b"one")).pread() == FILES["one"]


@pytest.mark.spec("fip-limits-3", "fip-limits-5", "fip-limits-7", "fip-limits-8")
async def test_limits_decide_nothing(adversary: Adversary, opened: Session) -> None:
    """The client does without them: it keeps to what every server grants."""
    lie = m.LimitsOk(0xFFFFFFFC, 1, 0, 1, 2**32 - 1, (99,), ())
    adversary.on_call = answering(m.LIMITS, lie)
    assert await opened.call(m.LIMITS, None) == lie
    for how in Presentation:
        assert await (await reader_of(opened, how)).pread() == FILES["one"]
    reads = [call.arguments for call in adversary.calls if call.procedure is m.READ]
    assert max(arguments.count for arguments in reads) * UNIT <= 2**20


async def test_every_error_names_the_file(adversary: Adversary, opened: Session) -> None:
    reader = await reader_of(opened, Presentation.INLINE)
    adversary.on_reply = telling(m.READ, lambda ok: replace(ok, data=bytes(len(ok.data))))
    with pytest.raises(VerificationError, match=r"nfsv://127.0.0.1:\d+/one: mismatch: bytes 0 to 4095 "):
        await reader.pread(0, 1)
