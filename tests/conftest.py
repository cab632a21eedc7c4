# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What all tests share: `@pytest.mark.tool`, how hypothesis runs, and that none touches what the user has."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import settings

os.environ["NFSVERITY_CACHE_SIZE"] = "0"  # a test that wants a cache says so: no other finds what one has left
CI = os.environ.get("CI", "").lower() in ("true", "1")

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if CI else "default")


@pytest.fixture(autouse=True, scope="session")
def a_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whose trust, state and caches the library uses where a test names none: not those of who runs the tests."""
    home = tmp_path_factory.mktemp("user")
    for name in ("config", "state", "cache"):
        os.environ[f"NFSVERITY_{name.upper()}_DIR"] = str(home / name)


def missing_tools(commands: tuple[str, ...], library: str | None) -> list[str]:
    missing = [command for command in commands if shutil.which(command) is None]
    if library is not None:
        pkg_config = shutil.which("pkg-config")
        if pkg_config is None or subprocess.run([pkg_config, "--exists", library]).returncode != 0:
            missing.append(library)
    return missing


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose tools are not there. With CI=true it fails: nothing is left untested in silence."""
    for mark in item.iter_markers("tool"):
        missing = missing_tools(mark.args, mark.kwargs.get("library"))
        if missing:
            reason = f"not installed: {', '.join(missing)} (tools/system-packages says how)"
            if CI:
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
