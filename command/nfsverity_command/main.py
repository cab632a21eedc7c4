# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The entry point of `nfsverity`, and the one boundary at which every error ends."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from . import COMPLETION_VARIABLE, DISTRIBUTION, NAME, STANDARD_OUTPUT, ending

GARBAGE = 50_000
"""Objects made before garbage is looked for: imports make many, and none of them garbage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Nothing is printed twice, and nothing passes as success by accident."""
    gc.set_threshold(GARBAGE)
    given = list(sys.argv[1:] if arguments is None else arguments)
    _occupy_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _output(sys.stdout)
    if given == ["--version"]:  # what is asked most often by programs waits for nothing else
        from importlib.metadata import version

        print(NAME, version(DISTRIBUTION))
        return 0
    ending.install()
    try:
        status = _run(given)
        _flush()
        return status
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the boundary: each has its status and its text
        return _failed(error, given)
    finally:
        gc.freeze()  # the interpreter looks for garbage at its end, in all that there is: 10 ms


def _output(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Standard output, whose errors say where they come from; and names can have what its encoding has not."""
    try:
        is_standard = stream.fileno() == 1
    except OSError:  # what a caller in Python has put there is no file
        is_standard = False
    if not is_standard:
        stream.reconfigure(errors="backslashreplace")
        return stream
    raw = _Output(1, "wb", closefd=False)
    buffer: Any = io.BufferedWriter(raw) if isinstance(stream.buffer, io.BufferedWriter) else raw
    lines, through = stream.line_buffering, stream.write_through
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=lines, write_through=through)


class _Output(io.FileIO):
    """Standard output."""

    def write(self, data: Any, /) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


def _run(given: list[str]) -> int:
    from click.exceptions import Exit

    from .cli import cli

    if COMPLETION_VARIABLE in os.environ:  # a shell asks, and click ends the process
        cli.main(list(given), prog_name=NAME)
    try:
        with cli.make_context(NAME, list(given)) as context:
            status = cli.invoke(context)
    except Exit as end:  # of --help and the like
        return end.exit_code
    return status if isinstance(status, int) else 0


def _failed(error: BaseException, given: Sequence[str]) -> int:
    from . import failure

    try:
        status = failure.report(error, given)
        _flush()
    except OSError:  # neither can it be told, or what is still to be written cannot be
        status = failure.status_of(error)
        _abandon_output()
    if status is failure.Exit.BROKEN_PIPE:
        _abandon_output()
    return status


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _abandon_output() -> None:
    """Nobody gets it any more: what is still buffered must not be an error of the interpreter's end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _occupy_descriptors() -> None:
    """A standard stream that is closed must not become the next file or socket that is opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
