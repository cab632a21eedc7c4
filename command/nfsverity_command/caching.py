# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The caches as the commands that read use them: `--no-cache`, `--cache-data`, the warnings, and what is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .failure import LocalProblem, say

if TYPE_CHECKING:
    from nfsverity_client.node_cache import NodeCache
    from nfsverity_client.session import Session
    from nfsverity_client.unit_cache import UnitCache

F = TypeVar("F", bound=Callable[..., Any])
CACHE_FIELDS = {
    "cache": "what the node cache did, or null where it was not used, with:",
    "cache.hits, cache.misses": "runs of nodes that were found and verified; that were needed and not there",
    "cache.dropped": "that were there, and not what was signed",
    "cache.bytes_saved": "of hashes that the server was not asked for, a decimal string",
    "cache.data_hits, cache.data_misses, cache.data_dropped": "the same of content, with --cache-data",
    "cache.data_bytes_saved": "of content that the server was not asked for, a decimal string",
    "hashes": "that the server sent in proofs and trees",
}


def cache_option(function: F) -> F:
    return click.option("--no-cache", is_flag=True, help="Neither use nor fill the node cache.")(function)


def cache_data_option(function: F) -> F:
    text = (
        "Keep what is read on disk, too, and take it from there: verified again, never without asking for the record."
    )
    return click.option("--cache-data", is_flag=True, help=text)(function)


@dataclass
class Caching:
    """The caches of one command, and the sessions that it had."""

    cache: NodeCache | None
    units: UnitCache | None = None
    sessions: list[Session] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """For `--json`."""
        counts = [session.nodes.counts for session in self.sessions]
        used = {
            "hits": sum(count.hits for count in counts),
            "misses": sum(count.misses for count in counts),
            "dropped": sum(count.dropped for count in counts),
            "bytes_saved": str(sum(count.bytes_saved for count in counts)),
            "data_hits": sum(count.data_hits for count in counts),
            "data_misses": sum(count.data_misses for count in counts),
            "data_dropped": sum(count.data_dropped for count in counts),
            "data_bytes_saved": str(sum(count.data_bytes_saved for count in counts)),
        }
        hashes = sum(session.traffic.hashes for session in self.sessions)
        return {"cache": None if self.cache is None else used, "hashes": hashes}


def caching(no_cache: bool, cache_data: bool = False) -> Caching:
    """With the user's caches, unless that is not wanted. Raises `LocalProblem`."""
    from nfsverity_client.node_cache import SIZE_VARIABLE, node_cache
    from nfsverity_client.unit_cache import SIZE_VARIABLE as DATA_SIZE_VARIABLE
    from nfsverity_client.unit_cache import unit_cache

    if no_cache and cache_data:
        raise click.UsageError("--no-cache and --cache-data: only one of them can be meant")
    try:
        cache = None if no_cache else node_cache(on_trouble=_warn)
        units = unit_cache(cache.directory, _warn_units) if cache_data and cache is not None else None
    except ValueError as error:
        raise LocalProblem(str(error)) from error
    if cache_data and units is None:
        variable = SIZE_VARIABLE if cache is None else DATA_SIZE_VARIABLE
        raise LocalProblem(f"--cache-data: there is no cache, since {variable} is 0")
    return Caching(cache, units)


def _warn(trouble: str) -> None:
    say(f"nfsverity: warning: the node cache: {trouble} (reading goes on, with more hashes from the server)")


def _warn_units(trouble: str) -> None:
    say(f"nfsverity: warning: --cache-data: {trouble} (reading goes on, and nothing more is kept)")
