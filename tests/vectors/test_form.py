# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The form of the vectors: schema and ids; a fault undone leaves a valid base; and they come out again to the byte."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectors import certificates, form, subjects

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "spec" / "vectors"
SUBJECTS = list(subjects.SUBJECTS)
Json = dict[str, Any]


@cache
def load(name: str) -> Json:
    found: Json = json.loads((FOLDER / f"{name}.json").read_text())
    return found


@cache
def every() -> dict[str, Json]:
    return {vector["id"]: vector for subject in SUBJECTS for vector in load(subject)["vectors"]}


def test_what_comes_out_of_the_oracle_is_what_is_committed() -> None:
    command = [sys.executable, "-m", "vectors", "--check"]
    result = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_oracle_imports_nothing_of_the_project() -> None:
    folders = (ROOT / "tests" / "vectors", ROOT / "tests" / "oracle")
    paths = [path for folder in folders for path in folder.glob("*.py") if not path.name.startswith("test_")]
    assert len(paths) > 30
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith("nfsverity")], path.name


@cache
def schema() -> Json:
    return load("schema")


def test_the_schema_is_one_and_strict() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())

    def objects(value: Any) -> list[Json]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        found = [one for item in inner for one in objects(item)]
        return [value, *found] if isinstance(value, dict) and value.get("type") == "object" else found

    assert len(objects(schema())) > 50
    assert [one for one in objects(schema()) if one.get("additionalProperties") is not False] == []


