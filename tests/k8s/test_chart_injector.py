"""The injector as the chart deploys it: in step with the code, asked when it should be, with few rights."""

import argparse
from typing import Any

import pytest

from sidecar.commands import injector
from sidecar.commands.inject import settings_of
from sidecar.k8s.settings import Settings
from tests.k8s.support import injected
from tests.k8s.support_helm import (
    NEWEST,
    OLDEST,
    Object,
    example,
    faults,
    kinds,
    one,
    render,
)


def made_with(**values: Any) -> list[Object]:
    return render({**example("sidecar"), **values})


def container_in(objects: list[Object]) -> Object:
    found: Object = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


def options_in(objects: list[Object]) -> argparse.Namespace:
    """The container's arguments, as the command reads them."""
    parser = argparse.ArgumentParser()
    injector.add_parser(parser.add_subparsers())
    options = parser.parse_args(container_in(objects)["args"])
    injector._check(options)
    return options


def test_arguments_are_those_of_the_command_and_say_its_defaults() -> None:
    assert settings_of(options_in(made_with())) == Settings(image="ai-sidecar:0.1.0")


def test_values_for_the_sidecar_reach_it() -> None:
    resources = {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"cpu": "2", "memory": "128Mi"}}
    values = {
        "mode": "classic",
        "configMap": "ours",
        "secret": "keys",
        "port": 8081,
        "healthPort": 9912,
        "adminPort": 9911,
        "logLevel": "debug",
        "env": False,
        "resources": resources,
    }
    digest = "sha256:" + "a" * 64
    image = {"repository": "registry.example:5000/team/ai-sidecar", "tag": "2.0", "digest": digest}
    assert settings_of(options_in(made_with(sidecar=values, image=image))) == Settings(
        image=f"registry.example:5000/team/ai-sidecar:2.0@{digest}",
        mode="classic",
        config="ours",
        secret="keys",
        port=8081,
        health_port=9912,
        admin_port=9911,
        log_level="debug",
        env=False,
        cpu_request="20m",
        cpu_limit="2",
        memory_request="48Mi",
        memory_limit="128Mi",
    )


