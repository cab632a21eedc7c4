# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""RFC 4506 in Construct, strictly: one canonical encoding, and every other is refused.

Construct's own types ignore trailing bytes, take non-zero padding, read any non-zero byte as true and
let unknown enum values through. These do not (fim-dec-1), and they check a length against its bound
before anything of that length is read or made. Wire structures are declared once with them, in
`statement`, `attestation`, `record`, `rpc` and `messages`; no Construct object leaves this package.
"""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Generic, TypeVar

from construct import Construct

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
_LENGTH = struct.Struct(">I")


def _bounded(length: int, least: int, most: int, what: str) -> int:
    if not least <= length <= most:
        raise XdrError(f"{what} of length {length}, allowed are {least} to {most}")
    return length


class _Number(Construct):  # type: ignore[misc]
    def __init__(self, code: str) -> None:
        super().__init__()
        self.packing = struct.Struct(code)

    def _parse(self, stream: _Input, context: object, path: object) -> int:
        at = stream.at
        try:
            value: int = self.packing.unpack_from(stream.data, at)[0]
        except struct.error:
            raise XdrError(f"ends after {len(stream.data) - at} of {self.packing.size} bytes") from None
        stream.at = at + self.packing.size
        return value

    def _build(self, obj: int, stream: _Output, context: object, path: object) -> int:
        try:
            stream.write(self.packing.pack(obj))
        except struct.error:
            raise XdrError(f"{obj!r} does not fit {8 * self.packing.size} bits") from None
        return obj


UInt = _Number(">I")
UHyper = _Number(">Q")
Hyper = _Number(">q")


class _Bool(Construct):  # type: ignore[misc]
    def _parse(self, stream: _Input, context: object, path: object) -> bool:
        value = UInt._parse(stream, context, path)
        if value > 1:
            raise XdrError(f"a bool of {value}")
        return value == 1

    def _build(self, obj: bool, stream: _Output, context: object, path: object) -> bool:
        stream.write(b"\0\0\0\1" if obj else b"\0\0\0\0")
        return obj


Bool = _Bool()


class Enumerated(Construct):  # type: ignore[misc]
    """A closed enum: a value that is not listed is an error."""

    def __init__(self, enum: type[IntEnum]) -> None:
        super().__init__()
        self.members: dict[int, IntEnum] = {int(member): member for member in enum}
        self.name_of_enum = enum.__name__

    def _parse(self, stream: _Input, context: object, path: object) -> IntEnum:
        return self._member(UInt._parse(stream, context, path))

    def _build(self, obj: IntEnum, stream: _Output, context: object, path: object) -> IntEnum:
        UInt._build(self._member(obj).value, stream, context, path)
        return obj

    def _member(self, value: int) -> IntEnum:
        try:
            return self.members[value]
        except KeyError:
            raise XdrError(f"{value} is no {self.name_of_enum}") from None


class Fixed(Construct):  # type: ignore[misc]
    """`opaque x[length]`; the length is a multiple of 4, so that nothing is padded."""

    def __init__(self, length: int) -> None:
        super().__init__()
        if length % 4:
            raise ValueError("a fixed opaque here needs no padding")
        self.length = length

    def _parse(self, stream: _Input, context: object, path: object) -> bytes:
        start = stream.pass_over(self.length)
        return bytes(stream.data[start : stream.at])

    def _build(self, obj: bytes, stream: _Output, context: object, path: object) -> bytes:
        _bounded(len(obj), self.length, self.length, "an opaque")
        stream.write(obj)
        return obj


class Opaque(Construct):  # type: ignore[misc]
    """`opaque x<most>`, of at least `least` bytes."""

    def __init__(self, most: int, least: int = 0) -> None:
        super().__init__()
        self.least, self.most = least, most

    def _parse(self, stream: _Input, context: object, path: object) -> bytes:
        start, end = self._span(stream)
        return bytes(stream.data[start:end])

    def _span(self, stream: _Input) -> tuple[int, int]:
        """Where the bytes are. Nothing is read or made before their number is checked."""
        length = UInt._parse(stream, None, None)
        if not self.least <= length <= self.most:
            _bounded(length, self.least, self.most, "an opaque")
        start = stream.pass_over(length + (-length & 3))
        end = start + length
        if end != stream.at and any(stream.data[end : stream.at]):
            raise XdrError("padding that is not zero")
        return start, end

    def _build(self, obj: bytes, stream: _Output, context: object, path: object) -> bytes:
        length = _bounded(len(obj), self.least, self.most, "an opaque")
        stream.write(_LENGTH.pack(length))
        stream.write(obj)
        stream.write(_ZEROS[-length & 3])
        return obj


class Tail(Opaque):
    """`opaque x<most>` as the last item of a message: a view of it, never a copy."""

    def _parse(self, stream: _Input, context: object, path: object) -> memoryview:  # type: ignore[override]
        start, end = self._span(stream)
        return memoryview(stream.data)[start:end]

    def _build(self, obj: Buffer, stream: _Output, context: object, path: object) -> Buffer:  # type: ignore[override]
        stream.write(_LENGTH.pack(_bounded(len(obj), self.least, self.most, "an opaque")))
        stream.tail = obj
        return obj


class Array(Construct):  # type: ignore[misc]
    """`element x<most>`, of at least `least` elements, as a tuple."""

    def __init__(self, element: Construct, most: int, least: int = 0) -> None:
        super().__init__()
        self.element, self.least, self.most = element, least, most

    def _parse(self, stream: _Input, context: object, path: object) -> tuple[Any, ...]:
        count = _bounded(UInt._parse(stream, context, path), self.least, self.most, "an array")
        return tuple([self.element._parse(stream, context, path) for _ in range(count)])

    def _build(self, obj: Sequence[Any], stream: _Output, context: object, path: object) -> Sequence[Any]:
        UInt._build(_bounded(len(obj), self.least, self.most, "an array"), stream, context, path)
        for element in obj:
            self.element._build(element, stream, context, path)
        return obj


class Optional(Construct):  # type: ignore[misc]
    """`element *x`: None, or the element."""

    def __init__(self, element: Construct) -> None:
        super().__init__()
        self.element = element

    def _parse(self, stream: _Input, context: object, path: object) -> Any:
        return self.element._parse(stream, context, path) if Bool._parse(stream, context, path) else None

    def _build(self, obj: Any, stream: _Output, context: object, path: object) -> Any:
        Bool._build(obj is not None, stream, context, path)
        if obj is not None:
            self.element._build(obj, stream, context, path)
        return obj


class Union(Construct):  # type: ignore[misc]
    """A discriminated union whose value tells its own arm.

    `arms` maps discriminants to declarations, None for void: the value of a void arm is the discriminant
    itself. A discriminant without an arm is an error.
    """

    def __init__(
        self,
        discriminant: Construct,
        arms: Mapping[Any, Construct | None],
        discriminate: Callable[[Any], Any],
    ) -> None:
        super().__init__()
        self.discriminant, self.arms, self.discriminate = discriminant, arms, discriminate

    def _parse(self, stream: _Input, context: object, path: object) -> Any:
        which = self.discriminant._parse(stream, context, path)
        arm = self._arm(which)
        return which if arm is None else arm._parse(stream, context, path)

    def _build(self, obj: Any, stream: _Output, context: object, path: object) -> Any:
        which = self.discriminate(obj)
        arm = self._arm(which)
        self.discriminant._build(which, stream, context, path)
        if arm is not None:
            arm._build(obj, stream, context, path)
        return obj

    def _arm(self, which: Any) -> Construct | None:
        try:
            return self.arms[which]
        except KeyError:
            raise XdrError(f"a union has no arm {which!r}") from None


class Structure(Construct):  # type: ignore[misc]
    """A struct whose value is the dataclass `cls`; the fields are given in the order of both."""

    def __init__(self, cls: type[Any], **fields: Construct) -> None:
        super().__init__()
        self.cls = cls
        self.fields = tuple(fields.items())
        self.declarations = tuple(fields.values())
        names = tuple(field.name for field in dataclasses.fields(cls))
        if names != tuple(fields):
            raise ValueError(f"the fields of {cls.__name__} are {names}, not {tuple(fields)}")

    def _parse(self, stream: _Input, context: object, path: object) -> Any:
        values = [field._parse(stream, context, path) for field in self.declarations]
        try:
            return self.cls(*values)
        except ValueError as error:
            raise XdrError(str(error)) from error

    def _build(self, obj: Any, stream: _Output, context: object, path: object) -> Any:
        for name, field in self.fields:
            field._build(getattr(obj, name), stream, context, path)
        return obj


class Codec(Generic[T]):
    """Bytes to a value and back, by one declaration. `ValueError`s that a dataclass raises are refusals too."""

    def __init__(self, declaration: Construct, *, has_tail: bool = False) -> None:
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
        stream = _Input(memoryview(data) if self.has_tail else bytes(data))
        value: T = self.declaration._parse(stream, None, None)
        return value, stream.at

    def encode(self, value: T) -> bytes:
        return b"".join(self.encode_parts(value))

    def encode_parts(self, value: T) -> list[Buffer]:
        """The encoding in one to three buffers; a `Tail` is the second one, as it was given."""
        stream = _Output()
        self.declaration._build(value, stream, None, None)
        if stream.tail is None:
            return [stream.getvalue()]
        return [stream.getvalue(), stream.tail, bytes(-len(stream.tail) & 3)]
