# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The .x files compile, and say what our declarations say."""

from __future__ import annotations

from pathlib import Path

import pytest

from nfsverity_proto import (
    entry,
    entry_range,
    fsverity,
    hashes,
    messages,
    path,
    record,
    rpc,
    signature,
    statement,
    tree,
    verification,
)

from . import building, xdr_language

pytestmark = [pytest.mark.tool("rpcgen", "gcc", library="libtirpc")]

FILES = [building.SPEC / name for name in building.XDR_FILES]

CONSTANTS = {
    "FIM_MAGIC": statement.MAGIC,
    "FIM_FORMAT": statement.FORMAT,
    "FIM_RECORD_MAX": record.RECORD_MAX,
    "FIM_STATEMENT_MAX": statement.STATEMENT_MAX,
    "FIM_ATTESTATIONS_MAX": record.ATTESTATIONS_MAX,
    "FIM_UNIT_LOG2_MIN": tree.UNIT_LOG2_MIN,
    "FIM_UNIT_LOG2_MAX": tree.UNIT_LOG2_MAX,
    "FIM_DEPTH_MAX": path.DEPTH_MAX,
    "FIM_SKEW": verification.SKEW,
    "FIM_TREE_RFC9162": tree.RFC9162,
    "FIM_TREE_FSVERITY": fsverity.FSVERITY,
    "FIM_HASH_SHA256": hashes.hash_by_name("sha256").number,
    "FIM_HASH_SHA384": hashes.hash_by_name("sha384").number,
    "FIM_HASH_SHA512": hashes.hash_by_name("sha512").number,
    "FIM_HASH_SHA3_256": hashes.hash_by_name("sha3-256").number,
    "FIM_HASH_SHA3_384": 11,  # these two are not known to us; that their length is, other tests see to
    "FIM_HASH_SHA3_512": 12,
    "FIM_HASH_BLAKE3": hashes.hash_by_name("blake3").number,
    "FIM_SCHEME_ECDSA_P256": signature.ECDSA_P256,
    "FIM_SCHEME_ECDSA_P384": signature.ECDSA_P384,
    "FIM_SCHEME_RSA_PSS": signature.RSA_PSS,
    "FIM_SCHEME_ED25519": signature.ED25519,
    "FIM_SCHEME_ML_DSA_44": signature.ML_DSA_44,
    "FIM_SCHEME_ML_DSA_65": signature.ML_DSA_65,
    "FIM_SCHEME_ML_DSA_87": signature.ML_DSA_87,
    "FIM_SIGNATURE": record.SIGNATURE,
    "FIM_MEMBERSHIP": record.MEMBERSHIP,
    "FIM_RANGE_MAX": entry_range.RANGE_ENTRIES_MAX,
    "FIM_PUBLIC_KEY": statement.PUBLIC_KEY,
    "FIM_VERSION": statement.VERSION,
    "FIM_ITEMS_MAX": statement.ITEMS_MAX,
    "FIP_MESSAGE_MAX": rpc.MESSAGE_MAX,
    "FIP_FRAGMENTS_MAX": rpc.FRAGMENTS_MAX,
    "FIP_DATA_MAX": messages.DATA_MAX,
    "FIP_BULK_MAX": messages.BULK_MAX,
    "FIP_FETCH_MAX": messages.FETCH_MAX,
    "FIP_TREE_MAX": messages.TREE_MAX,
    "FIP_HANDLE_MAX": messages.HANDLE_MAX,
    "FIP_PROOF_MAX": messages.PROOF_MAX,
    "FIP_HOLES_MAX": messages.HOLES_MAX,
    "FIP_ENTRIES_MAX": messages.ENTRIES_MAX,
    "FIP_WAIT_MAX": messages.WAIT_MAX,
    "FIP_POLLS_MAX": messages.POLLS_MAX,
    "FIP_DATA_MIN": 2**20,  # what our server grants is more, and our client never asks for more than this unasked
    "FIP_HASHES_MIN": 4096,
    "FIP_CALLS_MIN": messages.CALLS_MAX,
    "FIP_CAP_CORE": messages.CAP_CORE,
    "FIP_CAP_DATA": messages.CAP_DATA,
    "FIP_CAP_VOLUME": messages.CAP_VOLUME,
}
MEMBERS = {
    **{f"FIM_{kind.name}": int(kind) for kind in statement.Kind},
    **{f"FIM_ENTRY_{type.name}": int(type) for type in entry.EntryType},
    **{f"FIP_{status.name}": int(status) for status in messages.Status},
    **{f"FIP_{type.name}": int(type) for type in messages.FileType},
}
PROCEDURES = {
    "FIP_PROGRAM": messages.PROGRAM,
    "FIP_V1": messages.VERSION,
    "FIPPROC_NULL": 0,
    **{f"FIPPROC_{procedure.name}": number for number, procedure in messages.PROCEDURES.items()},
}


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """All names of ours that the generated headers define, with what they are there."""
    folder = tmp_path_factory.mktemp("headers")
    building.rpcgen(folder)
    names = [*CONSTANTS, *MEMBERS, *PROCEDURES]
    lines = "".join(f'printf("{name} %lu\\n", (unsigned long) {name});\n' for name in names)
    (folder / "show.c").write_text(f'#include <stdio.h>\n#include "fip.h"\nint main(void)\n{{\n{lines}return 0;\n}}\n')
    flags = building.run("pkg-config", "--cflags", "libtirpc", at=folder).split()
    building.run("gcc", *building.STRICT, *flags, "show.c", "-o", "show", at=folder)
    pairs = (line.split() for line in building.run("./show", at=folder).splitlines())
    return {name: int(value) for name, value in pairs}


def test_rpcgen_and_the_compiler_have_nothing_to_say(tmp_path: Path) -> None:
    building.rpcgen(tmp_path)
    flags = building.run("pkg-config", "--cflags", "libtirpc", at=tmp_path).split()
    for name in building.MADE:
        building.run("gcc", *building.GENERATED, *flags, "-c", f"{name}.c", at=tmp_path)


def test_all_that_the_files_name_is_compared() -> None:
    assert xdr_language.constants(FILES).keys() == CONSTANTS.keys()
    types = xdr_language.parse(FILES).values()
    members = {name for kind in types if isinstance(kind, xdr_language.Enum) for name in kind.values}
    assert members == MEMBERS.keys()


@pytest.mark.parametrize("ours", [CONSTANTS, MEMBERS, PROCEDURES], ids=["constants", "members", "procedures"])
def test_names_stand_for_the_same_numbers(in_c: dict[str, int], ours: dict[str, int]) -> None:
    assert {name: in_c[name] for name in ours} == ours


def test_the_reading_of_the_files_is_rpcgens(in_c: dict[str, int]) -> None:
    constants = xdr_language.constants(FILES)
    assert {name: in_c[name] for name in constants} == constants
