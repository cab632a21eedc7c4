# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The procedures' arguments and results, each field at its bounds and beyond (fip, "XDR" and "Procedures").

The structures are declared here once more, from the draft's fip.x; what follows from a declaration (bounds, and the
faults that a type can have) is made from it, what the text says besides is written out below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from oracle import xdr

from .form import Long, Vector
from .names import LONGEST, NOT_NAMES, NOT_PATHS

MAX32, MAX64 = 2**32 - 1, 2**64 - 1


@dataclass(frozen=True)
class Number:
    """unsigned int, unsigned hyper, hyper."""

    bits: int
    signed: bool = False

    def encode(self, value: int) -> bytes:
        if self.bits == 32:
            return xdr.uint(value)
        return xdr.hyper(value) if self.signed else xdr.uhyper(value)

    def shown(self, value: int) -> Any:
        return value if self.bits == 32 else Long(value)

    def bounds(self) -> Iterator[tuple[str, Any]]:
        low, high = (-(2**63), 2**63 - 1) if self.signed else (0, 2**self.bits - 1)
        yield "min", low
        yield "max", high
        if self.signed:
            yield "minus", -1

    def faults(self, value: Any) -> Iterator[tuple[str, str, bytes]]:
        yield from ()


@dataclass(frozen=True)
class Enum:
    """An enum, or a bool."""

    values: tuple[int, ...]
    is_bool: bool = False

    def encode(self, value: int) -> bytes:
        return xdr.uint(int(value))

    def shown(self, value: Any) -> Any:
        return bool(value) if self.is_bool else value

    def bounds(self) -> Iterator[tuple[str, Any]]:
        for value in self.values:
            yield str(int(value)), value

    def faults(self, value: Any) -> Iterator[tuple[str, str, bytes]]:
        for other in (0, 2, 3, 0x01000000, 0x80000000, MAX32):
            if other not in self.values:
                yield str(other), f"the value {other}", xdr.uint(other)


@dataclass(frozen=True)
class Opaque:
    most: int
    least: int = 0

    def encode(self, value: bytes) -> bytes:
        return xdr.opaque(value)

    def shown(self, value: bytes) -> Any:
        return value

    def bounds(self) -> Iterator[tuple[str, Any]]:
        for length in sorted({self.least, 1, 2, 3, 4, self.most}):
            if self.least <= length <= self.most:
                yield f"length-{length}", b"\x7a" * length

    def faults(self, value: Any) -> Iterator[tuple[str, str, bytes]]:
        yield f"length-{self.most + 1}", f"{self.most + 1} bytes", xdr.opaque(b"\x7a" * (self.most + 1))
        yield "announced", f"{self.most + 1} bytes announced, none there", xdr.uint(self.most + 1)
        yield "announced-max", "2^32 - 1 bytes announced", xdr.uint(MAX32)
        for length in (1, 2, 3):
            if length <= self.most:
                yield (
                    f"padding-{length}",
                    f"padding after {length} bytes not zero",
                    xdr.opaque(b"\x7a" * length, b"\0\0\1"[length - 1 :] if length < 3 else b"\1"),
                )


@dataclass(frozen=True)
class Array:
    element: Any
    most: int
    least: int = 0

    def encode(self, value: Sequence[Any]) -> bytes:
        return xdr.array(self.element.encode(item) for item in value)

    def shown(self, value: Sequence[Any]) -> Any:
        return [self.element.shown(item) for item in value]

    def bounds(self) -> Iterator[tuple[str, Any]]:
        yield from ()

    def faults(self, value: Sequence[Any]) -> Iterator[tuple[str, str, bytes]]:
        body = self.encode(value)[4:]
        yield "announced", "an element more announced than there is", xdr.uint(len(value) + 1) + body
        yield f"announced-{self.most + 1}", f"{self.most + 1} elements announced", xdr.uint(self.most + 1) + body
        yield "announced-max", "2^32 - 1 elements announced", xdr.uint(MAX32) + body


@dataclass(frozen=True)
class Optional:
    element: Any

    def encode(self, value: Any) -> bytes:
        return xdr.optional(None if value is None else self.element.encode(value))

    def shown(self, value: Any) -> Any:
        return None if value is None else self.element.shown(value)

    def bounds(self) -> Iterator[tuple[str, Any]]:
        yield "absent", None
        yield from self.element.bounds()

    def faults(self, value: Any) -> Iterator[tuple[str, str, bytes]]:
        body = self.element.encode(value)
        for flag in (2, 0x01000000, MAX32):
            yield f"present-{flag}", f"presence told by {flag}", xdr.uint(flag) + body
        yield "absent-and-there", "told to be absent, and there", xdr.uint(0) + body
        yield "present-and-not-there", "told to be there, and absent", xdr.uint(1)


