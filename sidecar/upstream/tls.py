"""TLS to providers: always verified, TLS 1.2 or newer, sessions resumed.

asyncio offers no way to hand a saved session to a new connection, so the context does it itself: each time a
connection is wrapped it puts in the last session of that server name. Resumption saves a round trip of
certificates and the signature check, most of a handshake's CPU.
"""

import ssl
from typing import Any


class ClientContext(ssl.SSLContext):
    """A verifying client context that remembers one session per server name."""

    sessions: dict[str, ssl.SSLSession]

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As ssl.SSLContext.wrap_bio, with the remembered session."""
        name = kwargs.get("server_hostname")
        if kwargs.get("session") is None and isinstance(name, str):
            kwargs["session"] = self.sessions.get(name)
        return super().wrap_bio(*args, **kwargs)

    def remember(self, name: str, wrapped: ssl.SSLObject) -> None:
        """Keep the session of a connection that served a request.

        TLS 1.3 sends its tickets after the handshake, so it is asked for after the first answer.
        """
        session = wrapped.session
        if session is not None and session.has_ticket:
            self.sessions[name] = session


def client_context(ca_file: str | None = None) -> ClientContext:
    """A context for one provider; `ca_file` replaces the system's authorities.

    Raises OSError or ssl.SSLError when the file cannot be read or holds no certificate.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(ca_file)
    return context
