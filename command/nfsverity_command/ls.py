# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity ls`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from . import ending
from .failure import about, say
from .frame import Command, timeout_option, trust_options
from .output import identity_fields, name_fields, shown, time_text, write_json
from .parameters import URL

if TYPE_CHECKING:
    from nfsverity_client.listing import Listed
    from nfsverity_proto.url import Url
    from nfsverity_proto.verification import Verified

    from .belief import Belief


@click.command(
    cls=Command,
    examples=[
        ("The root of a server", "nfsverity ls nfsv://host:12049/"),
        ("All below it, with sizes and times", "nfsverity ls -lR nfsv://host:12049/"),
    ],
    fields={
        "command, status": '"ls", 0',
        "url": "what was asked for",
        "verified": "whether all of it was verified as entries of a volume; else it is the server's word",
        "head": "volume, label, generation and signers of the volume's head, or null",
        "entries": "one object for each, with:",
        "entries.url": "percent-encoded",
        "entries.name": "below what was asked for",
        "entries.name_base64": "only where it is not UTF-8",
        "entries.type": "file, directory or link",
        "entries.signed": "whether there is a record for it (files), or can be below it",
        "entries.revoked": "whether its version is taken back: then there is neither size nor time",
        "entries.executable": "true or false",
        "entries.size": "bytes, a decimal string; null for what is no file",
        "entries.mtime": "seconds.nanoseconds, or null",
        "entries.target": "of a link, else null",
        "entries.target_base64": "only where that is not UTF-8",
    },
)
@click.argument("url", type=URL)
@click.option("-l", "--long", "long", is_flag=True, help="With type, size, time, and whether it is signed.")
@click.option("-R", "--recursive", is_flag=True, help="All that is below, too.")
@click.option("--unverified", is_flag=True, help="Take the server's word, also where a volume could be verified.")
@timeout_option
@trust_options
def command(
    url: Url,
    long: bool,
    recursive: bool,
    unverified: bool,
    timeout: float,
    trust_files: tuple[str, ...],
    volume: bytes | None,
    as_json: bool,
) -> None:
    """List what a server has at URL.

    Of a volume, the listing is verified: it is what was signed, and all of it. Of a tree of stand-alone records
    it is the server's word, and nothing of it is signed; what `cat` and `get` deliver is.
    """
    from . import belief

    believed = belief.load(trust_files, volume)
    with about(str(url)):
        head, listed = ending.run(_listed(url, believed, recursive, unverified, timeout))
    if as_json:
        fields = {
            "command": "ls",
            "status": 0,
            "url": str(url),
            "verified": all(entry.is_verified for entry in listed) and head is not None,
            "head": None if head is None else identity_fields(head),
            "entries": [_fields(url, entry) for entry in listed],
        }
        write_json(fields)
        return
    for entry in listed:
        click.echo(_long(url, entry) if long else _short(url, entry))
    if long and head is not None:
        say(f"verified: all of it is as signed, in generation {head.when.generation}")


async def _listed(
    url: Url, believed: Belief, recursive: bool, unverified: bool, timeout: float
) -> tuple[Verified | None, list[Listed]]:
    from nfsverity_client.listing import bounded, list_below

    from .network import session_for

    async with session_for(url, believed, timeout) as session:
        found = list_below(session, url.path, deep=recursive, by_word=unverified)
        async with contextlib.aclosing(found) as entries:
            listed = [entry async for entry in bounded(entries)]
        head = session.heads.accepted
        return None if head is None or unverified else head.verified, listed


def _name(url: Url, entry: Listed) -> bytes:
    """Below what was asked for; of a lone file, its own name."""
    if entry.path == url.path or not entry.path.startswith(url.path):
        return entry.path.rpartition(b"/")[2]
    return entry.path[len(url.path) :].lstrip(b"/")


def _kind(entry: Listed) -> str:
    return entry.type.name.lower()


def _short(url: Url, entry: Listed) -> str:
    name = shown(_name(url, entry))
    match _kind(entry):
        case "directory":
            return name + "/"
        case "link":
            return f"{name} -> {shown(entry.target or b'')}"
    return name + ("  (revoked)" if entry.revoked else "" if entry.has_record else "  (unsigned)")


def _long(url: Url, entry: Listed) -> str:
    kind = {"directory": "d", "link": "l"}.get(_kind(entry), "-") + ("x" if entry.executable else "-")
    signed = "verified" if entry.is_verified else "unsigned"
    if not entry.is_verified and (entry.has_record or _kind(entry) == "directory"):
        signed = "signed  " if entry.has_record else "        "
    size = "-" if entry.size is None else str(entry.size)
    time = "-" if entry.mtime is None else time_text(entry.mtime).partition(".")[0].removesuffix("Z") + "Z"
    return f"{kind} {signed} {size:>14} {time:>20} {_short(url, entry).removesuffix('  (unsigned)')}"


def _fields(url: Url, entry: Listed) -> dict[str, Any]:
    mtime = entry.mtime
    target = {"target": None} if entry.target is None else name_fields("target", entry.target)
    return {
        "url": str(url.with_path(entry.path)),
        **name_fields("name", _name(url, entry)),
        "type": _kind(entry),
        "signed": entry.has_record,
        "revoked": entry.revoked,
        "executable": entry.executable,
        "size": None if entry.size is None else str(entry.size),
        "mtime": None if mtime is None else f"{mtime.seconds}.{mtime.nseconds:09}",
        **target,
    }
