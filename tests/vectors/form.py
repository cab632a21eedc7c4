# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a vector is, and how its values are written in JSON. spec/vectors/README.md says the same in words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

COUNTING = 251
"""Byte j of counting content is j mod 251: no two units of a power of two are alike."""
RUN_MIN = 64
"""Bytes of the shortest run that is written as a recipe."""
_ROUND = bytes(range(COUNTING))


@dataclass(frozen=True)
class Long:
    """A number of 64 bits: a decimal string in JSON."""

    value: int


@dataclass
class Vector:
    """One case. A negative one has a valid `base`; its input differs from the base's by the fault alone."""

    id: str
    about: str
    clauses: Sequence[str]
    input: dict[str, Any]
    outcome: str = "ok"
    valid: bool = True
    step: int | None = None
    output: dict[str, Any] = field(default_factory=dict)
    flags: Sequence[str] = ()
    base: Vector | None = None
    change: str | None = None
    """The row of File Integrity Metadata's table of changes that it is a case of."""

    def fault(
        self,
        id: str,
        about: str,
        outcome: str,
        clauses: Sequence[str] | None = None,
        *,
        step: int | None = None,
        flags: Sequence[str] = (),
        change: str | None = None,
        output: dict[str, Any] | None = None,
        valid: bool = False,
        **changed: Any,
    ) -> Vector:
        """This vector with some of its input changed."""
        unknown = changed.keys() - self.input.keys()
        if unknown:
            raise ValueError(f"{id} changes {unknown}, which {self.id} does not have")
        if not self.valid:
            raise ValueError(f"{self.id} is no base")
        if all(self.input[key] == value for key, value in changed.items()):
            raise ValueError(f"{id} changes nothing")
        clauses = self.clauses if clauses is None else clauses
        return Vector(
            f"{self.id}--{id}",
            about,
            clauses,
            self.input | changed,
            outcome,
            valid,
            step,
            output or {},
            flags,
            self,
            change,
        )


def written(vector: Vector) -> dict[str, Any]:
    """A vector as JSON has it."""
    found: dict[str, Any] = {"id": vector.id, "about": vector.about, "clauses": list(dict.fromkeys(vector.clauses))}
    found["valid"], found["outcome"] = vector.valid, vector.outcome
    if vector.step is not None:
        found["step"] = vector.step
    if vector.flags:
        found["flags"] = list(vector.flags)
    if vector.change is not None:
        found["change"] = vector.change
    if vector.base is not None:
        found["base"] = vector.base.id
        found["edits"] = list(edits(vector.base.input, vector.input))
    found["input"] = json_of(vector.input)
    if vector.output:
        found["output"] = json_of(vector.output)
    return found


def json_of(value: Any) -> Any:
    match value:
        case bytes():
            return packed(value)
        case Long():
            return str(value.value)
        case bool() | None | str():
            return value
        case int():
            if not -(2**31) <= value < 2**32:
                raise ValueError(f"{value} is not a number of 32 bits")
            return value
        case dict():
            return {key: json_of(item) for key, item in value.items()}
        case list() | tuple():
            return [json_of(item) for item in value]
    raise TypeError(f"{value!r} has no form in JSON")


