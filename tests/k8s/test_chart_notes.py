"""What the chart says after an install, and what `helm test` asks."""

import argparse
import http.server
import re
import runpy
import shlex
import threading
import time
from collections.abc import Iterator

import pytest

from sidecar.commands import break_glass
from tests.k8s.support_helm import CHART, Object, example, notes, one, render

ASK = CHART / "files" / "ask.py"


def test_notes_name_the_objects_that_were_made() -> None:
    text = notes(example("sidecar"))
    assert "written by this release to shop, search" in text
    assert "create secret generic ai-sidecar-key" in text
    assert "until then pods start without a sidecar" in text


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_notes_have_a_command_that_the_sidecar_takes(mode: str) -> None:
    (line,) = (line for line in notes(example(mode)).splitlines() if " -- sidecar " in line)
    before, _, command = line.partition(" -- sidecar ")
    assert "exec POD -c ai-sidecar" in before
    parser = argparse.ArgumentParser()
    break_glass.add_parser(parser.add_subparsers())
    options = parser.parse_args(shlex.split(command))
    assert (options.period, options.reason) == ("30m", "region lost")


def test_notes_warn_where_pods_depend_on_the_injector() -> None:
    text = notes({**example("sidecar"), "injector": {"failurePolicy": "Fail"}})
    assert "while no injector answers, no pod starts" in text
    assert "until then pods do not start" in text


def test_notes_of_a_gateway_say_where_it_is() -> None:
    values = example("gateway")
    assert "OPENAI_BASE_URL=http://ai-sidecar.ai-sidecar.svc/v1\n" in notes(values)
    values["gateway"]["service"] = {"port": 8080}
    assert "OPENAI_BASE_URL=http://ai-sidecar.ai-sidecar.svc:8080/v1\n" in notes(values)
    assert "so only pods of ai-sidecar may call it" in notes({**values, "namespaces": []})


# --- helm test ---


def arguments(values: Object) -> list[str]:
    """What the test pod asks, and what it expects."""
    pod = one(render(values), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    script, *found = container["args"]
    assert script.strip() == ASK.read_text().strip()
    return [pod["metadata"]["namespace"], *found]


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        (example("sidecar"), ["shop", "http://${POD_IP}:9902/readyz", "200"]),
        (
            {**example("sidecar"), "namespaces": []},
            ["ai-sidecar", "https://ai-sidecar-injector.ai-sidecar.svc/inject", "405"],
        ),
        (
            {**example("sidecar"), "sidecar": {"mode": "classic"}},
            ["ai-sidecar", "https://ai-sidecar-injector.ai-sidecar.svc/inject", "405"],
        ),
        (example("gateway"), ["ai-sidecar", "http://ai-sidecar.ai-sidecar.svc:80/v1/models", "401"]),
    ],
    ids=["injected", "injector alone", "classic, beside which a pod never ends", "gateway"],
)
def test_test_pod_asks_what_there_is(values: Object, asked: list[str]) -> None:
    assert arguments(values) == asked


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """The URL of a server, and the statuses that it still answers with, the last one for ever."""
    statuses: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://${{ASKED_HOST}}:{serving.server_port}/readyz", statuses
        serving.shutdown()
        thread.join()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setenv("ASKED_HOST", "127.0.0.1")
    return now


def ask(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["ask.py", *arguments])
    runpy.run_path(str(ASK), run_name="__main__")


def test_asking_goes_on_until_the_answer_is_the_expected_one(
    server: tuple[str, list[int]], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, statuses = server
    statuses += [503, 503, 401]
    ask(monkeypatch, url, "401")
    assert clock[0] == 2


def test_asking_gives_up_after_a_minute_and_says_what_it_found(
    server: tuple[str, list[int]], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, statuses = server
    statuses += [503]
    with pytest.raises(SystemExit, match=r"/readyz: expected 200, found 503"):
        ask(monkeypatch, url, "200")
    with pytest.raises(SystemExit, match=re.escape("127.0.0.1:1/readyz: expected 200, found [Errno 111]")):
        ask(monkeypatch, "http://127.0.0.1:1/readyz", "200")
    assert clock[0] > 120
