# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Values of every type of the drafts, as `xdr_language` has them: strategies, and which of them are allowed.

XDR says how a value is encoded; the text says which values there are. `allowed` is the second, for what a decoder
has to check by itself. It is written from the text, and the strategies make nothing that it refuses.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from xdrlib3 import Error

from . import building
from . import xdr_language as x

TYPES = x.parse(building.SPEC / name for name in building.XDR_FILES)

LENGTHS = {1: 32, 7: 48, 8: 64, 10: 32, 11: 48, 12: 64, 65536: 32}
"""Of digests, by the number of the hash."""
STATUSES = {
    f"fip_{name.lower()}_result": {TYPES["fip_status"].values[f"FIP_{status}"] for status in statuses}
    for name, statuses in json.loads((building.SPEC / "statuses.json").read_text()).items()
}


# What is allowed


def _fits(hash: int, digest: bytes) -> bool:
    return len(digest) == LENGTHS.get(hash, len(digest))


def _is_name(name: bytes) -> bool:
    return 1 <= len(name) <= 255 and name not in (b".", b"..") and not {0, 0x2F} & set(name)


def _is_path(path: bytes) -> bool:
    names = path.split(b"/")
    return len(names) <= 256 and all(_is_name(name) for name in names)


def _ascend(keys: list[Any]) -> bool:
    return all(low < high for low, high in itertools.pairwise(keys))


def _is_directory(path: bytes) -> bool:
    return not path or _is_path(path)


def _is_entry(entry: dict[str, Any]) -> bool:
    parent, name = entry["parent"], entry["name"]
    path = parent + b"/" + name if parent else name
    return _is_name(name) and _is_directory(parent) and _is_path(path) and len(path) <= 4095


def _is_node(node: tuple[int, Any]) -> bool:
    """A link has a target, without 0x00."""
    return node[0] != 2 or (0 < len(node[1]) <= 4095 and 0 not in node[1])


def _rooted(statement: dict[str, Any]) -> dict[str, Any] | None:
    """What has the root of a statement; None for a revocation."""
    kind, arm = statement["claim"]
    content: dict[str, Any] = arm if kind in (1, 3) else arm.get("content", {})
    return content if kind == 3 else content.get("tree")


def _root_fits(statement: dict[str, Any]) -> bool:
    rooted = _rooted(statement)
    return rooted is None or _fits(statement["hash"], rooted["root"])


def _rank(item: dict[str, Any]) -> tuple[int, int, bytes]:
    return item["what"], item["hash"], item["digest"]


_BODIES = {1: "fim_signature", 2: "fim_membership"}


def _is_record(record: dict[str, Any]) -> bool:
    attestations = [(attestation["type"], attestation["body"]) for attestation in record["attestations"]]
    return (
        len(attestations) > 0
        and _ascend(attestations)
        and sum(type == 2 for type, _ in attestations) <= 1
        and all(is_canonical(TYPES[_BODIES[type]], body) for type, body in attestations if type in _BODIES)
        and len(x.encode(TYPES["fim_record"], record)) <= 65536
    )


_RULES: dict[str, Callable[[Any], bool]] = {
    "fim_time": lambda v: v["nseconds"] <= 999_999_999,
    "fim_tag": lambda v: _fits(v["hash"], v["digest"]),
    "fim_fingerprint": lambda v: _fits(v["hash"], v["digest"]),
    "fim_tree": lambda v: 12 <= v["unit_log2"] <= 24 and v["size"] < 2**63,
    "fim_when": lambda v: v["generation"] < 2**64 - 1,
    "fim_file": lambda v: _is_name(v["label"]) and _is_path(v["path"]),
    "fim_volume": lambda v: _is_name(v["label"]) and v["entries"] < 2**63,
    "fim_item": lambda v: _fits(v["hash"], v["digest"]),
    "fim_revocation": lambda v: _is_name(v["label"]) and _ascend([_rank(item) for item in v["items"]]),
    "fim_statement": lambda v: (
        v["magic"] == 0x4E465356
        and v["format"] == 1
        and _root_fits(v)
        and _ascend([extension["number"] for extension in v["extensions"]])
    ),
    "fim_record": _is_record,
    "fim_node": _is_node,
    "fim_entry": _is_entry,
    "fim_membership": lambda v: len(v["range"]["entries"]) == 1,
    "fip_attributes": lambda v: v["size"] < 2**63,
    "fip_plain_ok": lambda v: v["size"] < 2**63,
    "fip_certificate_ok": lambda v: len(v["certificates"]) > 0,
    **{name: lambda v, allowed=allowed: v[0] in allowed for name, allowed in STATUSES.items()},
}


