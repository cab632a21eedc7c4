# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity get`."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import ending
from .caching import CACHE_FIELDS, Caching, cache_data_option, cache_option, caching
from .checked import FILE_FIELDS, Checked, Checks
from .failure import Exit, about
from .frame import Command, policy_options, presentation_option, timeout_option, trust_options, wait_option
from .output import count_text, name_fields, write_json
from .parameters import URL
from .progress import Meter, meter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nfsverity_client.marks import Raise
    from nfsverity_client.opening import UnverifiedReader
    from nfsverity_client.reader import Reader
    from nfsverity_client.session import Session
    from nfsverity_proto.errors import Absent, LinkOutside
    from nfsverity_proto.url import Url

    from .belief import Belief
    from .new_file import NewFile
    from .reuse import Transfer
    from .staging import NewTree


@click.command(
    cls=Command,
    examples=[
        ("One file", "nfsverity get nfsv://host:12049/bin/tool ./tool"),
        ("A whole tree, to the new directory mirror", "nfsverity get nfsv://host:12049/ mirror"),
        ("The same again a week later: only what differs is fetched", "nfsverity get nfsv://host:12049/ mirror"),
        ("Fail at once while a file is being updated", "nfsverity get --wait 0 nfsv://host:12049/db ./db"),
    ],
    statuses={
        1: "something did not verify, and is not at its destination; of a tree, the other files are",
        4: "something on this machine: no such folder, no room, names that collide",
        5: "a rule of the policy lets something pass that is not verified; nothing worse happened",
    },
    fields={
        "command, status": '"get", and the exit status',
        "destination": "the file or directory that was written",
        "destination_base64": "only where that is not UTF-8",
        "files": "one object for each file, with:",
        **{", ".join(f"files.{name}" for name in names.split(", ")): text for names, text in FILE_FIELDS.items()},
        "files.fetched, reused": "bytes that were asked for, and that were here already (decimal strings)",
        "files.unchanged": "whether the file was here, whole, and stayed",
        "verified, unverified, failed": "numbers of files",
        **CACHE_FIELDS,
        "bytes": "of the files that verified, a decimal string",
        "fetched, reused": "of all files (decimal strings)",
    },
)
@click.argument("url", type=URL)
@click.argument("destination", type=click.Path(), metavar="DEST")
@click.option(
    "--links",
    type=click.Choice(["inside", "all"]),
    default="inside",
    show_default=True,
    help="Which symbolic links of a volume are made: those that stay in it, or all as they were signed. One that URL"
    " names is followed; where it leads to nothing in the volume, it is made itself, with all.",
)
@click.option("--whole", is_flag=True, help="Fetch all of each file, whatever is at its destination.")
@presentation_option
@wait_option
@timeout_option
@cache_option
@cache_data_option
@trust_options
@policy_options
def command(
    url: Url,
    destination: str,
    links: str,
    whole: bool,
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
    """Copy a served file, or all files below a served directory, to DEST on this machine.

    A file is at its destination only when it is whole, verified and synced; until then, what was there stays,
    and then it is replaced at once. If DEST is a directory, a file goes into it, and a tree's files take their
    places in it (nothing else there is touched). Of a tree, what does not verify is reported and left out. Mode
    and time are as signed.

    Where there is a file already, only what differs from it is fetched, whatever it is: an older version, a
    damaged copy, the rest of something else. It is hashed, and nothing of it is taken over that has not the hash
    that was signed. A file that is already what was signed, in mode and time too, stays. --whole does without.

    What a run has fetched when it is interrupted, killed or cut off stays beside DEST (in it, if it is a directory
    already), under a name that begins with .nfsverity-get-; the next run to DEST takes that up, and removes it.

    What a rule of the policy lets pass without being verified is told as UNVERIFIED, fetched whole, and never made
    executable.
    """
    from . import belief

    believed = belief.load(trust_files, volume, policy_file, audit_log)
    use = caching(no_cache, cache_data)
    run = _run(url, Path(destination), believed, presentation, wait, timeout, whole, links == "all", use)
    with about(str(url)):
        target, got = ending.run(run)
    checks = got.checks
    if as_json:
        fields = {
            "command": "get",
            "status": int(checks.status),
            **name_fields("destination", os.fsencode(target)),
            **got.fields(),
            **use.fields(),
        }
        write_json(fields)
    elif got.reused:
        click.echo(got.summary())
    return checks.status


@dataclass(slots=True)
class Got:
    """What became of each file, and where its bytes came from."""

    checks: Checks
    transfers: list[Transfer | None] = field(default_factory=list)

    def add(self, checked: Checked, transfer: Transfer | None) -> None:
        self.checks.add(checked)
        self.transfers.append(transfer)

    def take_back(self, number: int, error: Exception) -> None:
        """A file that was added as a good one is none."""
        self.checks.take_back(number, error)
        self.transfers[number] = None

    @property
    def _done(self) -> Sequence[Transfer]:
        return [transfer for transfer in self.transfers if transfer is not None]

    @property
    def fetched(self) -> int:
        return sum(transfer.fetched for transfer in self._done)

    @property
    def reused(self) -> int:
        return sum(transfer.reused for transfer in self._done)

    def summary(self) -> str:
        text = f"{count_text(self.fetched, 'byte')} fetched, {count_text(self.reused, 'byte')} reused"
        unchanged = sum(transfer.unchanged for transfer in self._done)
        if len(self.transfers) > 1 and unchanged:
            text += f"; {count_text(unchanged, 'file')} of {len(self.transfers):,} unchanged"
        return text

    def fields(self) -> dict[str, Any]:
        fields = self.checks.fields()
        for file, transfer in zip(fields["files"], self.transfers, strict=True):
            file["fetched"] = None if transfer is None else str(transfer.fetched)
            file["reused"] = None if transfer is None else str(transfer.reused)
            file["unchanged"] = transfer is not None and transfer.unchanged
        return fields | {"fetched": str(self.fetched), "reused": str(self.reused)}


async def _run(
    url: Url,
    destination: Path,
    believed: Belief,
    presentation: str,
    wait: float,
    timeout: float,
    whole: bool,
    all_links: bool,
    use: Caching,
) -> tuple[Path, Got]:
    """Where it was written to, and what became of each file."""
    from nfsverity_client.volume import find
    from nfsverity_proto.entry import DirectoryNode
    from nfsverity_proto.errors import Absent, LinkOutside
    from nfsverity_proto.messages import FileType

    from .network import session_for

    async with session_for(url, believed, timeout, wait, presentation, use) as session:
        try:
            found = await find(session, url.path)
        except (Absent, LinkOutside) as error:
            return await _get_link(session, url.path, destination, error, all_links)
        if found is not None:
            path, entry = found
            if entry is None or isinstance(entry.node, DirectoryNode):
                return destination, await _get_volume(session, path, destination, whole, all_links)
        elif (await session.resolve(url.path)).attributes.type is FileType.DIRECTORY:
            return destination, await _get_tree(session, url.path, destination, whole)
        if destination.is_dir():
            destination = destination / os.fsdecode(url.path.rpartition(b"/")[2])
        got = Got(Checks())
        got.add(*await _get_file(session, url.path, destination, whole))
        return destination, got


async def _get_link(
    session: Session, path: bytes, destination: Path, error: Absent | LinkOutside, all_links: bool
) -> tuple[Path, Got]:
    """A link that was named and leads to nothing in the volume, as it was signed; else raises the error."""
    from nfsverity_client.volume import find
    from nfsverity_proto.entry import LinkNode

    from .get_volume import ALL_LINKS
    from .new_file import new_link

    at, entry = await find(session, path, last=False) or (path, None)
    head = session.heads.accepted
    if head is None or entry is None or not isinstance(entry.node, LinkNode):
        raise error
    if not all_links:
        error.advice = ALL_LINKS
        raise error
    if destination.is_dir() and not destination.is_symlink():  # through a link nothing is written (fim-link-2)
        destination = destination / os.fsdecode(path.rpartition(b"/")[2])
    new_link(destination, entry.node.target)
    got = Got(Checks())
    url = session.url_of(at)
    got.add(Checked(url, at, head.verified, seen_before=head.seen_before, target=entry.node.target), None)
    return destination, got


async def _get_file(session: Session, path: bytes, destination: Path, whole: bool) -> tuple[Checked, Transfer]:
    from nfsverity_client.opening import UnverifiedReader, open_at
    from nfsverity_client.reader import FETCH_DEFAULT

    from .left_over import has_left_over, remove_left_over
    from .new_file import new_file
    from .reuse import Transfer, old_file, stays

    with contextlib.nullcontext() if whole else old_file(destination) as old:
        resumes = not whole and (old is not None or has_left_over(destination))
        reader = await open_at(session, path, most=0 if resumes else FETCH_DEFAULT)
        if isinstance(reader, UnverifiedReader):
            with meter(reader.url, reader.size) as shows, new_file(destination, False, whole=True) as file:
                transfer = await _copy_unverified(reader, file, shows)
            return _passed(reader), transfer
        with meter(session.url_of(path), reader.size) as shows:
            if old is not None and await stays(reader, old, shows, durably=True):
                await reader.remembered()
                reader.passed()
                transfer = Transfer(0, reader.size, unchanged=True)
                remove_left_over(destination)
            else:
                with new_file(destination, False, whole=whole) as file:
                    transfer = await _copy(reader, [] if old is None else [old], file, shows)
    return Checked(reader.url, path, reader.verified, seen_before=reader.seen_before), transfer


def _passed(reader: UnverifiedReader) -> Checked:
    return Checked(reader.url, reader.path, None, unverified=reader.unverified, verdict=reader.verdict)


async def _copy_unverified(reader: UnverifiedReader, file: NewFile, shows: Meter) -> Transfer:
    """All of it, as it comes: nothing is said of mode and time that can be relied on."""
    from .reuse import Transfer

    count = 0
    async with contextlib.aclosing(reader.stream()) as parts:
        async for part in parts:
            file.write(part)
            shows.add(len(part))
            count += len(part)
    file.finish(None)
    return Transfer(count, 0)


async def _copy(reader: Reader, old: Sequence[int], file: NewFile, shows: Meter) -> Transfer:
    """All of it, whole and verified: what is not to be had from old files is fetched."""
    from .reuse import Transfer, update

    if old or file.resumed:
        transfer = await update(reader, old, file, shows)
    else:
        async with contextlib.aclosing(reader.stream()) as parts:
            async for part in parts:
                file.write(part)
                shows.add(len(part))
        transfer = Transfer(reader.size, 0)
    if not reader.later:
        await reader.remembered()  # what `update` took from the old file is delivered, too
    reader.passed()
    signed = reader.verified.file  # since its first byte the reader is pinned to this version
    file.executable = signed.executable
    file.finish(signed.content.mtime.to_ns())
    return transfer


async def _get_volume(session: Session, path: bytes, destination: Path, whole: bool, all_links: bool) -> Got:
    from .get_volume import get_volume

    with meter(session.url_of(path)) as shows:
        return await get_volume(session, path, destination, whole, all_links, shows, lambda: Got(Checks()))


async def _get_tree(session: Session, path: bytes, destination: Path, whole: bool) -> Got:
    from nfsverity_client.pipeline import in_order

    from .network import FILES_AT_ONCE, files_below
    from .staging import NewTree

    got = Got(Checks())
    waiting: list[tuple[int, Raise]] = []
    found = await files_below(session, path)
    tree = NewTree(destination)
    try:
        with meter(session.url_of(path), sum(size for _, size in found)) as shows:
            below = ((name, name[len(path) :].lstrip(b"/")) for name, _ in found)
            jobs = (get_below(session, name, place, tree, whole, shows) for name, place in below)
            async with contextlib.aclosing(in_order(jobs, FILES_AT_ONCE)) as results:
                async for checked, transfer, raised in results:
                    got.add(checked, transfer)
                    if raised is not None:
                        waiting.append((len(got.transfers) - 1, raised))
        await _remembered(session, got, tree, len(path), waiting)
        if got.checks.status is Exit.OK or any(checked.error is None for checked in got.checks.files):
            tree.commit()
    except BaseException as error:
        tree.end(error)
        raise
    tree.close()
    return got


async def _remembered(
    session: Session, got: Got, tree: NewTree, skip: int, waiting: Sequence[tuple[int, Raise]]
) -> None:
    """Wait until all marks are durable: nothing is delivered before (fim-mark-3). Raises `StateError`.

    A file of which another process accepted a newer version meanwhile is left out.
    """
    from nfsverity_proto.errors import VerificationError

    for number, raised in waiting:
        try:
            await session.durable(raised)
        except VerificationError as error:
            checked = got.checks.files[number]
            error.where = checked.url
            tree.take_back(checked.path[skip:].lstrip(b"/"))
            got.take_back(number, error)


async def get_below(
    session: Session, path: bytes, below: bytes, tree: NewTree, whole: bool, shows: Meter
) -> tuple[Checked, Transfer | None, Raise | None]:
    """One file of a tree, to where it is kept until all are there. It counts when its marks are durable."""
    from nfsverity_client.opening import UnverifiedReader, open_at
    from nfsverity_client.reader import FETCH_DEFAULT
    from nfsverity_proto.errors import NfsVerityError

    from .failure import LocalProblem
    from .reuse import Transfer, old_file_below, stays

    url = session.url_of(path)
    created = False
    reuses = tree.existing and not whole
    try:
        with about(url):
            tree.check(below)
            with contextlib.ExitStack() as stack:
                old = stack.enter_context(old_file_below(tree.destination, below)) if reuses else None
                left = None if whole else stack.enter_context(tree.left_over(below))
                sources = [fd for fd in (left, old) if fd is not None]
                reader = await open_at(session, path, most=0 if sources else FETCH_DEFAULT)
                if isinstance(reader, UnverifiedReader):
                    file = tree.create(below, False)
                    created = True
                    try:
                        transfer = await _copy_unverified(reader, file, shows)
                    finally:
                        os.close(file.fd)
                    tree.keep(below)
                    return _passed(reader), transfer, None
                reader.later = True
                if old is not None and await stays(reader, old, shows, durably=False):  # the commit syncs
                    tree.leave_alone(below)
                    reader.passed()
                    checked = Checked(url, path, reader.verified, seen_before=reader.seen_before)
                    return checked, Transfer(0, reader.size, unchanged=True), reader.version.raised
                file = tree.create(below, False)
                created = True
                try:
                    transfer = await _copy(reader, sources, file, shows)
                finally:
                    os.close(file.fd)
    except (NfsVerityError, LocalProblem) as error:
        if created:
            tree.discard(below)
        return Checked(url, path, None, error), None, None
    tree.keep(below)
    return Checked(url, path, reader.verified, seen_before=reader.seen_before), transfer, reader.version.raised
