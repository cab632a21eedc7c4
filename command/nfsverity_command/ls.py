# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity ls`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from . import ending
from .failure import about
from .frame import Command, timeout_option
from .output import name_fields, shown, time_text, write_json
from .parameters import URL

if TYPE_CHECKING:
    from nfsverity_client.session import Session
    from nfsverity_proto.messages import Attributes
    from nfsverity_proto.url import Url


@dataclass(frozen=True, slots=True)
class Listed:
    name: bytes
    """Below what was asked for."""
    path: bytes
    attributes: Attributes

    @property
    def is_directory(self) -> bool:
        return self.attributes.type.name == "DIRECTORY"


@click.command(
    cls=Command,
    examples=[
        ("The root of a server", "nfsverity ls nfsv://host:12049/"),
        ("All below it, with sizes and times", "nfsverity ls -lR nfsv://host:12049/"),
    ],
    fields={
        "command, status": '"ls", 0',
        "url": "what was asked for",
        "entries": "one object for each, by the server's word, with:",
        "entries.url": "percent-encoded",
        "entries.name": "below what was asked for",
        "entries.name_base64": "only where it is not UTF-8",
        "entries.type": "file or directory",
        "entries.signed": "whether there is a record for it (files), or can be below it",
        "entries.executable": "true or false",
        "entries.size": "bytes, a decimal string",
        "entries.mtime": "seconds.nanoseconds",
    },
)
@click.argument("url", type=URL)
@click.option("-l", "--long", "long", is_flag=True, help="With type, size, time, and whether it is signed.")
@click.option("-R", "--recursive", is_flag=True, help="All that is below, too.")
@timeout_option
def command(url: Url, long: bool, recursive: bool, timeout: float, as_json: bool) -> None:
    """List what a server has at URL.

    A listing is the server's word: nothing of it is signed. What `cat` and `get` deliver is.
    """
    with about(str(url)):
        listed = ending.run(_listed(url, recursive, timeout))
    if as_json:
        write_json(
            {"command": "ls", "status": 0, "url": str(url), "entries": [_fields(url, entry) for entry in listed]}
        )
        return
    for entry in listed:
        click.echo(_long(entry) if long else _short(entry))


async def _listed(url: Url, recursive: bool, timeout: float) -> list[Listed]:
    from nfsverity_client.session import Session, Settings
    from nfsverity_proto.messages import FileType

    async with Session(url, Settings(timeout=timeout)) as session:
        found = await session.resolve(url.path)
        if found.attributes.type is FileType.FILE:
            return [Listed(url.path.rpartition(b"/")[2], url.path, found.attributes)]
        listed: list[Listed] = []
        await _list(session, url.path, b"", recursive, listed)
        return listed


async def _list(session: Session, path: bytes, below: bytes, recursive: bool, listed: list[Listed]) -> None:
    from nfsverity_proto.errors import MalformedMessage
    from nfsverity_proto.path import join_path

    async for entry in session.list(path):
        try:
            whole = join_path(path, entry.name)
        except ValueError as error:
            raise MalformedMessage(f"the server lists {error}") from error
        found = Listed(join_path(below, entry.name), whole, entry.attributes)
        listed.append(found)
        if recursive and found.is_directory:
            await _list(session, whole, found.name, recursive, listed)


def _short(entry: Listed) -> str:
    if entry.is_directory:
        return shown(entry.name) + "/"
    return shown(entry.name) + ("" if entry.attributes.has_record else "  (unsigned)")


def _long(entry: Listed) -> str:
    attributes = entry.attributes
    kind = ("d" if entry.is_directory else "-") + ("x" if attributes.executable else "-")
    signed = "        " if entry.is_directory else "signed  " if attributes.has_record else "unsigned"
    size = "-" if entry.is_directory else str(attributes.size)
    time = time_text(attributes.mtime).partition(".")[0].removesuffix("Z") + "Z"
    return f"{kind} {signed} {size:>14} {time} {shown(entry.name)}{'/' if entry.is_directory else ''}"


def _fields(url: Url, entry: Listed) -> dict[str, Any]:
    attributes = entry.attributes
    return {
        "url": str(url.with_path(entry.path)),
        **name_fields("name", entry.name),
        "type": "directory" if entry.is_directory else "file",
        "signed": attributes.has_record,
        "executable": attributes.executable,
        "size": str(attributes.size),
        "mtime": f"{attributes.mtime.seconds}.{attributes.mtime.nseconds:09}",
    }
