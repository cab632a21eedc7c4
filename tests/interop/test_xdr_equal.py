# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""rpcgen's C, xdrlib3 and our declarations write the same bytes, and take the same bytes for the same values."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfsverity_proto import entry, entry_range, exported, membership, record, statement
from nfsverity_proto import messages as m
from nfsverity_proto.errors import NfsVerityError, StatusError
from nfsverity_proto.rpc import decode_call
from nfsverity_proto.xdr import Codec

from . import xdr_language as x
from .messages_of_xdr import TYPES, disturbed, is_canonical, values

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]


class RpcgenCodec:
    """The program `codec`: rpcgen's functions, through a pipe."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout

    def again(self, name: str, data: bytes) -> bytes | None:
        """`data`, decoded and encoded again; None if it cannot be decoded whole."""
        for part in (name.encode(), data):
            self._to.write(len(part).to_bytes(4, "big") + part)
        self._to.flush()
        length = int.from_bytes(self._from.read(4), "big")
        return None if length == 0xFFFFFFFF else self._from.read(length)

    def close(self) -> None:
        self._to.close()
        assert self._process.wait() == 0
        self._from.close()


@pytest.fixture(scope="session")
def rpcgen_codec(programs: Path) -> Iterator[RpcgenCodec]:
    codec = RpcgenCodec(programs / "codec")
    yield codec
    codec.close()


@dataclasses.dataclass(frozen=True)
class Ours:
    """How we decode and encode a type."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def declared(declaration: Any) -> Ours:
    codec: Codec[Any] = Codec(declaration)
    return Ours(codec.decode, codec.encode)


def arguments_of(procedure: m.Procedure[Any, Any]) -> Ours:
    mark = 4
    return Ours(procedure.decode_arguments, lambda value: bytes(decode_call(procedure.encode_call(1, value)[mark:])[1]))


def result_of(procedure: m.Procedure[Any, Any]) -> Ours:
    def decode(data: bytes) -> Any:
        try:
            return procedure.decode_result(data)
        except StatusError as error:
            return error.status

    return Ours(decode, lambda value: b"".join(procedure.encode_result(value)))


FIM = {
    "fim_time": declared(statement.TIME),
    "fim_tag": declared(statement.TAG),
    "fim_fingerprint": declared(record.FINGERPRINT),
    "fim_tree": declared(statement.TREE),
    "fim_content": declared(statement.CONTENT),
    "fim_when": declared(statement.WHEN),
    "fim_file": declared(statement.FILE),
    "fim_volume": declared(statement.VOLUME),
    "fim_item": declared(statement.ITEM),
    "fim_revocation": declared(statement.REVOCATION),
    "fim_claim": declared(statement.CLAIM),
    "fim_extension": declared(statement.EXTENSION),
    "fim_statement": Ours(statement.decode_statement, statement.encode_statement),
    "fim_signature": Ours(
        lambda data: record.signature_of(record.Attestation(record.SIGNATURE, data)),
        lambda value: record.signature_attestation(value).body,
    ),
    "fim_record": Ours(record.decode_record, lambda v: record.encode_record(v.statement, list(v.attestations))),
    "fim_node": declared(entry.NODE),
    "fim_entry": Ours(entry.decode_entry, entry.encode_entry),
    "fim_range": declared(entry_range.ENTRY_RANGE),
    "fim_membership": Ours(membership.decode_membership, membership.encode_membership),
    "fim_exported": Ours(exported.decode_exported, exported.encode_exported),
}
FIP = {
    f"fip_{procedure.name.lower()}_{what}": ours(procedure)
    for procedure in m.PROCEDURES.values()
    for what, ours in (("args", arguments_of), ("result", result_of))
    if f"fip_{procedure.name.lower()}_{what}" in TYPES
}
OURS = FIM | FIP


def plain(kind: Any, value: Any) -> Any:
    """What one of our values is in `xdr_language`: the fields have the names of the draft."""
    match kind:
        case x.Array():
            return [plain(kind.element, item) for item in value]
        case x.Optional():
            return None if value is None else plain(kind.element, value)
        case x.Struct(name="fim_statement"):
            fixed = {"magic": statement.MAGIC, "format": statement.FORMAT}
            ours = {name: getattr(value, name) for name in ("hash", "claim", "extensions")}
            return fixed | {name: plain(kind.fields[name], item) for name, item in ours.items()}
        case x.Struct():
            assert [field.name for field in dataclasses.fields(value)] == list(kind.fields)
            return {name: plain(field, getattr(value, name)) for name, field in kind.fields.items()}
        case x.Union(name="fim_claim"):
            number = {statement.Content: 1, statement.File: 2, statement.Volume: 3, statement.Revocation: 4}[
                type(value)
            ]
            return number, plain(kind.arms[number], value)
        case x.Union(name="fim_node"):
            match value:
                case entry.FileNode():
                    return 1, plain(kind.arms[1], value)
                case entry.LinkNode():
                    return 2, value.target
            return 3, None
        case x.Union():
            return (int(value), None) if isinstance(value, m.Status) else (0, plain(kind.arms[0], value))
        case x.Opaque() | x.Fixed():
            return bytes(value)
    return value


