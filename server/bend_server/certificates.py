"""The development certificate authority: SPIFFE certificates for a mesh on one machine.

Everything lies in one folder (mode 0700, keys 0600): `ca.pem`, `ca.key`, and `<role>.pem`,
`<role>.key` for each identity, where `/component/vision` is filed as `component-vision`. In a
cluster the platform's own authority issues certificates of the same form, and this module is
not used.
"""

import contextlib
import datetime
import fcntl
import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "bend.local"
VALID_DAYS = 30
RENEW_DAYS = 10
CA_VALID_DAYS = 3650
BACKDATE_MINUTES = 10
SERVING = ("engine", "registry", "executor", "gateway", "nats")
"""Roles that listen: their certificates name this machine, and `<role>.<trust domain>`."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
_ROLES = frozenset((*SERVING, "bench"))
_NAMED_ROLES = frozenset(("component", "user"))


class CertificateFault(Exception):
    """The certificate folder cannot be used; the text says which file and why."""


class Leaf(NamedTuple):
    """Files of one identity (PEM)."""

    certificate: Path
    key: Path


def now() -> datetime.datetime:
    """Return the time that validity is judged by."""
    return datetime.datetime.now(datetime.UTC)


class Authority:
    """The authority of one folder; made there on first use.

    Safe against a second process on the same folder: both take its lock.

    Args:
        folder: absolute path; made when missing.
        trust_domain: of the SPIFFE ids.
        clock: tells the time, aware, UTC.

    Raises:
        CertificateFault: a file is damaged, or does not belong to the others.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        trust_domain: str = TRUST_DOMAIN,
        clock: Callable[[], datetime.datetime] = now,
    ) -> None:
        self.folder = folder
        self.trust_domain = trust_domain
        self.ca_file = folder / "ca.pem"
        self._clock = clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        with self._locked():
            self._certificate, self._key = self._load() or self._make()

    def spiffe_id(self, path: str) -> str:
        """Return the SPIFFE id of an identity's path, for example `/engine`."""
        return f"spiffe://{self.trust_domain}{path}"

    def leaf(self, path: str) -> Leaf:
        """Return the files of an identity, issued or renewed when they need to be.

        A certificate is renewed when fewer than 10 of its 30 days are left, when it is damaged,
        or when another authority issued it. Files are replaced by renames, the key first.

        Args:
            path: `/engine`, `/registry`, `/executor`, `/gateway`, `/nats`, `/bench`,
                `/component/<name>` or `/user/<name>`.

        Raises:
            ValueError: no such identity.
            OSError: the folder cannot be written.
        """
        stem = file_stem(path)
        files = Leaf(self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        with self._locked():
            if not self._good(files, path):
                self._issue(files, path)
        return files

    def renew(self) -> list[Path]:
        """Renew what is due among all certificates of the folder; return what was replaced."""
        renewed = []
        for file in sorted(self.folder.glob("*.pem")):
            if file == self.ca_file:
                continue
            path = self._path_of(file)
            if path is None:
                continue
            files = Leaf(file, file.with_suffix(".key"))
            with self._locked():
                if not self._good(files, path):
                    self._issue(files, path)
                    renewed.append(file)
        return renewed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
        key_file = self.folder / "ca.key"
        if not self.ca_file.exists() and not key_file.exists():
            return None
        try:
            certificate = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise CertificateFault(
                f"the certificate authority in {self.folder} is damaged ({error}); "
                "remove the folder to make a new one"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or (
            key.public_key() != certificate.public_key()
        ):
            raise CertificateFault(f"{key_file} is not the key of {self.ca_file}")
        if certificate.not_valid_after_utc <= self._clock():
            return None
        return certificate, key

    def _make(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"Bend development CA {secrets.token_hex(4)}")
        certificate = (
            self._builder(name, name, key.public_key(), CA_VALID_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )
        _replace(self.folder / "ca.key", _private(key), 0o600)
        _replace(self.ca_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return certificate, key

    def _issue(self, files: Leaf, path: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        role = path.strip("/").partition("/")[0]
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(self.spiffe_id(path))]
        if role in SERVING:
            names += [
                x509.DNSName("localhost"),
                x509.DNSName(f"{role}.{self.trust_domain}"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                x509.IPAddress(ipaddress.ip_address("::1")),
            ]
        certificate = (
            self._builder(
                _name(path.strip("/")), self._certificate.subject, key.public_key(), VALID_DAYS
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_purposes(role)), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
            .sign(self._key, hashes.SHA256())
        )
        _replace(files.key, _private(key), 0o600)
        _replace(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def _good(self, files: Leaf, path: str) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
            key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
            certificate.verify_directly_issued_by(self._certificate)
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is the remedy
            return False
        left = certificate.not_valid_after_utc - self._clock()
        return (
            key.public_key() == certificate.public_key()
            and list(usage) == _purposes(path.strip("/").partition("/")[0])
            and _spiffe_ids(certificate) == [self.spiffe_id(path)]
            and left > datetime.timedelta(days=RENEW_DAYS)
            and certificate.not_valid_before_utc <= self._clock()
        )

    def _path_of(self, file: Path) -> str | None:
        """Return the identity's path that a certificate file of ours was made for."""
        role, _, name = file.stem.partition("-")
        path = f"/{role}/{name}" if name else f"/{role}"
        try:
            file_stem(path)
        except ValueError:
            return None
        return path

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
    ) -> x509.CertificateBuilder:
        start = self._clock() - datetime.timedelta(minutes=BACKDATE_MINUTES)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(self._clock() + datetime.timedelta(days=days))
        )


def file_stem(path: str) -> str:
    """Return the file name, without suffix, of an identity's path.

    Raises:
        ValueError: no identity of a mesh has this path.
    """
    role, _, name = path.removeprefix("/").partition("/")
    if path.startswith("/"):
        if role in _ROLES and not name and path == f"/{role}":
            return role
        if role in _NAMED_ROLES and _NAME.fullmatch(name):
            return f"{role}-{name}"
    raise ValueError(
        f"{path!r} is no identity of a mesh: one of {', '.join(sorted(_ROLES))}, component/NAME "
        "or user/NAME (letters, digits, dot, dash, underscore; at most 63)"
    )


def token(folder: Path) -> str:
    """Return the mesh's bearer token, in `folder/token`; see `shared_secret`."""
    return shared_secret(folder, "token")


def shared_secret(folder: Path, name: str) -> str:
    """Return a random text that all processes of a mesh share; made at first use, mode 0600.

    Raises:
        OSError: the folder cannot be written.
    """
    file = folder / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            stored = file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            stored = ""
        if not stored:
            stored = secrets.token_urlsafe(32)
            _replace(file, stored.encode() + b"\n", 0o600)
    return stored


def _spiffe_ids(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _purposes(role: str) -> list[x509.ObjectIdentifier]:
    """Return what a role's certificate is for.

    A component may listen too, but its certificate names no host: only executors, which compare
    the SPIFFE id, take it for a server's.
    """
    if role in SERVING or role == "component":
        return [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return [ExtendedKeyUsageOID.CLIENT_AUTH]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _replace(file: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all; it never exists with wider rights than `mode`."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(file)
