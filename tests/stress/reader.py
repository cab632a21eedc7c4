# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A process that reads files while they are updated, through the API, until it is told to stop (stdin is closed).

It writes one JSON line for each open: what came of it. It knows the files' contents by their marks only.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time

from contents import BLOCK, version_of

import nfsverity


def checked(data: bytes, name: str, offset: int, version: int | None) -> int | None:
    """The version that whole blocks are of. Raises `AssertionError` for a mix, or another file's bytes."""
    for at in range(0, len(data) - len(data) % BLOCK, BLOCK):
        found = version_of(data[at : at + BLOCK], name, offset + at)
        assert version in (None, found), f"a mix: {version} and {found} at {offset + at} of {name}"
        version = found
    return version


def read(tree: nfsverity.Tree, name: str, random: random.Random) -> tuple[str, int | None]:
    """One open, in one of three ways; how it was read, and the version."""
    version: int | None = None
    with tree.open(name) as file:
        how = random.choice(("whole", "range", "long"))
        if how == "whole":
            return how, checked(file.read(), name, 0, None)
        for _ in range(1 if how == "range" else 8):
            offset = random.randrange(0, max(1, file.size // BLOCK)) * BLOCK
            file.seek(offset)
            version = checked(file.read(64 * BLOCK), name, offset, version)
            if how == "long":
                time.sleep(0.05)
    return how, version


def main() -> None:
    url, certificate, seed, *names = sys.argv[1:]
    choice = random.Random(int(seed))
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.time()
        name = choice.choice(names)
        said = {"name": name, "began": began}
        try:
            with nfsverity.open_tree(url, trust=[certificate], wait=20) as tree:
                how, version = read(tree, name, choice)
            said |= {"verdict": "served", "how": how, "version": version}
        except nfsverity.VerificationError as error:
            said |= {"verdict": error.verdict, "message": str(error)}
        except AssertionError as error:
            said |= {"verdict": "WRONG", "message": str(error)}
        said["took"] = time.time() - began
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
