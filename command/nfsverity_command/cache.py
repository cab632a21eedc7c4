# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity cache stats|clear`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from .failure import LocalProblem
from .frame import Command
from .output import count_text, name_fields, shown, write_json

if TYPE_CHECKING:
    from nfsverity_client.node_cache import NodeCache
    from nfsverity_client.unit_cache import UnitCache

PLACE_FIELDS = {
    "directory": "where it is",
    "directory_base64": "only where that is not UTF-8",
}


@click.group()
def command() -> None:
    """Show or clear the caches: hashes that were verified once, kept so that servers need not send them again.

    `cat`, `get`, `verify` and programs fill and use it. Nothing in it is believed: what is taken from it is verified
    again, up to the signature, so that it can be damaged, changed or deleted at any time, and costs only traffic
    then. It shows what was read: hashes of contents, but no names. NFSVERITY_CACHE_DIR says where it is,
    NFSVERITY_CACHE_SIZE how large it may become (256M; 0: no cache).

    With --cache-data, `cat` and `get` keep the content of files of more than 64 KiB, too, up to
    NFSVERITY_CACHE_DATA_SIZE (4G), and all of the above is true of it.
    """


def _caches() -> tuple[NodeCache, UnitCache]:
    from nfsverity_client.node_cache import NodeCache, cache_size
    from nfsverity_client.trust_store import cache_directory
    from nfsverity_client.unit_cache import UnitCache, unit_cache_size

    try:
        directory = cache_directory()
        return NodeCache(directory, cache_size()), UnitCache(directory, unit_cache_size())
    except ValueError as error:
        raise LocalProblem(str(error)) from error


@command.command(
    "stats",
    cls=Command,
    examples=[
        ("What it has, and how often it was of use", "nfsverity cache stats"),
        ("For a program", "nfsverity cache stats --json"),
    ],
    statuses={4: "the cache cannot be read"},
    fields={
        "command, status": '"cache stats", 0',
        **PLACE_FIELDS,
        "bytes, limit": "of the file, now and at most (decimal strings)",
        "contents": "files of which something is kept, those with the same content as one",
        "runs": "of up to 256 neighbouring nodes",
        "hits, misses": "runs that were found and verified; that were needed and not there",
        "hit_rate": "hits among both, from 0 to 1, or null",
        "dropped": "runs that were there, and not what was signed",
        "evicted": "runs that had to go for newer ones",
        "bytes_saved": "of hashes that servers were not asked for, a decimal string",
        "data_bytes, data_limit": "of content that is kept, now and at most (decimal strings)",
        "data_contents": "files of whose content something is kept",
        "data_hits, data_misses": "parts of files that were found and verified; that were looked for in vain",
        "data_dropped": "that were there, and not what was signed",
        "data_bytes_saved": "of content that servers were not asked for, a decimal string",
    },
)
def stats(as_json: bool) -> None:
    """Show what the caches have, and how often they were of use since they were last cleared."""
    from nfsverity_client.node_store import StoreUnusable

    cache, units = _caches()
    try:
        usage = cache.usage()
        kept = units.usage()
    except StoreUnusable as error:
        raise LocalProblem(f"the node cache: {error}") from error
    counters = usage.counters
    asked = counters["hits"] + counters["misses"]
    rate = counters["hits"] / asked if asked else None
    place = os.fsencode(cache.directory)
    if as_json:
        write_json(
            {
                "command": "cache stats",
                "status": 0,
                **name_fields("directory", place),
                "bytes": str(usage.bytes),
                "limit": str(cache.limit),
                "contents": usage.contents,
                "runs": usage.runs,
                "hits": counters["hits"],
                "misses": counters["misses"],
                "hit_rate": rate,
                "dropped": counters["dropped"],
                "evicted": counters["evicted"],
                "bytes_saved": str(counters["bytes_saved"]),
                "data_bytes": str(kept.bytes),
                "data_limit": str(units.limit),
                "data_contents": kept.contents,
                "data_hits": counters["data_hits"],
                "data_misses": counters["data_misses"],
                "data_dropped": counters["data_dropped"],
                "data_bytes_saved": str(counters["data_bytes_saved"]),
            }
        )
        return
    click.echo(f"{shown(place)}: {usage.bytes:,} of {count_text(cache.limit, 'byte')}")
    click.echo(f"{count_text(usage.runs, 'run')} of nodes, of {count_text(usage.contents, 'content')}")
    hits = (
        "nothing was looked for yet" if rate is None else f"{counters['hits']:,} of {asked:,} runs found ({rate:.0%})"
    )
    click.echo(f"{hits}, {count_text(counters['bytes_saved'], 'byte')} of hashes saved")
    click.echo(f"{counters['dropped']:,} dropped as not what was signed, {counters['evicted']:,} evicted")
    if kept.contents or counters["data_misses"]:
        click.echo(
            f"data: {kept.bytes:,} of {count_text(units.limit, 'byte')}, of {count_text(kept.contents, 'content')};"
            f" {count_text(counters['data_bytes_saved'], 'byte')} saved,"
            f" {counters['data_dropped']:,} dropped as not what was signed"
        )


@command.command(
    "clear",
    cls=Command,
    examples=[
        ("Forget what was read", "nfsverity cache clear"),
        ("For a program", "nfsverity cache clear --json"),
    ],
    statuses={4: "the cache cannot be deleted"},
    fields={"command, status": '"cache clear", 0', **PLACE_FIELDS, "bytes": "that were freed, a decimal string"},
)
def clear(as_json: bool) -> None:
    """Delete the caches. Whatever reads meanwhile goes on."""
    cache, units = _caches()
    freed = cache.clear() + units.clear()
    place = os.fsencode(cache.directory)
    if as_json:
        write_json({"command": "cache clear", "status": 0, **name_fields("directory", place), "bytes": str(freed)})
    else:
        click.echo(f"{count_text(freed, 'byte')} freed in {shown(place)}")
