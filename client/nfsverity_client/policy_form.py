# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The form of a policy file, declared once: for reading it, and as the JSON Schema that is published of it.

A form says all that is wrong with a value, and where; what takes more than one value to judge is `policy`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nfsverity_proto.hashes import HASH_NAMES
from nfsverity_proto.policy import Action, Gate, Logged, WithoutRecord
from nfsverity_proto.signature import SCHEME_NAMES
from nfsverity_proto.statement import GENERATION_MAX
from nfsverity_proto.tree import UNIT_LOG2_MAX, UNIT_LOG2_MIN

Where = tuple[str | int, ...]
Wrong = tuple[Where, str]
"""Where in a document, and what is wrong there."""


class Form(Protocol):
    def wrong(self, value: Any, where: Where) -> Iterator[Wrong]: ...

    def schema(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Choice:
    values: Sequence[str | int]
    about: str = ""

    def wrong(self, value: Any, where: Where) -> Iterator[Wrong]:
        if type(value) not in (str, int) or value not in self.values:
            yield where, f"{_shown(value)} is none of {', '.join(map(str, self.values))}"

    def schema(self) -> dict[str, Any]:
        return _about(self.about, {"enum": list(self.values)})


@dataclass(frozen=True, slots=True)
class Text:
    pattern: str
    """All of the text has to fit it; it is one for ECMA-262 as well."""
    what: str
    about: str = ""

    def wrong(self, value: Any, where: Where) -> Iterator[Wrong]:
        if not isinstance(value, str) or re.fullmatch(self.pattern, value) is None:
            yield where, f"{_shown(value)} is not {self.what}"

    def schema(self) -> dict[str, Any]:
        return _about(self.about, {"type": "string", "pattern": f"^(?:{self.pattern})$(?!\\n)"})


@dataclass(frozen=True, slots=True)
class Number:
    low: int
    high: int
    about: str = ""

    def wrong(self, value: Any, where: Where) -> Iterator[Wrong]:
        if type(value) is not int or not self.low <= value <= self.high:
            yield where, f"{_shown(value)} is not a whole number from {self.low} to {self.high}"

    def schema(self) -> dict[str, Any]:
        return _about(self.about, {"type": "integer", "minimum": self.low, "maximum": self.high})


@dataclass(frozen=True, slots=True)
class Flag:
    about: str = ""

    def wrong(self, value: Any, where: Where) -> Iterator[Wrong]:
        if type(value) is not bool:
            yield where, f"{_shown(value)} is neither true nor false"

    def schema(self) -> dict[str, Any]:
        return _about(self.about, {"type": "boolean"})


@dataclass(frozen=True, slots=True)
class Some:
    """One of a form, or a list of different ones that is not empty."""

    one: Form
    about: str = ""

    def wrong(self, value: Any, where: Where) -> Iterator[Wrong]:
        if not isinstance(value, list):
            yield from self.one.wrong(value, where)
            return
        if not value:
            yield where, "the list is empty, so that nothing fits; leave the key out where anything is meant"
        for number, item in enumerate(value):
            problems = list(self.one.wrong(item, (*where, number)))
            yield from problems
            if not problems and item in value[:number]:
                yield (*where, number), f"{_shown(item)} is there twice"

    def schema(self) -> dict[str, Any]:
        one = self.one.schema()
        many = {"type": "array", "minItems": 1, "uniqueItems": True, "items": one}
        return _about(self.about, {"anyOf": [one, many]})


@dataclass(frozen=True, slots=True)
class Table:
    fields: Mapping[str, Form]
    required: Sequence[str] = ()
    about: str = ""

    def wrong(self, value: Any, where: Where) -> Iterator[Wrong]:
        if not isinstance(value, dict):
            yield where, f"{_shown(value)} is not a table"
            return
        for key, item in value.items():
            form = self.fields.get(key)
            if form is None:
                yield (*where, key), f"no key {_shown(key)} is known here; known are {', '.join(self.fields)}"
            else:
                yield from form.wrong(item, (*where, key))
        for key in self.required:
            if key not in value:
                yield where, f'"{key}" is missing'

    def schema(self) -> dict[str, Any]:
        properties = {key: form.schema() for key, form in self.fields.items()}
        form: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
        return _about(self.about, {**form, "required": list(self.required)} if self.required else form)


@dataclass(frozen=True, slots=True)
class Tables:
    """A list of tables, which may be empty."""

    one: Table
    about: str = ""

    def wrong(self, value: Any, where: Where) -> Iterator[Wrong]:
        if not isinstance(value, list):
            yield where, f"{_shown(value)} is not a list of tables, each of which begins with [[{where[-1]}]]"
            return
        for number, item in enumerate(value):
            yield from self.one.wrong(item, (*where, number))

    def schema(self) -> dict[str, Any]:
        return _about(self.about, {"type": "array", "items": self.one.schema()})


def _about(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, **schema} if text else schema


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 60 else text[:57] + "..."


_VOLUME = Text("[0-9A-Fa-f]{32}", "a volume ID: 32 hexadecimal digits")
_SIGNER = Text(
    "[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}|[A-Za-z0-9.]+=[^\\n]*",
    "a signer: the SHA-256 of a certificate (64 hexadecimal digits), or a subject as O=Example",
)
_SIZES = Choice([1 << log2 for log2 in range(UNIT_LOG2_MIN, UNIT_LOG2_MAX + 1)])

REQUIRE = Table(
    {
        "volume": Some(_VOLUME, "The volume is one of these."),
        "hash": Some(Choice(sorted(HASH_NAMES)), "The hash of statement and tree is one of these."),
        "scheme": Some(Choice(sorted(SCHEME_NAMES)), "Signatures of other schemes do not count."),
        "unit_size": Table({"min": _SIZES, "max": _SIZES}, about="Bytes of a unit."),
        "signers": Table(
            {
                "any": Some(_SIGNER, "One of these signers at least."),
                "all": Some(_SIGNER, "Each of these signers."),
                "count": Number(1, 8, "So many signers with different keys at least."),
            },
            about="Among those that are trusted and whose signatures verify.",
        ),
        "min_generation": Number(0, GENERATION_MAX, "The generation is at least this."),
        "max_age": Text("[1-9][0-9]{0,8}[smhdw]", 'a time, as "90m", "12h", "30d"', "Issued at most so long ago."),
        "executable": Flag("Signed as executable. At the gate exec that is always required."),
    },
    about="What a record has to meet, beyond verifying.",
)

RULE = Table(
    {
        "name": Text(
            '[^\\n\\r"]{1,100}', "a name: 1 to 100 characters without quotes, on one line", "Different for each rule."
        ),
        "gate": Some(Choice([str(gate) for gate in Gate]), "Without it: all gates."),
        "path": Some(Text("[^\\n]+", "a pattern of paths"), "Patterns of paths in the tree. Without it: all paths."),
        "volume": Some(_VOLUME, "Fits only where one of these volumes is known to be expected."),
        "place": Some(
            Text(
                "(?:nfsv://[^/ \\t\\r\\n]+:[0-9]+|file:///)[^ \\t\\r\\n]*",
                "a URL, as nfsv://host:7447/pub or file:///srv/data",
            ),
            "Fits what is at one of these URLs or below.",
        ),
        "action": Choice([str(action) for action in Action], "What the rule does."),
        "unsigned": Choice([str(one) for one in WithoutRecord], "Of files without a record; refuse is the default."),
        "log": Choice([str(one) for one in Logged], "Whether decisions go to the audit log."),
        "require": REQUIRE,
    },
    required=("name", "action"),
    about="The first rule that fits decides.",
)

POLICY = Table(
    {
        "format": Choice([1], "Of this file."),
        "audit": Table(
            {
                "log": Text("[^\\n\\0]+", "the path of a file", "The file; a relative path is in the state directory."),
                "decisions": Choice(
                    [str(one) for one in Logged], "For rules that do not say; required is the default."
                ),
                "sync": Flag("Have each line on the disk before going on."),
            },
            about="The audit log.",
        ),
        "rule": Tables(RULE, "In the order in which they are tried."),
    },
    required=("format",),
)


def json_schema() -> dict[str, Any]:
    """What is published as docs/policy.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policy of nfs-verity, as JSON has the values of its TOML",
        **POLICY.schema(),
    }
