"""Mutating webhooks of others, which see a pod before or after the injector does."""

import contextlib
import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import trustme

from tests.cluster.client import Client, path_of

# From a pod to the operations of a JSON Patch.
Mutation: TypeAlias = Callable[[Any], list[dict[str, Any]]]


@contextlib.contextmanager
def webhook(admin: Client, name: str, namespace: str, mutate: Mutation) -> Iterator[list[Any]]:
    """A webhook for the pods of one namespace; yields the pods it saw. The API server goes by their names."""
    authority = trustme.CA()
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["content-length"])))
            pod = review["request"]["object"]
            seen.append(pod)
            response: dict[str, Any] = {"uid": review["request"]["uid"], "allowed": True}
            if operations := mutate(pod):
                patch = b64encode(json.dumps(operations).encode()).decode()
                response |= {"patchType": "JSONPatch", "patch": patch}
            body = json.dumps({**review, "request": None, "response": response}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{server.server_address[1]}/"
        made = admin.created(_configuration(name, namespace, url, authority.cert_pem.bytes()))
        try:
            yield seen
        finally:
            admin.call("DELETE", path_of(made))
            server.shutdown()
            thread.join()


def _configuration(name: str, namespace: str, url: str, authority: bytes) -> Any:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": f"{name}.example.com",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": url, "caBundle": b64encode(authority).decode()},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "reinvocationPolicy": "IfNeeded",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
            }
        ],
    }
