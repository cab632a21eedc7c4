# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The files of spec/vectors, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import (
    block_trees,
    by_algorithm,
    by_certificate,
    by_revocation,
    by_step,
    by_trust,
    certificates,
    changes,
    coverage,
    examples,
    form,
    marking,
    messages,
    names,
    proofs,
    record_forms,
    rpc,
    scopes,
    signatures,
    slices,
    statements,
    trees,
    volumes,
)
from .form import Vector

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
FOLDER = SPEC / "vectors"


def _verification() -> Iterable[Vector]:
    yield from changes.build(json.loads((SPEC / "verdicts.json").read_text())["changes"])
    for module in (by_algorithm, by_certificate, by_trust, by_step, by_revocation):
        yield from module.build()
    yield from volumes.heads()


SUBJECTS: dict[str, tuple[str, Callable[[], Iterable[Vector]]]] = {
    "tree": ("leaves, nodes and roots of hash trees", trees.build),
    "proof": ("range proofs", proofs.build),
    "tree2": ("tree type 2, that of fs-verity: roots and proofs", block_trees.build),
    "statement": ("statements, decoded alone", statements.build),
    "record": ("records, decoded without a look into the statement", record_forms.build),
    "signature": ("keys and signatures, alone", signatures.build),
    "scope": ("trust entries, alone", scopes.build),
    "verification": ("records judged, steps 0 to 13", _verification),
    "range": ("entries of volumes, and ranges of them", volumes.ranges),
    "member": ("members of volumes, judged", volumes.members),
    "path": ("names and paths", names.paths),
    "url": ("URLs", names.urls),
    "mark": ("record marking", marking.build),
    "rpc": ("whole messages: the headers of calls and replies", rpc.build),
    "message": ("arguments and results of the procedures", messages.build),
    "slice": ("slices, ranges of them, and holes", slices.build),
    "example": ("the worked example of File Integrity Metadata, step by step", examples.build),
}
HEAD = {"SPDX-FileCopyrightText": "the nfs-verity authors", "SPDX-License-Identifier": "CC0-1.0"}


def build() -> dict[str, bytes]:
    """Every file, by its name."""
    built = {}
    ids: set[str] = set()
    every: dict[str, list[Vector]] = {}
    for subject, (about, make) in SUBJECTS.items():
        vectors = list(make())
        for vector in vectors:
            if vector.id in ids:
                raise ValueError(f"two vectors are named {vector.id}")
            ids.add(vector.id)
        every[subject] = vectors
        built[f"{subject}.json"] = lines(subject, about, "vectors", map(form.written, vectors))
    text = b"".join(built.values()).decode()
    named = {name: der for name, der in sorted(certificates.CATALOGUE.items()) if f'"{name}"' in text}
    listed = [{"name": name, "der": form.packed(der)} for name, der in named.items()]
    about = "the certificates that vectors name, in DER"
    built["certificates.json"] = lines("certificates", about, "certificates", listed)
    about = "each normative sentence of the drafts, with the number of vectors that cite it"
    built["coverage.json"] = lines("coverage", about, "sentences", coverage.table(SPEC.glob("draft-*.xml"), every))
    return built


def lines(subject: str, about: str, key: str, items: Iterable[dict[str, Any]]) -> bytes:
    """One line per item, so that a difference is one line too."""
    head = json.dumps(HEAD | {"subject": subject, "about": about}, indent=1)[:-2]
    body = ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items)
    return f'{head},\n "{key}": [\n{body}\n ]\n}}\n'.encode()
