# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The one hierarchy of errors: what a peer sent, what it answered, what did not verify.

Misuse of the API is `ValueError`; `OSError` and `TimeoutError` pass through as they are.
The verdicts, their names and their order are the draft's (fim, "Verdicts").
"""

from __future__ import annotations

from typing import ClassVar


class NfsVerityError(Exception):
    """The root of every error that this project raises on purpose."""


class PeerError(NfsVerityError):
    """The other side of a connection did what the protocol does not allow."""


class MalformedMessage(PeerError):
    """A message that is not the one canonical encoding, or not an answer to what was asked."""


class ListingTooLong(PeerError):
    """A server lists without an end, as far as anybody can tell (fip-dir-8)."""

    advice = "name a directory further down; a signed volume has a listing that is verified, of any length"


class RpcRefused(PeerError):
    """The call was refused by the RPC layer (RFC 5531 section 9): no such program, procedure, …

    `result` is what the reply has: an `AcceptStatus`, an `AuthStatus` or a `Mismatch` of `rpc`.
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class Unreachable(PeerError):
    """No connection, or it ended before the answer came."""


class TimedOut(PeerError):
    """The answer was not complete within the time allowed for one."""


class StatusError(NfsVerityError):
    """The server answered a call with a status other than OK. Its word only: never a verdict."""

    def __init__(self, status: object, message: str = "") -> None:
        self.status = status
        super().__init__(message or f"the server answered {getattr(status, 'name', status)}")


