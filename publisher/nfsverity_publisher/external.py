# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Keys that are not in a file: in a token (PKCS #11), or behind a command that signs what it gets.

What such a signer gives is verified before it is used (`SigningKey.sign`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from nfsverity_proto.signature import SCHEME_NAMES

from .keys import SigningKey, SigningProblem, load_certificates, load_signing_key

COMMAND, PKCS11 = "command:", "pkcs11:"
PIN_VARIABLE, MODULE_VARIABLE = "NFSVERITY_PKCS11_PIN", "NFSVERITY_PKCS11_MODULE"
SECONDS = 120
"""Within which a command gives its signature: somebody may have to touch a token."""
_ECDSA_DIGESTS = {SCHEME_NAMES["ecdsa-p256"]: hashlib.sha256, SCHEME_NAMES["ecdsa-p384"]: hashlib.sha384}

Pin = Callable[[str], str]
"""Asks for the PIN of the token with this label."""


def is_external(key: str) -> bool:
    """Whether `--key` names no file."""
    return key.startswith((COMMAND, PKCS11))


def load_key(key: str, certificate_file: Path, pin: Pin | None = None, seconds: float = SECONDS) -> SigningKey:
    """The key that is at a path, or that a `pkcs11:` URI (RFC 7512) or `command:PROGRAM ARGUMENTS` names.

    Without a PIN in the URI, a file that it names, or NFSVERITY_PKCS11_PIN, `pin` is asked. Raises `OSError`,
    `ValueError`, `SigningProblem`.
    """
    if key.startswith(COMMAND):
        return _of_command(key.removeprefix(COMMAND), certificate_file, seconds)
    if key.startswith(PKCS11):
        return _of_token(key, certificate_file, pin)
    return load_signing_key(Path(key), certificate_file)


def _of_command(text: str, certificate_file: Path, seconds: float) -> SigningKey:
    import shlex  # most keys are in files, and need no part of this
    import subprocess

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{COMMAND}{text}: {error}") from error
    if not words:
        raise ValueError(f"{COMMAND} is followed by a program and its arguments")
    certificate, issuers = load_certificates(certificate_file)

    def sign(message: bytes) -> bytes:
        try:
            done = subprocess.run(words, input=message, stdout=subprocess.PIPE, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise SigningProblem(f"{words[0]} gave no signature within {seconds:g} seconds") from None
        except OSError as error:
            raise SigningProblem(f"{words[0]}: {error.strerror or error}") from error
        if done.returncode:
            how = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
            raise SigningProblem(f"{words[0]} gave no signature: it ended with {how}")
        return done.stdout

    return SigningKey.external(sign, words[0], certificate, issuers)


class TokenUri:
    """What a `pkcs11:` URI says. Raises `ValueError`."""

    PATH = ("token", "manufacturer", "model", "serial", "slot-id", "object", "id", "type")
    QUERY = ("pin-value", "pin-source", "module-path")

    def __init__(self, text: str) -> None:
        path, _, query = text.removeprefix(PKCS11).partition("?")
        self.path = _attributes(path, ";", self.PATH)
        self.query = _attributes(query, "&", self.QUERY)
        if self._text("type") not in (None, "private"):
            raise ValueError("a pkcs11: URI that is not of type=private")
        if "object" not in self.path and "id" not in self.path:
            raise ValueError("a pkcs11: URI without object= or id= names no key")

    def _text(self, name: str) -> str | None:
        value = self.path.get(name, self.query.get(name))
        return None if value is None else unquote(value)

    @property
    def label(self) -> str | None:
        return self._text("object")

    @property
    def id(self) -> bytes | None:
        value = self.path.get("id")
        return None if value is None else unquote_to_bytes(value)

    @property
    def module(self) -> str | None:
        return self._text("module-path") or os.environ.get(MODULE_VARIABLE)

    def fits(self, token: Any) -> bool:
        """Whether a token is meant."""
        serial = token.serial.decode("utf-8", "replace") if isinstance(token.serial, bytes) else token.serial
        found = {
            "token": token.label,
            "manufacturer": token.manufacturer_id,
            "model": token.model,
            "serial": serial,
            "slot-id": str(token.slot.slot_id),
        }
        return all(self._text(name) in (None, value.strip()) for name, value in found.items())

    def pin(self, label: str, ask: Pin | None) -> str | None:
        """From the URI, a file that it names, the environment, or whoever can be asked. Raises `OSError`."""
        value, source = self._text("pin-value"), self._text("pin-source")
        if value is not None:
            return value
        if source is not None:
            return Path(source.removeprefix("file:")).read_text().rstrip("\n")
        if PIN_VARIABLE in os.environ:
            return os.environ[PIN_VARIABLE]
        return None if ask is None else ask(label)


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if name not in known or not equals or name in found:
            raise ValueError(f"{part!r} in a pkcs11: URI; it has {', '.join(known)}, each once")
        found[name] = value
    return found


def _of_token(text: str, certificate_file: Path, ask: Pin | None) -> SigningKey:
    try:
        import pkcs11
        from pkcs11.exceptions import PKCS11Error
    except ImportError as error:
        raise ValueError("keys in tokens need the package python-pkcs11: pip install nfs-verity[pkcs11]") from error
    uri = TokenUri(text)
    if uri.module is None:
        raise ValueError(
            f"which library is the token's? Give module-path= behind a ? in the pkcs11: URI, or {MODULE_VARIABLE}"
        )
    certificate, issuers = load_certificates(certificate_file)
    try:
        tokens = [token for token in pkcs11.lib(uri.module).get_tokens() if uri.fits(token)]
        if len(tokens) != 1:
            raise ValueError(f"{len(tokens)} tokens are what the pkcs11: URI says, and not one")
        (token,) = tokens
        session = token.open(user_pin=uri.pin(token.label, ask))
        key = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label=uri.label, id=uri.id)
    except (PKCS11Error, RuntimeError) as error:
        raise SigningProblem(f"the token: {_reason(error)}") from error

    def sign(message: bytes) -> bytes:
        try:
            return _token_signature(key, signing.scheme.number, message)
        except (PKCS11Error, RuntimeError) as error:
            raise SigningProblem(f"the token has not signed: {_reason(error)}") from error

    signing = SigningKey.external(sign, f"the token {token.label}", certificate, issuers)
    signing.keep(session)
    return signing


def _token_signature(key: Any, scheme: int, message: bytes) -> bytes:
    """As the scheme has it; tokens give an ECDSA signature as two numbers of one length."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from pkcs11 import MGF, Mechanism

    value: bytes
    if scheme in _ECDSA_DIGESTS:
        value = key.sign(_ECDSA_DIGESTS[scheme](message).digest(), mechanism=Mechanism.ECDSA)
        half = len(value) // 2
        return encode_dss_signature(int.from_bytes(value[:half]), int.from_bytes(value[half:]))
    if scheme == SCHEME_NAMES["rsa-pss"]:
        parameters = Mechanism.SHA256, MGF.SHA256, 32
        value = key.sign(message, mechanism=Mechanism.SHA256_RSA_PKCS_PSS, mechanism_param=parameters)
    elif scheme == SCHEME_NAMES["ed25519"]:
        value = key.sign(message, mechanism=Mechanism.EDDSA)
    else:
        value = key.sign(message, mechanism=Mechanism.ML_DSA)
    return value


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
