# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a standards editor would check in the drafts, and that what is built from them is current."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from .drafts import METADATA, SOURCES, SPEC, sentences, table, text_of

WORDS = re.compile(r"\b(?:MUST|SHALL|SHOULD|RECOMMENDED|MAY)\b")
"""Not REQUIRED and OPTIONAL, which RFC 8178 uses for what an attribute or an operation is."""
PREFIX = {"metadata": "fim", "protocol": "fip", "nfsv42": "fin"}
each_draft = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def test_there_are_drafts() -> None:
    assert METADATA in SOURCES


@pytest.mark.skipif(find_spec("xml2rfc") is None, reason="xml2rfc is not installed (`make test` does)")
def test_what_is_built_is_what_the_sources_give() -> None:
    result = subprocess.run([sys.executable, SPEC / "build.py", "--check"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@each_draft
def test_a_normative_sentence_has_its_id_at_its_end(source: Path) -> None:
    found = sentences(source)
    assert found
    for sentence in found:
        assert sentence.anchor is not None, sentence.text
        assert re.fullmatch(r"fi[mpn]-[a-z0-9]+-[1-9][0-9]*", sentence.anchor), sentence.anchor
        assert sentence.text.endswith(f" ({sentence.anchor})"), sentence.text


@each_draft
def test_a_normative_paragraph_is_one_sentence(source: Path) -> None:
    for sentence in sentences(source):
        body = sentence.text.removesuffix(f" ({sentence.anchor})")
        assert body[-1] in ".:", sentence.text
        assert not re.search(r"[.:] [A-Z](?!R |AD_)", body[:-1].replace("i.e. ", "")), sentence.text


@each_draft
def test_an_id_is_that_of_its_draft(source: Path) -> None:
    prefix = next(value for key, value in PREFIX.items() if key in source.stem)
    assert {sentence.anchor.split("-")[0] for sentence in sentences(source) if sentence.anchor} == {prefix}


def test_an_id_is_used_once() -> None:
    anchors = Counter(sentence.anchor for source in SOURCES for sentence in sentences(source))
    assert [anchor for anchor, count in anchors.items() if count > 1] == []


@each_draft
def test_an_id_in_parentheses_is_an_anchor(source: Path) -> None:
    known = {sentence.anchor for each in SOURCES for sentence in sentences(each)}
    tree = ElementTree.parse(source)
    cited = set(re.findall(r"\bfi[mpn]-[a-z0-9]+-[0-9]+\b", text_of(tree.getroot())))
    assert cited - known == set()
    anchored = {e.get("anchor") for e in tree.iter() if re.match(r"fi[mpn]-[a-z0-9]+-[0-9]", e.get("anchor", ""))}
    assert anchored - known == set()


@each_draft
def test_a_word_of_bcp_14_is_marked_as_one(source: Path) -> None:
    root = ElementTree.parse(source).getroot()
    for parent in root.iter():
        if parent.tag in ("bcp14", "sourcecode", "artwork"):
            continue
        for text in (parent.text, *(child.tail for child in parent)):
            plain = re.sub(r'"[A-Z ]+"|BCP 14', "", " ".join((text or "").split()))
            assert not WORDS.search(plain), plain


@each_draft
def test_a_reference_resolves(source: Path) -> None:
    tree = ElementTree.parse(source)
    anchors = {element.get("anchor") for element in tree.iter()}
    targets = {element.get("target") for element in tree.iter("xref")}
    assert targets - anchors == set()


@each_draft
def test_an_anchor_is_used_once(source: Path) -> None:
    anchors = Counter(e.get("anchor") for e in ElementTree.parse(source).iter() if e.get("anchor"))
    assert [anchor for anchor, count in anchors.items() if count > 1] == []


@each_draft
def test_every_reference_is_cited(source: Path) -> None:
    tree = ElementTree.parse(source)
    targets = {element.get("target") for element in tree.iter("xref")}
    references = {element.get("anchor") for element in tree.iter("reference")}
    assert references - targets == set()


@each_draft
def test_a_table_and_a_figure_have_names(source: Path) -> None:
    for element in ElementTree.parse(source).iter():
        if element.tag in ("table", "figure"):
            assert element.find("name") is not None, ElementTree.tostring(element)[:200]


def terms(source: Path) -> list[str]:
    section = ElementTree.parse(source).find(".//section[@anchor='terms']")
    assert section is not None
    return [term.lower() for dt in section.iter("dt") for term in text_of(dt).split(", ")]


def test_a_term_is_defined_once() -> None:
    counted = Counter(term for source in SOURCES for term in terms(source))
    assert [term for term, count in counted.items() if count > 1] == []


BORROWED = re.compile(r"([A-Z][^.:]*?) are terms of \[?(FIM|FIP)\b")
DOCUMENTS = {"FIM": METADATA, "FIP": SPEC / "draft-nfsverity-file-integrity-protocol-00.xml"}


def terms_section(source: Path) -> str:
    """With a word for each reference."""
    section = ElementTree.parse(source).find(".//section[@anchor='terms']")
    assert section is not None
    for xref in section.iter("xref"):
        xref.text = xref.get("target")
    return " ".join(text_of(paragraph) for paragraph in section.iter("t"))


@pytest.mark.parametrize("source", [source for source in SOURCES if source != METADATA], ids=lambda path: path.stem)
def test_a_term_that_is_borrowed_is_defined_there(source: Path) -> None:
    found = BORROWED.findall(terms_section(source))
    assert found
    for words, document in found:
        lender = ElementTree.parse(DOCUMENTS[document])
        defined = {term for dt in lender.iter("dt") for term in text_of(dt).lower().split(", ")}
        defined |= {text_of(em).lower() for em in lender.iter("em")}
        assert {word.lower() for word in re.split(r", | and ", words)} <= defined, words


OTHER_WORDS = (
    "chunk", "root hash", "top hash", "head hash", "leaf hash", "merkle root", "inclusion path", "audit path",
    "volume identifier", "file identifier", "certificate hash", "thumbprint", "version number of a file", "snapshot",
    "manifest", "signing certificate", "trust anchor list", "trust store", "high-water mark", "timestamp",
)  # fmt: skip
"""What others call a unit, a root, a leaf's value, a proof, a volume ID, a fingerprint, a mark ..."""


@each_draft
def test_a_thing_has_one_name(source: Path) -> None:
    middle = ElementTree.parse(source).find("middle")
    assert middle is not None
    text = text_of(middle).lower()
    assert [word for word in OTHER_WORDS if word in text] == []


@each_draft
def test_an_rfc_that_is_named_is_a_reference(source: Path) -> None:
    root = ElementTree.parse(source).getroot()
    references = {element.get("anchor") for element in root.iter("reference")}
    named = {f"RFC{number}" for number in re.findall(r"\bRFC ([0-9]{4,5})\b", text_of(root))}
    assert named - references == set()


@each_draft
def test_a_picture_survives_in_plain_text(source: Path) -> None:
    for pictures in ElementTree.parse(source).iter("artset"):
        assert [picture.get("type") for picture in pictures] == ["svg", "ascii-art"]
        drawing = pictures[0][0]
        assert drawing.find("{http://www.w3.org/2000/svg}title") is not None
        said = {text_of(text) for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
        plain = (pictures[1].text or "").translate(str.maketrans("", "", "[](), ;"))
        for words in said:
            if re.fullmatch(r"[A-Z]+\(.*\)|[(0-9, )]+|[a-z]+", words):
                assert re.sub(r"[\[\](), ;]", "", words) in plain.replace("\n", ""), words


def test_the_tree_the_record_and_the_presentations_are_drawn() -> None:
    drawn = {figure.get("anchor") for source in SOURCES for figure in ElementTree.parse(source).iter("figure")
             if figure.find("artset") is not None}  # fmt: skip
    assert {"fig-record", "fig-tree", "fig-proof", "fig-ahead", "fig-demand", "fig-inline"} <= drawn


@each_draft
def test_a_line_of_the_text_fits(source: Path) -> None:
    for line in source.with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        assert len(line) <= 72, line


@each_draft
def test_the_text_is_ascii_but_for_names(source: Path) -> None:
    root = ElementTree.parse(source).getroot()
    for element in root.iter():
        if element.tag != "author":
            assert (element.text or "").isascii(), element.text
            assert (element.tail or "").isascii(), element.tail


@pytest.mark.parametrize("anchor", ["verdict-table", "change-table"])
def test_a_row_of_an_oracle_has_an_anchor(anchor: str) -> None:
    element = ElementTree.parse(METADATA).find(f".//table[@anchor='{anchor}']")
    assert element is not None
    stem = anchor.removesuffix("table")
    assert all(row.get("anchor", "").startswith(stem) for row in element.iterfind("tbody/tr"))


def test_every_verdict_of_the_changes_is_in_the_table_of_verdicts() -> None:
    known = {row[1] for row in table(METADATA, "verdict-table")} | {"verified"}
    assert {row[2] for row in table(METADATA, "change-table")} <= known


def test_the_tests_that_the_requirements_name_exist() -> None:
    root = SPEC.parent
    for _, _, _, tests in table(METADATA, "requirement-table"):
        for path in re.findall(r"tests/[a-z_0-9/.]+", tests):
            assert (root / path).exists(), path
