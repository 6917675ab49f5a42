"""The injector is away, slow, or somebody else: pods go on as failurePolicy says, and recover afterwards."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme

from tests.cluster.client import Answer, Client
from tests.cluster.conftest import SIDECAR, new_namespace
from tests.cluster.pods import app, is_injected, pod, sidecar_of, try_pod
from tests.cluster.release import INJECTOR, NAMESPACE, Release
from tests.cluster.waiting import until

WORKERS = 4


def set_policy(release: Release, policy: str) -> None:
    """What becomes of a pod when nobody answers for a second."""
    release.upgrade(SIDECAR, injector_failurePolicy=policy, injector_timeoutSeconds=1)


def refusal(admin: Client) -> Answer:
    """The first refusal of a pod, once the API server has seen what was changed."""
    until(lambda: try_pod(admin).status != 201)
    return try_pod(admin)


def let_in(admin: Client) -> Answer:
    """A pod that was let in without a sidecar, once the API server has seen what was changed."""
    until(lambda: not is_injected(try_pod(admin)))
    return try_pod(admin)


@pytest.fixture
def is_away(release: Release) -> Iterator[None]:
    """A replica that the API server had a connection to, and that is no more."""
    set_policy(release, "Ignore")
    with release.replicas(1) as (replica,):
        release.behind(replica)
        until(lambda: is_injected(try_pod(release.plane.admin)))
    yield
    release.behind()


@pytest.mark.usefixtures("is_away")
def test_with_ignore_pods_go_on_without_a_sidecar_until_it_is_back(admin: Client, release: Release) -> None:
    assert sidecar_of(let_in(admin).body) is None
    with release.replicas(1) as (replica,):
        release.behind(replica)
        until(lambda: is_injected(try_pod(admin)))


@pytest.mark.usefixtures("is_away")
def test_with_fail_pods_are_refused_by_name_until_it_is_back(admin: Client, release: Release) -> None:
    set_policy(release, "Fail")
    answer = refusal(admin)
    assert answer.status == 500
    assert 'failed calling webhook "pods.injector.ai-sidecar"' in answer.message
    assert "ai-sidecar-injector.ai-sidecar.svc" in answer.message
    with release.replicas(1) as (replica,):
        release.behind(replica)
        until(lambda: try_pod(admin).status == 201)
        assert is_injected(try_pod(admin))


@pytest.mark.usefixtures("is_away")
def test_with_fail_nobody_else_is_kept_from_starting(admin: Client, release: Release) -> None:
    """Least of all the injector itself, or it could never come back."""
    set_policy(release, "Fail")
    refusal(admin)
    asks = new_namespace(admin, {"ai-sidecar/injection": "enabled"})
    assert admin.create(pod(asks)).status != 201
    assert not is_injected(admin.create(pod(asks, labels={"ai-sidecar/inject": "false"})))
    assert not is_injected(admin.create(pod(new_namespace(admin, {}))))
    deployment = admin.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{INJECTOR}")
    template = deployment["spec"]["template"]
    own = pod(NAMESPACE, labels=template["metadata"]["labels"])
    answer = admin.create({**own, "spec": template["spec"]})
    assert answer.status == 201, answer.message
    assert answer.warnings == []


# --- others in its place ---


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextlib.contextmanager
def somebody_else() -> Iterator[int]:
    """A webhook with a certificate for the right name, of an authority that nobody trusts."""
    host = f"{INJECTOR}.{NAMESPACE}.svc"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(host).configure_cert(context)
    with serving(context) as port:
        yield port


@contextlib.contextmanager
def without_tls() -> Iterator[int]:
    """An HTTP server."""
    with serving(None) as port:
        yield port


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None) -> Iterator[int]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("is_away")
@pytest.mark.parametrize(
    ("other", "reason"),
    [(silent, "timeout"), (somebody_else, "x509"), (without_tls, "first record does not look like a TLS")],
)
def test_whoever_is_not_the_injector_decides_nothing(
    admin: Client, release: Release, other: Callable[[], contextlib.AbstractContextManager[int]], reason: str
) -> None:
    with other() as port:
        release.plane.network.services[release.address] = [port]
        assert sidecar_of(let_in(admin).body) is None
        set_policy(release, "Fail")
        until(lambda: reason in refusal(admin).message)


# --- replicas come and go ---


class Rollout:
    """Pods that are created without a pause while something happens; `refusals` should stay empty."""

    def __init__(self, admin: Client) -> None:
        self._admin = admin
        self._is_over = threading.Event()
        self.refusals: list[str] = []
        self.count = 0

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Create them while the block runs."""
        threads = [threading.Thread(target=self._create) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def _create(self) -> None:
        while not self._is_over.is_set():
            answer = try_pod(self._admin)
            self.count += 1
            if answer.status != 201 or sidecar_of(answer.body) is None:
                self.refusals.append(answer.message)


def test_no_pod_is_refused_while_all_replicas_are_replaced(admin: Client, release: Release) -> None:
    set_policy(release, "Fail")
    rollout = Rollout(admin)
    with release.replicas(2) as old, release.replicas(2) as new:
        release.behind(*old)
        until(lambda: try_pod(admin).status == 201)
        with rollout.going_on():
            for leaving in range(2):
                release.behind(*old[leaving:], *new[: leaving + 1])
                old[leaving].terminate()
                until(lambda: old[leaving].get("/readyz")[0] == 503)  # noqa: B023
                release.behind(*old[leaving + 1 :], *new[: leaving + 1])
                until(lambda: old[leaving].process.poll() is not None)  # noqa: B023
        assert [one.process.returncode for one in old] == [0, 0]
    assert rollout.refusals == []
    assert rollout.count > 100


def test_pods_with_many_containers_do_not_wait_in_line(admin: Client, release: Release) -> None:
    """Reviews are short: large pods of many callers are all in time for a webhook that has one second."""
    set_policy(release, "Fail")
    large = pod(
        "shop", *(app(f"app-{number}") for number in range(200)), labels={"ai-sidecar/inject": "true"}
    )
    with release.replicas(1) as (replica,):
        release.behind(replica)
        until(lambda: try_pod(admin).status == 201)
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(admin.create(large, dryRun="All")))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [is_injected(answer) for answer in answers] == [True] * 16