class Node:
    """fim_node: a dict with its type."""

    def encode(self, value: dict[str, Any]) -> bytes:
        head = xdr.uint(value["type"])
        match value["type"]:
            case 1:
                return head + xdr.boolean(value["executable"]) + xdr.opaque(value["content"])
            case 2:
                return head + xdr.opaque(value["target"])
        return head

    def shown(self, value: dict[str, Any]) -> dict[str, Any]:
        return value


class Struct:
    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def encode(self, value: dict[str, Any], instead: tuple[str, bytes] | None = None) -> bytes:
        """`instead`: the bytes of one field, named by its path."""
        encoded = b""
        for name, type in self.fields.items():
            head, _, rest = instead[0].partition(".") if instead else ("", "", "")
            if instead is None or head != name:
                encoded += type.encode(value[name])
            elif rest:
                encoded += type.encode(value[name], (rest, instead[1]))
            else:
                encoded += instead[1]
        return encoded

    def shown(self, value: dict[str, Any]) -> dict[str, Any]:
        return {name: type.shown(value[name]) for name, type in self.fields.items()}

    def leaves(self, path: str = "") -> Iterator[tuple[str, Any]]:
        for name, type in self.fields.items():
            if isinstance(type, Struct):
                yield from type.leaves(f"{path}{name}.")
            else:
                yield path + name, type


def replaced(value: dict[str, Any], path: str, item: Any) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    return value | {head: replaced(value[head], rest, item) if rest else item}


def found(value: dict[str, Any], path: str) -> Any:
    head, _, rest = path.partition(".")
    return found(value[head], rest) if rest else value[head]


# fip.x and what it uses of fim.x

U32, U64, I64, BOOL = Number(32), Number(64), Number(64, True), Enum((0, 1), True)
HANDLE, HASH, PATH, NAME, PROOF = Opaque(128), Opaque(64), Opaque(4095), Opaque(255), Opaque(8192)
TAG = Struct(hash=U32, digest=HASH)
TIME = Struct(seconds=I64, nseconds=U32)
ATTRIBUTES = Struct(type=Enum((1, 2)), has_record=BOOL, executable=BOOL, size=U64, mtime=TIME)
HOLE = Struct(first=U32, count=U32)
ENTRY = Struct(name=NAME, object=HANDLE, attributes=ATTRIBUTES)
RANGE = Struct(first=U64, entries=Array(Struct(parent=PATH, name=NAME, node=Node()), 1024), proof=PROOF)

