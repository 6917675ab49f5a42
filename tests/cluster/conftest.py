"""One control plane for all tests of this folder, which run only when they are asked for by name."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import tools
from tests.cluster.client import Client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.pods import is_injected, try_pod
from tests.cluster.release import NAMESPACE, SECRET, Release, Replica
from tests.cluster.waiting import until
from tests.k8s.support_helm import CHART

HERE = Path(__file__).parent
SIDECAR, GATEWAY = (CHART / "ci" / f"{mode}-values.yaml" for mode in ("sidecar", "gateway"))

FOREIGN = (
    "/apis/monitoring.coreos.com/v1/podmonitors",
    "/apis/monitoring.coreos.com/v1/prometheusrules",
    "/apis/cert-manager.io/v1/certificates",
    "/apis/cert-manager.io/v1/issuers",
)

_numbers = itertools.count(1)


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """`make test` takes seconds, and these start a control plane: they are run by `make test-k8s`."""
    asked = [Path(config.invocation_params.dir, each.partition("::")[0]).resolve() for each in config.args]
    return None if any(each.is_relative_to(HERE) for each in asked) else True


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane, with the CRDs of the chart's foreign kinds."""
    found = tools.find()
    if found is None:
        pytest.skip("there is no kube-apiserver: `make test-k8s` builds it, with Go")
    made = ControlPlane(found, tmp_path_factory.mktemp("cluster"))
    with made.running():
        for path in found.crds:
            made.admin.created(yaml.safe_load(path.read_text()), fieldValidation="Ignore")
        for namespace in (NAMESPACE, "shop", "search"):
            make_namespace(made.admin, namespace)
        until(lambda: all(made.admin.call("GET", path).status == 200 for path in FOREIGN))
        yield made


@pytest.fixture
def admin(plane: ControlPlane) -> Client:
    """Who may do everything."""
    return plane.admin


@pytest.fixture(scope="module")
def release(plane: ControlPlane) -> Iterator[Release]:
    """The chart's own example of sidecar mode; removed when the module is done."""
    made = Release(plane)
    made.install(SIDECAR)
    yield made
    made.uninstall()
    # The injector made it, and helm knows nothing of it.
    plane.admin.call("DELETE", SECRET)


@pytest.fixture(scope="module")
def replica(release: Release) -> Iterator[Replica]:
    """One replica behind the Service, once the API server asks it."""
    with release.replicas(1) as (made,):
        release.behind(made)
        until(lambda: is_injected(try_pod(release.plane.admin)))
        yield made
        release.behind()


@pytest.fixture
def namespace(admin: Client) -> str:
    """A namespace that asks for the sidecar."""
    return new_namespace(admin, {"ai-sidecar/injection": "enabled"})


def new_namespace(admin: Client, labels: dict[str, str]) -> str:
    """One that no other test has."""
    name = f"test-{next(_numbers)}"
    make_namespace(admin, name, labels)
    return name


def make_namespace(admin: Client, name: str, labels: dict[str, str] | None = None) -> None:
    """A namespace that forbids what the restricted profile forbids, with what a controller puts in it."""
    profile = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    metadata = {"name": name, "labels": {**profile, **(labels or {})}}
    admin.created({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    account = {"name": "default", "namespace": name}
    admin.created({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
