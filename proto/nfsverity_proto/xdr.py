# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""RFC 4506, strictly: one canonical encoding, and every other is refused (fim-dec-1).

Trailing bytes, padding that is not zero, a boolean other than 0 and 1 and unknown enum values are errors, and a
length is checked against its bound before anything of that length is read or made. Wire structures are
declared once, for both directions, in `statement`, `record`, `rpc` and `messages`.
"""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Generic, TypeVar

Buffer = bytes | bytearray | memoryview
T = TypeVar("T")


class XdrError(ValueError):
    """The bytes are not the canonical XDR encoding of what was declared."""


class _Input:
    """What is decoded, and how far. `data` is a view where a `Tail` may have to be one too."""

    __slots__ = ("data", "at")

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self.at = 0

    def pass_over(self, length: int) -> int:
        """Where the next `length` bytes begin; they are there."""
        start = self.at
        self.at = start + length
        if self.at > len(self.data):
            raise XdrError(f"ends after {len(self.data) - start} of {length} bytes")
        return start


class _Output(io.BytesIO):
    """A stream whose last item may be a payload that is not copied into it."""

    tail: Buffer | None = None


_ZEROS = (b"", b"\0", b"\0\0", b"\0\0\0")
_LENGTH, _NOTHING = struct.Struct(">I"), struct.Struct("")


def _bounded(length: int, least: int, most: int, what: str) -> int:
    if not least <= length <= most:
        raise XdrError(f"{what} of length {length}, allowed are {least} to {most}")
    return length


class Declaration:
    """How values of one XDR type are read and written."""

    def read(self, source: _Input) -> Any:
        """The next value. Raises `XdrError`."""
        raise NotImplementedError

    def write(self, value: Any, sink: _Output) -> None:
        """Raises `XdrError` for a value that the type does not have."""
        raise NotImplementedError


class _Number(Declaration):
    def __init__(self, code: str) -> None:
        self.code = code
        self.packing = struct.Struct(">" + code)

    def read(self, source: _Input) -> int:
        value: int = _unpack(self.packing, source)[0]
        return value

    def write(self, value: int, sink: _Output) -> None:
        try:
            sink.write(self.packing.pack(value))
        except struct.error:
            raise XdrError(f"{value!r} does not fit {8 * self.packing.size} bits") from None


UInt = _Number("I")
UHyper = _Number("Q")
Hyper = _Number("q")


class _Bool(Declaration):
    def read(self, source: _Input) -> bool:
        value = UInt.read(source)
        if value > 1:
            raise XdrError(f"a bool of {value}")
        return value == 1

    def write(self, value: bool, sink: _Output) -> None:
        sink.write(b"\0\0\0\1" if value else b"\0\0\0\0")


Bool = _Bool()


class Enumerated(Declaration):
    """A closed enum: a value that is not listed is an error."""

    def __init__(self, enum: type[IntEnum]) -> None:
        self.members: dict[int, IntEnum] = {int(member): member for member in enum}
        self.name_of_enum = enum.__name__

    def read(self, source: _Input) -> IntEnum:
        return self._member(UInt.read(source))

    def write(self, value: IntEnum, sink: _Output) -> None:
        UInt.write(self._member(value).value, sink)

    def _member(self, value: int) -> IntEnum:
        try:
            return self.members[value]
        except KeyError:
            raise XdrError(f"{value} is no {self.name_of_enum}") from None


class Fixed(Declaration):
    """`opaque x[length]`; the length is a multiple of 4, so that nothing is padded."""

    def __init__(self, length: int) -> None:
        if length % 4:
            raise ValueError("a fixed opaque here needs no padding")
        self.length = length

    def read(self, source: _Input) -> bytes:
        start = source.pass_over(self.length)
        return bytes(source.data[start : source.at])

    def write(self, value: bytes, sink: _Output) -> None:
        _bounded(len(value), self.length, self.length, "an opaque")
        sink.write(value)


class Opaque(Declaration):
    """`opaque x<most>`, of at least `least` bytes."""

    def __init__(self, most: int, least: int = 0) -> None:
        self.least, self.most = least, most

    def read(self, source: _Input) -> bytes:
        start, end = self._span(source)
        return bytes(source.data[start:end])

    def _span(self, source: _Input) -> tuple[int, int]:
        """Where the bytes are. Nothing is read or made before their number is checked."""
        length = UInt.read(source)
        if not self.least <= length <= self.most:
            _bounded(length, self.least, self.most, "an opaque")
        start = source.pass_over(length + (-length & 3))
        end = start + length
        if end != source.at and any(source.data[end : source.at]):
            raise XdrError("padding that is not zero")
        return start, end

    def write(self, value: bytes, sink: _Output) -> None:
        length = _bounded(len(value), self.least, self.most, "an opaque")
        sink.write(_LENGTH.pack(length))
        sink.write(value)
        sink.write(_ZEROS[-length & 3])


class Tail(Opaque):
    """`opaque x<most>` as the last item of a message: a view of it, never a copy."""

    def read(self, source: _Input) -> memoryview:  # type: ignore[override]
        start, end = self._span(source)
        return memoryview(source.data)[start:end]

    def write(self, value: Buffer, sink: _Output) -> None:
        sink.write(_LENGTH.pack(_bounded(len(value), self.least, self.most, "an opaque")))
        sink.tail = value


class Array(Declaration):
    """`element x<most>`, of at least `least` elements, as a tuple."""

    def __init__(self, element: Declaration, most: int, least: int = 0) -> None:
        self.element, self.least, self.most = element, least, most

    def read(self, source: _Input) -> tuple[Any, ...]:
        count = _bounded(UInt.read(source), self.least, self.most, "an array")
        return tuple([self.element.read(source) for _ in range(count)])

    def write(self, value: Sequence[Any], sink: _Output) -> None:
        UInt.write(_bounded(len(value), self.least, self.most, "an array"), sink)
        for element in value:
            self.element.write(element, sink)


class Optional(Declaration):
    """`element *x`: None, or the element."""

    def __init__(self, element: Declaration) -> None:
        self.element = element

    def read(self, source: _Input) -> Any:
        return self.element.read(source) if Bool.read(source) else None

    def write(self, value: Any, sink: _Output) -> None:
        Bool.write(value is not None, sink)
        if value is not None:
            self.element.write(value, sink)


class Union(Declaration):
    """A discriminated union whose value tells its own arm.

    `arms` maps discriminants to declarations, None for void: the value of a void arm is the discriminant
    itself. A discriminant without an arm is an error.
    """

    def __init__(
        self,
        discriminant: Declaration,
        arms: Mapping[Any, Declaration | None],
        discriminate: Callable[[Any], Any],
    ) -> None:
        self.discriminant, self.arms, self.discriminate = discriminant, arms, discriminate

    def read(self, source: _Input) -> Any:
        which = self.discriminant.read(source)
        arm = self._arm(which)
        return which if arm is None else arm.read(source)

    def write(self, value: Any, sink: _Output) -> None:
        which = self.discriminate(value)
        arm = self._arm(which)
        self.discriminant.write(which, sink)
        if arm is not None:
            arm.write(value, sink)

    def _arm(self, which: Any) -> Declaration | None:
        try:
            return self.arms[which]
        except KeyError:
            raise XdrError(f"a union has no arm {which!r}") from None


def _runs(fields: Iterable[Declaration]) -> tuple[tuple[struct.Struct, Declaration | None], ...]:
    """Neighbouring integers as one packing, and every other field beside an empty one."""
    runs: list[tuple[struct.Struct, Declaration | None]] = []
    codes = ""
    for field in (*fields, None):
        if isinstance(field, _Number):
            codes += field.code
            continue
        if codes:
            runs.append((struct.Struct(">" + codes), None))
            codes = ""
        if field is not None:
            runs.append((_NOTHING, field))
    return tuple(runs)


def _unpack(packing: struct.Struct, source: _Input) -> tuple[Any, ...]:
    at = source.at
    try:
        values = packing.unpack_from(source.data, at)
    except struct.error:
        raise XdrError(f"ends after {len(source.data) - at} of {packing.size} bytes") from None
    source.at = at + packing.size
    return values


class Structure(Declaration):
    """A struct whose value is the dataclass `cls`; the fields are given in the order of both."""

    def __init__(self, cls: type[Any], **fields: Declaration) -> None:
        self.cls = cls
        self.fields = tuple(fields.items())
        self.runs = _runs(fields.values())
        """What is read in turn: a field, or some neighbouring integers at once."""
        names = tuple(field.name for field in dataclasses.fields(cls))
        if names != tuple(fields):
            raise ValueError(f"the fields of {cls.__name__} are {names}, not {tuple(fields)}")

    def read(self, source: _Input) -> Any:
        values: list[Any] = []
        for integers, field in self.runs:
            if field is None:
                values += _unpack(integers, source)
            else:
                values.append(field.read(source))
        try:
            return self.cls(*values)
        except ValueError as error:
            raise XdrError(str(error)) from error

    def write(self, value: Any, sink: _Output) -> None:
        for name, field in self.fields:
            field.write(getattr(value, name), sink)


class Codec(Generic[T]):
    """Bytes to a value and back, by one declaration. `ValueError`s that a dataclass raises are refusals too."""

    def __init__(self, declaration: Declaration, *, has_tail: bool = False) -> None:
        self.declaration = declaration
        self.has_tail = has_tail

    def decode(self, data: Buffer) -> T:
        """The value of which `data` is the whole canonical encoding; else `XdrError`."""
        value, end = self.decode_head(data)
        if end != len(data):
            raise XdrError(f"{len(data) - end} bytes after the end")
        return value

    def decode_head(self, data: Buffer) -> tuple[T, int]:
        """The value at the start of `data`, and where it ends."""
        source = _Input(memoryview(data) if self.has_tail else bytes(data))
        value: T = self.declaration.read(source)
        return value, source.at

    def encode(self, value: T) -> bytes:
        return b"".join(self.encode_parts(value))

    def encode_parts(self, value: T) -> list[Buffer]:
        """The encoding in one to three buffers; a `Tail` is the second one, as it was given."""
        sink = _Output()
        self.declaration.write(value, sink)
        if sink.tail is None:
            return [sink.getvalue()]
        return [sink.getvalue(), sink.tail, bytes(-len(sink.tail) & 3)]
