# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""From an error to an exit status, and to what a person or a program is told. `TABLE` is the one place that says.

Classes are named, not imported, so that a command that ends well pays for none of them. The entry of the
most derived class that has one is taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any

import click

from .output import file_fields, printable, write_json

DEBUG_VARIABLE = "NFSVERITY_DEBUG"


class Exit(IntEnum):
    """Exit statuses; `--help` explains them."""

    OK = 0
    NOT_VERIFIED = 1
    USAGE = 2
    PEER = 3
    LOCAL = 4
    UNVERIFIED = 5
    DIFFERENT = 5
    INCOMPARABLE = 6
    INTERNAL = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


_WEIGHTS = (Exit.INTERNAL, Exit.NOT_VERIFIED, Exit.PEER, Exit.LOCAL, Exit.DIFFERENT, Exit.INCOMPARABLE)
"""What weighs more comes first."""


def weightiest(statuses: Iterable[Exit]) -> Exit:
    """The status of a command of which parts came to these."""
    found = set(statuses)
    return next((status for status in _WEIGHTS if status in found), max(found, default=Exit.OK))


TABLE: dict[str, tuple[Exit, str, str]] = {
    "nfsverity_proto.errors.VerificationError": (Exit.NOT_VERIFIED, "verification", ""),
    "nfsverity_proto.errors.PeerError": (
        Exit.PEER, "peer", "check that the address is that of a server of this protocol"),
    "nfsverity_proto.errors.Unreachable": (
        Exit.PEER, "peer", "check the address, and that the server is running and can be reached"),
    "nfsverity_proto.errors.TimedOut": (Exit.PEER, "peer", "try again later, or allow more time with --timeout"),
    "nfsverity_proto.errors.StatusError": (
        Exit.PEER, "status", "`nfsverity ls` shows what the server has; it may also be busy or at fault"),
    "nfsverity_client.presentation.TooLarge": (Exit.LOCAL, "local", "choose another --presentation"),
    "nfsverity_client.diff.Incomparable": (
        Exit.INCOMPARABLE, "incomparable",
        "`nfsverity get` both, and compare the copies; or have them signed with the same --hash and --unit-size"),
    "nfsverity_client.state.StateError": (Exit.LOCAL, "local", ""),
    "nfsverity_client.trust_store.TrustStoreError": (
        Exit.LOCAL, "local", "`nfsverity trust list` shows what is in the trust store"),
    "nfsverity_client.audit.AuditError": (Exit.LOCAL, "local", "`nfsverity audit verify` shows what is wrong with it"),
    "nfsverity_client.policy.PolicyError": (
        Exit.LOCAL, "local", "`nfsverity policy check` tells all that is wrong with it"),
    "nfsverity_store.layout.StoreError": (Exit.LOCAL, "local", ""),
    "nfsverity_publisher.lock.PublicationError": (Exit.LOCAL, "local", ""),
    "nfsverity_publisher.lock.Busy": (Exit.LOCAL, "local", "try again later, or wait longer with --wait"),
    "nfsverity_command.failure.LocalProblem": (Exit.LOCAL, "local", ""),
    "builtins.OSError": (Exit.LOCAL, "local", ""),
    "builtins.MemoryError": (Exit.LOCAL, "local", "the machine has not enough memory"),
    "builtins.TimeoutError": (Exit.PEER, "peer", "try again later, or allow more time with --timeout"),
    "builtins.ConnectionError": (Exit.PEER, "peer", "try again later"),
    "builtins.BrokenPipeError": (Exit.BROKEN_PIPE, "local", ""),
    "click.exceptions.ClickException": (Exit.USAGE, "usage", ""),
    "click.exceptions.Abort": (Exit.INTERRUPTED, "interrupted", ""),
    "builtins.KeyboardInterrupt": (Exit.INTERRUPTED, "interrupted", ""),
    "builtins.BaseException": (
        Exit.INTERNAL, "internal",
        "this is a mistake in nfsverity: report it, with the version and what --debug prints"),
}  # fmt: skip


