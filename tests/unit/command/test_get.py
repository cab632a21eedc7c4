# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What becomes of a file of a tree when another process goes beyond it before the tree is in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from adversary import Call, between
from nfsverity_client.reader import open_file
from nfsverity_client.session import Session, Settings
from nfsverity_client.state import State
from nfsverity_command.get import _get_tree
from nfsverity_proto import messages as m
from nfsverity_proto.errors import Rollback
from serving import keys, publish_tree, serving


@pytest.mark.parametrize("existing", [False, True])
async def test_what_others_have_gone_beyond_is_left_out(tmp_path: Path, existing: bool) -> None:
    """The rest of the last file comes only when another process has accepted a newer version of the first one."""
    published = publish_tree(tmp_path / "tree", {"a": b"one", "b": bytes(range(256)) * 1024})
    settings, destination = Settings(trust=(keys().pin,), timeout=20.0), tmp_path / "copy"
    if existing:
        destination.mkdir()
    with serving(published.root) as served:
        async with between(served.port) as adversary:

            async def late(call: Call) -> None:
                if call.procedure is m.READ:
                    adversary.on_call = None
                    published.replace("a", b"two")
                    published.sign("a")
                    async with Session(served.where, settings, state=State(tmp_path / "state")) as other:
                        assert await (await open_file(other, b"a")).pread() == b"two"
                await call.forward()

            adversary.on_call = late
            async with Session(adversary.where, settings, state=State(tmp_path / "state")) as session:
                first, second = (await _get_tree(session, b"", destination, False)).checks.files
    assert isinstance(first.error, Rollback)
    assert second.error is None
    assert [path.name for path in destination.iterdir()] == ["b"]