@pytest.mark.parametrize("name", [*SUBJECTS, "certificates", "coverage"])
def test_files_are_as_the_schema_says(name: str) -> None:
    """Head and vectors apart: a vector that breaks its own rules is told by its id."""
    data = load(name)
    form_of_file = next(one for one in schema()["oneOf"] if one["properties"]["subject"]["enum"] == [name])
    lists = {key: value for key, value in data.items() if isinstance(value, list)}
    for key, items in lists.items():
        rule = {"$defs": schema()["$defs"], **form_of_file["properties"][key]["items"]}
        validator = jsonschema.Draft202012Validator(rule)
        for item in items:
            for error in validator.iter_errors(item):
                pytest.fail(f"{item.get('id', item.get('name'))}: {error.json_path} {error.message[:300]}")
    assert data.keys() == form_of_file["properties"].keys()
    head = {key: value[:1] if key in lists else value for key, value in data.items()}
    jsonschema.Draft202012Validator(schema()).validate(head)


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"id": "Upper"},
        {"valid": "yes"},
        {"outcome": "perhaps"},
        {"clauses": []},
        {"flags": ["odd"]},
        {"base": None},
        {"input": {}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses_what_is_not_a_vector(change: Json) -> None:
    vector = every()["proof-sha256-7-2-5-3--short"]
    rule = {"$defs": schema()["$defs"], "$ref": "#/$defs/proof-vector"}
    validator = jsonschema.Draft202012Validator(rule)
    assert validator.is_valid(vector)
    assert not validator.is_valid(vector | change)


def test_ids_are_used_once_and_never_again() -> None:
    ids = Counter(vector["id"] for subject in SUBJECTS for vector in load(subject)["vectors"])
    assert [id for id, count in ids.items() if count > 1] == []
    lines = (Path(__file__).parent / "retired.txt").read_text().splitlines()
    retired = {line for line in lines if line and not line.startswith("#")}
    assert sorted(ids.keys() & retired) == []


def test_there_are_enough_and_not_too_much() -> None:
    assert len(every()) >= 2000
    negative = [vector for vector in every().values() if not vector["valid"]]
    assert len(negative) >= 1000
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 7 * 2**20


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_fault_undone_leaves_a_valid_base(subject: str) -> None:
    """The base itself runs in test_vectors.py, where it has to end as valid."""
    vectors = {vector["id"]: vector for vector in load(subject)["vectors"]}
    for vector in vectors.values():
        if "base" not in vector:
            assert vector["valid"], vector["id"]
            continue
        base = vectors[vector["base"]]
        assert base["valid"], vector["id"]
        assert vector["id"].startswith(base["id"] + "--"), vector["id"]
        assert vector["input"] != base["input"], vector["id"]
        assert form.undone(vector["input"], vector["edits"]) == base["input"], vector["id"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_single_fault_is_in_one_place(subject: str) -> None:
    """Where nothing was signed again, one field changes, or two that belong together."""
    for vector in load(subject)["vectors"]:
        flags = set(vector.get("flags", ()))
        if "base" not in vector or flags & {"several-faults", "re-signed"}:
            continue
        fields = {edit["in"].split("/")[1] for edit in vector["edits"]}
        assert len(fields) == 1 or fields in PAIRS, vector["id"]


PAIRS: list[set[str]] = [
    {"first", "end"}, {"first", "count"}, {"first", "level"}, {"level", "index"},  # one range, one name of a node
    # what goes with the other
    {"marks", "trust"}, {"path", "record"},
    {"entry", "url"}, {"content", "read"}, {"holes", "data"}, {"certificate", "value"}, {"message", "value"},
    {"record", "trust"}, {"trust", "certificates"}, {"record", "trust", "certificates"}, {"trust", "url"},
]  # fmt: skip


def test_every_row_of_the_table_of_changes_has_cases() -> None:
    rows = {row["id"]: row for row in json.loads((ROOT / "spec" / "verdicts.json").read_text())["changes"]}
    cases = Counter(vector["change"] for vector in load("verification")["vectors"] if "change" in vector)
    assert rows.keys() == cases.keys()
    for vector in load("verification")["vectors"]:
        if "change" in vector:
            assert vector["outcome"] == rows[vector["change"]]["verdict"], vector["id"]


def test_each_verdict_comes_at_a_step_that_the_draft_has_for_it() -> None:
    verdicts = json.loads((ROOT / "spec" / "verdicts.json").read_text())["verdicts"]
    steps = {row["name"]: set(map(int, row["step"].split(", "))) for row in verdicts}
    seen: dict[str, set[int]] = {name: set() for name in steps}
    for vector in [*load("verification")["vectors"], *load("member")["vectors"]]:
        if not vector["valid"]:
            assert vector["step"] in steps[vector["outcome"]], vector["id"]
            seen[vector["outcome"]].add(vector["step"])
    # what a provider says or does later, what is made on a disk, and a policy are no input of these vectors
    dynamic = {"stale", "updating", "policy-refused", "absent", "hidden", "link-outside", "name-collision"}
    assert {name: steps[name] for name in steps.keys() - dynamic} == {
        name: seen[name] for name in seen.keys() - dynamic
    }


def test_certificates_are_those_that_vectors_name() -> None:
    listed = {one["name"] for one in load("certificates")["certificates"]}
    given = [vector["input"] for subject in ("verification", "scope") for vector in load(subject)["vectors"]]
    entries = [entry for one in given for entry in [*one.get("trust", ()), *([one["entry"]] if "entry" in one else ())]]
    named = {entry["anchor"] for entry in entries}
    named |= {name for one in given for found in one.get("certificates", ()) for name in found["given"]}
    named |= {mark["signer"] for one in given for mark in one.get("marks", ())}
    named |= {found["signer"] for one in given for found in one.get("revoked", {}).get("accepted", ())}
    named |= {vector["input"]["certificate"] for vector in load("signature")["vectors"]}
    assert listed == named


RUNS = st.builds(lambda length, byte: bytes([byte]) * length, st.integers(0, 200), st.integers(0, 255))
COUNTED = st.builds(form.counting, st.integers(0, 400), st.integers(0, 250))


@given(st.lists(st.binary(max_size=90) | RUNS | COUNTED, max_size=4).map(b"".join))
@settings(max_examples=200)
def test_bytes_are_packed_and_unpacked(data: bytes) -> None:
    assert form.unpacked(form.packed(data)) == data


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
@settings(max_examples=200)
def test_edits_lead_from_one_to_the_other_and_back(head: bytes, was: bytes, now: bytes) -> None:
    before, after = {"a": [head + was + head]}, {"a": [head + now + head]}
    assert form.undone(form.json_of(after), list(form.edits(before, after))) == form.json_of(before)


def test_the_example_is_the_certificate_of_the_draft() -> None:
    der = next(one["der"] for one in load("certificates")["certificates"] if one["name"] == "example")
    assert form.unpacked(der) == certificates.example().der
