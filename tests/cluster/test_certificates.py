"""The injector's certificate, with the chart's own rights: made, trusted, renewed, put right again.

failurePolicy is Fail here, so that no pod gets by while the API server does not trust what it meets.
"""

import contextlib
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
from cryptography import x509

from tests.cluster.client import Client
from tests.cluster.conftest import SIDECAR
from tests.cluster.pods import is_injected, try_pod
from tests.cluster.release import INJECTOR, NAMESPACE, SECRET, WEBHOOK, WEBHOOKS, Release, Replica
from tests.cluster.test_outages import Rollout
from tests.cluster.waiting import until

HURRY = {"SIDECAR_TEST_HURRY": "1"}
ROTATION_S = 90.0


@pytest.fixture(scope="module", autouse=True)
def fail(release: Release) -> None:
    release.upgrade(SIDECAR, injector_failurePolicy="Fail")


@pytest.fixture(autouse=True)
def fresh(admin: Client, release: Release) -> None:
    """As after the first install."""
    admin.call("DELETE", SECRET)
    operations = [{"op": "remove", "path": f"/webhooks/{entry}/clientConfig/caBundle"} for entry in (0, 1)]
    admin.call("PATCH", WEBHOOK, operations, "application/json-patch+json")
    release.behind()


def bundles(admin: Client) -> set[str]:
    """What the entries of the webhook configuration trust."""
    return {entry["clientConfig"].get("caBundle", "") for entry in admin.get(WEBHOOK)["webhooks"]}


def in_secret(admin: Client, name: str) -> bytes:
    return b64decode(admin.get(SECRET)["data"][name])


def shown(replica: Replica) -> bytes:
    """The certificate that a new connection meets."""
    return ssl.get_server_certificate(("127.0.0.1", replica.port)).encode()


def test_replicas_that_start_at_once_agree_on_one_certificate(admin: Client, release: Release) -> None:
    assert bundles(admin) == {""}
    with release.replicas(3) as replicas:
        assert bundles(admin) == {b64encode(in_secret(admin, "ca.crt")).decode()}
        assert {x509.load_pem_x509_certificate(shown(one)).serial_number for one in replicas} == {
            x509.load_pem_x509_certificate(in_secret(admin, "tls.crt")).serial_number
        }
        assert all("ERROR" not in one.log for one in replicas)
        for replica in replicas:
            release.behind(replica)
            until(lambda: try_pod(admin).status == 201)
            assert is_injected(try_pod(admin))
            # The API server keeps its connection, and would never ask the next one.
            replica.process.kill()


def test_its_secret_holds_no_more_than_that_and_is_not_for_reading(admin: Client, release: Release) -> None:
    with release.replicas(1) as (replica,):
        secret = admin.get(SECRET)
        assert secret["type"] == "Opaque"
        assert set(secret["data"]) == {"tls.crt", "tls.key", "ca.crt", "ca.key"}
        assert "PRIVATE KEY" not in replica.log


def test_a_replica_that_comes_later_takes_what_is_there(admin: Client, release: Release) -> None:
    with release.replicas(1):
        before = admin.get(SECRET)
    with release.replicas(1) as (replica,):
        assert shown(replica).strip() == in_secret(admin, "tls.crt").strip()
    assert admin.get(SECRET)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_an_upgrade_by_helm_leaves_the_trust_alone(admin: Client, release: Release) -> None:
    with release.replicas(1) as (replica,):
        release.behind(replica)
        until(lambda: try_pod(admin).status == 201)
        before = bundles(admin)
        assert "" not in before
        for timeout_s in (3, 4):
            release.upgrade(SIDECAR, injector_failurePolicy="Fail", injector_timeoutSeconds=timeout_s)
            assert {entry["timeoutSeconds"] for entry in admin.get(WEBHOOK)["webhooks"]} == {timeout_s}
            assert bundles(admin) == before
            assert is_injected(try_pod(admin))


def test_certificates_and_authorities_change_while_pods_are_created(admin: Client, release: Release) -> None:
    certificates, authorities = set(), set()
    rollout = Rollout(admin)
    with release.replicas(2, HURRY) as replicas:
        release.behind(*replicas)
        until(lambda: try_pod(admin).status == 201)

        def is_turned_over() -> bool:
            certificate = x509.load_pem_x509_certificate(in_secret(admin, "tls.crt"))
            certificates.add(certificate.serial_number)
            authorities.add(certificate.issuer.rfc4514_string())
            return len(certificates) >= 3 and len(authorities) >= 2

        with rollout.going_on():
            until(is_turned_over, within_s=ROTATION_S)
            until(lambda: all(shown(one).strip() == in_secret(admin, "tls.crt").strip() for one in replicas))
        assert all("ERROR" not in one.log for one in replicas)
    assert rollout.refusals == []
    assert rollout.count > 100


@pytest.mark.parametrize("what", ["secret", "bundle", "half of the secret"])
def test_what_somebody_broke_is_put_right(admin: Client, release: Release, what: str) -> None:
    with release.replicas(2, HURRY) as replicas:
        release.behind(*replicas)
        until(lambda: try_pod(admin).status == 201)
        if what == "secret":
            assert admin.call("DELETE", SECRET).status == 200
        elif what == "bundle":
            other = b64encode(trustme.CA().cert_pem.bytes()).decode()
            operations = [{"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": other}]
            assert admin.call("PATCH", WEBHOOK, operations, "application/json-patch+json").status == 200
        else:
            assert admin.patch(SECRET, {"data": {"ca.key": None}}).status == 200

        def is_whole() -> bool:
            secret = admin.call("GET", SECRET)
            data = secret.body.get("data", {}) if secret.status == 200 else {}
            return len(data) == 4 and bundles(admin) == {data["ca.crt"]}

        until(is_whole)
        until(lambda: try_pod(admin).status == 201)
        assert is_injected(try_pod(admin))


