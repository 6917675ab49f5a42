"""Who is let in, judged by the head of a request alone: method, Host, Origin, path.

Paths are compared as they were sent, never decoded or joined: what is not plainly under /v1 is nobody's. An
inference call has one path, since that is what it is known by: under any other, which its provider may take
for the same, it would pass unread, and so past budgets and the models of its key.
"""

import re

from sidecar.errors import refuse
from sidecar.exchange import Exchange, Reply
from sidecar.openai import KINDS
from sidecar.runtime import Snapshot

METHODS = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS"))
_LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "[::1]"))
# Plain segments only: no escapes, dots, doubled slashes; a model's name may have an escaped slash in it.
_PATH = re.compile(r"/v1(/(?!\.{1,2}(/|$))[A-Za-z0-9._~:@!$&'()*+,=-]+)+")
_MODEL_PATH = re.compile(
    r"/v1/models/[A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*(%2[Ff][A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*)*"
)
_BODY_METHODS = frozenset((b"POST", b"PUT", b"PATCH"))
_BODY_FIELDS = frozenset((b"content-length", b"transfer-encoding"))
_ONE_PATH = "This call has one path here, by which its limits are known: POST /v1{}."
# Other paths that providers serve an inference call at, in lower case: there are routers that ignore it
# (Express, ASP.NET). A provider whose URL has no path has all of its versions below /v1 here; and in OpenAI's
# engines and Azure's deployments the path names the model.
_CALLS = "|".join(path.removeprefix("/v1") for path in KINDS)
_ALIAS = re.compile(f"/v1(?:/(?:v1|beta|api|openai|anthropic)|/(?:engines|deployments)/[^/]+)*({_CALLS})")


def wants_lane(x: Exchange) -> bool:
    """Whether the aiohttp lane serves it: a body that is no JSON, or an upgrade to a WebSocket."""
    if x.kind or not is_served(x.path):
        return False
    fields = x.fields
    if fields.get(b"upgrade", b"").lower() == b"websocket" and x.method == b"GET":
        return b"upgrade" in fields.get(b"connection", b"").lower()
    content_type = fields.get(b"content-type", b"application/json").lower()
    return x.method in _BODY_METHODS and not content_type.startswith((b"application/json", b"text/plain"))


def judge_head(x: Exchange, snapshot: Snapshot) -> Reply | None:
    """A refusal, or None to go on."""
    fields = x.fields
    if x.method not in METHODS:
        return refuse(405, "method_not_allowed", "This method is not served here.", close=True)
    host = fields.get(b"host")
    if host is not None and not _is_our_host(host, snapshot.hosts):
        message = "This Host is not allowed: use a loopback name or add it to listen.hosts."
        return refuse(403, "host_not_allowed", message, close=True)
    origin = fields.get(b"origin")
    if origin is not None:
        if origin.decode() not in snapshot.origins:
            message = "Browser origins are refused unless they stand in listen.origins."
            return refuse(403, "origin_not_allowed", message, close=True)
    elif fields.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        return refuse(403, "origin_not_allowed", "Requests from web pages are refused.", close=True)
    if x.kind and b"content-encoding" in fields:
        return refuse(415, "unsupported_encoding", "Send the JSON body uncompressed.", close=True)
    if not x.kind and (x.method == b"POST" or not _BODY_FIELDS.isdisjoint(fields)):
        alias = _ALIAS.fullmatch(x.path.lower())
        if alias is not None:
            return refuse(404, "unknown_url", _ONE_PATH.format(alias[1]), flag="NR", close=True)
    return None


def is_served(path: str) -> bool:
    """Whether a path is plainly under /v1."""
    return _PATH.fullmatch(path) is not None or _MODEL_PATH.fullmatch(path) is not None


def _is_our_host(value: bytes, allowed: frozenset[str]) -> bool:
    """Whether a Host names this machine's loopback or a configured name; any port, dot at the end or not."""
    host = value.decode().lower()
    name, _, port = host.rpartition(":")
    if name and port.isdigit() and len(port) <= 5 and int(port) < 65536:
        host = name
    if host in _LOOPBACK_HOSTS or host in allowed:
        return True
    # The dot of the root, as in `gateway.team.svc.cluster.local.`: it keeps the resolver's search list out.
    rooted = host[:-1]
    return host[-1:] == "." and (rooted in _LOOPBACK_HOSTS or rooted in allowed)
