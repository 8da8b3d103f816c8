"""How a provider's certificate is checked."""

import ssl


def tls_context(ca_pem: bytes | None) -> ssl.SSLContext:
    """Certificate and host name are always verified, TLS 1.2 at least (RFC 9325, 3.1.1).

    The certificates in `ca_pem` are trusted besides the system's authorities. Raises ssl.SSLError
    when it holds none, and ValueError when it is no text at all. For one transport only: httpx writes
    its own ALPN offer into the context it is given.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_pem is not None:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    return context