ARGUMENTS: dict[str, Struct] = {
    "NULL": Struct(),
    "LIMITS": Struct(),
    "RESOLVE": Struct(base=HANDLE, path=PATH),
    "RECORD": Struct(object=HANDLE, known=Opaque(32), wait=U32),
    "CERTIFICATE": Struct(fingerprint=TAG),
    "TREE": Struct(object=HANDLE, tag=TAG, level=U32, first=U64, count=U32),
    "PROOF": Struct(object=HANDLE, tag=TAG, level=U32, first=U64, count=U32),
    "FETCH": Struct(base=HANDLE, path=PATH, most=U32),
    "READ": Struct(object=HANDLE, tag=TAG, first=U64, count=U32, level=Optional(U32)),
    "READDIR": Struct(directory=HANDLE, after=NAME, count=U32),
    "GETATTR": Struct(object=HANDLE),
    "REVOCATION": Struct(object=HANDLE, known=Opaque(32)),
    "PLAIN": Struct(object=HANDLE, offset=U64, count=U32),
    "ENTRIES": Struct(head=TAG, parent=PATH, name=NAME, count=U32),
    "BULK": Struct(head=TAG, parent=PATH, name=NAME, count=U32, most=U32),
}
RESULTS: dict[str, Struct] = {
    "LIMITS": Struct(
        capabilities=U32,
        max_data=U32,
        max_hashes=U32,
        max_calls=U32,
        max_wait=U32,
        hashes=Array(U32, 32),
        tree_types=Array(U32, 32),
    ),
    "RESOLVE": Struct(object=HANDLE, attributes=ATTRIBUTES),
    "RECORD": Struct(record=Opaque(65536)),
    "CERTIFICATE": Struct(certificates=Array(Opaque(16384), 8, 1)),
    "TREE": Struct(hashes=Opaque(4194304)),
    "PROOF": Struct(proof=PROOF),
    "FETCH": Struct(object=HANDLE, record=Opaque(65536), proof=PROOF, data=Opaque(1048576)),
    "READ": Struct(proof=PROOF, holes=Array(HOLE, 256), data=Opaque(4194304)),
    "READDIR": Struct(entries=Array(ENTRY, 1024), eof=BOOL),
    "GETATTR": ATTRIBUTES,
    "REVOCATION": Struct(record=Opaque(65536)),
    "PLAIN": Struct(size=U64, eof=BOOL, data=Opaque(4194304)),
    "ENTRIES": Struct(range=RANGE),
    "BULK": Struct(range=RANGE, items=Array(Struct(statement=Opaque(8192), length=U32), 1024), data=Opaque(2097152)),
}
STATUSES = {
    "OK": 0,
    "NOT_FOUND": 1,
    "NOT_DIRECTORY": 2,
    "IS_DIRECTORY": 3,
    "UNSIGNED": 4,
    "UNCHANGED": 5,
    "CHANGED": 6,
    "UPDATING": 7,
    "BUSY": 8,
    "BAD_HANDLE": 9,
    "INVALID": 10,
    "ACCESS": 11,
    "IO": 12,
    "NOT_SUPPORTED": 13,
}
_VERSION = (
    "IS_DIRECTORY",
    "UNSIGNED",
    "CHANGED",
    "UPDATING",
    "BUSY",
    "BAD_HANDLE",
    "INVALID",
    "ACCESS",
    "IO",
    "NOT_SUPPORTED",
)
RETURNED: dict[str, tuple[str, ...]] = {
    "LIMITS": (),
    "RESOLVE": ("NOT_FOUND", "NOT_DIRECTORY", "BUSY", "BAD_HANDLE", "INVALID", "ACCESS", "IO"),
    "RECORD": ("IS_DIRECTORY", "UNSIGNED", "UNCHANGED", "UPDATING", "BUSY", "BAD_HANDLE", "INVALID", "ACCESS", "IO"),
    "CERTIFICATE": ("NOT_FOUND", "BUSY", "INVALID", "IO"),
    "TREE": _VERSION,
    "PROOF": _VERSION,
    "FETCH": ("NOT_FOUND", "NOT_DIRECTORY", *_VERSION),
    "READ": _VERSION,
    "READDIR": ("NOT_DIRECTORY", "BUSY", "BAD_HANDLE", "INVALID", "ACCESS", "IO", "NOT_SUPPORTED"),
    "GETATTR": ("BUSY", "BAD_HANDLE", "ACCESS", "IO", "NOT_SUPPORTED"),
    "REVOCATION": ("UNSIGNED", "UNCHANGED", "BUSY", "BAD_HANDLE", "INVALID", "ACCESS", "IO"),
    "PLAIN": ("IS_DIRECTORY", "BUSY", "BAD_HANDLE", "INVALID", "ACCESS", "IO", "NOT_SUPPORTED"),
    "ENTRIES": ("CHANGED", "BUSY", "INVALID", "ACCESS", "IO", "NOT_SUPPORTED"),
    "BULK": ("CHANGED", "BUSY", "INVALID", "ACCESS", "IO", "NOT_SUPPORTED"),
}
"""The table "Statuses That Each Procedure May Return", OK aside."""

