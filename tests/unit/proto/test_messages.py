# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto import messages as m
from nfsverity_proto import rpc
from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, LinkNode
from nfsverity_proto.entry_range import EntryRange
from nfsverity_proto.errors import MalformedMessage, StatusError
from nfsverity_proto.messages import Status
from nfsverity_proto.record import Fingerprint
from nfsverity_proto.statement import Tag, Time
from oracle import merkle, volumes, xdr

DRAFT = ElementTree.parse(Path(__file__).parents[3] / "spec" / "draft-nfsverity-file-integrity-protocol-00.xml")
PROCEDURES = list(m.PROCEDURES.values())
every_procedure = pytest.mark.parametrize("procedure", PROCEDURES, ids=lambda procedure: procedure.name)


def rows(table: str) -> list[list[str]]:
    return [
        [" ".join("".join(cell.itertext()).split()) for cell in row.findall("td")]
        for row in DRAFT.iterfind(f".//table[@anchor='{table}']/tbody/tr")
    ]


STATUSES = {name: statuses.split(", ") for name, statuses in rows("valid-table") if name != "NULL"}


# What travels: strategies for pairs of a value and its encoding

Pair = tuple[Any, bytes]
Pairs = st.SearchStrategy[Pair]


def number(most: int, encode: Callable[[int], bytes], least: int = 0) -> Pairs:
    return st.integers(least, most).map(lambda value: (value, encode(value)))


def opaque(most: int) -> Pairs:
    return st.binary(max_size=min(most, 70)).map(lambda data: (data, xdr.opaque(data)))


def array(element: Pairs, most: int, least: int = 0) -> Pairs:
    items = st.lists(element, min_size=least, max_size=min(most, 3))
    return items.map(lambda pairs: (tuple(value for value, _ in pairs), xdr.array(data for _, data in pairs)))


def struct(cls: Callable[..., Any], *fields: Pairs) -> Pairs:
    def join(pairs: tuple[Pair, ...]) -> Pair:
        return cls(*(value for value, _ in pairs)), b"".join(data for _, data in pairs)

    return st.tuples(*fields).map(join)


def enum(cls: type[IntEnum]) -> Pairs:
    return st.sampled_from(cls).map(lambda value: (value, xdr.uint(value)))


def digest(cls: Callable[[int, bytes], Any]) -> Pairs:
    """A tag or a fingerprint."""
    known = st.sampled_from(list(merkle.HASHES)).map(lambda n: (n, merkle.HASHES[n][1](b"x")))
    return st.one_of(known, st.tuples(st.integers(100, 200), st.binary(max_size=64))).map(
        lambda pair: (cls(*pair), xdr.uint(pair[0]) + xdr.opaque(pair[1]))
    )


uint = number(2**32 - 1, xdr.uint)
uhyper = number(2**64 - 1, xdr.uhyper)
boolean = st.booleans().map(lambda value: (value, xdr.boolean(value)))
maybe_uint = st.none().map(lambda value: (value, xdr.uint(0))) | uint.map(lambda p: (p[0], xdr.uint(1) + p[1]))
handle, path, record, proof = opaque(128), opaque(4095), opaque(65_536), opaque(8192)
time = struct(Time, number(2**63 - 1, xdr.hyper, -(2**63)), number(999_999_999, xdr.uint))
attributes = struct(m.Attributes, enum(m.FileType), boolean, boolean, number(2**63 - 1, xdr.uhyper), time)
tag = digest(Tag)
hole = struct(m.Hole, uint, uint)
entry = struct(m.Entry, opaque(255), handle, attributes)
of_volume = st.sampled_from(
    [
        (Entry(b"", b"f", FileNode(True, b"h" * 32)), volumes.Entry(b"", b"f", volumes.FILE, 1, b"h" * 32)),
        (Entry(b"d/e", b"l", LinkNode(b"../f")), volumes.Entry(b"d/e", b"l", volumes.LINK, content=b"../f")),
        (Entry(b"d", b"e", DirectoryNode()), volumes.Entry(b"d", b"e", volumes.DIRECTORY)),
    ]
).map(lambda pair: (pair[0], pair[1].encode()))
entry_range = struct(EntryRange, uhyper, array(of_volume, 1024), proof)
nothing: Pairs = st.just((None, b""))

