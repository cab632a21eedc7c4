# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The files of spec/vectors, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import (
    by_algorithm,
    by_certificate,
    by_step,
    by_trust,
    certificates,
    changes,
    examples,
    form,
    marking,
    messages,
    names,
    proofs,
    record_forms,
    scopes,
    signatures,
    slices,
    statements,
    trees,
)
from .form import Vector

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
FOLDER = SPEC / "vectors"


def _verification() -> Iterable[Vector]:
    yield from changes.build(json.loads((SPEC / "verdicts.json").read_text())["changes"])
    for module in (by_algorithm, by_certificate, by_trust, by_step):
        yield from module.build()


SUBJECTS: dict[str, tuple[str, Callable[[], Iterable[Vector]]]] = {
    "tree": ("leaves, nodes and roots of hash trees", trees.build),
    "proof": ("range proofs", proofs.build),
    "statement": ("statements, decoded alone", statements.build),
    "record": ("records, decoded without a look into the statement", record_forms.build),
    "signature": ("keys and signatures, alone", signatures.build),
    "scope": ("trust entries, alone", scopes.build),
    "verification": ("records judged, steps 0 to 13", _verification),
    "path": ("names and paths", names.paths),
    "url": ("URLs", names.urls),
    "mark": ("record marking", marking.build),
    "message": ("arguments and results of the procedures", messages.build),
    "slice": ("slices, ranges of them, and holes", slices.build),
    "example": ("the worked example of File Integrity Metadata, step by step", examples.build),
}
HEAD = {"SPDX-FileCopyrightText": "the nfs-verity authors", "SPDX-License-Identifier": "CC0-1.0"}


def build() -> dict[str, bytes]:
    """Every file, by its name."""
    built = {}
    for subject, (about, vectors) in SUBJECTS.items():
        built[f"{subject}.json"] = encoded(subject, about, [form.written(vector) for vector in vectors()])
    built["certificates.json"] = _certificates()
    return built


def encoded(subject: str, about: str, vectors: list[dict[str, Any]]) -> bytes:
    """One line per vector, so that a difference is one line too."""
    head = json.dumps(HEAD | {"subject": subject, "about": about}, indent=1)[:-2]
    lines = ",\n".join(json.dumps(vector, ensure_ascii=False, separators=(",", ":")) for vector in vectors)
    return f'{head},\n "vectors": [\n{lines}\n ]\n}}\n'.encode()


def _certificates() -> bytes:
    listed = [{"name": name, "der": form.packed(der)} for name, der in sorted(certificates.CATALOGUE.items())]
    head = json.dumps(
        HEAD | {"subject": "certificates", "about": "the certificates that vectors name, in DER"}, indent=1
    )[:-2]
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in listed)
    return f'{head},\n "certificates": [\n{lines}\n ]\n}}\n'.encode()
