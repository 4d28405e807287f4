"""Certificates for tests: a CA, and server and client certificates signed by it."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """Paths of a PEM certificate and of its private key."""

    cert: Path
    key: Path


class CA:
    """A certificate authority that writes what it signs into `directory`. Its own certificate is `.cert`."""

    def __init__(self, directory: Path, name: str = "test-ca") -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        certificate = (
            _builder(self._name, self._name, self._key, -DAY, 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.cert = _write(directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def server(
        self,
        *names: str,
        stem: str = "server",
        starts: datetime.timedelta = -DAY,
        ends: datetime.timedelta = 7 * DAY,
    ) -> Pair:
        """A server certificate for DNS names and IP addresses (default: localhost, 127.0.0.1).

        `starts` and `ends` are relative to now: negative `ends` makes an expired one. A second call with the
        same `stem` replaces the files, as a rotation does.
        """
        return self._issue(stem, names or ("localhost", "127.0.0.1"), starts, ends, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name: str = "client", *, ends: datetime.timedelta = 7 * DAY) -> Pair:
        """A client certificate whose common name is `name`."""
        return self._issue(name, (name,), -DAY, ends, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self,
        stem: str,
        names: Sequence[str],
        starts: datetime.timedelta,
        ends: datetime.timedelta,
        purpose: x509.ObjectIdentifier,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_subject(names[0]), self._name, key, starts, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(
            _write(self.directory / f"{stem}.crt", certificate.public_bytes(serialization.Encoding.PEM)),
            _write(self.directory / f"{stem}.key", pem),
        )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    starts: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=min(now + starts, now + ends - DAY),
        not_valid_after=now + ends,
    )


def _write(path: Path, data: bytes) -> Path:
    """Replace in one step, as a mounted Secret's rotation does: a reader sees the old or the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_bytes(data)
    fresh.chmod(0o600)
    return fresh.replace(path)
