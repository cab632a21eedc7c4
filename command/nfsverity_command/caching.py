# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The node cache as the commands that read use it: `--no-cache`, the one warning, and what is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .failure import LocalProblem, say

if TYPE_CHECKING:
    from nfsverity_client.node_cache import NodeCache
    from nfsverity_client.session import Session

F = TypeVar("F", bound=Callable[..., Any])
CACHE_FIELDS = {
    "cache": "what the node cache did, or null where it was not used, with:",
    "cache.hits, cache.misses": "runs of nodes that were found and verified; that were needed and not there",
    "cache.dropped": "that were there, and not what was signed",
    "cache.bytes_saved": "of hashes that the server was not asked for, a decimal string",
    "hashes": "that the server sent in proofs and trees",
}


def cache_option(function: F) -> F:
    return click.option("--no-cache", is_flag=True, help="Neither use nor fill the node cache.")(function)


@dataclass
class Caching:
    """The cache of one command, and the sessions that it had."""

    cache: NodeCache | None
    sessions: list[Session] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """For `--json`."""
        counts = [session.nodes.counts for session in self.sessions]
        used = {
            "hits": sum(count.hits for count in counts),
            "misses": sum(count.misses for count in counts),
            "dropped": sum(count.dropped for count in counts),
            "bytes_saved": str(sum(count.bytes_saved for count in counts)),
        }
        hashes = sum(session.traffic.hashes for session in self.sessions)
        return {"cache": None if self.cache is None else used, "hashes": hashes}


def caching(no_cache: bool) -> Caching:
    """With the user's cache, unless that is not wanted. Raises `LocalProblem`."""
    from nfsverity_client.node_cache import node_cache

    try:
        return Caching(None if no_cache else node_cache(on_trouble=_warn))
    except ValueError as error:
        raise LocalProblem(str(error)) from error


def _warn(trouble: str) -> None:
    say(f"nfsverity: warning: the node cache: {trouble} (reading goes on, with more hashes from the server)")
