"""Certificates that are no good, and what is said of them."""

import subprocess

import pytest
from fakes.certificates import make_certificate

from pareta_agent.errors import ConfigError
from pareta_agent.gateway.downstream.tls import Certificate, load


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory, good):
    """Files by what is wrong with them."""
    root = tmp_path_factory.mktemp("bad")
    (root / "text").write_text("no certificate")
    locked = [
        "openssl",
        "rsa",
        "-aes256",
        "-passout",
        "pass:x",
        "-in",
        str(good.key),
        "-out",
        str(root / "locked"),
    ]
    subprocess.run(locked, check=True, capture_output=True)
    (root / "other").mkdir()
    (root / "other.key").write_bytes(make_certificate(root / "other").key.read_bytes())
    return root


@pytest.mark.parametrize(
    ("cert", "key", "code", "said"),
    [
        ("missing", None, "tls_unreadable", "missing: No such file"),
        (None, "missing", "tls_unreadable", "missing: No such file"),
        ("text", None, "tls_invalid", "does not begin with a certificate"),
        (None, "text", "tls_invalid", "is no plain private key"),
        (None, "locked", "tls_invalid", "is no plain private key"),
        (None, "other.key", "tls_invalid", "belongs to another certificate"),
    ],
)
def test_each_wrong_file_is_named_with_what_is_wrong(good, bad, cert, key, code, said):
    """Never a question on the terminal, never a stack."""
    with pytest.raises(ConfigError) as raised:
        load(bad / cert if cert else good.pem, bad / key if key else good.key)
    assert raised.value.code == code
    assert said in raised.value.message
    assert raised.value.remedy


def test_one_file_may_hold_both(good, tmp_path):
    """As some issuers write them."""
    both = tmp_path / "both.pem"
    both.write_bytes(good.pem.read_bytes() + good.key.read_bytes())
    assert load(both, both).expires_s == load(good.pem, good.key).expires_s


def test_files_are_read_again_when_they_changed_or_somebody_asks(good, tmp_path):
    """A look at unchanged files costs two stats."""
    cert, key = tmp_path / "cert", tmp_path / "key"
    cert.write_bytes(good.pem.read_bytes())
    key.write_bytes(good.key.read_bytes())
    certificate = Certificate(cert, key)
    assert [certificate.refresh(), certificate.refresh(force=True)] == [False, True]
    key.write_text("")
    with pytest.raises(ConfigError):
        certificate.refresh()
    assert certificate.refresh() is False