ARGUMENTS: dict[str, Pairs] = {
    "LIMITS": nothing,
    "RESOLVE": struct(m.ResolveArgs, handle, path),
    "RECORD": struct(m.RecordArgs, handle, st.binary(max_size=32).map(lambda d: (d, xdr.opaque(d))), uint),
    "CERTIFICATE": struct(m.CertificateArgs, digest(Fingerprint)),
    "TREE": struct(m.TreeArgs, handle, tag, uint, uhyper, uint),
    "PROOF": struct(m.ProofArgs, handle, tag, uint, uhyper, uint),
    "FETCH": struct(m.FetchArgs, handle, path, uint),
    "READ": struct(m.ReadArgs, handle, tag, uhyper, uint, maybe_uint),
    "READDIR": struct(m.ReaddirArgs, handle, opaque(255), uint),
    "GETATTR": struct(m.GetattrArgs, handle),
    "REVOCATION": struct(m.RevocationArgs, handle, st.binary(max_size=32).map(lambda d: (d, xdr.opaque(d)))),
    "PLAIN": struct(m.PlainArgs, handle, uhyper, uint),
    "ENTRIES": struct(m.EntriesArgs, tag, path, opaque(255), uint),
    "BULK": struct(m.BulkArgs, tag, path, opaque(255), uint, uint),
}
RESULTS: dict[str, Pairs] = {
    "LIMITS": struct(m.LimitsOk, uint, uint, uint, uint, uint, array(uint, 32), array(uint, 32)),
    "RESOLVE": struct(m.ResolveOk, handle, attributes),
    "RECORD": struct(m.RecordOk, record),
    "CERTIFICATE": struct(m.CertificateOk, array(opaque(16_384), 8, 1)),
    "TREE": struct(m.TreeOk, opaque(4_194_304)),
    "PROOF": struct(m.ProofOk, proof),
    "FETCH": struct(m.FetchOk, handle, record, proof, opaque(1_048_576)),
    "READ": struct(m.ReadOk, proof, array(hole, 256), opaque(4_194_304)),
    "READDIR": struct(m.ReaddirOk, array(entry, 1024), boolean),
    "GETATTR": attributes,
    "REVOCATION": struct(m.RevocationOk, record),
    "PLAIN": struct(m.PlainOk, number(2**63 - 1, xdr.uhyper), boolean, opaque(4_194_304)),
    "ENTRIES": struct(m.EntriesOk, entry_range),
    "BULK": struct(m.BulkOk, entry_range, array(struct(m.BulkItem, opaque(8192), uint), 1024), opaque(2_097_152)),
}


# The procedures


def test_the_procedures_are_those_of_the_draft() -> None:
    assert [procedure.name for procedure in PROCEDURES] == list(STATUSES)
    assert list(m.PROCEDURES) == [procedure.number for procedure in PROCEDURES] == list(range(1, 15))
    assert (m.PROGRAM, m.VERSION) == (0x3046494D, 1)


@pytest.mark.spec("fip-status-1")
@every_procedure
def test_each_procedure_has_the_statuses_of_the_draft_and_no_other(procedure: m.Procedure[Any, Any]) -> None:
    assert {status.name for status in procedure.statuses} == set(STATUSES[procedure.name])
    for status in set(Status) - procedure.statuses:
        with pytest.raises(ValueError):
            procedure.encode_result(status)


def test_the_numbers_of_statuses_are_those_of_the_draft() -> None:
    expected: dict[str, int] = {}
    for numbers, names, _ in rows("status-table"):
        first = int(numbers.partition("-")[0])
        expected |= {name: first + at for at, name in enumerate(names.split(", "))}
    assert {status.name: int(status) for status in Status} == expected


@every_procedure
@given(data=st.data())
def test_arguments_are_encoded_as_the_draft_says(procedure: m.Procedure[Any, Any], data: st.DataObject) -> None:
    value, encoded = data.draw(ARGUMENTS[procedure.name])
    message = procedure.encode_call(7, value)[4:]
    call, arguments = rpc.decode_call(message)
    assert (call.prog, call.vers, call.proc) == (m.PROGRAM, m.VERSION, procedure.number)
    assert arguments == encoded
    assert procedure.decode_arguments(arguments) == value


@every_procedure
@given(data=st.data())
def test_results_are_encoded_as_the_draft_says(procedure: m.Procedure[Any, Any], data: st.DataObject) -> None:
    value, encoded = data.draw(RESULTS[procedure.name])
    parts = procedure.encode_result(value)
    assert b"".join(parts) == xdr.uint(0) + encoded
    assert procedure.decode_result(bytearray(b"".join(parts))) == value