_TAG = {"hash": 1, "digest": bytes(range(32))}
_MTIME = {"seconds": 1_793_491_200, "nseconds": 5}
_FILE = {"type": 1, "has_record": 1, "executable": 0, "size": 10_000, "mtime": _MTIME}
_DIRECTORY = {"type": 2, "has_record": 0, "executable": 0, "size": 0, "mtime": _MTIME}
_RANGE = {
    "first": 7,
    "entries": [
        {"parent": b"", "name": b"link", "node": {"type": 2, "target": b"d/f"}},
        {"parent": b"", "name": b"z", "node": {"type": 3}},
        {"parent": b"d", "name": b"f", "node": {"type": 1, "executable": True, "content": bytes(range(32))}},
    ],
    "proof": bytes(range(64)),
}
PLAIN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "NULL": {},
    "LIMITS": {},
    "RESOLVE": {"base": b"", "path": b"d/f"},
    "RECORD": {"object": b"handle", "known": bytes(32), "wait": 60_000},
    "CERTIFICATE": {"fingerprint": _TAG},
    "TREE": {"object": b"handle", "tag": _TAG, "level": 3, "first": 8, "count": 4096},
    "PROOF": {"object": b"handle", "tag": _TAG, "level": 3, "first": 8, "count": 5},
    "FETCH": {"base": b"handle", "path": b"d/f", "most": 1_048_576},
    "READ": {"object": b"handle", "tag": _TAG, "first": 8, "count": 5, "level": 3},
    "READDIR": {"directory": b"handle", "after": b"name", "count": 1024},
    "GETATTR": {"object": b"handle"},
    "REVOCATION": {"object": b"", "known": bytes(32)},
    "PLAIN": {"object": b"handle", "offset": 8192, "count": 4_194_304},
    "ENTRIES": {"head": _TAG, "parent": b"d/e", "name": b"name", "count": 1024},
    "BULK": {"head": _TAG, "parent": b"d/e", "name": b"name", "count": 1024, "most": 2_097_152},
}
PLAIN_RESULTS: dict[str, dict[str, Any]] = {
    "LIMITS": {
        "capabilities": 3,
        "max_data": 1_048_576,
        "max_hashes": 4096,
        "max_calls": 32,
        "max_wait": 60_000,
        "hashes": [1, 7, 8, 10, 65536],
        "tree_types": [1],
    },
    "RESOLVE": {"object": b"handle", "attributes": _FILE},
    "RECORD": {"record": b"not looked into"},
    "CERTIFICATE": {"certificates": [b"first", b"second"]},
    "TREE": {"hashes": bytes(range(64))},
    "PROOF": {"proof": bytes(range(64))},
    "FETCH": {"object": b"handle", "record": b"not looked into", "proof": bytes(range(32)), "data": b"data"},
    "READ": {"proof": bytes(range(32)), "holes": [{"first": 1, "count": 2}], "data": b"data!"},
    "READDIR": {
        "entries": [
            {"name": b"a", "object": b"1", "attributes": _FILE},
            {"name": b"b", "object": b"2", "attributes": _DIRECTORY},
        ],
        "eof": 1,
    },
    "GETATTR": _FILE,
    "REVOCATION": {"record": b"not looked into"},
    "PLAIN": {"size": 10_000, "eof": 0, "data": b"data!"},
    "ENTRIES": {"range": _RANGE},
    "BULK": {
        "range": _RANGE,
        "items": [
            {"statement": b"", "length": 0},
            {"statement": b"", "length": 0},
            {"statement": b"not looked into", "length": 4},
        ],
        "data": b"data",
    },
}

CLAUSE = {
    "NULL": "fip-rpc-3",
    "LIMITS": "fip-limits-2",
    "RESOLVE": "fip-resolve-2",
    "RECORD": "fip-record-2",
    "CERTIFICATE": "fip-cert-4",
    "TREE": "fip-tree-3",
    "PROOF": "fip-proof-2",
    "FETCH": "fip-fetch-3",
    "READ": "fip-read-2",
    "READDIR": "fip-dir-2",
    "GETATTR": "fip-attr-2",
    "REVOCATION": "fip-revoke-3",
    "PLAIN": "fip-plain-2",
    "ENTRIES": "fip-entries-2",
    "BULK": "fip-bulk-2",
}
INVALID = ("fip-rpc-11", "fip-status-2")


def build() -> Iterator[Vector]:
    for procedure in ARGUMENTS:
        yield from _calls(procedure)
    yield from _rules()
    for procedure in RESULTS:
        yield from _replies(procedure)
    yield from _reply_rules()


def call(id: str, about: str, procedure: str, value: dict[str, Any], clauses: Sequence[str]) -> Vector:
    type = ARGUMENTS[procedure]
    given = {"procedure": procedure, "direction": "call", "bytes": type.encode(value)}
    return Vector(f"{procedure.lower()}-call{id}", about, clauses, given, output={"arguments": type.shown(value)})


def reply(id: str, about: str, procedure: str, value: dict[str, Any], clauses: Sequence[str]) -> Vector:
    type = RESULTS[procedure]
    given = {"procedure": procedure, "direction": "reply", "bytes": xdr.uint(0) + type.encode(value)}
    return Vector(
        f"{procedure.lower()}-reply{id}", about, clauses, given, output={"status": "OK", "result": type.shown(value)}
    )


ALLOWED: dict[tuple[str, str], tuple[int, int]] = {
    ("RECORD", "wait"): (0, 60_000),
    ("TREE", "count"): (1, 65_536),
    ("PROOF", "count"): (1, MAX32),
    ("READ", "count"): (1, MAX32),
    ("FETCH", "most"): (0, 1_048_576),
    ("READDIR", "count"): (1, 1024),
    ("PLAIN", "count"): (1, 4_194_304),
    ("ENTRIES", "count"): (2, 1024),
    ("BULK", "count"): (2, 1024),
    ("BULK", "most"): (0, 2_097_152),
}
"""Numbers that are INVALID beyond these, whatever the file."""