def test_every_structure_of_the_drafts_is_in_a_type_that_is_tested() -> None:
    reached = {part.name for name in OURS for part in x.parts(TYPES[name]) if isinstance(part, x.Struct | x.Union)}
    reached.add("fim_signed")  # below, by itself
    assert reached == {kind.name for kind in TYPES.values() if isinstance(kind, x.Struct | x.Union)}


modest = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.mark.parametrize("name", OURS)
@modest
@given(data=st.data())
def test_what_one_writes_the_others_read(rpcgen_codec: RpcgenCodec, name: str, data: st.DataObject) -> None:
    kind = TYPES[name]
    value = data.draw(values(kind))
    encoded = x.encode(kind, value)
    decoded = OURS[name].decode(encoded)
    assert plain(kind, decoded) == value
    assert OURS[name].encode(decoded) == encoded
    assert rpcgen_codec.again(name, encoded) == encoded
    assert x.decode(kind, encoded) == value


@pytest.mark.spec("fim-dec-1", "fip-rpc-11", "fip-client-8")
@pytest.mark.parametrize("name", OURS)
@modest
@given(data=st.data())
def test_what_one_refuses_the_others_refuse(rpcgen_codec: RpcgenCodec, name: str, data: st.DataObject) -> None:
    """rpcgen's C as a decoder of canonical encodings: what comes out as it went in, and is allowed."""
    kind = TYPES[name]
    encoded = data.draw(disturbed(kind))
    ours = _decoded(name, encoded)
    is_one = is_canonical(kind, encoded)
    if is_one or rpcgen_codec.again(name, encoded) == encoded:
        assert rpcgen_codec.again(name, encoded) == encoded
        assert x.encode(kind, x.decode(kind, encoded)) == encoded
    assert (ours is not None) == is_one
    if ours is not None:
        assert plain(kind, ours) == x.decode(kind, encoded)
        assert OURS[name].encode(ours) == encoded


def _decoded(name: str, encoded: bytes) -> Any:
    try:
        return OURS[name].decode(encoded)
    except (ValueError, NfsVerityError):
        return None


@modest
@given(value=values(TYPES["fim_signed"]))
@pytest.mark.spec("fim-signed-1", "fim-signed-2")
def test_the_structure_that_is_signed(rpcgen_codec: RpcgenCodec, value: dict[str, Any]) -> None:
    signer = record.Fingerprint(**value["signer"])
    ours = record.signed_bytes(signer, value["scheme"], value["statement"])
    assert ours[:109] == b" " * 64 + b"File Integrity Metadata, statement, format 1\0"
    assert ours[109:] == x.encode(TYPES["fim_signed"], value) == rpcgen_codec.again("fim_signed", ours[109:])


def _at_bounds(kind: Any, least: Any) -> Iterator[tuple[Any, Any, str]]:
    """For each length in a value: the value with it at its bound, the same one above, and where."""
    match kind:
        case x.Opaque():
            yield bytes(kind.most), bytes(kind.most + 1), ""
        case x.Array():
            # alike but for a number that has to ascend
            item = dict(_least(kind.element)) if isinstance(kind.element, x.Struct) else _least(kind.element)
            ascending = {"number", "what"} & set(item) if isinstance(item, dict) else set()
            items = [item | dict.fromkeys(ascending, i) if ascending else item for i in range(2000)]
            yield items[: kind.most], items[: kind.most + 1], "[]"
            for most, above, where in _at_bounds(kind.element, item):
                yield [most], [above], f"[0]{where}"
        case x.Struct():
            for name, field in kind.fields.items():
                for most, above, where in _at_bounds(field, least[name]):
                    yield least | {name: most}, least | {name: above}, f".{name}{where}"
        case x.Union():
            number, arm = least
            for most, above, where in _at_bounds(kind.arms[number], arm):
                yield (number, most), (number, above), where


def _least(kind: Any) -> Any:
    match kind:
        case x.Number():
            return False if kind.code == "bool" else 0
        case x.Enum():
            return min(kind.values.values())
        case x.Fixed():
            return bytes(kind.length)
        case x.Opaque():
            return b""
        case x.Array():
            return []
        case x.Optional():
            return None
        case x.Struct():
            return {name: _least(field) for name, field in kind.fields.items()}
        case x.Union():
            number = min(kind.arms)
            return number, _least(kind.arms[number])
        case x.Void():
            return None
    raise TypeError(kind)


def _bounds() -> list[Any]:
    cases = []
    for name in OURS:
        least = _least(TYPES[name])
        for most, above, where in itertools.islice(_at_bounds(TYPES[name], least), 40):
            cases.append(pytest.param(name, most, above, id=f"{name}{where}"))
    return cases


@pytest.mark.parametrize(("name", "most", "above"), _bounds())
@pytest.mark.spec("fim-dec-1", "fip-rpc-11", "fip-client-8")
def test_a_length_ends_where_the_file_says(rpcgen_codec: RpcgenCodec, name: str, most: Any, above: Any) -> None:
    """rpcgen and we draw the line at the same length. What the text says beyond that, other tests look at."""
    kind = TYPES[name]
    at_bound, over = x.encode(kind, most), x.encode(kind, above)
    assert rpcgen_codec.again(name, at_bound) == at_bound
    assert (_decoded(name, at_bound) is not None) == is_canonical(kind, at_bound)
    assert rpcgen_codec.again(name, over) is None
    assert _decoded(name, over) is None