def test_a_token_that_is_no_good_is_said_and_the_certificate_goes_on(admin: Client, release: Release) -> None:
    with release.replicas(1, HURRY) as (replica,):
        release.behind(replica)
        until(lambda: try_pod(admin).status == 201)
        (release.account / "token").write_text("of.no.body")
        until(lambda: "status 401" in replica.log)
        assert is_injected(try_pod(admin))
        assert "of.no.body" not in replica.log
        release.write_account()
        before = in_secret(admin, "tls.crt")
        until(lambda: in_secret(admin, "tls.crt") != before, within_s=30.0)


def test_without_its_rights_it_says_which_one_is_missing(admin: Client, release: Release) -> None:
    role = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{INJECTOR}.{NAMESPACE}"
    kept = admin.get(role)["rules"]
    assert admin.patch(role, {"rules": []}).status == 200
    try:
        with release.replicas(1, HURRY, is_ready=False) as (replica,):
            until(lambda: "status 403" in replica.log)
            assert "mutatingwebhookconfigurations" in replica.log
            assert "give the injector's ServiceAccount this right" in replica.log
            assert "Traceback" not in replica.log
            admin.patch(role, {"rules": kept})
            replica.wait_ready()
    finally:
        admin.patch(role, {"rules": kept})


# --- a certificate that somebody else keeps ---


def give(release: Release, authority: trustme.CA, *others: bytes) -> None:
    """Change the release to a certificate of one's own. `others` are trusted, too."""
    bundle = b"".join([authority.cert_pem.bytes(), *others])
    settings: dict[str, Any] = {
        "certificates_mode": "given",
        "certificates_secretName": "own-tls",
        "certificates_caBundle": b64encode(bundle).decode(),
        "injector_failurePolicy": "Fail",
    }
    release.upgrade(SIDECAR, **settings)
    leaf = authority.issue_cert(f"{INJECTOR}.{NAMESPACE}.svc")
    leaf.cert_chain_pems[0].write_to_path(str(release.mounted("tls.crt")))
    leaf.private_key_pem.write_to_path(str(release.mounted("tls.key")))


@contextlib.contextmanager
def managed_again(release: Release) -> Iterator[None]:
    """Afterwards the release is as before."""
    try:
        yield
    finally:
        release.upgrade(SIDECAR, injector_failurePolicy="Fail")


def configurations(admin: Client) -> list[str]:
    """The names of the MutatingWebhookConfigurations, without what they have in common."""
    names = [each["metadata"]["name"] for each in admin.get(WEBHOOKS)["items"]]
    return [name.removeprefix(f"{INJECTOR}.{NAMESPACE}") for name in names]


def test_a_certificate_of_ones_own_is_served_and_needs_no_rights(admin: Client, release: Release) -> None:
    with managed_again(release):
        give(release, trustme.CA())
        assert not {each["kind"] for each in release.objects()} & {"Role", "ClusterRole", "RoleBinding"}
        with release.replicas(1) as (replica,):
            release.behind(replica)
            until(lambda: try_pod(admin).status == 201)
            assert is_injected(try_pod(admin))
    assert {"Role", "ClusterRole"} <= {each["kind"] for each in release.objects()}


def test_the_mode_is_changed_by_an_upgrade_whoever_wrote_the_bundle_before(
    admin: Client, release: Release
) -> None:
    with release.replicas(1, HURRY) as (replica,):
        release.behind(replica)
        until(lambda: try_pod(admin).status == 201)
        with managed_again(release):
            give(release, trustme.CA())
            assert configurations(admin) == [".given"]
        until(lambda: try_pod(admin).status == 201)
        with managed_again(release):
            settings = {"certificates_mode": "certManager", "injector_failurePolicy": "Fail"}
            printed = release.upgrade(SIDECAR, **settings)
            assert f"kubectl -n {NAMESPACE} rollout status deployment {INJECTOR}" in printed
            assert configurations(admin) == [".certmanager"]
            # The part of cert-manager, which is not here.
            other = b64encode(trustme.CA().cert_pem.bytes()).decode()
            operations = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": other}]
            path = f"{WEBHOOK}.certmanager"
            assert admin.call("PATCH", path, operations, "application/json-patch+json").status == 200
            give(release, trustme.CA())
        assert configurations(admin) == [""]
        until(lambda: try_pod(admin).status == 201)
        assert is_injected(try_pod(admin))


def test_no_pod_misses_its_sidecar_on_the_way_to_a_certificate_of_ones_own(
    admin: Client, release: Release
) -> None:
    """As README.md has it: with the old authority in the bundle, too."""
    rollout = Rollout(admin)
    with release.replicas(1) as (old,), managed_again(release):
        release.behind(old)
        until(lambda: try_pod(admin).status == 201)
        with contextlib.ExitStack() as until_the_end:
            with rollout.going_on():
                give(release, trustme.CA(), in_secret(admin, "ca.crt"))
                assert configurations(admin) == [".given"]
                (new,) = until_the_end.enter_context(release.replicas(1))
                release.behind(old, new)
                old.terminate()
                until(lambda: old.get("/readyz")[0] == 503)
                release.behind(new)
                until(lambda: old.process.poll() is not None)
                count = rollout.count
                until(lambda: rollout.count > count + 50)
            assert new.reviews("injected") > 50
    assert rollout.refusals == []
