"""The development certificate authority: names, rights, renewal, damage."""

import datetime
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from bend_server.certificates import Authority, CertificateFault, file_stem, now, token


def load(path: Path) -> x509.Certificate:
    """Read a certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    """Return the alternative names."""
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def mode(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_first_use_makes_everything_private(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certs")
    leaf = authority.leaf("/engine")
    assert mode(tmp_path / "certs") == 0o700
    assert mode(leaf.key) == 0o600
    assert mode(tmp_path / "certs" / "ca.key") == 0o600
    load(leaf.certificate).verify_directly_issued_by(load(authority.ca_file))


@pytest.mark.parametrize(
    ("path", "listens"),
    [
        ("/engine", True),
        ("/gateway", True),
        ("/nats", True),
        ("/bench", False),
        ("/component/vision", False),
        ("/user/dev", False),
    ],
)
def test_identity_and_purpose(tmp_path: Path, path: str, listens: bool) -> None:
    certificate = load(Authority(tmp_path).leaf(path).certificate)
    found = names(certificate)
    assert found.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"spiffe://bend.local{path}"
    ]
    hosts = found.get_values_for_type(x509.DNSName)
    assert hosts == (["localhost", f"{path[1:]}.bend.local"] if listens else [])
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    # A component may listen: executors compare its SPIFFE id, it names no host.
    serves = listens or path.startswith("/component/")
    assert (ExtendedKeyUsageOID.SERVER_AUTH in purposes) is serves
    assert ExtendedKeyUsageOID.CLIENT_AUTH in purposes


@pytest.mark.parametrize(
    "path",
    [
        "",
        "engine",
        "/",
        "/root",
        "/engine/",
        "/engine/x",
        "/component",
        "/component/",
        "/user/../x",
        "/component/a/b",
        "/component/" + "x" * 64,
        "/user/a\n",
    ],
)
def test_what_is_no_identity_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="no identity"):
        file_stem(path)
    with pytest.raises(ValueError, match="no identity"):
        Authority(tmp_path).leaf(path)
    assert not list(tmp_path.glob("*x*.pem"))


def test_a_good_certificate_is_kept_and_an_old_one_renewed(tmp_path: Path) -> None:
    days = 0.0

    def clock() -> datetime.datetime:
        return now() + datetime.timedelta(days=days)

    authority = Authority(tmp_path, clock=clock)
    first = load(authority.leaf("/engine").certificate)
    authority.leaf("/component/vision-2")
    days = 19
    assert load(authority.leaf("/engine").certificate) == first
    assert authority.renew() == []
    days = 21
    assert authority.renew() == [tmp_path / "component-vision-2.pem", tmp_path / "engine.pem"]
    fresh = load(tmp_path / "engine.pem")
    assert fresh.not_valid_after_utc - clock() > datetime.timedelta(days=29)
    assert names(fresh) == names(first)
    assert authority.renew() == []


def test_damage_is_mended_for_leaves_and_told_for_the_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leaf = authority.leaf("/engine")
    leaf.key.write_text("not a key")
    before = load(leaf.certificate)
    assert load(authority.leaf("/engine").certificate) != before
    (tmp_path / "ca.key").write_text("not a key")
    with pytest.raises(CertificateFault, match="damaged"):
        Authority(tmp_path)


def test_leaves_of_another_authority_are_replaced(tmp_path: Path) -> None:
    Authority(tmp_path).leaf("/engine")
    (tmp_path / "ca.key").unlink()
    (tmp_path / "ca.pem").unlink()
    fresh = Authority(tmp_path)
    load(fresh.leaf("/engine").certificate).verify_directly_issued_by(load(fresh.ca_file))


def test_two_at_once_make_one_authority(tmp_path: Path) -> None:
    made: list[bytes] = []

    def make() -> None:
        authority = Authority(tmp_path)
        authority.leaf("/engine")
        made.append(authority.ca_file.read_bytes())

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 6
    assert len(set(made)) == 1
    load(tmp_path / "engine.pem").verify_directly_issued_by(load(tmp_path / "ca.pem"))


def test_token_is_made_once_and_private(tmp_path: Path) -> None:
    first = token(tmp_path)
    assert token(tmp_path) == first
    assert len(first) >= 40
    assert mode(tmp_path / "token") == 0o600
    assert token(tmp_path / "other") != first
