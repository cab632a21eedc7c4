# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the examples find: a signed tree `tree`, `me.key`, `me.crt` and `other.crt` in the working folder, and `url`."""

from __future__ import annotations

import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sys.executable).with_name("nfsverity")


@pytest.fixture(autouse=True)
def examples(
    request: pytest.FixtureRequest,
    doctest_namespace: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    if request.node.name not in ("README.md", "programs.md"):
        yield
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NFSVERITY_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NFSVERITY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NFSVERITY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NFSVERITY_CACHE_SIZE", raising=False)
    Path("tree/docs").mkdir(parents=True)
    Path("tree/hello.txt").write_text("hello\n")
    with zipfile.ZipFile("tree/docs/pages.zip", "w") as archive:
        archive.writestr("page", random.Random(1).randbytes(150_000))
    for name in ("me", "other"):
        subprocess.run([COMMAND, "keygen", name], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([COMMAND, "sign", "--key", "me.key", "--cert", "me.crt", "tree"], check=True)
    serve = [COMMAND, "serve", "tree", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        doctest_namespace["url"] = server.stdout.readline().strip()
        yield
        server.terminate()
