"""A gateway that knows its callers by tokens of a real API server, with the rights that the chart gives."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest

from sidecar.demo.provider import DemoProvider
from tests.cluster.client import Client, path_of
from tests.cluster.conftest import GATEWAY, SIDECAR
from tests.cluster.pods import ASKS, is_injected, pod
from tests.cluster.release import NAMESPACE, Release
from tests.cluster.waiting import until
from tests.k8s.support import Tree
from tests.support.demo import QUESTION, demo_provider
from tests.support.http1 import ask
from tests.support.raw import post
from tests.support.running import config_for, running

BODY = orjson.dumps(QUESTION)
DISCOVERY = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:service-account-issuer-discovery"


@pytest.fixture(scope="module", autouse=True)
def gateway(release: Release) -> Iterator[None]:
    """The release is a gateway, whose token lies where its Deployment has it."""
    release.upgrade(GATEWAY)
    release.write_account("ai-sidecar")
    yield
    release.upgrade(SIDECAR)


@pytest.fixture
async def provider() -> AsyncIterator[DemoProvider]:
    async with demo_provider() as started:
        yield started


def config(release: Release, provider: DemoProvider) -> dict[str, Any]:
    """All accounts of shop may call, for this API server's tokens."""
    accounts = {
        "callers": [{"namespace": "shop"}],
        "api_server": f"https://127.0.0.1:{release.plane.port}",
        "ca_file": str(release.account / "ca.crt"),
        "token_file": str(release.account / "token"),
    }
    return config_for(provider.url, auth={"mode": "keys", "service_accounts": accounts})


async def status_of(port: int, token: str) -> int:
    return (await ask(port, post(BODY, headers=f"Authorization: Bearer {token}\r\n"))).status


async def test_who_runs_where_callers_are_listed_is_served_and_nobody_else(
    release: Release, provider: DemoProvider
) -> None:
    async with running(config(release, provider)) as sidecar:
        for namespace, audiences, expected in (
            ("shop", ["ai-sidecar"], 200),
            ("shop", ["vault", "ai-sidecar"], 200),
            ("shop", ["vault"], 401),
            ("shop", [], 401),
            ("search", ["ai-sidecar"], 403),
        ):
            token = release.token("default", namespace, audiences=audiences)
            assert await status_of(sidecar.port, token) == expected, (namespace, audiences)
    assert len(provider.requests) == 2


async def test_the_token_of_an_injected_pod_is_one_that_the_gateway_takes(
    admin: Client, release: Release, provider: DemoProvider
) -> None:
    release.upgrade(SIDECAR)
    with release.replicas(1) as (replica,):
        release.behind(replica)
        wanted = pod("shop", labels=ASKS, annotations={"ai-sidecar/token-audience": "ai-sidecar"})
        until(lambda: is_injected(admin.create(wanted, dryRun="All")))
        made = admin.created(wanted)
        release.behind()
    release.upgrade(GATEWAY)
    release.write_account("ai-sidecar")
    async with running(config(release, provider)) as sidecar:
        assert await status_of(sidecar.port, mounted_token(release, made)) == 200
    admin.call("DELETE", path_of(made), gracePeriodSeconds="0")


def mounted_token(release: Release, made: Tree) -> str:
    """What the kubelet would put into the sidecar's volume: bound to the pod, for the volume's audience."""
    (volume,) = (one for one in made["spec"]["volumes"] if one["name"] == "ai-sidecar-token")
    source = volume["projected"]["sources"][0]["serviceAccountToken"]
    metadata = made["metadata"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    return release.token(
        made["spec"]["serviceAccountName"],
        metadata["namespace"],
        audiences=[source["audience"]],
        expirationSeconds=source["expirationSeconds"],
        boundObjectRef=bound,
    )


async def test_the_gateways_account_may_read_the_public_keys_and_nothing_else(
    admin: Client, release: Release, provider: DemoProvider, caplog: pytest.LogCaptureFixture
) -> None:
    own = release.plane.client(token=release.token("ai-sidecar"))
    assert own.call("GET", "/openid/v1/jwks").status == 200
    for path in ("secrets", "configmaps", "pods", "serviceaccounts"):
        assert own.call("GET", f"/api/v1/namespaces/{NAMESPACE}/{path}").status == 403
    kept = admin.get(DISCOVERY)
    assert admin.call("DELETE", DISCOVERY).status == 200
    try:
        until(lambda: own.call("GET", "/openid/v1/jwks").status == 403)
        async with running(config(release, provider)) as sidecar:
            token = release.token("default", "shop", audiences=["ai-sidecar"])
            assert await status_of(sidecar.port, token) in (401, 503)
        assert "auth.service_accounts: https://127.0.0.1" in caplog.text
        assert token not in caplog.text
    finally:
        metadata = {"name": kept["metadata"]["name"]}
        admin.created({**kept, "metadata": metadata})
