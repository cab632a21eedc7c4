# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Long reads use what the server grants beyond the minimum; whatever it says, the bytes are the same."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from adversary import Call, between
from nfsverity_client.presentation import LONG_SPAN, SPAN, Presentation
from nfsverity_client.reader import open_file
from nfsverity_proto import messages as m
from serving import Served, calls_made, publish_tree, serving, session

SIZE = 2**24 + 100_001
CONTENT = random.Random(24).randbytes(SIZE)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(publish_tree(tmp_path_factory.mktemp("limits") / "tree", {"long": CONTENT}).root) as served:
        yield served


@pytest.mark.spec("fip-limits-7", "fip-read-8")
@pytest.mark.parametrize("how", Presentation)
async def test_a_long_read_asks_once_and_reads_more_at_a_time(served: Served, how: Presentation) -> None:
    with calls_made() as made:
        async with session(served) as opened:
            for _ in range(2):
                reader = await open_file(opened, b"long", presentation=how)
                assert await reader.pread() == CONTENT
    assert [call.name for call in made].count("LIMITS") == 1
    assert max(call.arguments.count << 16 for call in made if call.name == "READ") == LONG_SPAN


@pytest.mark.spec("fip-limits-7")
async def test_a_short_read_does_without(served: Served) -> None:
    with calls_made() as made:
        async with session(served) as opened:
            reader = await open_file(opened, b"long")
            assert await reader.pread(5, 2**22) == CONTENT[5 : 5 + 2**22]
    assert "LIMITS" not in {call.name for call in made}


@pytest.mark.spec("fip-limits-2", "fip-limits-3", "fip-limits-8")
@pytest.mark.parametrize("said", [0, 1, 2**20 - 1, 2**20, 2**21, 2**22, 2**22 + 1, 2**32 - 1])
async def test_a_value_out_of_bounds_is_taken_for_the_bound(served: Served, said: int) -> None:
    async with between(served.port) as adversary, session(adversary.where) as opened:

        async def lie(call: Call) -> None:
            if call.procedure is m.LIMITS:
                await call.answer(m.LimitsOk(3, said, 0, 0, 0, (), ()))
            else:
                await call.forward()

        adversary.on_call = lie
        assert await (await open_file(opened, b"long")).pread() == CONTENT
        largest = max(call.arguments.count << 16 for call in adversary.calls if call.procedure is m.READ)
        assert largest == (SPAN if said < LONG_SPAN else LONG_SPAN)


@pytest.mark.spec("fip-limits-1", "fip-client-3", "fip-read-8")
@pytest.mark.parametrize("how", Presentation)
async def test_a_connection_that_is_begun_again_may_grant_less(served: Served, how: Presentation) -> None:
    """The server is another one by then, which does no more than it must: what is left is cut anew."""
    async with between(served.port) as adversary, session(adversary.where) as opened:
        lines: list[object] = []

        async def strict(call: Call) -> None:
            if not lines and call.procedure is m.READ and call.arguments.first << 16 >= 2**22:
                lines.append(call.line)
                call.line.close()
                return
            less = bool(lines) and call.line is not lines[0]
            if less and call.procedure is m.LIMITS:
                await call.answer(m.LimitsOk(3, SPAN, 4096, 32, 60_000, (1,), (1,)))
            elif less and call.procedure is m.READ and call.arguments.count << 16 > SPAN:
                await call.answer(m.Status.INVALID)
            else:
                await call.forward()

        reader = await open_file(opened, b"long", presentation=how)
        await opened.ask_limits()
        adversary.on_call = strict
        assert await reader.pread() == CONTENT
        after = [call for call in adversary.calls if lines and call.line is not lines[0]]
        assert lines
        assert [call.procedure for call in after].count(m.LIMITS) <= 4
        assert max(call.arguments.count << 16 for call in after if call.procedure is m.READ) == SPAN