_OF_OPTIONS = {"try again later, or wait longer with --wait": ("wait", "try again later")}
"""Advice that names an option, which not all commands have, and what is said by the others."""


def fit_advice(error: BaseException, options: Iterable[str | None]) -> None:
    """Have an error advise no option that the command does not have."""
    each: tuple[Any, ...] = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    for one in each:
        option, otherwise = _OF_OPTIONS.get(getattr(one, "advice", ""), ("", ""))
        if otherwise and option not in options:
            one.advice = otherwise


_OF_LOCAL_FILES = {
    "absent": "if it belongs to the volume, sign the tree again",
    "hidden": "the tree is not whole: get it anew from where it came, or sign it as it is",
    "wrong-kind": "what lies here is not the record of a file: get the tree anew from where it came",
    "wrong-path": "its metadata has another file's record; files that moved must be signed again",
    "not-member": "its metadata is damaged: get the tree anew from where it came, or sign it again",
    "other-head": "its metadata is of two states of the volume: get the tree anew from where it came, or sign it again",
}
"""Advice by verdict, where no server is asked."""
_STANDARD_ERRORS = {
    errno.EEXIST: "remove it first, or choose another name",
    errno.ENOSPC: "make room there, or choose another place",
}
"""Advice by the number of an error of the system."""
STATUS_TEXTS = {
    "NOT_FOUND": "there is no such file or directory",
    "NOT_DIRECTORY": "what is named as a directory is a file",
    "IS_DIRECTORY": "it is a directory",
    "UNSIGNED": "there is no record for it",
    "CHANGED": "the version that was asked for is not there any more",
    "UPDATING": "it is being updated",
    "BUSY": "there is too much to do",
    "ACCESS": "no permission",
    "IO": "it cannot be read there",
    "NOT_SUPPORTED": "the server cannot do this",
}
"""What a status of the protocol says, for people."""


class LocalProblem(Exception):
    """Something on this machine is not as it has to be for what was asked."""


def unwrapped(error: BaseException) -> BaseException:
    """The first of a group of errors, which is one of tasks that failed together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def classified(error: BaseException) -> tuple[Exit, str, str]:
    """Exit status, kind and advice."""
    for cls in type(error).__mro__:
        found = TABLE.get(f"{cls.__module__}.{cls.__qualname__}")
        if found is not None:
            return found[0], found[1], _advice_of(error) or found[2]
    return TABLE["builtins.BaseException"]


def _advice_of(error: BaseException) -> str:
    """What the error itself says is to be done."""
    advice: str = getattr(error, "advice", "")
    verdict, where = getattr(error, "verdict", None), getattr(error, "where", None)
    if verdict in _OF_LOCAL_FILES and "advice" not in vars(error) and str(where).startswith("file:"):
        return _OF_LOCAL_FILES[verdict]
    if not advice and isinstance(error, OSError) and error.errno is not None:
        return _STANDARD_ERRORS.get(error.errno, "")
    return advice


def status_of(error: BaseException) -> Exit:
    return classified(unwrapped(error))[0]


@contextlib.contextmanager
def about(file: str) -> Iterator[None]:
    """Errors raised inside name the file, where they do not yet."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "__notes__"):
            error.add_note(file)
        raise


def _file_of(error: BaseException) -> str | None:
    where = getattr(error, "where", None)
    if where is None and isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        where = os.fsdecode(error.filename)
    if where is None:
        where = next(iter(getattr(error, "__notes__", ())), None)
    return where


