# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What this user believes in this run: the trust store, --trust, --volume, bindings, and what is revoked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from nfsverity_client.gates import ENFORCING, Gates, gates_of
from nfsverity_client.policy import load_policy
from nfsverity_client.revocations import RevokedList
from nfsverity_client.state import State
from nfsverity_client.trust_store import Bindings, TrustStore, certificate_file
from nfsverity_proto.statement import Item
from nfsverity_proto.trust import TrustEntry, expected_volumes

from .failure import say


@dataclass(frozen=True, slots=True)
class Belief:
    trust: tuple[TrustEntry, ...]
    volume: bytes | None
    bindings: Bindings
    state: State
    revoked: frozenset[Item]
    """Keys and versions that the user revoked."""
    gates: Gates = ENFORCING

    @property
    def volumes(self) -> frozenset[bytes] | None:
        """What --volume says."""
        return None if self.volume is None else frozenset({self.volume})

    def expected(self, url: str, server: str) -> frozenset[bytes] | None:
        """The volumes that will do for a file, without making a binding."""
        volumes = self.volumes or expected_volumes(self.trust, url)
        if volumes is not None:
            return volumes
        bound = self.bindings.get(server)
        return None if bound is None else frozenset({bound})


def load(
    trust_files: Sequence[str], volume: bytes | None, policy: str | None = None, audit_log: str | None = None
) -> Belief:
    """Raises `TrustStoreError`, `PolicyError`, `BadCertificate`, `OSError`."""
    user = load_policy(None if policy is None else Path(policy))
    gates = gates_of(user, None if audit_log is None else Path(audit_log), lambda text: say(f"nfsverity: {text}"))
    pins = [TrustEntry(certificate_file(Path(file))) for file in trust_files]
    return Belief((*TrustStore().entries(), *pins), volume, Bindings(), user_state(), RevokedList().items(), gates)


def user_state() -> State:
    """The user's, closed when the command ends: nothing but the one file is left, and all of it is in that."""
    state = State()
    click.get_current_context().call_on_close(state.close)
    return state


def announce(server: str, volume: bytes) -> None:
    """A binding was made."""
    say(
        f"nfsverity: {server} is used for the first time: from now on volume {volume.hex()} is expected there"
        " (`nfsverity trust list` shows it, `nfsverity trust remove` forgets it)"
    )
