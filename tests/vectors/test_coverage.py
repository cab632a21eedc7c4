# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Every normative sentence has a valid vector and two faulty ones, or a reason why not, as coverage.json says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vectors import coverage, subjects

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "spec" / "vectors"
ROWS: list[dict[str, Any]] = json.loads((FOLDER / "coverage.json").read_text())["sentences"]


def test_the_table_has_every_sentence_of_the_drafts_once() -> None:
    ids = coverage.sentences((ROOT / "spec").glob("draft-*.xml"))
    assert len(ids) > 300
    assert [row["id"] for row in ROWS] == ids
    assert len(set(ids)) == len(ids)


def test_the_table_counts_what_is_there() -> None:
    """From the JSON, not from the oracle that wrote it."""
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for subject in subjects.SUBJECTS:
        for vector in json.loads((FOLDER / f"{subject}.json").read_text())["vectors"]:
            counts[vector["valid"]].update(vector["clauses"])
    for row in ROWS:
        assert (row["positive"], row["negative"]) == (counts[True][row["id"]], counts[False][row["id"]]), row["id"]
    assert set(counts[True]) | set(counts[False]) <= {row["id"] for row in ROWS}


def test_a_sentence_has_vectors_or_a_reason() -> None:
    for row in ROWS:
        enough = row["positive"] >= coverage.POSITIVE and row["negative"] >= coverage.NEGATIVE
        assert enough != ("why_not" in row), row["id"]
    assert sum("why_not" not in row for row in ROWS) > 120


def test_a_reason_for_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = tmp_path / "untested.toml"
    monkeypatch.setattr(coverage, "REASONS", reasons)
    for ids in (["fim-none-*"], ["fim-ver-1", "fim-ver-[1-3]"]):
        reasons.write_text(f'[[untested]]\nids = {ids}\nreason = "because"\n')
        with pytest.raises(ValueError, match="names no sentence"):
            coverage.reasons(["fim-ver-1", "fim-ver-2"])
