# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which normative sentence is tried by how many vectors, and why some are not: spec/vectors/coverage.json."""

from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .form import Vector

REASONS = Path(__file__).parent / "untested.toml"
POSITIVE, NEGATIVE = 1, 2
"""Vectors that a sentence has at least, or a reason why it has not."""


def sentences(drafts: Iterable[Path]) -> list[str]:
    """The ids of all normative sentences, in the order of the drafts."""
    found = []
    for draft in sorted(drafts):
        for element in ElementTree.parse(draft).iter():
            anchor = element.get("anchor", "")
            if element.find(".//bcp14") is not None and anchor.startswith(("fim-", "fip-", "fin-")):
                found.append(anchor)
    return found


def reasons(ids: Sequence[str]) -> dict[str, str]:
    """By sentence. A pattern that names no sentence, and a sentence with two reasons, are errors."""
    found: dict[str, str] = {}
    for group in tomllib.loads(REASONS.read_text())["untested"]:
        for pattern in group["ids"]:
            matching = [id for id in ids if fnmatchcase(id, pattern)]
            if not matching or found.keys() & set(matching):
                raise ValueError(f"{pattern} names no sentence, or one that has a reason already")
            found |= dict.fromkeys(matching, group["reason"])
    return found


def table(drafts: Iterable[Path], vectors: Mapping[str, Sequence[Vector]]) -> list[dict[str, Any]]:
    ids = sentences(drafts)
    why_not = reasons(ids)
    positive: Counter[str] = Counter()
    negative: Counter[str] = Counter()
    files: defaultdict[str, list[str]] = defaultdict(list)
    for subject, made in vectors.items():
        for vector in made:
            for clause in set(vector.clauses):
                (positive if vector.valid else negative)[clause] += 1
                if subject not in files[clause]:
                    files[clause].append(subject)
    unknown = files.keys() - set(ids)
    if unknown:
        raise ValueError(f"vectors cite sentences that the drafts do not have: {sorted(unknown)}")
    rows = []
    for id in ids:
        row: dict[str, Any] = {"id": id, "positive": positive[id], "negative": negative[id], "files": files[id]}
        if positive[id] < POSITIVE or negative[id] < NEGATIVE:
            if id not in why_not:
                raise ValueError(
                    f"{id} has {positive[id]} valid and {negative[id]} faulty vectors, and no reason for it"
                )
            row["why_not"] = why_not[id]
        elif id in why_not:
            raise ValueError(f"{id} has vectors enough, and a reason why not")
        rows.append(row)
    return rows
