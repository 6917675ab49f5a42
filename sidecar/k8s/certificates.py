"""The injector's own authority and certificate: made, and renewed before they run out.

Theory of operation. Everything is renewed when two thirds of its life have passed. The Secret holds a bundle
of authorities (the newest first, with its key) and one serving certificate. The API server must trust a new
authority before anything is shown that it signed, and replicas learn of it at different times, so:

    authority due     a new one goes before the old one in the bundle; the certificate stays as it is
    certificate due   it is signed by the newest authority, once that is `PUBLISH` old
    authority over    it leaves the bundle at the next change

A certificate that nobody trusts any more is replaced at once, and a bundle without a valid authority is made
anew, whole. Nothing here reads a clock or the network.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

AUTHORITY_LIFE = timedelta(days=365)
CERTIFICATE_LIFE = timedelta(days=30)
PUBLISH = timedelta(hours=1)
# Nodes' clocks differ a little: what is valid from now on would be refused by one that is behind.
BACKDATED = timedelta(minutes=5)

_FIELDS = {"certificate": "tls.crt", "key": "tls.key", "authorities": "ca.crt", "authority_key": "ca.key"}


class Bundle(Struct, frozen=True):
    """What the Secret holds, as PEM."""

    certificate: bytes
    key: bytes
    authorities: bytes
    authority_key: bytes

    def to_secret(self) -> dict[str, str]:
        """The Secret's `data`."""
        return {name: b64encode(getattr(self, field)).decode() for field, name in _FIELDS.items()}


def from_secret(data: Any) -> Bundle | None:
    """The bundle in a Secret's `data`; None where it is not whole, or its keys are those of others."""
    if not isinstance(data, Mapping):
        return None
    try:
        parts = {field: b64decode(data[name], validate=True) for field, name in _FIELDS.items()}
    except (KeyError, TypeError, ValueError):
        return None
    bundle = Bundle(**parts)
    return bundle if _read(bundle) is not None else None


def renewed(bundle: Bundle | None, hosts: Sequence[str], now: datetime) -> Bundle | None:
    """The bundle to have instead of this one; None while it is good.

    `hosts` are the names that the API server may call, `now` has a time zone.
    """
    have = _read(bundle) if bundle is not None else None
    if have is None or not _is_valid(have.authorities[0], now):
        return _made(hosts, now)
    assert bundle is not None  # noqa: S101  # it was read
    newest = have.authorities[0]
    if have.is_trusted(now):
        if _is_due(newest, now):
            return _with_new_authority(bundle, have, now)
        if set(_hosts_of(have.certificate)) == set(hosts) and not _is_due(have.certificate, now):
            return None
        is_published = now >= newest.not_valid_before_utc + BACKDATED + PUBLISH
        if not is_published and not _signed(have.certificate, newest):
            return None
    certificate, key = _serving(hosts, newest, have.authority_key, now)
    kept = [authority for authority in have.authorities if authority.not_valid_after_utc > now]
    return Bundle(certificate, key, _pem(*kept), bundle.authority_key)


class _Parsed(Struct):
    certificate: x509.Certificate
    authorities: list[x509.Certificate]
    authority_key: ec.EllipticCurvePrivateKey

    def is_trusted(self, now: datetime) -> bool:
        """Whether the certificate, and an authority that signed it, are valid."""
        return _is_valid(self.certificate, now) and any(
            _is_valid(authority, now) and _signed(self.certificate, authority)
            for authority in self.authorities
        )


def _read(bundle: Bundle) -> _Parsed | None:
    try:
        certificate = x509.load_pem_x509_certificate(bundle.certificate)
        authorities = x509.load_pem_x509_certificates(bundle.authorities)
        key = serialization.load_pem_private_key(bundle.key, None)
        authority_key = serialization.load_pem_private_key(bundle.authority_key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        return None
    if key.public_key() != certificate.public_key():
        return None
    if authority_key.public_key() != authorities[0].public_key():
        return None
    return _Parsed(certificate, authorities, authority_key)


def _made(hosts: Sequence[str], now: datetime) -> Bundle:
    authority, authority_key = _authority(now)
    certificate, key = _serving(hosts, authority, authority_key, now)
    return Bundle(certificate, key, _pem(authority), _private(authority_key))


def _with_new_authority(bundle: Bundle, have: _Parsed, now: datetime) -> Bundle:
    authority, authority_key = _authority(now)
    kept = [old for old in have.authorities if _is_valid(old, now)]
    return Bundle(bundle.certificate, bundle.key, _pem(authority, *kept), _private(authority_key))


def _authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities in a bundle have two names, so that a verifier finds the right one at once.
    name = _name(f"ai-sidecar injector CA {now:%Y-%m-%dT%H:%M:%S}")
    builder = _builder(name, name, key, now, now + AUTHORITY_LIFE)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = _usage(key_cert_sign=True, crl_sign=True)
    for extension, critical in (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage, True),
        (identifier, False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256()), key


def _serving(
    hosts: Sequence[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> tuple[bytes, bytes]:
    """Certificate and key for these hosts, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + CERTIFICATE_LIFE, authority.not_valid_after_utc)
    builder = _builder(_name("ai-sidecar injector"), authority.subject, key, now, end)
    signer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), False),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return _pem(builder.sign(authority_key, hashes.SHA256())), _private(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
    )


def _usage(**on: bool) -> x509.KeyUsage:
    off = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(**off | on)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _hosts_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + (end - begin) * 2 / 3


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
