# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A process that opens and reads a file, whole, for each line on its standard input; and says when it had it."""

from __future__ import annotations

import hashlib
import sys
import time

import nfsverity

url, certificate, name = sys.argv[1:]
print("ready", flush=True)
for _ in sys.stdin:
    with nfsverity.open_tree(url, trust=[certificate]) as tree, tree.open(name) as file:  # it may wait here already
        data = file.read()
        print(time.time(), hashlib.sha256(data).hexdigest(), flush=True)
