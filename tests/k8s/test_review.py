"""Reviews good and bad: each gets an answer that the API server understands, or a reason for none."""

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.k8s.review import BadReview, Subject, answer
from tests.k8s.support import DEFAULTS, UID, applied, patch_in, pod_of, response_to, review_of, sidecar_in

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


def test_a_pod_is_allowed_with_a_patch_that_injects() -> None:
    pod = pod_of()
    response = response_to(review_of(pod))
    assert response["uid"] == UID
    assert "warnings" not in response
    assert sidecar_in(applied(pod, patch_in(response)))


def test_the_same_pod_again_gets_no_patch() -> None:
    pod = pod_of()
    pod = applied(pod, patch_in(response_to(review_of(pod))))
    assert response_to(review_of(pod)) == {"uid": UID, "allowed": True}


def test_a_dry_run_is_answered_alike() -> None:
    pod = pod_of()
    assert response_to(review_of(pod, dryRun=True)) == response_to(review_of(pod))


@pytest.mark.parametrize(
    "request_", [{"operation": "UPDATE"}, {"operation": "DELETE", "object": None}, {"subResource": "binding"}]
)
def test_what_is_not_the_creation_of_a_pod_passes_unchanged(request_: dict[str, Any]) -> None:
    assert response_to(review_of(pod_of(), **request_)) == {"uid": UID, "allowed": True}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}, "not for 'Deployment'"),
        ({"kind": {"group": "example.com", "version": "v1", "kind": "Pod"}}, "for pods"),
        ({"object": None}, "holds no pod"),
        ({"object": []}, "cannot be read: Expected `object`, got `array`"),
        ({"object": {"spec": {}}}, "missing required field `containers`"),
        ({"object": {"spec": {"containers": "x"}}}, "$.spec.containers"),
        ({"object": pod_of({"name": "a", "env": {"A": "b"}})}, "$.spec.containers[0].env"),
        ({"object": pod_of(annotations={"port": 8080})}, "Expected `str | null`, got `int`"),
        ({"object": pod_of({"name": "a", "ports": [{"containerPort": "http"}]})}, "Expected `int`"),
    ],
)
def test_what_cannot_be_injected_is_allowed_with_a_warning(request_: dict[str, Any], reason: str) -> None:
    response = response_to(review_of(pod_of(), **request_))
    assert "patch" not in response
    assert response["warnings"][0].startswith("ai-sidecar is not injected: ")
    assert reason in response["warnings"][0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not an AdmissionReview"),
        (b"\xff\xfe", "not an AdmissionReview"),
        (b"[]", "not an AdmissionReview"),
        (b"{}", "expected an AdmissionReview"),
        (
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}',
            r"admissionReviewVersions: \[v1\]",
        ),
        (b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}', "has no request"),
        (b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":null}', "has no request"),
        (b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}', "`uid`"),
        (
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":1}}',
            "Expected `str`",
        ),
        (orjson.dumps(review_of({}, uid="")), "no uid"),
        (b"[" * 100_000, "not an AdmissionReview"),
        (b'{"request":' + b"[" * 100_000, "not an AdmissionReview"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(BadReview, match=reason):
        answer(body, DEFAULTS)


def test_a_pod_nested_without_end_is_allowed_with_a_warning_or_refused() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    body = orjson.dumps(review_of("HERE")).replace(b'"HERE"', deep)
    with pytest.raises(BadReview):
        answer(body, DEFAULTS)


# --- whose pod it is ---


def subject_of(metadata: Any, **request: Any) -> Subject | None:
    """Of a pod that cannot have a sidecar."""
    review = review_of({**pod_of(hostNetwork=True), "metadata": metadata}, **request)
    return answer(orjson.dumps(review), DEFAULTS).subject


def owned_by(*owners: tuple[str, str, bool | None]) -> dict[str, Any]:
    references = [{"kind": kind, "name": name, "controller": is_one} for kind, name, is_one in owners]
    return {"generateName": "web-7d9f-", "ownerReferences": references}


@pytest.mark.parametrize(
    ("metadata", "shown", "origin"),
    [
        ({"name": "web"}, "Pod shop/web", ("shop", "web")),
        ({"generateName": "web-"}, "Pod shop/web-*", ("shop", "web-*")),
        (
            owned_by(("ReplicaSet", "web-7d9f", True)),
            "Pod shop/web-7d9f-* of ReplicaSet/web-7d9f",
            ("shop", "ReplicaSet/web-7d9f"),
        ),
        (
            {**owned_by(("StatefulSet", "web", True)), "name": "web-0"},
            "Pod shop/web-0 of StatefulSet/web",
            ("shop", "StatefulSet/web"),
        ),
        (
            owned_by(("Tenant", "t", None), ("Job", "j", True)),
            "Pod shop/web-7d9f-* of Job/j",
            ("shop", "Job/j"),
        ),
        (
            owned_by(("Tenant", "t", None)),
            "Pod shop/web-7d9f-* of Tenant/t",
            ("shop", "Tenant/t"),
        ),
        ({}, "Pod without a name in shop", ("shop", "")),
        (None, "Pod without a name in shop", ("shop", "")),
    ],
)
def test_a_pod_with_something_to_say_of_it_is_named_with_its_owner(
    metadata: Any, shown: str, origin: tuple[str, str]
) -> None:
    subject = subject_of(metadata)
    assert str(subject) == shown
    assert subject
    assert subject.origin == origin


def test_the_namespace_is_that_of_the_request_whatever_the_pod_says() -> None:
    assert str(subject_of({"name": "web", "namespace": "lie"}, namespace="shop")) == "Pod shop/web"
    assert str(subject_of({}, namespace=None, name="from-the-request")) == "Pod /from-the-request"


def test_what_is_no_pod_is_named_by_the_request() -> None:
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    for request in ({"kind": kind}, {"kind": kind, "object": "x"}):
        review = review_of(pod_of(), name="web", **request)
        assert str(answer(orjson.dumps(review), DEFAULTS).subject) == "Deployment shop/web"


def test_a_name_that_nobody_has_checked_yet_is_one_short_line() -> None:
    nasty = {
        "generateName": "a\n2026 ERROR \x1b[31mé\r" + "x" * 5000,
        "ownerReferences": [{"name": "\n" * 9000}],
    }
    line = str(subject_of(nasty, namespace="\n" * 9000))
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1100


def test_where_there_is_nothing_to_say_nobody_is_named() -> None:
    assert answer(orjson.dumps(review_of(pod_of())), DEFAULTS).subject is None


def test_warnings_fit_into_http_headers_however_they_were_caused() -> None:
    nasty = {f"ai-sidecar/{i}\r\nx: é": "v" for i in range(100)} | {"port": "\x00" * 5000}
    warnings = response_to(review_of(pod_of(annotations=nasty)))["warnings"]
    assert 0 < len(warnings) <= 16
    assert all(len(warning) <= 256 for warning in warnings)
    assert all(warning.isascii() and warning.isprintable() for warning in warnings)


@settings(max_examples=300)
@given(tree=JSON)
def test_any_object_in_place_of_a_pod_is_answered(tree: Any) -> None:
    assert "patch" not in response_to(review_of(tree))


@settings(max_examples=300)
@given(tree=JSON, field=st.sampled_from(["containers", "initContainers", "volumes", "nodeSelector", "os"]))
def test_any_value_in_place_of_a_part_is_answered(tree: Any, field: str) -> None:
    pod = pod_of()
    pod["spec"][field] = tree
    response = response_to(review_of(pod))
    if "patch" in response:
        applied(pod, patch_in(response))


@settings(max_examples=300)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_refused_and_break_nothing(body: bytes) -> None:
    with pytest.raises(BadReview):
        answer(body, DEFAULTS)


def test_a_large_pod_is_answered_without_reading_what_does_not_matter() -> None:
    """Not by the clock: what is decoded is a hundredth of what came."""
    pod = pod_of({"name": "app", "args": ["x" * 1000] * 3000})
    body = orjson.dumps(review_of(pod))
    assert len(body) > 3_000_000
    response = orjson.loads(answer(body, DEFAULTS).body)["response"]
    assert len(base64.b64decode(response["patch"])) < 5000
