# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`proto` takes bytes and returns values: it has no way to do anything else."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROTO = Path(__file__).parents[3] / "proto" / "nfsverity_proto"
MODULES = sorted(PROTO.glob("*.py"))
ALLOWED = {
    "__future__", "base64", "collections", "cryptography", "blake3", "dataclasses", "datetime", "enum",
    "functools", "hashlib", "hmac", "io", "itertools", "re", "struct", "typing", "urllib",
}  # fmt: skip
FORBIDDEN = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


@pytest.mark.spec("fim-cert-12")
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_nothing_that_reaches_outside(path: Path) -> None:
    tree = ast.parse(path.read_text())
    roots = {name.partition(".")[0] for name in imported(tree)}
    assert roots <= ALLOWED
    assert not {name for name in imported(tree) if name.startswith("urllib")} - {"urllib.parse"}
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not called & FORBIDDEN


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_check_is_an_assert_and_no_clock_is_read(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Assert)
        called = node.func if isinstance(node, ast.Call) else None
        assert not (isinstance(called, ast.Attribute) and called.attr in {"now", "utcnow", "today"})


def test_no_module_needs_the_cryptography_library_before_it_is_used() -> None:
    names = [f"nfsverity_proto.{path.stem}" for path in MODULES if path.stem != "__init__"]
    program = (
        f"import sys\nimport {', '.join(names)}\nsys.exit('cryptography' in sys.modules or 'blake3' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_chapters_import_each_other_in_the_order_in_which_data_passes() -> None:
    """Importing one does not import those that come after it."""
    order = [
        "errors", "xdr", "hashes", "tree", "proof", "fsverity", "path", "statement", "entry", "entry_range",
        "membership", "record", "signature", "der", "certificate", "trust", "revocation", "marks", "verifier",
        "signers", "verification", "member", "exported", "glob", "policy",
        "rpc", "messages", "slices", "url",
    ]  # fmt: skip
    assert sorted([*order, "__init__"]) == [path.stem for path in MODULES]
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.col_offset == 0:  # not for types alone
                for name in [node.module] if node.module else [name.name for name in node.names]:
                    assert order.index(str(name)) < order.index(path.stem), f"{path.stem} imports {name}"