def counting(length: int, start: int = 0) -> bytes:
    start %= COUNTING
    return (_ROUND * ((start + length) // COUNTING + 1))[start : start + length]


def packed(data: bytes) -> str | dict[str, Any]:
    """Lower-case hexadecimal; long runs as recipes, several pieces one after the other."""
    pieces: list[Any] = []
    plain, at = 0, 0
    while at + _BLOCK <= len(data):  # a run of RUN_MIN bytes has one of these blocks whole, wherever it begins
        run = _run(data, at, plain)
        if run is None:
            at += _BLOCK
            continue
        start, end, recipe = run
        if plain < start:
            pieces.append(data[plain:start].hex())
        pieces.append(recipe)
        plain, at = end, end + -end % _BLOCK
    if plain < len(data) or not pieces:
        pieces.append(data[plain:].hex())
    return pieces[0] if len(pieces) == 1 else {"pieces": pieces}


_BLOCK = RUN_MIN // 2


def _run(data: bytes, at: int, least: int) -> tuple[int, int, dict[str, Any]] | None:
    """The run about the block at `at`, from `least` on: where it begins and ends, and its recipe."""
    head = data[at : at + _BLOCK]
    repeated = head == head[:1] * _BLOCK
    if not repeated and not (head[0] < COUNTING and head == counting(_BLOCK, head[0])):
        return None

    def expected(offset: int, length: int) -> bytes:
        return head[:1] * length if repeated else counting(length, head[0] + offset)

    start, end = at, at + _BLOCK
    while start > least and data[start - 1 : start] == expected(start - 1 - at, 1):
        start -= 1
    for leap in (COUNTING * 256, COUNTING, 1):
        while end + leap <= len(data) and data[end : end + leap] == expected(end - at, leap):
            end += leap
    if end - start < RUN_MIN:
        return None
    recipe = {"repeat": head[:1].hex()} if repeated else {"counting": data[start]}
    return start, end, recipe | {"length": end - start}


def unpacked(value: Any) -> bytes:
    """The bytes that `packed` wrote."""
    match value:
        case str():
            return bytes.fromhex(value)
        case {"repeat": byte, "length": length}:
            return bytes.fromhex(byte) * int(length)
        case {"counting": start, "length": length}:
            return counting(length, start)
        case {"pieces": pieces}:
            return b"".join(map(unpacked, pieces))
    raise ValueError(f"{value!r} stands for no bytes")


def edits(was: Any, now: Any, path: str = "") -> Iterable[dict[str, Any]]:
    """What was changed in an input: at a place in bytes, or a whole value. The places count in what results."""
    if was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict) and was.keys() == now.keys():
        for key in was:
            yield from edits(was[key], now[key], f"{path}/{key}")
    elif isinstance(was, list | tuple) and isinstance(now, list | tuple) and len(was) == len(now):
        for index, (before, after) in enumerate(zip(was, now, strict=True)):
            yield from edits(before, after, f"{path}/{index}")
    elif isinstance(was, bytes) and isinstance(now, bytes):
        for at, before, after in splices(was, now):
            yield {"in": path, "at": at, "was": packed(before), "is": packed(after)}
    else:
        yield {"in": path, "was": json_of(was), "is": json_of(now)}


def splices(was: bytes, now: bytes) -> Iterable[tuple[int, bytes, bytes]]:
    """Offset in `now`, bytes that were, bytes that are; in order."""
    start = 0
    limit = min(len(was), len(now))
    while start + 4096 <= limit and was[start : start + 4096] == now[start : start + 4096]:
        start += 4096
    while start < limit and was[start] == now[start]:
        start += 1
    back = 0
    limit -= start
    while back < limit and was[-1 - back] == now[-1 - back]:
        back += 1
    before, after = was[start : len(was) - back], now[start : len(now) - back]
    if min(len(before), len(after)) < 16 or max(len(before), len(after)) > 1024:
        yield start, before, after
        return
    from_was = from_now = 0
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for block in matcher.get_matching_blocks():
        if block.size < 8 and block.size:
            continue
        if block.a > from_was or block.b > from_now:
            yield start + from_now, before[from_was : block.a], after[from_now : block.b]
        from_was, from_now = block.a + block.size, block.b + block.size


def undone(value: Any, edits: Sequence[dict[str, Any]]) -> Any:
    """An input in its JSON form, without the edits."""
    value = json.loads(json.dumps(value))
    for edit in reversed(edits):
        *parents, last = edit["in"].split("/")[1:]
        holder = value
        for name in parents:
            holder = holder[int(name) if isinstance(holder, list) else name]
        key: Any = int(last) if isinstance(holder, list) else last
        if "at" not in edit:
            if holder[key] != edit["is"]:
                raise ValueError(f"{edit['in']} is not what was edited")
            holder[key] = edit["was"]
            continue
        data, new, at = unpacked(holder[key]), unpacked(edit["is"]), edit["at"]
        if data[at : at + len(new)] != new:
            raise ValueError(f"{edit['in']} is not what was edited")
        holder[key] = packed(data[:at] + unpacked(edit["was"]) + data[at + len(new) :])
    return value