def allowed(kind: Any, value: Any) -> bool:
    """Whether the text allows the value of a type, and all in it."""
    match kind:
        case x.Enum():
            return value in kind.values.values()
        case x.Array():
            return all(allowed(kind.element, item) for item in value)
        case x.Optional():
            return value is None or allowed(kind.element, value)
        case x.Struct():
            inner = all(allowed(field, value[name]) for name, field in kind.fields.items())
            return inner and _RULES.get(kind.name, lambda _: True)(value)
        case x.Union():
            discriminant, arm = value
            known = discriminant in kind.discriminant.values.values()
            inner = discriminant not in kind.arms or allowed(kind.arms[discriminant], arm)
            return known and inner and _RULES.get(kind.name, lambda _: True)(value)
    return True


def is_canonical(kind: Any, data: bytes) -> bool:
    """Whether the bytes are the one encoding of an allowed value, by xdrlib3, the bounds in the files, and the text."""
    try:
        value = x.decode(kind, data)
    except (EOFError, Error):
        return False
    return _is_bounded(kind, value) and x.encode(kind, value) == data and allowed(kind, value)


def _is_bounded(kind: Any, value: Any) -> bool:
    match kind:
        case x.Opaque():
            return len(value) <= kind.most
        case x.Array():
            return len(value) <= kind.most and all(_is_bounded(kind.element, item) for item in value)
        case x.Optional():
            return value is None or _is_bounded(kind.element, value)
        case x.Struct():
            return all(_is_bounded(field, value[name]) for name, field in kind.fields.items())
        case x.Union():
            discriminant, arm = value
            if discriminant not in kind.arms:
                return kind.has_default
            return _is_bounded(kind.arms[discriminant], arm)
    return True


# Strategies

_EDGES = {"uint": (0, 2**32 - 1), "uhyper": (0, 2**64 - 1), "hyper": (-(2**63), 2**63 - 1)}
_HASHES = st.sampled_from([*LENGTHS, 2, 6, 0, 99, 2**32 - 1])
_NAMES = st.one_of(
    st.binary(min_size=1, max_size=12).map(lambda name: name.translate(bytes(b or 1 for b in range(256)))),
    st.sampled_from([b"...", b"\xff" * 255, b"a" * 254]),
).map(lambda name: name.replace(b"/", b"_").replace(b".", b"..") if name in (b".", b"..") or b"/" in name else name)
_PATHS = st.one_of(
    st.lists(_NAMES.filter(_is_name), min_size=1, max_size=5).map(b"/".join),
    st.sampled_from([b"a/" * 255 + b"a", (b"n" * 254 + b"/") * 16 + b"n" * 15]),
)


@st.composite
def _digested(draw: st.DrawFn) -> dict[str, Any]:
    hash = draw(_HASHES)
    length = LENGTHS.get(hash)
    return {"hash": hash, "digest": draw(st.binary(min_size=length or 0, max_size=length or 64))}


@st.composite
def _statements(draw: st.DrawFn) -> dict[str, Any]:
    value: dict[str, Any] = draw(_plain(TYPES["fim_statement"]))
    value |= {"magic": 0x4E465356, "format": 1, **draw(_digested())}
    digest, rooted = value.pop("digest"), _rooted(value)
    if rooted is not None:
        rooted["root"] = digest
    value["extensions"] = sorted(
        {extension["number"]: extension for extension in value["extensions"]}.values(), key=lambda v: v["number"]
    )
    return value


_ITEMS = st.builds(lambda what, rest: {"what": what, **rest}, st.integers(0, 3), _digested())
_REVOKED = st.lists(_ITEMS, max_size=4, unique_by=_rank).map(lambda items: sorted(items, key=_rank))


@st.composite
def _records(draw: st.DrawFn) -> dict[str, Any]:
    def attested(type: int, body: bytes) -> dict[str, Any]:
        return {"type": type, "body": body}

    signatures = values(TYPES["fim_signature"]).map(lambda value: attested(1, x.encode(TYPES["fim_signature"], value)))
    memberships = values(TYPES["fim_membership"]).map(
        lambda value: attested(2, x.encode(TYPES["fim_membership"], value))
    )
    others = st.builds(attested, st.sampled_from([0, 3, 2**32 - 1]), st.binary(max_size=60))
    items = draw(st.lists(st.one_of(signatures, others), max_size=7))
    items += draw(st.lists(memberships, min_size=0 if items else 1, max_size=1))
    unique = {(item["type"], item["body"]): item for item in items}
    statement = draw(st.one_of(_statements().map(lambda v: x.encode(TYPES["fim_statement"], v)), st.binary(max_size=8)))
    return {"statement": statement, "attestations": [unique[key] for key in sorted(unique)]}


