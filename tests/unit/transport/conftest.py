"""Every asynchronous test here runs on both loops: asyncio's own and uvloop."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from gateway.transport.tls import tls_context


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop to run on."""
    return "asyncio", {"use_uvloop": request.param}


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of our own: the file that names it and servers it vouches for."""

    ca_file: Path
    ca: trustme.CA

    def server_context(self, *names: str, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
        """For a server called any of `names`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(list(alpn))
        self.ca.issue_cert(*names).configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts it."""
        return tls_context(self.ca_file.read_bytes())


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """One for the whole run: keys take long to make."""
    ca = trustme.CA()
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    yield Authority(ca_file, ca)
