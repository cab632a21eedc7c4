# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity get`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import ending
from .checked import FILE_FIELDS, Checked, Checks
from .failure import Exit, about
from .frame import Command, presentation_option, timeout_option, trust_options, wait_option
from .output import name_fields, write_json
from .parameters import URL
from .progress import Meter, meter

if TYPE_CHECKING:
    from nfsverity_client.reader import Reader
    from nfsverity_client.session import Session
    from nfsverity_proto.url import Url

    from .belief import Belief
    from .staging import NewFile, NewTree


@click.command(
    cls=Command,
    examples=[
        ("One file", "nfsverity get nfsv://host:12049/bin/tool ./tool"),
        ("A whole tree, to the new directory mirror", "nfsverity get nfsv://host:12049/ mirror"),
        ("Fail at once while a file is being updated", "nfsverity get --wait 0 nfsv://host:12049/db ./db"),
    ],
    statuses={
        1: "something did not verify, and is not at its destination; of a tree, the other files are",
        4: "something on this machine: no such folder, no room, names that collide",
    },
    fields={
        "command, status": '"get", and the exit status',
        "destination": "the file or directory that was written",
        "destination_base64": "only where that is not UTF-8",
        "files": "one object for each file, with:",
        **{", ".join(f"files.{name}" for name in names.split(", ")): text for names, text in FILE_FIELDS.items()},
        "verified, failed": "numbers of files",
        "bytes": "of the files that were written, a decimal string",
    },
)
@click.argument("url", type=URL)
@click.argument("destination", type=click.Path(), metavar="DEST")
@presentation_option
@wait_option
@timeout_option
@trust_options
def command(
    url: Url,
    destination: str,
    presentation: str,
    wait: float,
    timeout: float,
    trust_files: tuple[str, ...],
    volume: bytes | None,
    as_json: bool,
) -> Exit:
    """Copy a served file, or all files below a served directory, to DEST on this machine.

    A file is at its destination only when it is whole, verified and synced; a file that was there is replaced
    at once. If DEST is a directory, a file goes into it, and a tree's files take their places in it (nothing
    else there is touched). Of a tree, what does not verify is reported and left out. Mode and time are as
    signed.
    """
    from . import belief

    believed = belief.load(trust_files, volume)
    run = _run(url, Path(destination), believed, presentation, wait, timeout)
    with about(str(url)):
        target, checks = ending.run(run)
    if as_json:
        fields = {
            "command": "get",
            "status": int(checks.status),
            **name_fields("destination", os.fsencode(target)),
            **checks.fields(),
        }
        write_json(fields)
    return checks.status


async def _run(
    url: Url, destination: Path, believed: Belief, presentation: str, wait: float, timeout: float
) -> tuple[Path, Checks]:
    """Where it was written to, and what became of each file."""
    from nfsverity_proto.messages import FileType

    from .network import session_for

    async with session_for(url, believed, timeout, wait, presentation) as session:
        found = await session.resolve(url.path)
        if found.attributes.type is FileType.DIRECTORY:
            return destination, await _get_tree(session, url.path, destination)
        if destination.is_dir():
            destination = destination / os.fsdecode(url.path.rpartition(b"/")[2])
        checks = Checks()
        checks.add(await _get_file(session, url.path, destination))
        return destination, checks


async def _get_file(session: Session, path: bytes, destination: Path) -> Checked:
    from nfsverity_client.reader import open_file

    from .staging import new_file

    reader = await open_file(session, path)
    with meter(session.url_of(path), reader.size) as shows, new_file(destination, False) as file:
        await _copy(reader, file, shows)
    return Checked(reader.url, path, reader.verified)


async def _copy(reader: Reader, file: NewFile, shows: Meter) -> None:
    async with contextlib.aclosing(reader.stream()) as parts:
        async for part in parts:
            file.write(part)
            shows.add(len(part))
    signed = reader.verified.file  # since its first byte the reader is pinned to this version
    file.executable = signed.executable
    file.finish(signed.content.mtime.to_ns())


async def _get_tree(session: Session, path: bytes, destination: Path) -> Checks:
    from nfsverity_client.pipeline import in_order

    from .network import FILES_AT_ONCE, files_below
    from .staging import NewTree

    checks = Checks()
    found = await files_below(session, path)
    tree = NewTree(destination)
    with contextlib.closing(tree), meter(session.url_of(path), sum(size for _, size in found)) as shows:
        jobs = (_get_below(session, below, below[len(path) :].lstrip(b"/"), tree, shows) for below, _ in found)
        async with contextlib.aclosing(in_order(jobs, FILES_AT_ONCE)) as results:
            async for checked in results:
                checks.add(checked)
        if checks.status is Exit.OK or any(checked.error is None for checked in checks.files):
            tree.commit()
    return checks


async def _get_below(session: Session, path: bytes, below: bytes, tree: NewTree, shows: Meter) -> Checked:
    """One file of a tree, to where it is kept until all are there."""
    from nfsverity_client.reader import open_file
    from nfsverity_proto.errors import NfsVerityError

    from .failure import LocalProblem

    url = session.url_of(path)
    created = False
    try:
        with about(url):
            reader = await open_file(session, path)
            file = tree.create(below, False)
            created = True
            try:
                await _copy(reader, file, shows)
            finally:
                os.close(file.fd)
    except (NfsVerityError, LocalProblem) as error:
        if created:
            tree.discard(below)
        return Checked(url, path, None, error)
    tree.keep(below)
    return Checked(url, path, reader.verified)
