# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The same tree published and verified by other programs, as far as they do the same job.

Processor time of whole commands, user and system, as a ratio to `find | xargs sha256sum` in the same round. Links are
left out of the tree, as model-signing refuses them. `tools/system-packages bench` sees to aide and ostree;
model-signing gets an environment of its own, as it needs other versions of what is shared.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from measure import COMMAND, run

if TYPE_CHECKING:
    from bench import Bench

SOURCE, PART = Path("/usr/share"), Path("/usr/share/doc")
ROUNDS = 3
PROCESSOR = 1
MODEL_SIGNING = ["model-signing==1.1.1", "pyopenssl"]
JOBS = ("publish", "again", "verify")
OWNED = ["--no-xattrs", "--owner-uid=0", "--owner-gid=0"]


@dataclass
class Other:
    """What one program is called with. `before` clears what an earlier publication left."""

    name: str
    publish: list[str]
    again: list[str]
    verify: list[str]
    before: Callable[[], object]
    ratios: dict[str, list[float]] = field(default_factory=lambda: {job: [] for job in JOBS})


def others(bench: Bench) -> None:
    tree = bench.folder / "others" / "tree"
    tree.parent.mkdir()
    subprocess.run(["cp", "-a", SOURCE if bench.scale == 1 else PART, tree], check=True)
    subprocess.run(["find", tree, "-type", "l", "-delete"], check=True)
    every = [make(bench, tree) for make in (_ours, _model_signing, _ostree, _aide)]
    found = [other for other in every if other is not None]
    find = f"find '{tree}' -name .nfsverity -prune -o -type f -print0 | xargs -0 sha256sum"
    for _ in range(ROUNDS):
        for other in found:
            other.before()
            for job in JOBS:
                if job == "again":
                    (tree / "changed").write_bytes(os.urandom(1000))
                plain = run(["sh", "-c", find], PROCESSOR, discard=True).processor
                command: list[str] = getattr(other, job)
                other.ratios[job].append(run(command, PROCESSOR, discard=True).processor / plain)
    for other in found:
        for job in JOBS:
            ratios = sorted(other.ratios[job])
            line = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            bench.report(f"{job} a tree, {other.name}, to find | xargs sha256sum", "compared only", line, True)


def _ours(bench: Bench, tree: Path) -> Other:
    volume = ["--volume-id", os.urandom(16).hex()]  # the same each time: another one is refused where this was verified
    sign = [COMMAND, "sign", *bench.key, "--jobs", "1", *volume, str(tree)]
    metadata = tree / ".nfsverity"
    verify = [COMMAND, "verify", str(tree)]
    return Other("nfsverity", sign, sign, verify, lambda: shutil.rmtree(metadata, ignore_errors=True))


def _model_signing(bench: Bench, tree: Path) -> Other | None:
    place = bench.folder / "others" / "model-signing"
    try:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin" / "pip", "install", "-q", *MODEL_SIGNING], check=True, stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        _missing(bench, "model-signing")
        return None
    key, public, signature = (str(place / name) for name in ("key", "public", "signature"))
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key])
    run(["openssl", "ec", "-in", key, "-pubout", "-out", public])
    command, ignored = str(place / "bin" / "model_signing"), ["--ignore-paths", str(tree / ".nfsverity")]
    sign = [command, "sign", "key", "--signature", signature, "--private_key", key, *ignored, str(tree)]
    verify = [command, "verify", "key", "--signature", signature, "--public_key", public, *ignored, str(tree)]
    return Other("model-signing", sign, sign, verify, lambda: None)


def _ostree(bench: Bench, tree: Path) -> Other | None:
    """It copies the tree to a repository: not compressed here, as that would be most of the time."""
    if shutil.which("ostree") is None:
        _missing(bench, "ostree")
        return None
    place = bench.folder / "others" / "repository"

    def before() -> None:
        shutil.rmtree(place, ignore_errors=True)
        run(["ostree", "init", f"--repo={place}", "--mode=bare-user-only"])

    modes = ["--canonical-permissions", "--skip-list=" + str(bench.folder / "others" / "skipped")]
    (bench.folder / "others" / "skipped").write_text("/.nfsverity\n")
    commit = ["ostree", "commit", f"--repo={place}", "--branch=b", f"--tree=dir={tree}", "-s", "bench", *OWNED, *modes]
    return Other("ostree", commit, commit, ["ostree", "fsck", "-q", f"--repo={place}"], before)


def _aide(bench: Bench, tree: Path) -> Other | None:
    if shutil.which("aide") is None:
        _missing(bench, "aide")
        return None
    place = bench.folder / "others"
    database, new, configuration = place / "aide.db", place / "aide.new", place / "aide.conf"
    configuration.write_text(
        f"database_in=file:{database}\ndatabase_out=file:{new}\ngzip_dbout=no\nreport_url=file:{place / 'aide.log'}\n"
        f"!{tree}/.nfsverity\n{tree} ftype+p+s+m+sha256\n"
    )
    # its exit status tells what it found, and after each publication its database has to be moved
    script = f'aide --config={configuration} "$@"; status=$?; [ ! -e {new} ] || mv {new} {database}; [ $status -le 7 ]'

    def command(what: str) -> list[str]:
        return ["sh", "-c", script, "aide", what]

    def before() -> None:
        for path in (database, new):
            path.unlink(missing_ok=True)

    return Other("aide", command("--init"), command("--update"), command("--check"), before)


def _missing(bench: Bench, name: str) -> None:
    bench.report(f"publish a tree, {name}", "compared only", "it is not here", True)