def _calls(procedure: str) -> Iterator[Vector]:
    type, plain = ARGUMENTS[procedure], PLAIN_ARGUMENTS[procedure]
    clauses = ("fip-rpc-11", CLAUSE[procedure])
    base = call("", f"arguments of {procedure}", procedure, plain, clauses)
    yield base

    def garbage(slug: str, about: str, data: bytes) -> Vector:
        rules = ("fip-rpc-3", "fip-rpc-11") if procedure == "NULL" else ("fip-rpc-11",)
        return base.fault(slug, about, "garbage-args", rules, bytes=data)

    whole = base.input["bytes"]
    yield from _whole(garbage, whole)
    for path, leaf in type.leaves():
        slug = path.replace(".", "-").replace("_", "-")
        for name, value in _allowed_bounds(procedure, path, leaf):
            changed = replaced(plain, path, value)
            if path in (
                "tag.hash",
                "fingerprint.hash",
                "head.hash",
            ):  # the digest's length is that of its hash, or of none
                changed = replaced(changed, path.replace("hash", "digest"), b"\1" * 7)
            if path in ("tag.digest", "fingerprint.digest", "head.digest"):
                changed = replaced(changed, path.replace("digest", "hash"), 99)
            if procedure == "PROOF" and path == "level" and value == 0:
                changed["count"] = 1  # five units are not under one node of level 0
            if procedure == "PROOF" and path in ("count", "first"):
                changed["level"] = MAX32  # where everything is under one node
            if changed != plain:
                yield call(f"-{slug}-{name}", f"{path} at {name}", procedure, changed, clauses)
        for name, about, data in leaf.faults(found(plain, path)):
            yield garbage(f"{slug}-{name}", f"{path}: {about}", type.encode(plain, (path, data)))


def _allowed_bounds(procedure: str, path: str, leaf: Any) -> Iterator[tuple[str, Any]]:
    allowed = ALLOWED.get((procedure, path))
    if allowed is not None:
        yield "min", allowed[0]
        yield "max", allowed[1]
    elif path == "known":
        yield "empty", b""
        yield "ones", b"\xff" * 32
    elif path in ("path", "parent"):
        yield "empty", b""
        yield "4095", LONGEST
        yield "256-names", b"/".join([b"d"] * 256)
        yield "not-utf-8", b"\xff\xfe"
    elif path == "after":
        yield from leaf.bounds()
        yield "slash", b"a/b"
    else:
        yield from leaf.bounds()


def _whole(fault: Any, whole: bytes) -> Iterator[Vector]:
    if whole:
        yield fault("nothing", "no bytes", b"")
        for length in sorted({4, len(whole) - 4, len(whole) - 1} & set(range(1, len(whole)))):
            yield fault(f"cut-to-{length}", f"the first {length} bytes", whole[:length])
    for more in (1, 4):
        yield fault(f"more-{more}", f"{more} more bytes", whole + bytes(more))


