"""Where to listen and where to connect: `Address` and `Url`.

Neither looks anything up: a host name stays a name until the runtime resolves it.
"""

import ipaddress
import re
from typing import Any, ClassVar, Self
from urllib.parse import SplitResult, urlsplit

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Value:
    """A small immutable value, equal and hashed by its parts and shown as it is written in YAML."""

    __slots__: tuple[str, ...] = ()

    def _fill(self, **parts: object) -> None:
        for name, part in parts.items():
            object.__setattr__(self, name, part)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _parts(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class Address(Value):
    """A listener's address: host and port, or the path of a Unix socket. Port 0 takes any free port."""

    __slots__ = ("host", "path", "port")
    host: str
    port: int
    path: str | None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^(unix:/.+|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}|[^:/\s]+:[0-9]{1,5})$",
        "examples": ["127.0.0.1:8080", "[::1]:8080", "unix:/run/sidecar/admin.sock"],
    }

    def __init__(self, host: str = "", port: int = 0, path: str | None = None) -> None:
        self._fill(host=host, port=port, path=path)

    @classmethod
    def parse(cls, raw: object) -> Self:
        """An address from `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/sidecar/admin.sock`."""
        expected = "expected host:port, [ipv6]:port or unix:/absolute/path"
        if not isinstance(raw, str):
            raise ValueError(f"{expected}, such as 127.0.0.1:8080")
        if raw.startswith("unix:"):
            return cls(path=_socket_path(raw.removeprefix("unix:")))
        host, colon, port = raw.rpartition(":")
        if not colon or not host:
            raise ValueError(f"{expected}: write for example {_completed(raw.lstrip(':'))}")
        return cls(_host(host, expected), _port(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine (or pod) can reach it."""
        return self.path is not None or is_loopback_host(self.host)

    @property
    def is_wildcard(self) -> bool:
        """Whether it is bound on every interface."""
        return self.path is None and self.host in {"0.0.0.0", "::", "*"}  # noqa: S104  # comparing, not binding

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"{_bracketed(self.host)}:{self.port}"


class Url(Value):
    """An http or https URL in parts; `prefix` is its path without the final slash, so `/v1` or empty."""

    __slots__ = ("host", "port", "prefix", "scheme")
    scheme: str
    host: str
    port: int
    prefix: str

    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^https?://[^\s?#@]+$",
        "examples": ["https://api.openai.com/v1"],
    }

    def __init__(self, scheme: str, host: str, port: int, prefix: str = "") -> None:
        self._fill(scheme=scheme, host=host, port=port, prefix=prefix)

    @classmethod
    def parse(cls, raw: object) -> Self:
        """A URL from text; a message never repeats the text, for it may hold a password."""
        if not isinstance(raw, str) or not re.fullmatch(r"[!-~]+", raw):
            raise ValueError("expected a URL such as https://api.openai.com/v1")
        try:
            parts = urlsplit(raw)
            _refuse_extras(raw, parts)
            port = parts.port
        except ValueError as error:
            raise ValueError(_readable(str(error))) from None
        if port == 0:
            raise ValueError("port 0 is out of range 1 to 65535")
        host = _host(_bracketed(parts.hostname or ""), "expected a host name or an IP address in the URL")
        return cls(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], parts.path.rstrip("/"))

    @property
    def is_loopback(self) -> bool:
        """Whether it names this machine (or pod) itself."""
        return is_loopback_host(self.host)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The value of the Host header: the port only where it is not the scheme's own."""
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{_bracketed(self.host)}{port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"


def is_loopback_host(host: str) -> bool:
    """Whether a host is `localhost` or a loopback IP address."""
    if host.lower() in {"localhost", "localhost."}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_extras(raw: str, parts: SplitResult) -> None:
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or password: give the key as api_key: {env: NAME}")
    if "?" in raw or "#" in raw:
        raise ValueError("must not have a query or a fragment")
    if not parts.hostname:
        raise ValueError("has no host: expected a URL such as https://api.openai.com/v1")
    if "\\" in raw or any(part in {".", ".."} for part in parts.path.split("/")):
        raise ValueError("must not hold a backslash or the path segments . and ..")


def _readable(message: str) -> str:
    """urllib's own messages quote the URL; ours, which begin in lower case, do not."""
    if message[:1].islower():
        return message
    if message.startswith("Port"):
        return "the port must be a number from 1 to 65535"
    return "expected a URL such as https://api.openai.com/v1"


def _host(text: str, expected: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise ValueError(f"{expected}: what stands in [ ] is not an IPv6 address") from None
    if not _HOST.fullmatch(text):
        raise ValueError(f"{expected}; an IPv6 address stands in [ ]" if ":" in text else expected)
    return text.lower()


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("the port must be a number from 0 to 65535")
    return int(text)


def _socket_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("a Unix socket needs an absolute path, as in unix:/run/sidecar/admin.sock")
    if len(path.encode()) > 107:  # sun_path is 108 bytes on Linux, with its final NUL
        raise ValueError("the path of a Unix socket has at most 107 bytes: choose a shorter one")
    return path


def _completed(text: str) -> str:
    """An address out of a port alone, or a host alone."""
    if text.isdecimal():
        return f"127.0.0.1:{text}"
    return f"{text if _HOST.fullmatch(text) else '127.0.0.1'}:8080"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
