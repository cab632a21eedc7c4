# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nfsverity_proto import errors
from nfsverity_proto.messages import Status

TABLE = json.loads((Path(__file__).parents[3] / "spec" / "verdicts.json").read_text())["verdicts"]


@pytest.mark.spec("fim-ver-9")
def test_the_verdicts_are_those_of_the_draft_in_its_order() -> None:
    assert [verdict.verdict for verdict in errors.VERDICTS] == [row["name"] for row in TABLE]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["name"])
def test_each_verdict_has_the_step_of_the_draft(row: dict[str, str]) -> None:
    verdict = next(verdict for verdict in errors.VERDICTS if verdict.verdict == row["name"])
    assert verdict.step == int(re.split(", ", row["step"])[0])
    assert verdict.__doc__
    assert verdict.advice


def test_each_error_has_one_root_and_one_branch() -> None:
    branches = (errors.PeerError, errors.StatusError, errors.VerificationError)
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(found) > len(errors.VERDICTS)
    for error in found:
        assert issubclass(error, errors.NfsVerityError)
        assert not issubclass(error, (ValueError, OSError))
        assert error is errors.NfsVerityError or sum(issubclass(error, branch) for branch in branches) == 1


def test_every_leaf_of_verification_is_a_verdict() -> None:
    assert set(errors.VerificationError.__subclasses__()) == set(errors.VERDICTS)


def test_a_verdict_says_where_what_was_expected_and_what_was_found() -> None:
    error = errors.WrongPath("the record is of another path", expected="a", found="b", where="nfsv://h:1/a")
    assert str(error) == "nfsv://h:1/a: wrong-path: the record is of another path (expected a, found b)"
    assert str(errors.Unsigned("there is no record")) == "unsigned: there is no record"


@pytest.mark.spec("fim-ver-11")
def test_a_mismatch_keeps_its_range_of_bytes() -> None:
    error = errors.Mismatch("differs", offset=4096, length=10, expected="aa", found="bb", where="x")
    assert (error.offset, error.length, error.expected, error.found) == (4096, 10, "aa", "bb")


def test_a_status_is_kept_with_its_error() -> None:
    assert errors.StatusError(Status.BUSY).status is Status.BUSY
    assert "text" in str(errors.StatusError(Status.BUSY, "text"))
