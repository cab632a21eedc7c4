# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The XDR language (RFC 4506 section 6), as far as the drafts use it, read from the .x files themselves.

A value is what it is without any of our classes: int, bool, bytes, list, None, a dict of a struct's fields, and for
a union the pair of its discriminant and its arm. xdrlib3 does the encoding and decoding. It looks at neither bounds
nor padding, so that what is wrong can be written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdrlib3 import Packer, Unpacker

NUMBERS = {"unsigned int": "uint", "hyper": "hyper", "unsigned hyper": "uhyper", "bool": "bool"}


@dataclass(frozen=True)
class Void:
    """The arm of a union that has nothing."""


@dataclass(frozen=True)
class Number:
    code: str


@dataclass(frozen=True)
class Opaque:
    most: int


@dataclass(frozen=True)
class Fixed:
    length: int


@dataclass(frozen=True)
class Array:
    element: Any
    most: int


@dataclass(frozen=True)
class Optional:
    element: Any


@dataclass(frozen=True)
class Enum:
    name: str
    values: dict[str, int]


@dataclass(frozen=True)
class Struct:
    name: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Union:
    name: str
    discriminant: Enum
    arms: dict[int, Any]
    has_default: bool
    """It is void."""


def parse(files: Iterable[Path]) -> dict[str, Any]:
    """The types of the files, by name, in their order. `constants` has the constants."""
    return dict(_parse(files)[0])


def constants(files: Iterable[Path]) -> dict[str, int]:
    return _parse(files)[1]


_DECLARATION = re.compile(r"(?P<type>[\w ]+?)\s+(?P<star>\*?)(?P<name>\w+)\s*(?:<(?P<most>\w+)>|\[(?P<length>\w+)\])?$")
_DEFINITION = re.compile(
    r"const\s+(?P<const>\w+)\s*=\s*(?P<value>\w+)\s*;"
    r"|typedef\s+(?P<typedef>[^;]+);"
    r"|(?P<kind>enum|struct)\s+(?P<name>\w+)\s*\{(?P<body>[^}]*)\}\s*;"
    r"|union\s+(?P<union>\w+)\s+switch\s*\(\s*(?P<discriminant>\w+)\s+\w+\s*\)\s*\{(?P<arms>[^}]*)\}\s*;"
    r"|program\s.*"
    r"|(?P<other>\S+)",
    re.DOTALL,
)


def _parse(files: Iterable[Path]) -> tuple[dict[str, Any], dict[str, int]]:
    types: dict[str, Any] = {}
    numbers: dict[str, int] = {}

    def declared(text: str) -> tuple[str, Any]:
        if text.strip() == "void":
            return "", Void()
        match = _DECLARATION.match(" ".join(text.split()))
        if match is None:
            raise ValueError(f"not understood: {text!r}")
        kind, most, length = match["type"], match["most"], match["length"]
        if kind == "opaque":
            return match["name"], Fixed(int(length)) if length else Opaque(int(most))
        base = Number(NUMBERS[kind]) if kind in NUMBERS else types[kind]
        if match["star"]:
            base = Optional(base)
        return match["name"], Array(base, int(most)) if most else base

    for file in files:
        text = re.sub(r"/\*.*?\*/|^%.*?$", "", file.read_text(), flags=re.DOTALL | re.MULTILINE)
        for match in _DEFINITION.finditer(text):
            if match["other"]:
                raise ValueError(f"{file.name}: not understood: {match['other']!r}")
            if match["const"]:
                numbers[match["const"]] = int(match["value"], 0)
            elif match["typedef"]:
                name, kind = declared(match["typedef"])
                types[name] = kind
            elif match["kind"] == "enum":
                values = dict(re.findall(r"(\w+)\s*=\s*(\w+)", match["body"]))
                types[match["name"]] = Enum(match["name"], {name: int(value, 0) for name, value in values.items()})
            elif match["kind"] == "struct":
                fields = dict(declared(part) for part in match["body"].split(";") if part.strip())
                types[match["name"]] = Struct(match["name"], fields)
            elif match["union"]:
                discriminant = types[match["discriminant"]]
                arms = {
                    discriminant.values[case]: declared(text)[1]
                    for case, text in re.findall(r"case\s+(\w+)\s*:([^;]*);", match["arms"])
                }
                has_default = re.search(r"default\s*:\s*void\s*;", match["arms"]) is not None
                types[match["union"]] = Union(match["union"], discriminant, arms, has_default)
    return types, numbers


def encode(kind: Any, value: Any) -> bytes:
    packer = Packer()
    _pack(packer, kind, value)
    return packer.get_buffer()


def decode(kind: Any, data: bytes) -> Any:
    """The value of `data`, of which it is a canonical encoding."""
    unpacker = Unpacker(data)
    value = _unpack(unpacker, kind)
    unpacker.done()
    return value


def _pack(packer: Packer, kind: Any, value: Any) -> None:
    match kind:
        case Number():
            getattr(packer, f"pack_{kind.code}")(value)
        case Enum():
            packer.pack_enum(value)
        case Opaque():
            packer.pack_opaque(value)
        case Fixed():
            packer.pack_fopaque(kind.length, value)
        case Array():
            packer.pack_array(value, lambda item: _pack(packer, kind.element, item))
        case Optional():
            packer.pack_bool(value is not None)
            if value is not None:
                _pack(packer, kind.element, value)
        case Struct():
            for name, field in kind.fields.items():
                _pack(packer, field, value[name])
        case Union():
            packer.pack_enum(value[0])
            if value[0] in kind.arms:
                _pack(packer, kind.arms[value[0]], value[1])


def _unpack(unpacker: Unpacker, kind: Any) -> Any:
    match kind:
        case Number():
            return getattr(unpacker, f"unpack_{kind.code}")()
        case Enum():
            return unpacker.unpack_enum()
        case Opaque():
            return unpacker.unpack_opaque()
        case Fixed():
            return unpacker.unpack_fopaque(kind.length)
        case Array():
            return unpacker.unpack_array(lambda: _unpack(unpacker, kind.element))
        case Optional():
            return _unpack(unpacker, kind.element) if unpacker.unpack_bool() else None
        case Struct():
            return {name: _unpack(unpacker, field) for name, field in kind.fields.items()}
        case Union():
            discriminant = unpacker.unpack_enum()
            arm = kind.arms.get(discriminant)
            return discriminant, None if arm is None else _unpack(unpacker, arm)


def parts(kind: Any) -> Iterator[Any]:
    """The type, and all that it is made of."""
    yield kind
    match kind:
        case Array() | Optional():
            yield from parts(kind.element)
        case Struct():
            for field in kind.fields.values():
                yield from parts(field)
        case Union():
            yield kind.discriminant
            for arm in kind.arms.values():
                yield from parts(arm)
