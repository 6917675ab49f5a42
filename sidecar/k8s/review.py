"""An AdmissionReview in, the answer to it out; v1 only. No network, no clock: the review says it all.

What cannot be answered (no JSON, no uid, another version) is a `BadReview` with its HTTP status: the API
server then does as its failurePolicy says. Everything else is allowed, with warnings where there is something
to say.
"""

from base64 import b64encode
from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct

from sidecar.k8s.container import NAME
from sidecar.k8s.patch import Outcome, inject
from sidecar.k8s.pod import Pod
from sidecar.k8s.settings import Settings, shown

VERSION = "admission.k8s.io/v1"
# The API server cuts a longer warning, and drops what is beyond 4,096 characters in all.
MAX_WARNING_CHARS = 256
MAX_WARNINGS = 16
# Names of objects are shorter, once they are checked.
MAX_NAME_CHARS = 320

_ABSENT = Raw(b"null")


class BadReview(Exception):
    """Nothing that could be answered; the message says why."""


class _Envelope(Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    request: Raw = _ABSENT


class _Kind(Struct):
    group: str = ""
    version: str = ""
    kind: str = ""


class _Request(Struct, rename="camel"):
    uid: str
    kind: _Kind
    operation: str = ""
    sub_resource: str | None = None
    namespace: str | None = None
    name: str | None = None
    object: Raw = _ABSENT


class Subject(Struct, frozen=True):
    """What a review is about, fit for a log: one short line of ASCII each; empty where it is not known.

    The owner has its kind before its name. The API server has checked none of this yet.
    """

    kind: str
    namespace: str
    name: str
    owner: str

    @property
    def origin(self) -> tuple[str, str]:
        """Who makes such pods again and again."""
        return self.namespace, self.owner or self.name

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.name else f"without a name in {self.namespace}"
        return f"{self.kind} {name} of {self.owner}" if self.owner else f"{self.kind} {name}"


class Answer(Struct):
    """The body to send, what became of the pod, and whose it is where there is something to say."""

    body: bytes
    outcome: Outcome
    subject: Subject | None


def answer(body: bytes, defaults: Settings) -> Answer:
    """Answer one review; BadReview when it is not one."""
    request = _request(body)
    outcome, pod = _outcome(request, defaults)
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    if outcome.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = b64encode(orjson.dumps(outcome.patch)).decode()
    if outcome.warnings:
        response["warnings"] = [fit(warning) for warning in outcome.warnings[:MAX_WARNINGS]]
    review = {"apiVersion": VERSION, "kind": "AdmissionReview", "response": response}
    return Answer(orjson.dumps(review), outcome, _subject(request, pod) if outcome.warnings else None)


def _request(body: bytes) -> _Request:
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
        if envelope.kind != "AdmissionReview":
            raise BadReview(f"expected an AdmissionReview, got kind {shown(envelope.kind)}")
        if envelope.api_version != VERSION:
            raise BadReview(
                f"expected {VERSION}, got {shown(envelope.api_version)}:"
                " set admissionReviewVersions: [v1] in the webhook configuration"
            )
        if envelope.request == _ABSENT:
            raise BadReview("the AdmissionReview has no request")
        request = msgspec.json.decode(envelope.request, type=_Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadReview(f"not an AdmissionReview: {fit(str(error))}") from None
    if not request.uid:
        raise BadReview("the AdmissionReview's request has no uid")
    return request


def _outcome(request: _Request, defaults: Settings) -> tuple[Outcome, Pod | None]:
    if (request.kind.group, request.kind.version, request.kind.kind) != ("", "v1", "Pod"):
        kind = shown(request.kind.kind)
        return _refused(f"the webhook is for pods, not for {kind}: correct its rules")
    if request.operation != "CREATE" or request.sub_resource:
        return Outcome("skipped", [], []), None
    if request.object == _ABSENT:
        return _refused("the review holds no pod")
    try:
        pod = msgspec.json.decode(request.object, type=Pod)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refused(f"the pod cannot be read: {error}")
    return inject(pod, defaults), pod


def _refused(reason: str) -> tuple[Outcome, None]:
    return Outcome("refused", [], [f"{NAME} is not injected: {reason}"]), None


def _subject(request: _Request, pod: Pod | None) -> Subject:
    return Subject(
        kind=fit(request.kind.kind, MAX_NAME_CHARS),
        namespace=fit(request.namespace or "", MAX_NAME_CHARS),
        name=fit((pod and pod.name) or request.name or "", MAX_NAME_CHARS),
        owner=fit(pod.owner if pod else "", MAX_NAME_CHARS),
    )


def fit(text: str, most: int = MAX_WARNING_CHARS) -> str:
    """The text as a warning in an HTTP header or a line of a log: printable ASCII, and not long."""
    cut = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(char if " " <= char <= "~" else "?" for char in cut)
