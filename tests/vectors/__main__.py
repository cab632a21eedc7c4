# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Make spec/vectors anew.

`--check` writes nothing, and exits with 1 if what is committed is not what comes out. `--inputs` adds missing ML-DSA
keys and signatures, and RSA primes, to inputs/ first.
"""

from __future__ import annotations

import argparse
import sys

from . import inputs, subjects


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vectors", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, and write nothing")
    parser.add_argument("--inputs", action="store_true", help="add what is missing in inputs/")
    options = parser.parse_args()
    if options.inputs:
        inputs.make()
    stale = []
    for name, data in subjects.build().items():
        path = subjects.FOLDER / name
        if path.exists() and path.read_bytes() == data:
            continue
        stale.append(name)
        if not options.check:
            path.write_bytes(data)
    for name in stale:
        print(f"{name} is not what comes out" if options.check else f"wrote {name}", file=sys.stderr)
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