def test_service_leads_to_the_webhook_and_probes_to_the_health_port() -> None:
    made = made_with()
    options = options_in(made)
    ports = {port["name"]: port["containerPort"] for port in container_in(made)["ports"]}
    (port,) = one(made, "Service")["spec"]["ports"]
    assert ports[port["targetPort"]] == options.port
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        asked = container_in(made)[probe]["httpGet"]
        assert (ports[asked["port"]], asked["path"]) == (options.health_port, path)
    selector = one(made, "Service")["spec"]["selector"]
    labels = one(made, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_pod_of_helm_test_is_injected_and_still_valid(version: str) -> None:
    made = made_with()
    pod = injected(one(made, "Pod"), settings_of(options_in(made)))
    assert [container["name"] for container in pod["spec"]["initContainers"]] == ["ai-sidecar"]
    assert faults(pod, version) == []


# --- who is asked ---


def selected(made: list[Object], namespace: str, namespace_labels: Object, pod_labels: Object) -> list[str]:
    """The webhooks that the API server would call for a pod."""
    names = {"kubernetes.io/metadata.name": namespace, **namespace_labels}
    return [
        entry["name"]
        for entry in one(made, "MutatingWebhookConfiguration")["webhooks"]
        if _matches(entry["namespaceSelector"], names) and _matches(entry["objectSelector"], pod_labels)
    ]


def _matches(selector: Object, labels: Object) -> bool:
    for expression in selector["matchExpressions"]:
        # As Kubernetes has it, NotIn holds where the label is absent.
        is_in = labels.get(expression["key"]) in expression["values"]
        if is_in != (expression["operator"] == "In"):
            return False
    return True


ENABLED = {"ai-sidecar/injection": "enabled"}


@pytest.mark.parametrize(
    ("namespace", "labels", "pod", "expected"),
    [
        ("shop", ENABLED, {}, ["namespaces.injector.ai-sidecar"]),
        ("shop", ENABLED, {"ai-sidecar/inject": "true"}, ["namespaces.injector.ai-sidecar"]),
        ("shop", ENABLED, {"ai-sidecar/inject": "false"}, []),
        ("shop", {}, {}, []),
        ("shop", {}, {"ai-sidecar/inject": "true"}, ["pods.injector.ai-sidecar"]),
        ("shop", {"ai-sidecar/injection": "disabled"}, {}, []),
        ("ai-sidecar", ENABLED, {"ai-sidecar/inject": "true"}, []),
        ("kube-system", ENABLED, {"ai-sidecar/inject": "true"}, []),
    ],
)
def test_pod_is_reviewed_once_or_not_at_all(
    namespace: str, labels: Object, pod: Object, expected: list[str]
) -> None:
    assert selected(made_with(), namespace, labels, pod) == expected


def test_webhook_does_no_harm_when_nobody_answers() -> None:
    for entry in one(made_with(), "MutatingWebhookConfiguration")["webhooks"]:
        assert entry["failurePolicy"] == "Ignore"
        assert entry["timeoutSeconds"] == 5
        assert entry["sideEffects"] == "None"
        assert entry["reinvocationPolicy"] == "IfNeeded"
        assert entry["clientConfig"]["service"]["path"] == "/inject"
        conditions = " ".join(condition["expression"] for condition in entry["matchConditions"])
        assert "'ai-sidecar','kube-system','kube-node-lease'" in conditions
        assert "kubernetes.io/config.mirror" in conditions


# --- rights ---


def test_managed_certificate_needs_few_rights() -> None:
    made = made_with()
    options = options_in(made)
    secrets = one(made, "Role")["rules"]
    assert secrets[0]["resourceNames"] == [options.managed]
    assert sorted(secrets[0]["verbs"]) == ["get", "update"]
    assert (secrets[1]["resources"], secrets[1]["verbs"]) == (["secrets"], ["create"])
    (webhooks,) = one(made, "ClusterRole")["rules"]
    assert webhooks["resourceNames"] == [options.webhook]
    assert sorted(webhooks["verbs"]) == ["get", "patch"]
    assert one(made, "MutatingWebhookConfiguration")["metadata"]["name"] == options.webhook
    assert one(made, "Service")["metadata"]["name"] == options.service


@pytest.mark.parametrize(
    "certificates",
    [{"mode": "certManager"}, {"mode": "given", "secretName": "tls", "caBundle": "QUJD" * 20}],
)
def test_certificate_from_elsewhere_needs_no_rights_at_all(certificates: Object) -> None:
    made = made_with(certificates=certificates)
    assert kinds(made).isdisjoint({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
    spec = one(made, "Deployment")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    (mount,) = spec["containers"][0]["volumeMounts"]
    options = options_in(made)
    assert [options.cert, options.key] == [f"{mount['mountPath']}/tls.{kind}" for kind in ("crt", "key")]


def test_cert_manager_signs_for_the_name_the_api_server_calls_and_writes_the_bundle() -> None:
    made = made_with(certificates={"mode": "certManager"})
    certificate = one(made, "Certificate", "ai-sidecar-injector-tls")
    configuration = one(made, "MutatingWebhookConfiguration")
    service = configuration["webhooks"][0]["clientConfig"]["service"]
    assert certificate["spec"]["dnsNames"] == [f"{service['name']}.{service['namespace']}.svc"]
    annotation = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert annotation == f"ai-sidecar/{certificate['metadata']['name']}"
    (volume,) = one(made, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volume["secret"]["secretName"] == certificate["spec"]["secretName"]


def test_authority_of_cert_manager_outlives_what_it_signs_and_keeps_its_key() -> None:
    """So a renewed certificate is trusted by the bundle that is there, and the one before it by the next."""
    made = made_with(certificates={"mode": "certManager"})
    issuers = {each["metadata"]["name"]: each["spec"] for each in made if each["kind"] == "Issuer"}
    leaf = one(made, "Certificate", "ai-sidecar-injector-tls")["spec"]
    authority = one(made, "Certificate", "ai-sidecar-injector-ca")["spec"]
    assert issuers.pop(leaf["issuerRef"]["name"]) == {"ca": {"secretName": authority["secretName"]}}
    assert issuers.pop(authority["issuerRef"]["name"]) == {"selfSigned": {}}
    assert issuers == {}
    assert "isCA" not in leaf
    assert authority["isCA"] is True
    assert authority["commonName"]  # without a subject, a chain cannot be verified
    assert authority["privateKey"]["rotationPolicy"] == "Never"
    hours, early = (int(authority[name].removesuffix("h")) for name in ("duration", "renewBefore"))
    # cert-manager's own certificates live 90 days.
    assert hours - early > early > 24 * 90
    assert len({authority["secretName"], leaf["secretName"]}) == 2


def test_issuer_of_ones_own_is_asked_for_the_one_certificate() -> None:
    issuer = {"kind": "ClusterIssuer", "name": "ours"}
    made = made_with(certificates={"mode": "certManager", "issuerRef": issuer})
    assert one(made, "Certificate")["spec"]["issuerRef"] == issuer
    assert "Issuer" not in kinds(made)


def test_each_mode_of_certificates_has_a_webhook_configuration_of_its_own() -> None:
    """Whoever wrote a caBundle owns it, so that another could not."""
    modes = ("managed", "certManager", "given")
    given = {"secretName": "tls", "caBundle": "QUJD" * 20}
    names = [
        one(made_with(certificates={"mode": mode, **given}), "MutatingWebhookConfiguration")["metadata"][
            "name"
        ]
        for mode in modes
    ]
    assert len(set(names)) == 3
    assert names[0] == options_in(made_with()).webhook


def test_given_bundle_is_in_every_webhook() -> None:
    bundle = "QUJD" * 20
    made = made_with(certificates={"mode": "given", "secretName": "tls", "caBundle": bundle})
    entries = one(made, "MutatingWebhookConfiguration")["webhooks"]
    assert [entry["clientConfig"]["caBundle"] for entry in entries] == [bundle, bundle]


def test_one_replica_has_no_disruption_budget_since_it_would_block_every_drain() -> None:
    assert "PodDisruptionBudget" in kinds(made_with())
    assert "PodDisruptionBudget" not in kinds(made_with(injector={"replicas": 1}))
