# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A user of one's own, for each test: what it believes and what is bound is kept in a new directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from nfsverity_client.trust_store import CONFIG_VARIABLE, STATE_VARIABLE


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "user"
    monkeypatch.setenv(CONFIG_VARIABLE, str(directory / "config"))
    monkeypatch.setenv(STATE_VARIABLE, str(directory / "state"))
    return directory
