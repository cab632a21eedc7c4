# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What cannot be made anew to the byte, in inputs/: RSA primes, ML-DSA public keys and signatures. All are test keys.

    PYTHONPATH=tests .venv/bin/python -m vectors --inputs

adds what the vectors ask for and is not there, with the cryptography library.

The seeds of the ML-DSA keys follow from their names, the signatures are whatever the library gave once
(FIPS 204 section 5.2 hedges them with random bytes). Nothing that is there is ever replaced.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from .arithmetic import Rsa

FOLDER = Path(__file__).parent / "inputs"
RSA_KEYS = {
    "rsa-1024": (1024, 65537),
    "rsa-2040": (2040, 65537),
    "rsa-2048": (2048, 65537),
    "rsa-2048-b": (2048, 65537),
    "rsa-2048-e3": (2048, 3),
    "rsa-3072": (3072, 65537),
    "rsa-4096": (4096, 65537),
    "rsa-4104": (4104, 65537),
}
"""Bits, public exponent."""
MAKING: dict[str, dict[str, Any]] = {}
"""Where `make` collects; empty otherwise."""


@cache
def _read(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def rsa_primes(name: str) -> tuple[int, int]:
    primes = _read("rsa")[name]
    return int(primes["p"], 16), int(primes["q"], 16)


def rsa(name: str) -> Rsa:
    return Rsa(*rsa_primes(name), RSA_KEYS[name][1])


def ml_dsa_seed(name: str) -> bytes:
    return hashlib.sha256(b"nfs-verity test key " + name.encode()).digest()


def ml_dsa_public(parameters: int, name: str) -> bytes:
    key = f"{parameters} {name}"
    found = _read("ml-dsa").setdefault(key, {})
    if "public" not in found and MAKING:
        found["public"] = _private(parameters, name).public_key().public_bytes_raw().hex()
    return bytes.fromhex(found["public"])


def ml_dsa_sign(parameters: int, name: str, message: bytes, context: bytes = b"") -> bytes:
    ml_dsa_public(parameters, name)
    made: dict[str, str] = _read("ml-dsa")[f"{parameters} {name}"].setdefault("signatures", {})
    digest = hashlib.sha256(len(context).to_bytes(1, "big") + context + message).hexdigest()
    if digest not in made:
        if not MAKING:
            raise LookupError(
                f"no ML-DSA-{parameters} signature of {digest} is in inputs/: run python -m vectors --inputs"
            )
        made[digest] = _private(parameters, name).sign(message, context or None).hex()
    return bytes.fromhex(made[digest])


def _private(parameters: int, name: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import mldsa

    return getattr(mldsa, f"MLDSA{parameters}PrivateKey").from_seed_bytes(ml_dsa_seed(name))


def make() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa as library

    from . import subjects

    MAKING["rsa"], MAKING["ml-dsa"] = _read("rsa"), _read("ml-dsa")
    for name, (bits, e) in RSA_KEYS.items():
        if name not in MAKING["rsa"]:
            numbers = library.generate_private_key(e, bits).private_numbers()
            MAKING["rsa"][name] = {"p": f"{numbers.p:x}", "q": f"{numbers.q:x}"}
    subjects.build()
    for name, made in MAKING.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
