# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The Python examples of the README and of docs/ run as they are printed."""

from __future__ import annotations

import doctest
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if ">>> " in path.read_text()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples(
    document: Path, nfsverity: Any, serve: Any, make_keys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NFSVERITY_CONFIG_DIR", "NFSVERITY_STATE_DIR", "NFSVERITY_CACHE_DIR"):
        monkeypatch.setenv(name, nfsverity.environment[name])
    monkeypatch.delenv("NFSVERITY_CACHE_SIZE", raising=False)
    me, other = make_keys("me"), make_keys("other")
    for source, name in ((me.key, "me.key"), (me.certificate, "me.crt"), (other.certificate, "other.crt")):
        shutil.copy(source, name)
    Path("tree/docs").mkdir(parents=True)
    Path("tree/hello.txt").write_bytes(b"hello\n")
    with zipfile.ZipFile("tree/docs/pages.zip", "w") as archive:
        archive.writestr("page", random.Random(1).randbytes(150_000))
    nfsverity("sign", *me.options, "tree")
    nfsverity("trust", "add", "me.crt")
    failed, tried = doctest.testfile(
        str(document), module_relative=False, globs={"url": str(serve(Path("tree")).url)}, encoding="utf-8"
    )
    assert tried
    assert not failed, "see the captured output"