def _rules() -> Iterator[Vector]:
    """What is well-formed, and not allowed: INVALID (fip-rpc-11)."""

    def base_of(procedure: str, group: str, clauses: Sequence[str]) -> Vector:
        return call(
            f"-rule-{group}",
            f"arguments of {procedure}, the base of those not allowed",
            procedure,
            PLAIN_ARGUMENTS[procedure],
            clauses,
        )

    def invalid(
        base: Vector,
        slug: str,
        about: str,
        clauses: Sequence[str],
        outcome: str = "invalid",
        flags: Sequence[str] = (),
        **changed: Any,
    ) -> Vector:
        procedure = base.input["procedure"]
        value = PLAIN_ARGUMENTS[procedure]
        for path, item in changed.items():
            value = replaced(value, path.replace("__", "."), item)
        return base.fault(slug, about, outcome, clauses, flags=flags, bytes=ARGUMENTS[procedure].encode(value))

    for procedure, clause in (("RESOLVE", "fip-resolve-2"), ("FETCH", "fip-fetch-5")):
        base = base_of(procedure, "path", (clause, "fim-path-3", *INVALID))
        yield base
        for slug, (about, path) in (NOT_NAMES | NOT_PATHS).items():
            if path and len(path) <= 4095:
                yield invalid(base, slug, f"a path: {about}", (clause, "fip-resolve-2", *INVALID), path=path)
    base = base_of("RECORD", "known", ("fip-record-2", *INVALID))
    yield base
    for length in (1, 20, 31):
        yield invalid(
            base, f"known-{length}", f"a known of {length} bytes", ("fip-record-2", *INVALID), known=bytes(length)
        )
    for wait in (60_001, 2**31, MAX32):
        yield invalid(base, f"wait-{wait}", f"a wait of {wait}", ("fip-record-2", *INVALID), wait=wait)
    base = base_of("REVOCATION", "known", ("fip-revoke-3", *INVALID))
    yield base
    for length in (1, 20, 31):
        yield invalid(
            base, f"known-{length}", f"a known of {length} bytes", ("fip-revoke-3", *INVALID), known=bytes(length)
        )
    for procedure, clause, counts in (
        ("TREE", "fip-tree-3", (0, 65_537, MAX32)),
        ("PROOF", "fip-proof-2", (0,)),
        ("READ", "fip-read-2", (0,)),
        ("READDIR", "fip-dir-2", (0, 1025, MAX32)),
        ("PLAIN", "fip-plain-2", (0, 4_194_305, MAX32)),
        ("ENTRIES", "fip-entries-2", (0, 1, 1025, MAX32)),
        ("BULK", "fip-entries-2", (0, 1, 1025, MAX32)),
    ):
        base = base_of(procedure, "count", (clause, *INVALID))
        yield base
        for count in counts:
            yield invalid(base, f"count-{count}", f"a count of {count}", (clause, *INVALID), count=count)
    base = call(
        "-rule-first",
        "a proof of the first unit",
        "PROOF",
        PLAIN_ARGUMENTS["PROOF"] | {"first": 0, "count": 1},
        ("fip-proof-2", *INVALID),
    )
    yield base
    none = ARGUMENTS["PROOF"].encode(PLAIN_ARGUMENTS["PROOF"] | {"first": 0, "count": 0})
    yield base.fault("count-0", "a proof of no unit, from 0 on", "invalid", ("fip-proof-2", *INVALID), bytes=none)
    base = base_of("PROOF", "level", ("fip-proof-3", *INVALID))
    yield base
    for slug, first, count, level in (
        ("0", 8, 2, 0),
        ("1", 7, 2, 1),
        ("2", 8, 5, 2),
        ("wide", 0, MAX32, 31),
        ("far", 2**63 - 1, 2, 62),
    ):
        changed: dict[str, Any] = {"first": first, "count": count, "level": level}
        yield invalid(
            base,
            f"level-{slug}",
            f"{count} units from {first} are not under one node of level {level}",
            ("fip-proof-3", *INVALID),
            flags=["range"],
            **changed,
        )
    base = base_of("BULK", "most", ("fip-bulk-2", *INVALID))
    yield base
    for most in (2_097_153, 2**31, MAX32):
        yield invalid(base, f"most-{most}", f"a most of {most}", ("fip-bulk-2", *INVALID), most=most)
    for procedure in ("ENTRIES", "BULK"):
        base = base_of(procedure, "place", ("fip-entries-2", "fim-path-3", *INVALID))
        yield base
        for slug, (about, path) in (NOT_NAMES | NOT_PATHS).items():
            if path and len(path) <= 4095:
                yield invalid(base, f"parent-{slug}", f"a parent: {about}", ("fip-entries-2", *INVALID), parent=path)
        for slug, (about, name) in NOT_NAMES.items():
            if name and len(name) <= 255:
                yield invalid(base, f"name-{slug}", f"a name: {about}", ("fip-entries-2", *INVALID), name=name)
    base = base_of("FETCH", "most", ("fip-fetch-3", *INVALID))
    yield base
    for most in (1_048_577, 2**31, MAX32):
        yield invalid(base, f"most-{most}", f"a most of {most}", ("fip-fetch-3", *INVALID), most=most)
    lengths = {1: 32, 7: 48, 8: 64, 10: 32, 65536: 32}
    for procedure, field in (
        ("CERTIFICATE", "fingerprint"),
        ("TREE", "tag"),
        ("PROOF", "tag"),
        ("READ", "tag"),
        ("ENTRIES", "head"),
    ):
        base = base_of(procedure, "digest", ("fip-status-5",))
        yield base
        for hash, length in lengths.items():
            for other in sorted({0, 32, 48, 64} - {length}):
                parts: dict[str, Any] = {f"{field}__hash": hash, f"{field}__digest": b"\1" * other}
                about = f"{other} bytes for hash {hash}"
                yield invalid(base, f"hash-{hash}-{other}", about, ("fip-status-5",), "refused", **parts)
        for hash, length in lengths.items():
            value: dict[str, Any] = PLAIN_ARGUMENTS[procedure] | {field: {"hash": hash, "digest": b"\1" * length}}
            yield call(f"-hash-{hash}", f"a digest under hash {hash}", procedure, value, ("fip-status-5",))


