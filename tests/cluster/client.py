"""A client of the API server, over TLS, with a certificate or a ServiceAccount's token."""

import http.client
import json
import re
import ssl
from typing import Any, NamedTuple
from urllib.parse import urlencode

TIMEOUT_S = 40.0

_WARNING = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')
_PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}


class Answer(NamedTuple):
    """`warnings` are those that kubectl would print."""

    status: int
    body: Any
    warnings: list[str]

    @property
    def message(self) -> str:
        """What the API server says of a refusal."""
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else str(self.body)


class Client:
    """Each call has a connection of its own, so that a client can be used by several threads."""

    def __init__(self, port: int, tls: ssl.SSLContext, token: str = "") -> None:
        self._port = port
        self._tls = tls
        self._token = token

    def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str
    ) -> Answer:
        """One call; JSON there and back."""
        headers = {"content-type": content_type, "accept": "application/json, */*"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._port, timeout=TIMEOUT_S, context=self._tls
        )
        try:
            target = f"{path}?{urlencode(query)}" if query else path
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
            lines = response.headers.get_all("warning") or []
        finally:
            connection.close()
        warnings = [text.replace('\\"', '"') for line in lines for text in _WARNING.findall(line)]
        try:
            return Answer(response.status, json.loads(content), warnings)
        except ValueError:
            return Answer(response.status, content.decode(errors="replace"), warnings)

    def get(self, path: str) -> Any:
        """An object that is there."""
        answer = self.call("GET", path)
        assert answer.status == 200, answer.message
        return answer.body

    def create(self, tree: Any, **query: str) -> Answer:
        """Create an object in the namespace that it names; unknown or double fields are refused."""
        return self.call("POST", collection_of(tree), tree, **{"fieldValidation": "Strict", **query})

    def created(self, tree: Any, **query: str) -> Any:
        """The object as the API server made it; it must have been taken."""
        answer = self.create(tree, **query)
        assert answer.status == 201, answer.message
        return answer.body

    def apply(self, tree: Any, **query: str) -> Answer:
        """What `kubectl apply --server-side` does; unknown or double fields are refused."""
        given = {"fieldManager": "test", "fieldValidation": "Strict", **query}
        return self.call("PATCH", path_of(tree), tree, "application/apply-patch+yaml", **given)

    def patch(self, path: str, change: Any, **query: str) -> Answer:
        """Merge a change into an object."""
        return self.call("PATCH", path, change, "application/merge-patch+json", **query)


def collection_of(tree: Any) -> str:
    """The path of the objects like this one."""
    group, kind = tree["apiVersion"], tree["kind"]
    root = f"/apis/{group}" if "/" in group else f"/api/{group}"
    namespace = tree["metadata"].get("namespace")
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def path_of(tree: Any) -> str:
    """The path of this object."""
    return f"{collection_of(tree)}/{tree['metadata']['name']}"
