# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The demonstration that the README begins with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "demo" / "demo.py"


def test_the_demonstration_reads_all_back_and_notices_one_bit() -> None:
    done = subprocess.run([sys.executable, DEMO], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (signed,) = re.findall(r"^signed +([\d,]+) files", done.stdout, re.MULTILINE)
    (read,) = re.findall(r"^files +([\d,]+)$", done.stdout, re.MULTILINE)
    assert read == signed
    assert "[exit status 1]" in done.stdout
    assert ": mismatch: " in done.stdout + done.stderr
