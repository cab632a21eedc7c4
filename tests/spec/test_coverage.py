# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Every normative sentence has a test that claims it, or a reason why not; and every id that is cited exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from .drafts import SOURCES, sentences

ROOT = Path(__file__).resolve().parents[2]
IDS = frozenset(sentence.anchor for source in SOURCES for sentence in sentences(source) if sentence.anchor)
ID = re.compile(r"\bfi[mpn]-[a-z0-9]+-[0-9]+\b")
CODE = ("api", "bench", "client", "command", "demo", "proto", "publisher", "server", "spec", "store", "tests")
UNTESTED = [
    group
    for path in sorted(Path(__file__).parent.glob("untested*.toml"))
    for group in tomllib.loads(path.read_text(encoding="utf-8"))["untested"]
]


def claims() -> Iterator[tuple[str, str]]:
    """Each id that a test claims by `@pytest.mark.spec`, and where."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{path.name}:{node.lineno}: an id is written out"
                    yield str(argument.value), f"{path.relative_to(ROOT)}:{node.lineno}"


CLAIMED = {id for id, _ in claims()}


def matching(pattern: str) -> set[str]:
    return {id for id in IDS if fnmatchcase(id, pattern)}


EXCUSED = {id for group in UNTESTED for pattern in group["ids"] for id in matching(pattern)}


def test_every_sentence_has_a_test_or_a_reason() -> None:
    missing = sorted(IDS - CLAIMED - EXCUSED, key=lambda id: (id.rpartition("-")[0], int(id.rpartition("-")[2])))
    assert missing == []


def test_no_sentence_has_both() -> None:
    assert sorted(CLAIMED & EXCUSED) == []


def test_every_id_that_a_test_claims_exists() -> None:
    assert [f"{where}: {id}" for id, where in claims() if id not in IDS] == []


@pytest.mark.parametrize("group", UNTESTED, ids=lambda group: group["ids"][0])
def test_a_reason_is_one_for_sentences_that_exist(group: dict[str, str | list[str]]) -> None:
    assert set(group) == {"ids", "reason"}
    assert len(str(group["reason"])) > 20
    for pattern in group["ids"]:
        assert matching(pattern), f"{pattern} is no sentence"


def test_a_sentence_has_one_reason() -> None:
    counts = Counter(id for group in UNTESTED for pattern in group["ids"] for id in matching(pattern))
    assert [id for id, count in counts.items() if count > 1] == []


def test_every_id_in_code_and_pages_exists() -> None:
    files = [*(path for folder in CODE for path in (ROOT / folder).rglob("*.py")), *ROOT.glob("*.md")]
    assert len(files) > 50
    unknown = [
        f"{path.relative_to(ROOT)}: {id}"
        for path in files
        for id in ID.findall(path.read_text(encoding="utf-8"))
        if id not in IDS
    ]
    assert unknown == []
