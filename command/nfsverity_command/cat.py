# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity cat`."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import click

from . import STANDARD_OUTPUT, ending
from .caching import CACHE_FIELDS, cache_data_option, cache_option, caching
from .checked import unverified_text
from .failure import Exit, LocalProblem, about, say
from .frame import Command, policy_options, presentation_option, timeout_option, trust_options, wait_option
from .output import identity_fields, write_json
from .parameters import BYTES, URL
from .progress import Meter, meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nfsverity_client.opening import Opened
    from nfsverity_proto.url import Url

STDOUT = 1


@click.command(
    cls=Command,
    examples=[
        ("A file", "nfsverity cat nfsv://host:12049/etc/motd"),
        (
            "1,000 bytes from the middle of a large one",
            "nfsverity cat --offset 5G --length 1000 nfsv://host:12049/disk",
        ),
    ],
    statuses={
        1: "something did not verify; only bytes that did were written",
        5: "all was written, and none of it is verified: a rule of the policy lets it pass",
    },
    fields={
        "command, status": '"cat", 0 or 5; all this on standard error, since the data is on standard output',
        "file": "its URL",
        "volume, label, generation": "of the version that was read",
        "label_base64": "only where the label is not UTF-8",
        "signers": "subject, fingerprint and scheme of each",
        "size": "of the whole file, a decimal string",
        "bytes": "that were written, a decimal string",
        **CACHE_FIELDS,
        "unverified": "which rule let it pass without being verified (then nothing is said of a version), or null",
        "verdict": "verified; of what is unverified, its verdict where it was asked, or null",
    },
)
@click.argument("url", type=URL)
@click.option("--offset", type=BYTES, default="0", metavar="N", help="Begin at this byte (also as 64K, 1M, 5G).")
@click.option("--length", type=BYTES, metavar="N", help="Write at most so many bytes.")
@presentation_option
@wait_option
@timeout_option
@cache_option
@cache_data_option
@trust_options
@policy_options
def command(
    url: Url,
    offset: int,
    length: int | None,
    presentation: str,
    wait: float,
    timeout: float,
    no_cache: bool,
    cache_data: bool,
    trust_files: tuple[str, ...],
    volume: bytes | None,
    policy_file: str | None,
    audit_log: str | None,
    as_json: bool,
) -> Exit:
    """Write a served file, or a range of its bytes, to standard output.

    No byte is written before it was verified, and all are of one version. A range costs what it needs: its
    own units, and a few hashes. (A policy can say otherwise: then what is written is called UNVERIFIED.)
    """
    from . import belief
    from .network import session_for

    if sys.stdout is None:
        raise LocalProblem("standard output is closed")
    believed = belief.load(trust_files, volume, policy_file, audit_log)
    use = caching(no_cache, cache_data)

    async def run() -> tuple[Opened, int]:
        from nfsverity_client.opening import open_at
        from nfsverity_client.reader import FETCH_DEFAULT

        async with session_for(url, believed, timeout, wait, presentation, use) as session:
            reader = await open_at(session, url.path, most=0 if offset else FETCH_DEFAULT)
            with _shown_beside(url) as shows:
                shows.expect(max(0, min(reader.size - offset, reader.size if length is None else length)))
                return reader, await _write(reader, offset, length, shows)

    with about(str(url)):
        reader, written = ending.run(run())
    status = Exit.OK if reader.unverified is None else Exit.UNVERIFIED
    if reader.unverified is not None:
        say(unverified_text(str(url), reader.unverified, reader.verdict))
    if as_json:
        fields = {
            "command": "cat",
            "status": int(status),
            "file": str(url),
            **identity_fields(None if reader.unverified is not None else reader.verified),
            "size": str(reader.size),
            "bytes": str(written),
            "unverified": reader.unverified,
            "verdict": reader.verdict,
            **use.fields(),
        }
        write_json(fields, sys.stderr)
    return status


def _shown_beside(url: Url) -> contextlib.AbstractContextManager[Meter]:
    """Progress, unless the file itself is what the terminal shows."""
    if sys.stdout.isatty():
        return contextlib.nullcontext(Meter())
    return meter(str(url))


async def _write(reader: Opened, offset: int, length: int | None, shows: Meter) -> int:
    write = _writer()
    written = 0
    async with contextlib.aclosing(reader.stream(offset, length)) as parts:
        async for part in parts:
            await write(part)
            written += len(part)
            shows.add(len(part))
    return written


def _writer() -> Callable[[memoryview], Awaitable[None]]:
    """Writes to standard output. Where that may block for long, replies are received meanwhile."""
    mode = os.fstat(STDOUT).st_mode
    return _write_here if stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(STDOUT)) else _Beside().write


def _write_all(data: memoryview) -> None:
    try:
        while data:
            data = data[os.write(STDOUT, data) :]
    except OSError as error:
        error.filename = STANDARD_OUTPUT
        raise


async def _write_here(data: memoryview) -> None:
    _write_all(data)


class _Beside:
    """A thread that writes, and that nobody waits for when the command ends: its reader may have stopped."""

    def __init__(self) -> None:
        import queue
        import threading

        self._jobs: queue.SimpleQueue[tuple[memoryview, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    async def write(self, data: memoryview) -> None:
        import asyncio

        done = asyncio.get_running_loop().create_future()
        self._jobs.put((data, done))
        await done

    def _run(self) -> None:
        while True:
            data, done = self._jobs.get()
            problem: OSError | None = None
            try:
                _write_all(data)
            except OSError as error:
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                done.get_loop().call_soon_threadsafe(_settle, done, problem)


def _settle(done: Any, problem: OSError | None) -> None:
    if done.cancelled():
        return
    if problem is None:
        done.set_result(None)
    else:
        done.set_exception(problem)