def _message_of(error: BaseException, kind: str) -> str:
    """What happened, without the file."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if kind == "interrupted":
        return "interrupted"
    if kind == "status" and str(error).startswith("the server answered "):
        name = getattr(getattr(error, "status", None), "name", "")
        return f"the server answered {name} ({STATUS_TEXTS[name]})" if name in STATUS_TEXTS else str(error)
    if kind == "internal":
        return f"{type(error).__name__}: {error}"
    return str(getattr(error, "message", error))


def _fitted(error: BaseException) -> None:
    """While a command runs, what it tells is fitted to it."""
    context = click.get_current_context(silent=True)
    if context is not None:
        fit_advice(error, [parameter.name for parameter in context.command.params])


def error_fields(error: BaseException) -> dict[str, Any]:
    """An error as `--json` has it. Every key is always there; null where it says nothing."""
    _fitted(error)
    status, kind, advice = classified(error)
    offset, length = getattr(error, "offset", None), getattr(error, "length", None)
    return {
        "kind": kind,
        "verdict": getattr(error, "verdict", None),
        **file_fields(_file_of(error)),
        "message": _message_of(error, kind),
        "expected": getattr(error, "expected", None),
        "found": getattr(error, "found", None),
        "rule": getattr(error, "rule", None),
        "offset": None if offset is None else str(offset),
        "length": None if length is None else str(length),
        "advice": advice or None,
        "status": int(status),
    }


ERROR_FIELDS = {
    "kind": "verification, peer, status, usage, local, incomparable, internal or interrupted",
    "verdict": "the verdict's name in the draft, where something did not verify",
    "file": "its URL or path, percent-encoded where it must be",
    "file_base64": "the path's bytes, only where they are not UTF-8",
    "message": "for people",
    "expected, found": "hashes in hexadecimal, or short texts",
    "rule": "the rule of the policy by which it was judged, with its line; or null",
    "offset, length": "bytes that are bad, where that can be told (decimal strings)",
    "advice": "what to do",
    "status": "the exit status that this error alone gives",
}
"""What `error_fields` has, for `--help`."""


def error_text(error: BaseException, label: str = "") -> str:
    """An error for people: the file, what happened, what to do. `label` says what it is, where that is no error."""
    _fitted(error)
    status, kind, advice = classified(error)
    file = _file_of(error)
    text = str(error) if kind == "verification" else _message_of(error, kind)
    of_system = isinstance(error, OSError) and bool(error.strerror)  # a text that names nothing
    if file is not None and (of_system or file not in text):
        text = f"{file}: {text}"
    if status is Exit.INTERNAL:
        text = f"internal error: {text}"
    return printable(f"nfsverity: {label}{text}" + (f"\n  what to do: {advice}" if advice else ""))


def say(text: str) -> None:
    """A line for people, on standard error."""
    click.echo(printable(text), err=True)


def tell(error: BaseException) -> None:
    """An error for people, on standard error."""
    click.echo(error_text(error), err=True)


def warn(error: BaseException) -> None:
    """An error that nothing ends with, for people, on standard error."""
    click.echo(error_text(error, "warning: "), err=True)


def debugging(arguments: Sequence[str]) -> bool:
    return "--debug" in _options(arguments) or bool(os.environ.get(DEBUG_VARIABLE))


def _options(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments before `--`: an error may come before any option is parsed."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def report(error: BaseException, arguments: Sequence[str]) -> Exit:
    """Say what went wrong, wherever it is to be said; the exit status."""
    error = unwrapped(error)
    status = status_of(error)
    if status is Exit.BROKEN_PIPE:
        return status
    if debugging(arguments):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.UsageError):
        error.show()
    elif status is Exit.INTERRUPTED:
        say("\nnfsverity: interrupted" if sys.stderr is not None and sys.stderr.isatty() else "nfsverity: interrupted")
    else:
        tell(error)
    if "--json" in _options(arguments):
        command = next((word for word in arguments if not word.startswith("-")), None)
        # `cat` has its data on standard output
        file = sys.stderr if command == "cat" else sys.stdout
        write_json({"command": command, "status": int(status), "error": error_fields(error)}, file)
    return status
