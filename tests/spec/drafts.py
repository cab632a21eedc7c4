# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The drafts as tests read them: their sources, sentences with ids, and blocks of code."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

SPEC = Path(__file__).resolve().parents[2] / "spec"
SOURCES = tuple(sorted(SPEC.glob("draft-*.xml")))
METADATA = SPEC / "draft-nfsverity-file-integrity-metadata-00.xml"


@dataclass(frozen=True)
class Sentence:
    """A paragraph that has a word of BCP 14 in it."""

    anchor: str | None
    text: str


def text_of(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def sentences(source: Path) -> list[Sentence]:
    found = []
    for element in ElementTree.parse(source).iter():
        if (
            element.tag in ("t", "li", "dd", "td")
            and element.find("t") is None
            and element.find(".//bcp14") is not None
        ):
            found.append(Sentence(element.get("anchor"), text_of(element)))
    return found


def code(source: Path, kind: str) -> dict[str, str]:
    """The blocks of `<sourcecode>` of one type that have a name."""
    found = {}
    for element in ElementTree.parse(source).iter("sourcecode"):
        if element.get("type") == kind and element.get("name"):
            found[element.attrib["name"]] = (element.text or "").strip("\n")
    return found


def table(source: Path, anchor: str) -> list[list[str]]:
    """The body of a table, cell by cell."""
    element = ElementTree.parse(source).find(f".//table[@anchor='{anchor}']")
    if element is None:
        raise KeyError(anchor)
    return [[text_of(cell) for cell in row.findall("td")] for row in element.iterfind("tbody/tr")]
