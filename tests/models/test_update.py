# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The model of an update (spec/models) checked with spin: its properties hold, and fail with each known mistake."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "spec/models/update.pml"
pytestmark = [pytest.mark.tool("spin", "gcc"), pytest.mark.timeout(600)]

SAFETY, LIVENESS = "safety", "liveness"
ALONE = ("READERS=1", "BUDGET=2")
HOLDS = [
    (SAFETY, ("LYING",)),
    (LIVENESS, ("LYING", *ALONE)),
    (SAFETY, ("OPENS=1",)),
    (SAFETY, ("LAST=4", *ALONE)),
    (LIVENESS, ("LAST=4", *ALONE)),
    (LIVENESS, ("LAST=4", "HELD", *ALONE)),
]
FAILS = [
    (SAFETY, ("M_UNVERIFIED", "LYING", *ALONE)),
    (SAFETY, ("M_PINNED_FOLLOWS", "LYING", *ALONE)),
    (SAFETY, ("M_BUFFER_KEPT", "LYING", *ALONE)),
    (SAFETY, ("M_DELIVERED_FIRST", "LYING", *ALONE)),
    (SAFETY, ("M_BLIND_MARK", "LYING")),
    (LIVENESS, ("M_NOT_STRICTLY", "LYING", *ALONE)),
    (LIVENESS, ("M_NO_GENERATION", "LYING", *ALONE)),
    (LIVENESS, ("M_NO_BUDGET", "LYING", *ALONE)),
    (LIVENESS, ("M_POLLED_FOR_EVER", "LYING", *ALONE)),
    (SAFETY, ("M_NOT_ASKED_AGAIN", *ALONE)),
    (SAFETY, ("M_REFUSED_AT_ONCE", "OPENS=1")),
    (LIVENESS, ("M_LOST_NEWS", "HELD", *ALONE)),
]


def check(directory: Path, what: str, defined: tuple[str, ...]) -> int:
    """The number of errors in what the checker searched completely, or up to the first one."""
    run = {"cwd": directory, "check": True, "capture_output": True, "text": True}
    subprocess.run(["spin", "-a", *(f"-D{name}" for name in defined), str(MODEL)], **run)
    fast = ["-DSAFETY", "-DNOCLAIM"] if what is SAFETY else ["-DNFAIR=3"]
    subprocess.run(["gcc", "-O1", "-w", *fast, "-o", "pan", "pan.c"], **run)
    options = [] if what is SAFETY else ["-a", "-f", "-N", "served_or_told"]  # -f: every process gets its turns
    said = subprocess.run(["./pan", "-m500000", *options], **run).stdout
    assert "max search depth too small" not in said
    assert "Search not completed" not in said or "errors: 1" in said
    found = re.search(r"errors: (\d+)", said)
    assert found, said
    print(what, *defined, *re.findall(r".*(?:states, stored|violated|acceptance cycle).*", said), sep="\n")
    return int(found[1])


@pytest.mark.parametrize(
    ("what", "defined"), HOLDS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_it_holds(tmp_path: Path, what: str, defined: tuple[str, ...]) -> None:
    assert check(tmp_path, what, defined) == 0


@pytest.mark.parametrize(("what", "defined"), FAILS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_mistake_is_found(tmp_path: Path, what: str, defined: tuple[str, ...]) -> None:
    assert check(tmp_path, what, defined) == 1


def test_all_mistakes_are_tried() -> None:
    assert {defined[0] for _, defined in FAILS} == set(re.findall(r"\bM_\w+", MODEL.read_text())) - {"M_"}
