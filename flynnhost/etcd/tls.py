"""TLS towards etcd: whom to trust, and who we are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from OpenSSL import SSL, crypto
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)

from flynnhost.errors import InvalidField

_PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"


@frozen
class TlsFiles:
    """PEM files.

    :param ca: who has to vouch for etcd's certificates; empty for whom this machine trusts.
    :param certificate: by which etcd knows us; empty for none.
    :param key: of that certificate.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""


@define(eq=False)
class Tls:
    """Makes connections secure. The files are read at once, so that what is wrong is known at the start.

    :raises InvalidField: when a file can't be used.
    """

    files: TlsFiles = field(factory=TlsFiles)
    _trust: Any = field(init=False)
    _ours: PrivateCertificate | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._trust = _trusted(self.files.ca) if self.files.ca else platformTrust()
        self._ours = _our_certificate(self.files)

    def creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """What secures a connection to a host, a name or an address, and checks that it is the one."""
        creator: IOpenSSLClientConnectionCreator = optionsForClientTLS(
            host, trustRoot=self._trust, clientCertificate=self._ours
        )
        return creator


def _trusted(path: str) -> Any:
    pem = _read(path, "ca")
    try:
        parts = [_PEM_BEGIN + part for part in pem.split(_PEM_BEGIN)[1:]]
        certificates = [Certificate.loadPEM(part) for part in parts]
    except (crypto.Error, SSL.Error, ValueError) as e:
        raise InvalidField("ca", f"has no certificates in PEM form: {path}") from e
    if not certificates:
        raise InvalidField("ca", f"has no certificates in PEM form: {path}")
    return trustRootFromCertificates(certificates)


def _our_certificate(files: TlsFiles) -> PrivateCertificate | None:
    if bool(files.certificate) != bool(files.key):
        raise InvalidField("key", "and certificate must both be given, or neither")
    if not files.certificate:
        return None
    pem = _read(files.key, "key") + b"\n" + _read(files.certificate, "certificate")
    try:
        ours: PrivateCertificate = PrivateCertificate.loadPEM(pem)
    except (crypto.Error, SSL.Error, ValueError, VerifyError) as e:
        raise InvalidField("certificate", f"and key are no pair in PEM form: {files.certificate}") from e
    return ours


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InvalidField(name, f"can't be read: {e}") from e