_TARGETS = st.binary(min_size=1, max_size=12).map(lambda target: target.replace(b"\0", b"/")) | st.just(b"." * 4095)
_NODES = st.one_of(
    st.tuples(st.just(1), st.fixed_dictionaries({"executable": st.booleans(), "content": st.binary(max_size=64)})),
    st.tuples(st.just(2), _TARGETS),
    st.just((3, None)),
)
_ENTRIES = st.builds(
    lambda parent, name, node: {"parent": parent, "name": name, "node": node},
    st.just(b"") | _PATHS,
    _NAMES,
    _NODES,
).filter(_is_entry)

_FIELDS: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("fim_time", "nseconds"): st.sampled_from([0, 1, 999_999_999]) | st.integers(0, 999_999_999),
    ("fim_tree", "unit_log2"): st.integers(12, 24),
    ("fim_tree", "size"): st.integers(0, 2**63 - 1),
    ("fim_when", "generation"): st.integers(0, 2**64 - 2),
    ("fim_file", "label"): _NAMES.filter(_is_name),
    ("fim_file", "path"): _PATHS,
    ("fim_volume", "label"): _NAMES.filter(_is_name),
    ("fim_volume", "entries"): st.integers(0, 2**63 - 1),
    ("fim_membership", "range"): st.builds(
        lambda first, entry, proof: {"first": first, "entries": [entry], "proof": proof},
        st.integers(0, 2**64 - 1),
        _ENTRIES,
        st.binary(max_size=64),
    ),
    ("fim_revocation", "label"): _NAMES.filter(_is_name),
    ("fim_revocation", "items"): _REVOKED,
    ("fip_attributes", "size"): st.integers(0, 2**63 - 1),
    ("fip_plain_ok", "size"): st.integers(0, 2**63 - 1),
    ("fip_certificate_ok", "certificates"): st.lists(st.binary(max_size=40), min_size=1, max_size=8),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Allowed values of a type."""
    name = getattr(kind, "name", None)
    if name in ("fim_tag", "fim_fingerprint"):
        return _digested()
    if name == "fim_item":
        return _ITEMS
    if name == "fim_statement":
        return _statements()
    if name == "fim_node":
        return _NODES
    if name == "fim_entry":
        return _ENTRIES
    if name == "fim_record":
        return _records()
    return _plain(kind)


def _plain(kind: Any) -> st.SearchStrategy[Any]:
    match kind:
        case x.Void():
            return st.none()
        case x.Number(code="bool"):
            return st.booleans()
        case x.Number():
            low, high = _EDGES[kind.code]
            return st.sampled_from([low, high]) | st.integers(low, high)
        case x.Enum():
            return st.sampled_from(list(kind.values.values()))
        case x.Opaque():
            short = st.binary(max_size=min(kind.most, 40))
            return short | st.binary(min_size=kind.most, max_size=kind.most) if kind.most <= 255 else short
        case x.Fixed():
            return st.binary(min_size=kind.length, max_size=kind.length)
        case x.Array():
            return st.lists(values(kind.element), max_size=min(kind.most, 4))
        case x.Optional():
            return st.none() | values(kind.element)
        case x.Struct():
            ours = {name: _FIELDS[kind.name, name] for name in kind.fields if (kind.name, name) in _FIELDS}
            return st.fixed_dictionaries({name: values(field) for name, field in kind.fields.items()} | ours)
        case x.Union():
            arms = [st.tuples(st.just(number), values(arm)) for number, arm in kind.arms.items()]
            void = sorted(STATUSES.get(kind.name, set()) - kind.arms.keys())
            return st.one_of(*arms, *([st.tuples(st.sampled_from(void), st.none())] if void else []))
    raise TypeError(kind)


@st.composite
def disturbed(draw: st.DrawFn, kind: Any) -> bytes:
    """An encoding with one thing changed; some are encodings still, and some allowed."""
    data = bytearray(x.encode(kind, draw(values(kind))))
    how = draw(st.sampled_from(["byte", "bit", "word", "cut", "cut word", "extend", "insert word", "nothing"]))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    word = at // 4 * 4
    match how:
        case "byte" if data:
            data[at] = draw(st.integers(0, 255))
        case "bit" if data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        case "word" if data:
            number = draw(st.sampled_from([0, 1, 2, 3, 5, 16, 20, 2**31, 2**32 - 1]))
            data[word : word + 4] = number.to_bytes(4, "big")
        case "cut":
            del data[at:]
        case "cut word":
            del data[word : word + 4]
        case "extend":
            data += draw(st.binary(min_size=1, max_size=5))
        case "insert word":
            data[word:word] = draw(st.binary(min_size=4, max_size=4))
    return bytes(data)
