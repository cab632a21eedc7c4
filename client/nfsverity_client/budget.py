# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The time that all waiting for updates may take together (fip-client-23)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class WaitBudget:
    """Seconds for one command, or what else a user asked for at once. Waits at the same time count once."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._waiting = 0
        self._since = 0.0

    def left(self) -> float:
        now = time.monotonic() if self._waiting else self._since
        return max(0.0, self._left - (now - self._since))

    @contextlib.contextmanager
    def spending(self) -> Iterator[None]:
        """The time inside is taken from the budget."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._left -= time.monotonic() - self._since
                self._since = 0.0