def _replies(procedure: str) -> Iterator[Vector]:
    type, plain = RESULTS[procedure], PLAIN_RESULTS[procedure]
    rule = ("fip-client-6", "fip-client-8")
    base = reply("", f"a result of {procedure}", procedure, plain, (*rule, CLAUSE[procedure]))
    yield base

    def malformed(slug: str, about: str, data: bytes, clauses: Sequence[str] = rule) -> Vector:
        return base.fault(slug, about, "malformed-reply", clauses, bytes=data)

    whole = base.input["bytes"]
    yield from _whole(malformed, whole)
    ok = xdr.uint(0)
    for path, leaf in type.leaves():
        slug = path.replace(".", "-").replace("_", "-")
        for name, value in _result_bounds(path, leaf):
            changed = replaced(plain, path, value)
            if changed != plain:
                yield reply(f"-{slug}-{name}", f"{path} at {name}", procedure, changed, (*rule, CLAUSE[procedure]))
        for name, about, data in leaf.faults(found(plain, path)):
            yield malformed(f"{slug}-{name}", f"{path}: {about}", ok + type.encode(plain, (path, data)))
    returned = ("fip-status-1", "fip-client-8")
    for name, number in STATUSES.items():
        if name in RETURNED[procedure]:
            vector = Vector(
                f"{procedure.lower()}-reply-status-{name.lower().replace('_', '-')}",
                f"{procedure} answered {name}",
                ("fip-status-1", "fip-status-4"),
                {"procedure": procedure, "direction": "reply", "bytes": xdr.uint(number)},
                "status",
                output={"status": name},
            )
            yield vector
            yield vector.fault(
                "more", "bytes after the status", "malformed-reply", rule, bytes=xdr.uint(number) + bytes(4)
            )
        elif name != "OK":
            yield malformed(
                f"status-{name.lower().replace('_', '-')}",
                f"{procedure} answered {name}, which it does not return",
                xdr.uint(number),
                returned,
            )
    for number in (14, 15, 16, 17, 18, 19, 20, 21, 256, 2**31, MAX32):
        kind = "a place kept" if 16 <= number <= 20 else "unassigned"
        yield malformed(f"status-{number}", f"status {number}: {kind}", xdr.uint(number), returned)
    yield malformed("status-only", "OK, and no result", ok)


def _result_bounds(path: str, leaf: Any) -> Iterator[tuple[str, Any]]:
    if path.endswith("nseconds"):
        yield "min", 0
        yield "max", 999_999_999
    elif path.endswith("size"):
        yield "min", 0
        yield "max", 2**63 - 1
    else:
        yield from leaf.bounds()


