# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Keys in a token (SoftHSM) and behind commands: what they give is used if it verifies, and not otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from nfsverity_proto.record import signature_of
from nfsverity_publisher import external
from nfsverity_publisher.external import TokenUri, load_key
from nfsverity_publisher.keys import SigningKey, SigningProblem
from nfsverity_publisher.new_key import ALGORITHMS, make_key

PIN, LABEL = "4321", "nfs verity"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
)
STATEMENT = b"what is signed"


def check(key: SigningKey) -> None:
    """Signs, and has the signature checked by the key of the certificate."""
    key.check(signature_of(key.sign(STATEMENT)), STATEMENT)


@pytest.fixture
def keys(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    private, certificate = make_key("outside", getattr(request, "param", "ed25519"), 30)
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "crt").write_bytes(certificate)
    return tmp_path / "key", tmp_path / "crt"


SIGN = """
import os, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
key = serialization.load_pem_private_key(open(sys.argv[1], "rb").read(), None)
message = sys.stdin.buffer.read()
if isinstance(key, rsa.RSAPrivateKey):
    value = key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
elif isinstance(key, ec.EllipticCurvePrivateKey):
    value = key.sign(message, ec.ECDSA(hashes.SHA384() if key.curve.name == "secp384r1" else hashes.SHA256()))
else:
    value = key.sign(message)
sys.stdout.buffer.write(value)
"""


class TestCommand:
    @pytest.mark.parametrize("keys", ALGORITHMS, indirect=True)
    def test_every_scheme(self, keys: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "sign it.py").write_text(SIGN)
        check(load_key(f"command:{sys.executable} '{tmp_path / 'sign it.py'}' {keys[0]}", keys[1]))

    @pytest.mark.tool("openssl")
    @pytest.mark.parametrize("keys", ["ecdsa-p256"], indirect=True)
    def test_openssl(self, keys: tuple[Path, Path]) -> None:
        check(load_key(f"command:openssl dgst -sha256 -sign {keys[0]}", keys[1]))

    @pytest.mark.parametrize(
        ("command", "says"),
        [
            ("false", "ended with exit status 1"),
            ("sh -c 'kill -9 $$'", "ended with signal 9"),
            ("true", "gave 0 bytes"),
            ("head -c 64 /dev/zero", "gave 64 bytes that are no signature"),
            ("head -c 65 /dev/zero", "gave 65 bytes"),
            ("/nonexistent/signer", "No such file"),
            ("cat", "are no signature"),
        ],
    )
    def test_what_gives_no_signature(self, keys: tuple[Path, Path], command: str, says: str) -> None:
        key = load_key(f"command:{command}", keys[1])
        with pytest.raises(SigningProblem, match=says):
            key.sign(STATEMENT)

    def test_a_signature_by_another_key(self, keys: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "sign.py").write_text(SIGN)
        (tmp_path / "other").write_bytes(make_key("other", "ed25519", 30)[0])
        key = load_key(f"command:{sys.executable} {tmp_path / 'sign.py'} {tmp_path / 'other'}", keys[1])
        with pytest.raises(SigningProblem, match='no signature by the key of "CN=outside" with scheme ed25519'):
            key.sign(STATEMENT)

    def test_one_that_takes_too_long(self, keys: tuple[Path, Path]) -> None:
        key = load_key("command:sleep 60", keys[1], seconds=0.1)
        with pytest.raises(SigningProblem, match=r"within 0\.1 seconds"):
            key.sign(STATEMENT)

    @pytest.mark.parametrize("text", ["command:", "command:'", "command:  "])
    def test_what_is_none(self, keys: tuple[Path, Path], text: str) -> None:
        with pytest.raises(ValueError, match="command:"):
            load_key(text, keys[1])


class TestUri:
    """RFC 7512."""

    def test_what_it_says(self) -> None:
        uri = TokenUri("pkcs11:token=a%20b;object=key%3b;id=%01%ff;type=private?module-path=/m.so&pin-value=1%262")
        assert (uri.label, uri.id, uri.module) == ("key;", b"\x01\xff", "/m.so")
        assert uri.pin("a b", None) == "1&2"

    def test_where_the_pin_comes_from(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "pin").write_text("from the file\n")
        monkeypatch.setenv(external.PIN_VARIABLE, "from the environment")
        for source in (f"file:{tmp_path}/pin", f"{tmp_path}/pin"):
            assert TokenUri(f"pkcs11:object=a?pin-source={source}").pin("t", None) == "from the file"
        assert TokenUri("pkcs11:object=a").pin("t", None) == "from the environment"
        monkeypatch.delenv(external.PIN_VARIABLE)
        assert TokenUri("pkcs11:object=a").pin("t", lambda label: f"asked for {label}") == "asked for t"
        assert TokenUri("pkcs11:object=a").pin("t", None) is None

    @pytest.mark.parametrize(
        "text",
        ["", "token=a", "object", "object=a;object=b", "object=a;other=b", "object=a;type=public", "object=a?x=y"],
    )
    def test_what_names_no_key(self, text: str) -> None:
        with pytest.raises(ValueError, match="pkcs11: URI"):
            TokenUri("pkcs11:" + text)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new token; the beginning of its URI."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None:
        pytest.fail("the library of SoftHSM is nowhere that is known here, though its tool is there")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv(external.MODULE_VARIABLE, module)
    softhsm("--init-token", "--free", "--label", LABEL, "--so-pin", PIN, "--pin", PIN)
    return f"pkcs11:token={quote(LABEL)}"


def softhsm(*arguments: str | Path) -> None:
    subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)


def put(key: Path, label: str, number: str) -> None:
    softhsm("--import", key, "--token", LABEL, "--label", label, "--id", number, "--pin", PIN)


# each in a process of its own: the library of a token is loaded once, and remembers its tokens
LOAD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_external import check
from nfsverity_publisher.external import load_key
try:
    check(load_key(sys.argv[1], Path(sys.argv[2])))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def load(uri: str, certificate: Path) -> str:
    """Loads the key and signs; what went wrong, or nothing."""
    arguments = [sys.executable, "-c", LOAD, uri, certificate, str(Path(__file__).parent)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False).stderr.strip()


@pytest.mark.tool("softhsm2-util")
class TestToken:
    # this version of SoftHSM has no ML-DSA
    @pytest.mark.parametrize("keys", ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-pss"], indirect=True)
    def test_every_scheme_that_it_has(
        self, token: str, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(keys[0], "signer", "0a01")
        monkeypatch.setenv(external.PIN_VARIABLE, PIN)
        assert load(f"{token};object=signer;type=private", keys[1]) == ""
        assert load(f"{token};id=%0a%01", keys[1]) == ""

    def test_what_goes_wrong_is_said(self, token: str, keys: tuple[Path, Path], tmp_path: Path) -> None:
        put(keys[0], "signer", "01")
        other = tmp_path / "other.crt"
        other.write_bytes(make_key("other", "ed25519", 30)[1])
        (tmp_path / "pin").write_text(PIN + "\n")
        pin = f"?pin-source=file:{tmp_path}/pin"
        assert load(f"{token};object=signer{pin}", keys[1]) == ""
        assert "no signature by the key of" in load(f"{token};object=signer{pin}", other)
        assert load(f"{token};object=none{pin}", keys[1]).startswith("SigningProblem: the token: ")
        assert "PinIncorrect" in load(f"{token};object=signer?pin-value=0000", keys[1])
        assert "0 tokens" in load(f"pkcs11:token=none;object=signer{pin}", keys[1])
        assert "/none.so" in load(f"{token};object=signer{pin}&module-path=/none.so", keys[1])
