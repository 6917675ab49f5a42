"""The gateway as the chart deploys it: who reaches it, what it reaches, and that it is the only way out."""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.k8s.support_helm import Object, example, kinds, one, render
from tests.support.process import SidecarProcess, finished, spawn


def made_with(**gateway: Any) -> list[Object]:
    values = example("gateway")
    values["gateway"] = {**values["gateway"], **gateway}
    return render(values)


def test_service_leads_to_the_data_port_of_the_pods() -> None:
    made = made_with()
    template = one(made, "Deployment")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = one(made, "Service")["spec"]
    assert ports[service["ports"][0]["targetPort"]] == 8080
    assert service["selector"].items() <= template["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.30", None), ("1.31", "PreferClose"), ("1.34", "PreferClose"), ("1.35", "PreferSameZone")],
)
def test_requests_stay_in_their_zone_where_kubernetes_can(version: str, expected: str | None) -> None:
    made = render(example("gateway"), version)
    assert one(made, "Service")["spec"].get("trafficDistribution") == expected


def test_only_the_listed_namespaces_reach_it() -> None:
    policy = one(made_with(), "NetworkPolicy", "ai-sidecar")["spec"]
    data, health = policy["ingress"]
    (selector,) = data["from"]
    (expression,) = selector["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == ["ai-sidecar", "shop", "search"]
    assert data["ports"] == [{"port": "data", "protocol": "TCP"}]
    assert health == {"ports": [{"port": "sidecar-health", "protocol": "TCP"}]}
    assert policy["policyTypes"] == ["Ingress"]


def test_listed_namespaces_lose_their_own_way_out_and_the_gateway_keeps_its_own() -> None:
    closed = [each for each in made_with() if each["metadata"]["name"] == "ai-sidecar-only"]
    assert [each["metadata"]["namespace"] for each in closed] == ["shop", "search"]
    for policy in closed:
        assert policy["spec"]["podSelector"] == {}
        assert policy["spec"]["policyTypes"] == ["Egress"]
        (rule,) = policy["spec"]["egress"]
        assert rule == {"to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]}


def test_way_out_stays_open_unless_closing_is_asked_for() -> None:
    made = made_with(networkPolicy={})
    assert [each["metadata"]["name"] for each in made if each["kind"] == "NetworkPolicy"] == ["ai-sidecar"]


def test_own_namespace_is_never_closed_since_the_gateway_lives_there() -> None:
    made = render({**example("gateway"), "namespaces": ["ai-sidecar", "shop"]})
    closed = [each for each in made if each["metadata"]["name"] == "ai-sidecar-only"]
    assert [each["metadata"]["namespace"] for each in closed] == ["shop"]


def test_autoscaler_has_the_say_over_the_number_of_pods() -> None:
    made = made_with()
    assert "replicas" not in one(made, "Deployment")["spec"]
    scaler = one(made, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == one(made, "Deployment")["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 10)
    fixed = made_with(autoscaling={"enabled": False}, replicas=3)
    assert one(fixed, "Deployment")["spec"]["replicas"] == 3
    assert "HorizontalPodAutoscaler" not in kinds(fixed)


@pytest.mark.parametrize(
    "gateway", [{"autoscaling": {"minReplicas": 1}}, {"autoscaling": {"enabled": False}, "replicas": 1}]
)
def test_single_pod_has_no_disruption_budget_since_it_would_block_every_drain(gateway: Object) -> None:
    assert "PodDisruptionBudget" in kinds(made_with())
    assert "PodDisruptionBudget" not in kinds(made_with(**gateway))


def test_admin_is_on_loopback_and_no_port_of_the_pod() -> None:
    (container,) = one(made_with(), "Deployment")["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert env["SIDECAR_LISTEN_ADMIN"] == "127.0.0.1:9901"
    assert 9901 not in [port["containerPort"] for port in container["ports"]]


def test_changes_are_taken_on_a_socket_on_a_volume_of_its_own() -> None:
    spec = one(made_with(), "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    folder = env["SIDECAR_LISTEN_CONTROL"].removeprefix("unix:").rpartition("/")[0]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["mountPath"] == folder)
    assert not mount.get("readOnly")
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == mount["name"])
    assert volume["emptyDir"]["medium"] == "Memory"


def test_own_token_is_mounted_only_where_service_accounts_may_call() -> None:
    values = example("gateway")
    pod = one(render(values), "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    accounts = "auth: {mode: keys, service_accounts: {callers: [{namespace: shop}]}}"
    values["config"] = values["config"].replace("auth: {mode: keys}", accounts)
    made = render(values)
    assert one(made, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True
    assert not any("Role" in kind for kind in kinds(made))  # whatever any ServiceAccount may is enough


def test_nothing_that_may_be_missing_keeps_the_pod_from_starting() -> None:
    volumes = one(made_with(), "Deployment")["spec"]["template"]["spec"]["volumes"]
    (secret,) = (volume["secret"] for volume in volumes if "secret" in volume)
    assert secret == {"secretName": "ai-sidecar-key", "optional": True}


# --- as it runs ---


def expanded(container: Object, **fields: str) -> dict[str, str]:
    """The container's environment as the kubelet makes it, with fields of the pod by the variable's name."""
    env: dict[str, str] = {}
    for variable in container["env"]:
        text = variable.get("value", fields.get(variable["name"], ""))
        env[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda found: env[found[1]], text)
    return env


@contextlib.asynccontextmanager
async def running_in(tmp_path: Path) -> AsyncIterator[SidecarProcess]:
    """The Deployment's one container as a process, with ports of the system's choice and its files here: the
    folder `key` has its Secret."""
    made = made_with()
    (container,) = one(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    folders = {mount["mountPath"]: tmp_path / mount["name"] for mount in container["volumeMounts"]}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    text = one(made, "ConfigMap")["data"]["sidecar.yaml"].replace("min: 5s", "min: 0s")
    # Nobody is asked for what these names stand for.
    text = re.sub(r"https://(\w+)-[\w.-]+/v1", r"http://127.0.0.1:9/\1", text)
    arguments = container["args"]
    for inside, outside in folders.items():
        text = text.replace(f"{inside}/", f"{outside}/")
        arguments = [part.replace(f"{inside}/", f"{outside}/") for part in arguments]
    (tmp_path / "config" / "sidecar.yaml").write_text(text)
    environ = expanded(container, SIDECAR_POD_IP="0.0.0.0", SIDECAR_TEAM="ai-sidecar")
    environ = {name: re.sub(r":(8080|990\d)$", ":0", value) for name, value in environ.items()}
    (socket,) = (
        folder for folder in folders if environ["SIDECAR_LISTEN_CONTROL"].startswith(f"unix:{folder}/")
    )
    environ["SIDECAR_LISTEN_CONTROL"] = f"unix:{folders[socket]}/s"
    running = SidecarProcess(await spawn(*arguments, environ=environ, stdout=asyncio.subprocess.DEVNULL))
    try:
        yield running
    finally:
        running.send(signal.SIGTERM)
        assert await running.exit_code() == 0, running.errors


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[SidecarProcess]:
    """The same with all that it needs, once it serves."""
    write_secret(tmp_path)
    async with running_in(tmp_path) as running:
        await running.listening()
        yield running


def write_secret(folder: Path) -> None:
    (folder / "key").mkdir(exist_ok=True)
    (folder / "key" / "api-key").write_text("sk-one")


async def has_started(folder: Path) -> bool:
    """What the container's startup probe finds."""
    (container,) = one(made_with(), "Deployment")["spec"]["template"]["spec"]["containers"]
    program, *arguments = container["startupProbe"]["exec"]["command"]
    assert program == "sidecar"
    code, *_ = await finished(*arguments, environ={"SIDECAR_LISTEN_CONTROL": f"unix:{folder}/run/s"})
    return code == 0


async def test_pod_without_its_secret_says_so_has_not_started_and_goes_on_once_it_is_there(
    tmp_path: Path,
) -> None:
    async with running_in(tmp_path) as running, asyncio.timeout(30):
        while "api-key cannot be read" not in running.errors:
            await asyncio.sleep(0.02)
        assert not await has_started(tmp_path)
        write_secret(tmp_path)
        await running.listening()
        assert await has_started(tmp_path)


async def test_pod_serves_on_its_own_address_and_admin_on_loopback(gateway: SidecarProcess) -> None:
    assert re.search(r"health 0\.0\.0\.0:\d+, admin 127\.0\.0\.1:.*, data 0\.0\.0\.0:\d+", gateway.errors)


async def test_pod_is_changed_by_its_socket_alone_and_its_own_commands_find_it(
    gateway: SidecarProcess,
) -> None:
    found = re.search(r"control (unix:[^\s,]+)", gateway.errors)
    assert found
    off = ("break-glass", "off")
    code, out, _ = await finished(*off, environ={"SIDECAR_LISTEN_CONTROL": found[1]})
    assert (code, out.splitlines()[0]) == (0, "break-glass is off")
    code, _, errors = await finished(*off, "--admin", gateway.admin_url.removeprefix("http://"))
    assert (code, found[1] in errors) == (1, True)


async def status_of(gateway: SidecarProcess, host: str, key: str | None = None) -> int:
    headers = {"host": host, **({"authorization": f"Bearer {key}"} if key else {})}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{gateway.url}/models") as answer,
    ):
        return answer.status


async def test_pod_lets_in_who_has_a_key_and_knows_its_names(gateway: SidecarProcess) -> None:
    name = "ai-sidecar.ai-sidecar.svc"
    assert [
        await status_of(gateway, name),
        await status_of(gateway, name, "wrong"),
        await status_of(gateway, "evil.example", "example"),
        await status_of(gateway, name, "example"),
        await status_of(gateway, f"{name}.cluster.local:80", "example"),
    ] == [401, 401, 403, 200, 200]
