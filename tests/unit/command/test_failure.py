# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Every error has its exit status, its text for people and its JSON."""

from __future__ import annotations

import importlib

import click
import pytest

from nfsverity_client.trust_store import TrustStoreError
from nfsverity_command import failure
from nfsverity_command.failure import TABLE, Exit, LocalProblem, error_fields, error_text, status_of
from nfsverity_proto import errors
from nfsverity_proto.messages import Status
from nfsverity_publisher.lock import PublicationError
from nfsverity_publisher.workers import Changed
from nfsverity_store.layout import NotPublished, StoreError


@pytest.mark.parametrize("name", TABLE)
def test_the_table_names_classes_that_there_are(name: str) -> None:
    module, _, cls = name.rpartition(".")
    found = getattr(importlib.import_module(module), cls)
    assert issubclass(found, BaseException)
    assert f"{found.__module__}.{found.__qualname__}" == name


EXPECTED = [
    (errors.MalformedMessage("x"), 3),
    (errors.RpcRefused("x"), 3),
    (errors.Unreachable("x"), 3),
    (errors.TimedOut("x"), 3),
    (errors.StatusError(Status.NOT_FOUND), 3),
    (TimeoutError(), 3),
    (ConnectionResetError(), 3),
    (TrustStoreError("x"), 4),
    (StoreError("x"), 4),
    (NotPublished("x"), 4),
    (PublicationError("x"), 4),
    (Changed(), 4),
    (LocalProblem("x"), 4),
    (FileNotFoundError(2, "No such file or directory", "f"), 4),
    (OSError(28, "No space left on device"), 4),
    (MemoryError(), 4),
    (click.UsageError("x"), 2),
    (click.BadParameter("x"), 2),
    (click.Abort(), 130),
    (KeyboardInterrupt(), 130),
    (BrokenPipeError(), 141),
    (ValueError("x"), 70),
    (RecursionError(), 70),
    (errors.NfsVerityError("x"), 70),
]


@pytest.mark.parametrize(("error", "status"), EXPECTED, ids=lambda value: type(value).__name__)
def test_the_status_of_an_error(error: BaseException, status: int) -> None:
    assert status_of(error) == status
    assert error_fields(error)["status"] == status


@pytest.mark.parametrize("verdict", errors.VERDICTS)
def test_every_verdict_is_status_1_with_its_name_and_advice(verdict: type[errors.VerificationError]) -> None:
    error = verdict("it is not", expected="aa", found="bb", where="nfsv://h:1/f")
    assert status_of(error) is Exit.NOT_VERIFIED
    fields = error_fields(error)
    assert (fields["kind"], fields["verdict"], fields["file"]) == ("verification", verdict.verdict, "nfsv://h:1/f")
    assert (fields["expected"], fields["found"], fields["message"]) == ("aa", "bb", "it is not")
    assert fields["advice"] == verdict.advice
    text = error_text(error)
    assert "nfsv://h:1/f" in text
    assert verdict.verdict in text
    assert f"what to do: {verdict.advice}" in text


def test_errors_of_tasks_that_failed_together_are_those_of_the_first() -> None:
    group = ExceptionGroup("tasks", [ExceptionGroup("more", [errors.TimedOut("x")]), ValueError()])
    assert status_of(group) is Exit.PEER


def test_every_error_has_the_same_keys() -> None:
    mismatch = errors.Mismatch("x", offset=2**60, length=2, expected="a", found="b", where="f")
    keys = set(error_fields(mismatch))
    assert all(set(error_fields(error)) == keys for error, _ in EXPECTED)
    assert error_fields(mismatch)["offset"] == str(2**60)
    documented = {key for names in failure.ERROR_FIELDS for key in names.split(", ")}
    assert keys == documented - {"file_base64"}


def test_a_file_that_is_not_utf_8_is_percent_encoded_with_its_bytes_beside() -> None:
    fields = error_fields(FileNotFoundError(2, "No such file or directory", b"/t/caf\xe9"))
    assert fields["file"] == "/t/caf%E9"
    assert fields["file_base64"] == "L3QvY2Fm6Q=="


def test_a_note_names_the_file_where_the_error_does_not() -> None:
    with pytest.raises(errors.TimedOut) as caught, failure.about("outer"), failure.about("nfsv://h:1/f"):
        raise errors.TimedOut("no answer to READ in time")
    assert error_fields(caught.value)["file"] == "nfsv://h:1/f"
    assert error_text(caught.value).startswith("nfsverity: nfsv://h:1/f: no answer")


def test_a_status_is_told_by_its_name() -> None:
    text = error_text(errors.StatusError(Status.NOT_FOUND))
    assert "the server answered NOT_FOUND (there is no such file or directory)" in text
    assert set(failure.STATUS_TEXTS) <= set(Status.__members__)


def test_nothing_that_a_terminal_would_obey_is_printed() -> None:
    error = errors.Untrusted('signed by "\x1b[2J\u202eevil\r"', where="/t/\udce9")
    text = error_text(error)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J\\u202eevil\\x0d" in text
    assert "/t/\\xe9" in text
