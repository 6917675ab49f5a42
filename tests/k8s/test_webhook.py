"""What the webhook's log tells the operator, who sees nothing of the warnings in its answers."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecar.k8s.tls import Serving
from sidecar.k8s.webhook import Health, Metrics, webhook_app
from tests.k8s.support import DEFAULTS, Tree, pod_of, review_of

WINDOWS = {"kubernetes.io/os": "windows"}


class Webhook:
    """The webhook without its TLS, at a time of its own."""

    def __init__(self) -> None:
        serving = Serving()
        metrics = Metrics(serving)
        self.now_s = 1000.0
        app = webhook_app(DEFAULTS, metrics, Health(serving, metrics), lambda: self.now_s)
        self.client = TestClient(TestServer(app))

    async def post(self, body: bytes) -> int:
        answer = await self.client.post("/inject", data=body, headers={"content-type": "application/json"})
        return answer.status

    async def admit(self, pod: Tree) -> None:
        assert await self.post(orjson.dumps(review_of(pod))) == 200


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    started = Webhook()
    async with started.client:
        yield started


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidecar.injector")


def lines(caplog: pytest.LogCaptureFixture, level: str = "WARNING") -> list[str]:
    found = [one for one in caplog.records if one.name == "sidecar.injector" and one.levelname == level]
    return [one.getMessage() for one in found]


def owned(replica_set: str, number: int = 0, annotations: Any = None, **spec: Any) -> Tree:
    """A pod of a controller, as it is before it has its name."""
    pod = pod_of(annotations=annotations, **spec)
    pod["metadata"] |= {
        "name": None,
        "generateName": f"{replica_set}-",
        "labels": {"number": str(number)},
        "ownerReferences": [{"kind": "ReplicaSet", "name": replica_set, "controller": True}],
    }
    return pod


async def test_whose_pod_is_let_in_without_a_sidecar_is_logged_once_for_all_retries(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        await webhook.admit(owned("web-7d9f", number, hostNetwork=True))
    await webhook.admit(owned("web-7d9f", nodeSelector=WINDOWS))
    await webhook.admit(owned("jobs-1", hostNetwork=True))
    first, other_reason, other_owner = lines(caplog)
    assert first.startswith(
        "refused: Pod shop/web-7d9f-* of ReplicaSet/web-7d9f: ai-sidecar is not injected: the pod has hostN"
    )
    assert "Windows" in other_reason
    assert "ReplicaSet/jobs-1" in other_owner


async def test_a_minute_later_it_is_said_again_with_the_number_of_those_between(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    for webhook.now_s in (1000.0, 1010.0, 1059.0, 1060.0):
        await webhook.admit(owned("web", hostNetwork=True))
    once, again = lines(caplog)
    assert again == f"{once} (and 2 more like it since it was last logged)"


async def test_all_reasons_stand_in_one_line(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    await webhook.admit(owned("web", hostNetwork=True, nodeSelector=WINDOWS))
    (line,) = lines(caplog)
    assert "Windows" in line
    assert "; ai-sidecar is not injected: the pod has hostNetwork" in line


async def test_advice_on_a_pod_that_has_its_sidecar_is_no_warning(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    await webhook.admit(owned("web", annotations={"prot": "1"}))
    assert lines(caplog) == []
    (line,) = lines(caplog, "INFO")
    assert line.startswith(
        "injected: Pod shop/web-* of ReplicaSet/web: annotation ai-sidecar/prot: there is no"
    )


async def test_a_sidecar_that_will_hang_the_pod_is_one(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    await webhook.admit(owned("web", initContainers=[{"name": "ai-sidecar"}]))
    (line,) = lines(caplog)
    assert line.startswith(
        "skipped: Pod shop/web-* of ReplicaSet/web: init container ai-sidecar lacks restartP"
    )


async def test_pods_with_nothing_to_say_of_them_leave_no_line(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    await webhook.admit(owned("web"))
    await webhook.admit(pod_of(labels={"ai-sidecar/inject": "false"}))
    assert lines(caplog) + lines(caplog, "INFO") == []


async def test_nobody_can_fill_the_log(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    port = [{"containerPort": 8080}]
    crowd = [{"name": f"a{number}\nERROR", "ports": port} for number in range(500)]
    await webhook.admit(owned("x\n" * 5000, containers=crowd))
    for number in range(20):
        body = orjson.dumps({"kind": f"k{number}\n" * 5000, "apiVersion": f"{number}"})
        assert await webhook.post(body) == 400
    pod, unreadable = lines(caplog)
    assert pod.isprintable()
    assert len(pod) < 2500
    assert unreadable.isprintable()
    assert unreadable.startswith("a review could not be read: expected an AdmissionReview, got kind 'k0")


async def test_reviews_that_cannot_be_read_are_counted_between_their_lines(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    for webhook.now_s, body in ((0.0, b"{}"), (1.0, b"nonsense"), (60.0, b"[]")):
        await webhook.post(body)
    first, second = lines(caplog)
    assert "got kind ''" in first
    assert second.endswith("(and 1 more like it since it was last logged)")
