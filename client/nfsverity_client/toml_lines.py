# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""On which line of a TOML document each key is: `tomllib` reads values, and does not say where they were.

The document has been read already, so that its form is known to be right; here only what stands where is found.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field

Place = tuple[str | int, ...]
"""Keys from the top; the elements of an array of tables by their number, from 0."""
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
_VALUE = re.compile(
    r'"{3}(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'{3}(?:[^']|'(?!''))*'{3,5}"
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[][{}\n]|[^]["'{}\#\n]+""",
    re.DOTALL,
)


@dataclass(slots=True)
class _Scan:
    text: str
    at: int = 0
    found: dict[Place, int] = field(default_factory=dict)
    counts: dict[Place, int] = field(default_factory=dict)
    """How many elements an array of tables has so far."""

    def run(self) -> dict[Place, int]:
        table: Place = ()
        while True:
            self.at += len(_matched(_BLANK, self.text, self.at))
            if self.at >= len(self.text):
                return self.found
            line = self.text.count("\n", 0, self.at) + 1
            if self.text.startswith("[", self.at):
                table = self._header(line)
            else:
                self._mark(table, self._keys(), line)
                self.at += 1  # the equals sign
                self._skip_value()

    def _header(self, line: int) -> Place:
        many = self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        keys = self._keys()
        self.at += 2 if many else 1
        place: Place = ()
        for number, key in enumerate(keys):
            place = (*place, key)
            last = number == len(keys) - 1
            if last and many:
                self.counts[place] = self.counts.get(place, 0) + 1
            self.found.setdefault(place, line)
            if place in self.counts:
                place = (*place, self.counts[place] - 1)
                self.found.setdefault(place, line)
        return place

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            match = _KEY.match(self.text, self.at)
            if match is None:
                return keys
            self.at = match.end()
            name = match[1]
            keys.append(str(tomllib.loads(f"x = {name}")["x"]) if name[0] in "\"'" else name)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _mark(self, table: Place, keys: list[str], line: int) -> None:
        for end in range(1, len(keys) + 1):
            self.found.setdefault((*table, *keys[:end]), line)

    def _skip_value(self) -> None:
        depth = 0
        while self.at < len(self.text):
            part = _matched(_VALUE, self.text, self.at)
            if not part or (part == "\n" and depth == 0):
                self.at += 1
                return
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(part, 0)
            self.at += len(part)


def _matched(pattern: re.Pattern[str], text: str, at: int) -> str:
    match = pattern.match(text, at)
    return "" if match is None else match[0]


def key_lines(text: str) -> dict[Place, int]:
    """The line, from 1, of each key and each element of an array of tables in a document that `tomllib` has read."""
    return _Scan(text.replace("\r\n", "\n")).run()


def line_of(lines: dict[Place, int], place: Place) -> int | None:
    """The line of a place, or of what it is in."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place)