def _reply_rules() -> Iterator[Vector]:
    rule = ("fip-client-6", "fip-client-8")
    attribute_rule = ("fip-attr-2", *rule)

    def base_of(procedure: str, group: str, clauses: Sequence[str], value: dict[str, Any] | None = None) -> Vector:
        plain = PLAIN_RESULTS[procedure] if value is None else value
        return reply(
            f"-rule-{group}",
            f"a result of {procedure}, the base of what is malformed: {group}",
            procedure,
            plain,
            clauses,
        )

    def bad(base: Vector, slug: str, about: str, clauses: Sequence[str], value: dict[str, Any]) -> Vector:
        return base.fault(
            slug, about, "malformed-reply", clauses, bytes=xdr.uint(0) + RESULTS[base.input["procedure"]].encode(value)
        )

    for procedure, path in (("GETATTR", ""), ("RESOLVE", "attributes.")):
        base = base_of(procedure, "attributes", attribute_rule)
        yield base
        plain = PLAIN_RESULTS[procedure]
        for size in (2**63, MAX64):
            yield bad(base, f"size-{size}", f"a size of {size}", attribute_rule, replaced(plain, f"{path}size", size))
        for nseconds in (1_000_000_000, MAX32):
            yield bad(
                base,
                f"nseconds-{nseconds}",
                f"{nseconds} nanoseconds",
                attribute_rule,
                replaced(plain, f"{path}mtime.nseconds", nseconds),
            )
    plain_rule = ("fip-plain-7", *rule)
    base = base_of("PLAIN", "size", plain_rule)
    yield base
    for size in (2**63, MAX64):
        yield bad(base, f"size-{size}", f"a size of {size}", plain_rule, PLAIN_RESULTS["PLAIN"] | {"size": size})
    base = base_of("READDIR", "attributes", attribute_rule)
    yield base
    entries = PLAIN_RESULTS["READDIR"]["entries"]
    for slug, changed in (("size", {"size": 2**63}), ("nseconds", {"mtime": {"seconds": 0, "nseconds": 10**9}})):
        value = {"entries": [entries[0], entries[1] | {"attributes": _FILE | changed}], "eof": 1}
        yield bad(base, slug, f"an entry with too large a {slug}", attribute_rule, value)
    base = base_of("CERTIFICATE", "one", ("fip-cert-4", *rule))
    yield base
    yield bad(base, "none", "no certificate", ("fip-cert-4", *rule), {"certificates": []})
    headless = xdr.uint(0) + xdr.uint(0) + RESULTS["CERTIFICATE"].encode(PLAIN_RESULTS["CERTIFICATE"])[4:]
    yield base.fault(
        "none-then", "none announced, and two there", "malformed-reply", ("fip-cert-4", *rule), bytes=headless
    )
    yield bad(base, "nine", "nine certificates", rule, {"certificates": [b"x"] * 9})
    for count in (1, 8):
        yield reply(
            f"-count-{count}",
            f"{count} certificates",
            "CERTIFICATE",
            {"certificates": [b"x"] * count},
            ("fip-cert-2", "fip-cert-4"),
        )
    for length in (16384,):
        yield reply(
            f"-der-{length}",
            f"a certificate of {length} bytes",
            "CERTIFICATE",
            {"certificates": [b"x" * length]},
            ("fip-cert-4",),
        )
        yield bad(
            base,
            f"der-{length + 1}",
            f"a certificate of {length + 1} bytes",
            rule,
            {"certificates": [b"x" * (length + 1)]},
        )
    limits = PLAIN_RESULTS["LIMITS"]
    base = base_of("LIMITS", "lists", rule)
    yield base
    for name in ("hashes", "tree_types"):
        yield reply(f"-{name.replace('_', '-')}-none", f"no {name}", "LIMITS", limits | {name: []}, ("fip-limits-6",))
        yield reply(
            f"-{name.replace('_', '-')}-32",
            f"32 {name}",
            "LIMITS",
            limits | {name: list(range(1, 33))},
            ("fip-limits-6",),
        )
        yield bad(base, f"{name.replace('_', '-')}-33", f"33 {name}", rule, limits | {name: list(range(1, 34))})
    for slug, bits in (("core", 1), ("unknown", 0xFFFFFFFF)):
        yield reply(
            f"-capabilities-{slug}",
            f"capabilities: {slug}",
            "LIMITS",
            limits | {"capabilities": bits},
            ("fip-limits-4", "fip-limits-5"),
        )
    read = PLAIN_RESULTS["READ"]
    base = base_of("READ", "holes", ("fip-hole-4", *rule))
    yield base
    yield reply("-holes-none", "no holes", "READ", read | {"holes": []}, ("fip-hole-3",))
    yield reply(
        "-holes-256",
        "256 holes",
        "READ",
        read | {"holes": [{"first": 2 * n, "count": 1} for n in range(256)]},
        ("fip-hole-4",),
    )
    yield bad(base, "257", "257 holes", rule, read | {"holes": [{"first": 2 * n, "count": 1} for n in range(257)]})
    listing = PLAIN_RESULTS["READDIR"]
    base = base_of("READDIR", "entries", rule)
    yield base
    yield reply(
        "-entries-none", "no entries, and the end", "READDIR", {"entries": [], "eof": 1}, ("fip-dir-3", "fip-dir-4")
    )
    many = [{"name": b"%04d" % n, "object": b"", "attributes": _DIRECTORY} for n in range(1025)]
    yield reply(
        "-entries-64",
        "64 entries, not the end",
        "READDIR",
        {"entries": many[:64], "eof": 0},
        ("fip-dir-1", "fip-dir-3"),
    )
    yield bad(base, "1025", "1,025 entries", rule, listing | {"entries": many})
    for field in ("name", "object"):
        entry = dict(entries[0])
        entry[field] = b"\x7a" * (256 if field == "name" else 129)
        yield bad(
            base,
            f"{field}-long",
            f"an entry whose {field} is too long",
            rule,
            listing | {"entries": [entry, *entries[1:]]},
        )