class VerificationError(NfsVerityError):
    """Something was not verified. Each subclass is one verdict of the draft.

    `where` names the file (or what else was judged), `expected` and `found` are for people:
    short texts, hexadecimal for hashes.
    """

    verdict: ClassVar[str] = "not-verified"
    step: ClassVar[int] = 0
    advice: str = ""
    """What to do; who knows more of it than the verdict says can set a better one."""

    def __init__(
        self, message: str, *, expected: str | None = None, found: str | None = None, where: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.found = found
        self.where = where
        self.rule: str | None = None
        """The rule of the policy under which it was judged, where that is not the default."""

    def __str__(self) -> str:
        text = f"{self.verdict}: {self.message}"
        if self.where is not None:
            text = f"{self.where}: {text}"
        if self.expected is not None:
            text += f" (expected {self.expected}, found {self.found})"
        if self.rule is not None:
            text += f" [{self.rule}]"
        return text


class Unsigned(VerificationError):
    """There is no record for the file."""

    verdict = "unsigned"
    step = 0
    advice = "ask the publisher to sign it"


class Absent(VerificationError):
    """The volume has nothing under this path: proved by a range of its entries."""

    verdict = "absent"
    step = 0
    advice = "`nfsverity ls` shows what the volume has"


class Hidden(VerificationError):
    """The volume has an entry for this path, and the server says that it has not."""

    verdict = "hidden"
    step = 0
    advice = "the server keeps back what the publisher signed: get it from elsewhere"


class Malformed(VerificationError):
    """The record is not the canonical encoding of one."""

    verdict = "malformed"
    step = 1
    advice = "the record is damaged, or no record: fetch it from elsewhere, or have the file signed again"


class Unsupported(VerificationError):
    """A format, hash, tree, attestation type or scheme that this verifier does not know."""

    verdict = "unsupported"
    step = 1
    advice = "use a newer version of this program, or ask the publisher for a record with known algorithms"


class WrongKind(VerificationError):
    """A record of another kind than the one that is needed here."""

    verdict = "wrong-kind"
    step = 2
    advice = "the server gave something that is not the record of a file"


class WrongVolume(VerificationError):
    """A record of another volume than the one expected."""

    verdict = "wrong-volume"
    step = 3
    advice = (
        "if the publisher really made a new volume, remove the old binding with `nfsverity trust remove`, "
        "or name the volume with --volume"
    )


class WrongPath(VerificationError):
    """A record of the expected volume, for another path."""

    verdict = "wrong-path"
    step = 3
    advice = "the server gave another file's record; files that moved must be signed again"


class NotMember(VerificationError):
    """The volume does not have this content under this path."""

    verdict = "not-member"
    step = 3
    advice = "the server gave a file that the publisher did not sign as part of this volume"


class OtherHead(VerificationError):
    """The record is of another state of the volume than the one that was accepted."""

    verdict = "other-head"
    step = 3
    advice = "the server mixes two states of the volume: try again, or get it from elsewhere"


class UnknownExtension(VerificationError):
    """The statement has a critical extension that this verifier does not know."""

    verdict = "unknown-extension"
    step = 4
    advice = "use a newer version of this program"


class RefusedAlgorithm(VerificationError):
    """An algorithm or unit size that is known and not accepted."""

    verdict = "refused-algorithm"
    step = 5
    advice = "ask the publisher to sign with an accepted algorithm"


class Untrusted(VerificationError):
    """No trust entry knows the signer."""

    verdict = "untrusted"
    step = 7
    advice = "if you believe this signer, add its certificate with `nfsverity trust add CERT`"


class OutOfScope(VerificationError):
    """The signer is known, and may not speak for this volume or URL."""

    verdict = "out-of-scope"
    step = 7
    advice = "`nfsverity trust list` shows what each signer is believed for"


class NoCertificate(VerificationError):
    """The signer's certificate could not be had."""

    verdict = "no-certificate"
    step = 8
    advice = "get the signer's certificate from the publisher and pin it with `nfsverity trust add CERT`"


class BadCertificate(VerificationError):
    """Not a certificate, not the one named, not for the scheme, or its chain does not hold."""

    verdict = "bad-certificate"
    step = 8
    advice = "get the signer's certificate from the publisher"


class IsRevoked(VerificationError):
    """The signer's key, or this version, was revoked."""

    verdict = "revoked"
    step = 8
    advice = "ask the publisher for a newer version that is signed with another key"


class NotYetValid(VerificationError):
    """The signer's certificate is not valid yet."""

    verdict = "not-yet-valid"
    step = 8
    advice = "check this machine's clock"


class Expired(VerificationError):
    """The signer's certificate is not valid any more."""

    verdict = "expired"
    step = 8
    advice = "ask the publisher to sign again with a current certificate"


class WrongUsage(VerificationError):
    """The signer's certificate is not for signing documents."""

    verdict = "wrong-usage"
    step = 8
    advice = "the publisher's certificate needs keyUsage digitalSignature (and documentSigning under a CA)"


class BadSignature(VerificationError):
    """The signature does not verify."""

    verdict = "bad-signature"
    step = 9
    advice = "the record was altered, or was never signed by this signer"


class TooFewSigners(VerificationError):
    """Fewer trusted signers vouch for the statement than the trust entries ask for."""

    verdict = "too-few-signers"
    step = 10
    advice = "ask the missing signers to sign too"


class Rollback(VerificationError):
    """The generation is below a mark, or a revocation lacks what one before it revokes."""

    verdict = "rollback"
    step = 11
    advice = (
        "get it from elsewhere; if the publisher really went back to this version, accept it with "
        "`nfsverity trust reset` and the URL or path"
    )


class Equivocation(VerificationError):
    """The generation is that of a mark, of another statement."""

    verdict = "equivocation"
    step = 11
    advice = "the publisher signed two statements of one generation: ask the publisher"


class IssuedInFuture(VerificationError):
    """The statement says that it was issued after now."""

    verdict = "issued-in-future"
    step = 12
    advice = "check this machine's clock"


class RecordExpired(VerificationError):
    """The statement's own not-after has passed, or that of the volume's latest revocation."""

    verdict = "record-expired"
    step = 12
    advice = "ask the publisher to sign again"


class PolicyRefused(VerificationError):
    """The record verifies, and does not meet what the rule of the policy asks for beyond that."""

    verdict = "policy-refused"
    step = 12
    advice = "`nfsverity policy explain` shows the rule; change it, or ask the publisher for what it asks"


class Mismatch(VerificationError):
    """Content that is not what was signed. `offset` and `length` (bytes) locate it where they can."""

    verdict = "mismatch"
    step = 13
    advice = "the content is not what was signed: get it from elsewhere"

    def __init__(
        self,
        message: str,
        *,
        offset: int | None = None,
        length: int | None = None,
        expected: str | None = None,
        found: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(message, expected=expected, found=found, where=where)
        self.offset = offset
        self.length = length


class Stale(VerificationError):
    """The version that was opened is no longer to be had."""

    verdict = "stale"
    step = 14
    advice = "open the file again to read its present version"


class Updating(VerificationError):
    """The file was still being updated when the time to wait was over."""

    verdict = "updating"
    step = 14
    advice = "try again later, or wait longer with --wait"


class LinkOutside(VerificationError):
    """A symbolic link leads out of the volume."""

    verdict = "link-outside"
    step = 15
    advice = "what is outside of the volume is not signed; `nfsverity show` says where the link leads"


class NameCollision(VerificationError):
    """Two names of the volume are one at the destination."""

    verdict = "name-collision"
    step = 15
    advice = "choose a destination that tells such names apart"


VERDICTS: tuple[type[VerificationError], ...] = (
    Unsigned, Absent, Hidden, Malformed, Unsupported, WrongKind, WrongVolume, WrongPath, NotMember, OtherHead,
    UnknownExtension, RefusedAlgorithm, Untrusted, OutOfScope, NoCertificate, BadCertificate, IsRevoked, NotYetValid,
    Expired, WrongUsage, BadSignature, TooFewSigners, Rollback, Equivocation, IssuedInFuture, RecordExpired,
    PolicyRefused, Mismatch, Stale, Updating, LinkOutside, NameCollision,
)  # fmt: skip
"""Every verdict, in the order of the draft's table."""
