# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A server of the module's `published`, one that lies in front of it, and a session with that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from adversary import Adversary, between
from nfsverity_client.session import Session
from serving import Published, Served, serving, session


@pytest.fixture(scope="module")
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


@pytest.fixture
async def adversary(served: Served) -> AsyncIterator[Adversary]:
    async with between(served.port) as adversary:
        yield adversary


@pytest.fixture
async def opened(adversary: Adversary) -> AsyncIterator[Session]:
    """Which waits for nothing."""
    async with session(adversary.where, wait=0.0) as opened:
        yield opened
