#!/usr/bin/env python3
# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Build all that comes from the drafts' sources: text, HTML, XDR, and the table of verdicts.

    draft-*.xml  ->  draft-*.txt, draft-*.html      by the xml2rfc of this Python
    draft-*.txt  ->  *.x                            the lines that begin with ///, as RFC readers extract them
    draft-nfsverity-file-integrity-metadata-*.xml  ->  verdicts.json

`--check` writes nothing, and exits with 1 if what is committed is not what the sources give. It works offline.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SPEC = Path(__file__).resolve().parent
ID = re.compile(r"<!\[CDATA\[.*?\]\]>|<[^>]*>|\bfi[mpn]-[a-z0-9]+-[0-9]+\b", re.DOTALL)
"""An id of a sentence; and first what is no running text, so that it is passed over."""
CODE = re.compile(r'^ *<CODE BEGINS> file "(?P<name>[^"]+\.x)"\n(?P<lines>.*?)^ *<CODE ENDS>', re.DOTALL | re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, and write nothing")
    check = parser.parse_args().check
    stale = []
    for path, data in sorted(build().items()):
        if path.exists() and path.read_bytes() == data:
            continue
        stale.append(path.name)
        if not check:
            path.write_bytes(data)
    for name in stale:
        print(f"{name} is not what the sources give" if check else f"wrote {name}", file=sys.stderr)
    return 1 if check and stale else 0


def build() -> dict[Path, bytes]:
    """Every file that is built, and what is in it."""
    built: dict[Path, bytes] = {}
    for source in sorted(SPEC.glob("draft-*.xml")):
        tree = ElementTree.parse(source)
        text = render(source, tree, "text")
        built[source.with_suffix(".txt")] = text
        built[source.with_suffix(".html")] = render(source, tree, "html")
        for name, lines in extract_code(text.decode()).items():
            built[SPEC / name] = lines.encode()
        if table_of(tree, "verdict-table") is not None:
            built[SPEC / "verdicts.json"] = verdicts(tree)
    return built


def render(source: Path, tree: ElementTree.ElementTree, form: str) -> bytes:
    """The draft as text or HTML, the same whenever and wherever it is made. A warning is an error."""
    date = tree.find("front/date")
    assert date is not None, f"{source.name} has no date"
    options = ["--no-pagination"] if form == "text" else ["--no-rfc-local"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        copy = Path(folder) / source.name
        text = source.read_text(encoding="utf-8")
        copy.write_text(ID.sub(unbroken, text) if form == "text" else text, encoding="utf-8")
        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "xml2rfc.run",
                f"--{form}",
                *options,
                "--no-network",
                "--quiet",
                "--date",
                f"{date.get('year')}-{date.get('month')}-{date.get('day')}",
                "--cache",
                folder,
                "--out",
                str(out),
                str(copy),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        complaints = (result.stdout + result.stderr).strip()
        if result.returncode or complaints or not out.exists():
            sys.exit(f"xml2rfc, {source.name} as {form}:\n{complaints}")
        data = out.read_text(encoding="utf-8")
    if form == "html":  # the versions of the tools are no part of the draft
        data = re.sub(r"<!-- Generator version information:.*?-->\n", "", data, flags=re.DOTALL)
        data = re.sub(r'<meta content="xml2rfc [^"]*" name="generator">\n', "", data)
    return data.encode()


def unbroken(match: re.Match[str]) -> str:
    """An id with hyphens at which no line is broken, so that it can be searched for; xml2rfc writes them as "-"."""
    return match[0] if match[0].startswith("<") else match[0].replace("-", "\N{NON-BREAKING HYPHEN}")


def extract_code(text: str) -> dict[str, str]:
    """The XDR files in a draft's text; blocks of one name are joined.

    As RFC 5662 has it: sed -n -e 's:^ */// ::p' -e 's:^ *///$::p'
    """
    files: dict[str, str] = {}
    for block in CODE.finditer(text):
        lines = re.findall(r"^ *///(?: (.*))?$", block["lines"], flags=re.MULTILINE)
        files[block["name"]] = files.get(block["name"], "") + "".join(f"{line}\n" for line in lines)
    return files


def verdicts(tree: ElementTree.ElementTree) -> bytes:
    """The tables of verdicts and of changed fields, for tests and other programs."""
    found = {
        "verdicts": rows(tree, "verdict-table", ("step", "name", "when", "reported")),
        "changes": rows(tree, "change-table", ("field", "change", "verdict")),
    }
    return (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode()


def rows(tree: ElementTree.ElementTree, anchor: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The body of a table; a row's `id` is its anchor."""
    table = table_of(tree, anchor)
    assert table is not None, f"no table {anchor}"
    return [
        {"id": row.attrib["anchor"]} | dict(zip(columns, (content(cell) for cell in row.findall("td")), strict=True))
        for row in table.iterfind("tbody/tr")
    ]


def table_of(tree: ElementTree.ElementTree, anchor: str) -> ElementTree.Element | None:
    return tree.find(f".//table[@anchor='{anchor}']")


def content(cell: ElementTree.Element) -> str:
    return " ".join("".join(cell.itertext()).split())


if __name__ == "__main__":
    sys.exit(main())