@pytest.mark.spec("fip-rpc-11")
@every_procedure
@given(data=st.data())
def test_arguments_that_are_not_one_canonical_encoding_are_refused(
    procedure: m.Procedure[Any, Any], data: st.DataObject
) -> None:
    _, encoded = data.draw(ARGUMENTS[procedure.name])
    with pytest.raises(ValueError):
        procedure.decode_arguments(encoded + data.draw(st.binary(min_size=1, max_size=5)))
    if encoded:
        with pytest.raises(ValueError):
            procedure.decode_arguments(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@pytest.mark.spec("fip-client-8")
@every_procedure
@given(data=st.data())
def test_results_that_are_not_one_canonical_encoding_are_malformed(
    procedure: m.Procedure[Any, Any], data: st.DataObject
) -> None:
    whole = xdr.uint(0) + data.draw(RESULTS[procedure.name])[1]
    with pytest.raises(MalformedMessage):
        procedure.decode_result(whole + data.draw(st.binary(min_size=1, max_size=5)))
    with pytest.raises(MalformedMessage):
        procedure.decode_result(whole[: data.draw(st.integers(0, len(whole) - 1))])


@every_procedure
@given(data=st.data())
def test_a_changed_result_is_malformed_or_another_one(procedure: m.Procedure[Any, Any], data: st.DataObject) -> None:
    changed = bytearray(xdr.uint(0) + data.draw(RESULTS[procedure.name])[1])
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        value = procedure.decode_result(changed)
    except (MalformedMessage, StatusError):
        return
    assert b"".join(procedure.encode_result(value)) == changed


@every_procedure
@given(data=st.binary(max_size=120) | st.binary(max_size=120).map(lambda rest: bytes(4) + rest))
def test_any_bytes_decode_or_raise_the_one_error(procedure: m.Procedure[Any, Any], data: bytes) -> None:
    with contextlib.suppress(ValueError):
        procedure.decode_arguments(data)
    with contextlib.suppress(MalformedMessage, StatusError):
        procedure.decode_result(data)


@pytest.mark.spec("fip-status-1", "fip-client-8")
@every_procedure
def test_other_statuses_and_places_kept_are_malformed(procedure: m.Procedure[Any, Any]) -> None:
    for number in [*range(1, 24), 2**31, 2**32 - 1]:
        known = number in {int(status) for status in procedure.statuses}
        with pytest.raises(StatusError if known else MalformedMessage) as caught:
            procedure.decode_result(xdr.uint(number))
        if known:
            assert caught.value.status is Status(number)
            with pytest.raises(MalformedMessage):
                procedure.decode_result(xdr.uint(number) + bytes(4))


@every_procedure
def test_a_status_travels_alone(procedure: m.Procedure[Any, Any]) -> None:
    for status in procedure.statuses - {Status.OK}:
        assert procedure.encode_result(status) == [xdr.uint(status)]


# Single fields


def attributes_of(**changes: int) -> bytes:
    fields = {"type": 1, "has_record": 1, "executable": 0, "size": 5, "seconds": 9, "nseconds": 8} | changes
    return (
        xdr.uint(fields["type"])
        + xdr.uint(fields["has_record"])
        + xdr.uint(fields["executable"])
        + xdr.uhyper(fields["size"])
        + xdr.hyper(fields["seconds"])
        + xdr.uint(fields["nseconds"])
    )


@pytest.mark.spec("fip-attr-2")
@pytest.mark.parametrize(
    ("change", "value", "good"),
    [
        ("size", 2**63 - 1, True),
        ("size", 2**63, False),
        ("size", 2**64 - 1, False),
        ("nseconds", 999_999_999, True),
        ("nseconds", 1_000_000_000, False),
        ("type", 2, True),
        ("type", 0, False),
        ("type", 3, False),
        ("has_record", 2, False),
        ("executable", 2, False),
    ],
)
def test_attributes_beyond_their_bounds_are_malformed(change: str, value: int, good: bool) -> None:
    encoded = attributes_of(**{change: value})
    replies: list[tuple[m.Procedure[Any, Any], bytes]] = [
        (m.GETATTR, encoded),
        (m.RESOLVE, xdr.opaque(b"h") + encoded),
        (m.READDIR, xdr.array([xdr.opaque(b"n") + xdr.opaque(b"h") + encoded]) + xdr.boolean(True)),
    ]
    for procedure, reply in replies:
        if good:
            procedure.decode_result(xdr.uint(0) + reply)
        else:
            with pytest.raises(MalformedMessage):
                procedure.decode_result(xdr.uint(0) + reply)


@pytest.mark.spec("fip-cert-4")
def test_a_reply_without_a_certificate_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        m.CERTIFICATE.decode_result(xdr.uint(0) + xdr.array([]))


BOUNDS: list[tuple[str, m.Procedure[Any, Any], Callable[[bytes], bytes], int]] = [
    ("record", m.RECORD, xdr.opaque, 65_536),
    ("certificate", m.CERTIFICATE, lambda data: xdr.array([xdr.opaque(data)]), 16_384),
    ("hashes", m.TREE, xdr.opaque, 4_194_304),
    ("proof", m.PROOF, xdr.opaque, 8192),
    ("handle", m.RESOLVE, lambda data: xdr.opaque(data) + attributes_of(), 128),
    ("fetched record", m.FETCH, lambda data: bytes(4) + xdr.opaque(data) + bytes(8), 65_536),
    ("fetched proof", m.FETCH, lambda data: bytes(8) + xdr.opaque(data) + bytes(4), 8192),
    ("fetched data", m.FETCH, lambda data: bytes(12) + xdr.opaque(data), 1_048_576),
    ("revocation", m.REVOCATION, xdr.opaque, 65_536),
    ("plain data", m.PLAIN, lambda data: bytes(12) + xdr.opaque(data), 4_194_304),
    ("range proof", m.ENTRIES, lambda data: bytes(12) + xdr.opaque(data), 8192),
    ("bulk statement", m.BULK, lambda data: bytes(16) + xdr.array([xdr.opaque(data) + bytes(4)]) + bytes(4), 8192),
    ("bulk data", m.BULK, lambda data: bytes(20) + xdr.opaque(data), 2_097_152),
    ("read proof", m.READ, lambda data: xdr.opaque(data) + bytes(8), 8192),
    ("read data", m.READ, lambda data: bytes(8) + xdr.opaque(data), 4_194_304),
]


@pytest.mark.parametrize(("procedure", "encode", "most"), [row[1:] for row in BOUNDS], ids=[row[0] for row in BOUNDS])
def test_opaques_of_results_have_their_bounds(
    procedure: m.Procedure[Any, Any], encode: Callable[[bytes], bytes], most: int
) -> None:
    procedure.decode_result(xdr.uint(0) + encode(bytes(most)))
    with pytest.raises(MalformedMessage, match=str(most)):
        procedure.decode_result(xdr.uint(0) + encode(bytes(most + 1)))


SOME_ENTRY = volumes.Entry(b"", b"e", volumes.DIRECTORY).encode()
COUNTS: list[tuple[str, m.Procedure[Any, Any], Callable[[int], bytes], int]] = [
    ("certificates", m.CERTIFICATE, lambda n: xdr.array([xdr.opaque(b"d")] * n), 8),
    ("holes", m.READ, lambda n: bytes(4) + xdr.array([bytes(8)] * n) + bytes(4), 256),
    ("entries", m.READDIR, lambda n: xdr.array([xdr.opaque(b"n") + bytes(4) + attributes_of()] * n) + bytes(4), 1024),
    ("range", m.ENTRIES, lambda n: bytes(8) + xdr.array([SOME_ENTRY] * n) + bytes(4), 1024),
    ("items", m.BULK, lambda n: bytes(16) + xdr.array([bytes(8)] * n) + bytes(4), 1024),
    ("hashes", m.LIMITS, lambda n: bytes(20) + xdr.array([bytes(4)] * n) + bytes(4), 32),
    ("tree types", m.LIMITS, lambda n: bytes(24) + xdr.array([bytes(4)] * n), 32),
]


@pytest.mark.parametrize(("procedure", "encode", "most"), [row[1:] for row in COUNTS], ids=[row[0] for row in COUNTS])
def test_arrays_of_results_have_their_bounds(
    procedure: m.Procedure[Any, Any], encode: Callable[[int], bytes], most: int
) -> None:
    procedure.decode_result(xdr.uint(0) + encode(most))
    with pytest.raises(MalformedMessage, match=str(most)):
        procedure.decode_result(xdr.uint(0) + encode(most + 1))


def test_the_data_of_a_reply_is_a_view_of_the_message() -> None:
    memory = bytearray(xdr.uint(0) + bytes(8) + xdr.opaque(b"data"))
    data = m.READ.decode_result(memory).data
    assert isinstance(data, memoryview)
    assert data.obj is memory
    given_data = bytearray(b"data")
    assert m.READ.encode_result(m.ReadOk(b"", (), given_data))[1] is given_data


# INVALID, and not GARBAGE_ARGS


HANDLE, TAG = b"h", Tag(1, bytes(32))
INVALID: list[tuple[str, m.Procedure[Any, Any], Any, bool]] = [
    ("fip-resolve-2", m.RESOLVE, m.ResolveArgs(HANDLE, b""), True),
    ("fip-resolve-2", m.RESOLVE, m.ResolveArgs(HANDLE, b"a/b"), True),
    ("fip-resolve-2", m.RESOLVE, m.ResolveArgs(HANDLE, b"/a"), False),
    ("fip-resolve-2", m.RESOLVE, m.ResolveArgs(HANDLE, b"a/"), False),
    ("fip-resolve-2", m.RESOLVE, m.ResolveArgs(HANDLE, b"a/../b"), False),
    ("fip-resolve-2", m.RESOLVE, m.ResolveArgs(HANDLE, b"a\0"), False),
    ("fip-resolve-2", m.RESOLVE, m.ResolveArgs(HANDLE, b"a" * 256), False),
    ("fip-resolve-2", m.RESOLVE, m.ResolveArgs(HANDLE, b"/".join([b"a"] * 257)), False),
    ("fip-record-2", m.RECORD, m.RecordArgs(HANDLE, b"", 60_000), True),
    ("fip-record-2", m.RECORD, m.RecordArgs(HANDLE, bytes(32), 0), True),
    ("fip-record-2", m.RECORD, m.RecordArgs(HANDLE, bytes(31), 0), False),
    ("fip-record-2", m.RECORD, m.RecordArgs(HANDLE, b"x", 0), False),
    ("fip-record-2", m.RECORD, m.RecordArgs(HANDLE, b"", 60_001), False),
    ("fip-tree-3", m.TREE, m.TreeArgs(HANDLE, TAG, 0, 0, 1), True),
    ("fip-tree-3", m.TREE, m.TreeArgs(HANDLE, TAG, 0, 2**64 - 1, 65_536), True),
    ("fip-tree-3", m.TREE, m.TreeArgs(HANDLE, TAG, 0, 0, 0), False),
    ("fip-tree-3", m.TREE, m.TreeArgs(HANDLE, TAG, 0, 0, 65_537), False),
    ("fip-proof-2", m.PROOF, m.ProofArgs(HANDLE, TAG, 32, 0, 2**32 - 1), True),
    ("fip-proof-2", m.PROOF, m.ProofArgs(HANDLE, TAG, 0, 0, 0), False),
    ("fip-proof-3", m.PROOF, m.ProofArgs(HANDLE, TAG, 0, 7, 1), True),
    ("fip-proof-3", m.PROOF, m.ProofArgs(HANDLE, TAG, 0, 6, 2), False),
    ("fip-proof-3", m.PROOF, m.ProofArgs(HANDLE, TAG, 2, 4, 4), True),
    ("fip-proof-3", m.PROOF, m.ProofArgs(HANDLE, TAG, 2, 4, 5), False),
    ("fip-proof-3", m.PROOF, m.ProofArgs(HANDLE, TAG, 2, 3, 2), False),
    ("fip-proof-3", m.PROOF, m.ProofArgs(HANDLE, TAG, 2**32 - 1, 2**64 - 1, 2**32 - 1), True),
    ("fip-fetch-3", m.FETCH, m.FetchArgs(HANDLE, b"", 1_048_576), True),
    ("fip-fetch-3", m.FETCH, m.FetchArgs(HANDLE, b"", 1_048_577), False),
    ("fip-fetch-5", m.FETCH, m.FetchArgs(HANDLE, b"a//b", 0), False),
    ("fip-read-2", m.READ, m.ReadArgs(HANDLE, TAG, 0, 1, None), True),
    ("fip-read-2", m.READ, m.ReadArgs(HANDLE, TAG, 0, 0, None), False),
    ("fip-dir-2", m.READDIR, m.ReaddirArgs(HANDLE, b"not/a/name\0", 1024), True),
    ("fip-dir-2", m.READDIR, m.ReaddirArgs(HANDLE, b"", 0), False),
    ("fip-dir-2", m.READDIR, m.ReaddirArgs(HANDLE, b"", 1025), False),
    ("fip-handle-5", m.GETATTR, m.GetattrArgs(b"x" * 128), True),
    ("fip-revoke-3", m.REVOCATION, m.RevocationArgs(HANDLE, b""), True),
    ("fip-revoke-3", m.REVOCATION, m.RevocationArgs(HANDLE, bytes(32)), True),
    ("fip-revoke-3", m.REVOCATION, m.RevocationArgs(HANDLE, bytes(31)), False),
    ("fip-plain-2", m.PLAIN, m.PlainArgs(HANDLE, 2**64 - 1, 1), True),
    ("fip-plain-2", m.PLAIN, m.PlainArgs(HANDLE, 0, 4_194_304), True),
    ("fip-plain-2", m.PLAIN, m.PlainArgs(HANDLE, 0, 0), False),
    ("fip-plain-2", m.PLAIN, m.PlainArgs(HANDLE, 0, 4_194_305), False),
]


@pytest.mark.spec(
    "fip-resolve-2",
    "fip-record-2",
    "fip-tree-3",
    "fip-proof-2",
    "fip-proof-3",
    "fip-fetch-3",
    "fip-read-2",
    "fip-dir-2",
    "fip-revoke-3",
    "fip-plain-2",
)
@pytest.mark.parametrize(
    ("procedure", "arguments", "good"),
    [row[1:] for row in INVALID],
    ids=[f"{row[0]}-{'good' if row[3] else 'invalid'}-{at}" for at, row in enumerate(INVALID)],
)
def test_what_is_well_formed_xdr_is_decoded_and_then_judged(
    procedure: m.Procedure[Any, Any], arguments: Any, good: bool
) -> None:
    """The server answers INVALID to what `check_arguments` refuses, and GARBAGE_ARGS to what is not decoded."""
    _, encoded = rpc.decode_call(procedure.encode_call(1, arguments)[4:])
    assert procedure.decode_arguments(encoded) == arguments
    if good:
        m.check_arguments(arguments)
    else:
        with pytest.raises(ValueError):
            m.check_arguments(arguments)


@pytest.mark.spec("fip-status-5")
@pytest.mark.parametrize("number", list(merkle.HASHES))
def test_a_tag_or_fingerprint_of_another_length_is_refused(number: int) -> None:
    wrong = xdr.uint(number) + xdr.opaque(bytes(20))
    for procedure, encoded in (
        (m.CERTIFICATE, wrong),
        (m.TREE, xdr.opaque(b"h") + wrong + bytes(16)),
        (m.PROOF, xdr.opaque(b"h") + wrong + bytes(16)),
        (m.READ, xdr.opaque(b"h") + wrong + bytes(16)),
    ):
        with pytest.raises(ValueError, match="20 bytes"):
            procedure.decode_arguments(encoded)  # type: ignore[attr-defined]


@every_procedure
def test_no_call_is_longer_than_the_draft_says(procedure: m.Procedure[Any, Any]) -> None:
    """5,280 bytes: a call's header with two opaque_auth of 400 bytes, and the arguments of BULK."""
    longest = {
        "LIMITS": None,
        "RESOLVE": m.ResolveArgs(bytes(128), bytes(4095)),
        "RECORD": m.RecordArgs(bytes(128), bytes(32), 0),
        "CERTIFICATE": m.CertificateArgs(Fingerprint(99, bytes(64))),
        "TREE": m.TreeArgs(bytes(128), Tag(99, bytes(64)), 0, 0, 0),
        "PROOF": m.ProofArgs(bytes(128), Tag(99, bytes(64)), 0, 0, 0),
        "FETCH": m.FetchArgs(bytes(128), bytes(4095), 0),
        "READ": m.ReadArgs(bytes(128), Tag(99, bytes(64)), 0, 0, 0),
        "READDIR": m.ReaddirArgs(bytes(128), bytes(255), 0),
        "GETATTR": m.GetattrArgs(bytes(128)),
        "REVOCATION": m.RevocationArgs(bytes(128), bytes(32)),
        "PLAIN": m.PlainArgs(bytes(128), 0, 0),
        "ENTRIES": m.EntriesArgs(Tag(99, bytes(64)), bytes(4095), bytes(255), 2),
        "BULK": m.BulkArgs(Tag(99, bytes(64)), bytes(4095), bytes(255), 2, 0),
    }[procedure.name]
    length = len(procedure.encode_call(1, longest)) - 4 + 2 * 400
    assert length <= 5280
    if procedure is m.BULK:
        assert length == 5280
