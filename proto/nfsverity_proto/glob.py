# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Patterns over paths, which are bytes: which paths fit, and whether all that fit one fit others.

A pattern is names joined by "/", as a path is. In a name "*" stands for any bytes, none included. The name
"**" stands for any number of whole names: none, too, unless it is the last, where it is at least one. A
backslash takes the meaning of the "*" or backslash after it away, and `\\xHH` is the byte HH. All else stands
for itself: a question mark, brackets, and what is not ASCII for its UTF-8.

Patterns are run as automata, so that no pattern and no path takes longer than their product.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .path import PATH_MAX

STAR, DEEP, REST = 256, 257, 258
"""Beside bytes: any of a name; any whole names with "/" after them; one name or more, to the end."""
SLASH = 0x2F
STATES_MAX = 20_000
"""Of the product of automata; above it nothing is said to be contained."""
_PART = re.compile(r"\\x([0-9a-fA-F]{2})|\\([\\*])|(\\)|(\*)|([^\\*]+)")

_States = frozenset[tuple[int, bool]]
"""(i, False): token i is next; (i, True): within token i, which is DEEP or REST."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Raises `ValueError` for what no path can fit."""

    text: str

    def __post_init__(self) -> None:
        _tokens(self.text)

    def fits(self, path: bytes) -> bool:
        tokens = _tokens(self.text)
        states = _start(tokens)
        for byte in path:
            states = _step(tokens, states, byte)
            if not states:
                return False
        return _accepts(tokens, states)


def covered(narrow: Pattern, wide: Sequence[Pattern]) -> bool:
    """Whether every path that fits `narrow` fits one of `wide`. (False, too, where that is too much to find out.)"""
    all_tokens = [_tokens(pattern.text) for pattern in (narrow, *wide)]
    used = {token for tokens in all_tokens for token in tokens if token < STAR} | {SLASH}
    alphabet = sorted(used | {next(byte for byte in range(1, 256) if byte not in used)} if len(used) < 255 else used)
    first = tuple(_start(tokens) for tokens in all_tokens), True
    seen, left = {first}, [first]
    while left:
        states, begins_name = left.pop()  # an empty name is none, so it tells nothing
        accepted = [_accepts(tokens, found) for tokens, found in zip(all_tokens, states, strict=True)]
        if accepted[0] and not begins_name and not any(accepted[1:]):
            return False
        for byte in alphabet:
            if byte == SLASH and begins_name:
                continue
            after = tuple(_step(tokens, found, byte) for tokens, found in zip(all_tokens, states, strict=True))
            place = after, byte == SLASH
            if after[0] and place not in seen:
                if len(seen) >= STATES_MAX:
                    return False
                seen.add(place)
                left.append(place)
    return True


@lru_cache(maxsize=1024)
def _tokens(text: str) -> tuple[int, ...]:
    if len(text) > 4 * PATH_MAX:
        raise ValueError(f"a pattern of {len(text)} characters")
    names = text.split("/")
    tokens: list[int] = []
    for place, name in enumerate(names):
        if name in ("", ".", ".."):
            raise ValueError(f"{text!r} is no pattern of a path: it has {'an empty name' if not name else repr(name)}")
        if name == "**":
            tokens.append(REST if place == len(names) - 1 else DEEP)
            continue
        tokens += _name(text, name)
        if place < len(names) - 1:
            tokens.append(SLASH)
    return tuple(tokens)


def _name(text: str, name: str) -> Iterator[int]:
    before = ""
    for match in _PART.finditer(name):
        if match[1] is not None:
            byte = int(match[1], 16)
            if byte in (0, SLASH):
                raise ValueError(f"{text!r} has {match[0]}, which no name can have")
            yield byte
        elif match[2] is not None:
            yield ord(match[2])
        elif match[3] is not None:
            raise ValueError(rf"{text!r} has a backslash before what needs none: \*, \\ and \xHH are known")
        elif match[4] is not None:
            if before == "*":
                raise ValueError(f'{text!r} has "**" within a name: it is a whole name, or not there')
            yield STAR
        else:
            if "\0" in match[5]:
                raise ValueError(f"{text!r} has NUL, which no name can have")
            try:
                yield from match[5].encode()
            except UnicodeEncodeError:
                raise ValueError(rf"{text!r} is no Unicode: other bytes are written as \xHH") from None
        before = match[0]


@lru_cache(maxsize=4096)
def _closed(tokens: tuple[int, ...], states: _States) -> _States:
    """With those that are reached without a byte: STAR and DEEP may stand for none."""
    found, left = set(states), list(states)
    while left:
        at, within = left.pop()
        if not within and at < len(tokens) and tokens[at] in (STAR, DEEP) and (at + 1, False) not in found:
            found.add((at + 1, False))
            left.append((at + 1, False))
    return frozenset(found)


def _start(tokens: tuple[int, ...]) -> _States:
    return _closed(tokens, frozenset({(0, False)}))


def _step(tokens: tuple[int, ...], states: _States, byte: int) -> _States:
    found: set[tuple[int, bool]] = set()
    for at, within in states:
        token = tokens[at] if at < len(tokens) else None
        if token == byte or (token == STAR and byte != SLASH):
            found.add((at if token == STAR else at + 1, False))
        elif token in (DEEP, REST):
            found.add((at, True))
            if token == DEEP and within and byte == SLASH:
                found.add((at + 1, False))
    return _closed(tokens, frozenset(found))


def _accepts(tokens: tuple[int, ...], states: _States) -> bool:
    return (len(tokens), False) in states or (tokens[-1] == REST and (len(tokens) - 1, True) in states)
