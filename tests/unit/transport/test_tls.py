"""Verification is never off."""

import ssl

import pytest

from gateway.transport.tls import tls_context
from tests.unit.transport.conftest import Authority


def test_certificate_and_name_are_verified_and_old_protocols_refused() -> None:
    context = tls_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_ca_file_is_trusted_besides_the_others(authority: Authority) -> None:
    plain, added = tls_context(None), tls_context(authority.ca_file.read_bytes())
    assert len(added.get_ca_certs()) == len(plain.get_ca_certs()) + 1


def test_a_ca_file_without_a_certificate_is_an_error() -> None:
    with pytest.raises(ssl.SSLError):
        tls_context(b"no certificate")
    with pytest.raises(ValueError, match="ascii"):
        tls_context(b"\xff\xfe")
