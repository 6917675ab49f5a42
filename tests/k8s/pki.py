"""Certificates that somebody else made, and clients that check them as the API server does."""

import asyncio
import ssl
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

HOST = "ai-sidecar-injector.shop.svc"


class Authority:
    """Issues certificates; `client` trusts it and nobody else."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.client = ssl.create_default_context(cadata=self._ca.cert_pem.bytes().decode())

    def pair(self, host: str = HOST, *, rsa: bool = False) -> tuple[bytes, bytes]:
        """A certificate (with its chain) and its key, as PEM."""
        kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        leaf = self._ca.issue_cert(host, key_type=kind)
        return b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes()


class Files:
    """A certificate and a key as a mounted Secret shows them: both change at once, by a symlink."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.certificate = folder / "tls.crt"
        self.key = folder / "tls.key"

    def write(self, chain: bytes, key: bytes) -> None:
        """Put new files in the place of the old."""
        self._count += 1
        data = self._folder / f"..{self._count}"
        data.mkdir()
        (data / "tls.crt").write_bytes(chain)
        (data / "tls.key").write_bytes(key)
        link = self._folder / "..new"
        link.symlink_to(data.name)
        link.rename(self._folder / "..data")
        for file in (self.certificate, self.key):
            if not file.is_symlink():
                file.symlink_to(f"..data/{file.name}")


def serial_of(chain: bytes) -> int:
    """The serial number of the first certificate."""
    return x509.load_pem_x509_certificate(chain).serial_number


def trusting(authorities: bytes) -> ssl.SSLContext:
    """A client that trusts these and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authorities.decode())
    return context


async def shown_serial(port: int, client: ssl.SSLContext, host: str = HOST) -> int:
    """The serial number of the certificate that a new connection meets; ssl.SSLError if it is not trusted."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(True)
        return x509.load_der_x509_certificate(der).serial_number
    finally:
        writer.close()


def as_pem(certificate: x509.Certificate) -> bytes:
    """One certificate as text."""
    return certificate.public_bytes(Encoding.PEM)
