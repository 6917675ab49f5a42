"""When the sidecar has nothing left to make a connection with: how that is known, and what the log says."""

import errno
import logging
import resource
import socket
import ssl
from collections.abc import Iterator

import pytest

from sidecar.log_limit import INTERVAL_S
from sidecar.upstream.shortage import Shortage, lack_of
from tests.support.descriptors import no_descriptor_left

START_S = 1000.0


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the log was told, line by line."""
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")  # type: ignore[method-assign]
    logger = logging.getLogger("sidecar")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EADDRNOTAVAIL])
def test_what_the_system_refuses_us_is_our_own_lack(number: int) -> None:
    assert lack_of(OSError(number, "no")) == number


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        OSError(errno.ENETUNREACH, "no route"),
        OSError(errno.EHOSTUNREACH, "no host"),
        ConnectionResetError("hung up"),
        ssl.SSLError(1, "handshake"),
        EOFError(),
        TimeoutError(),
        socket.gaierror(socket.EAI_NONAME, "no such name"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_other_side_does_is_not(error: Exception) -> None:
    assert lack_of(error) is None


def test_a_look_up_that_fails_for_want_of_descriptors_is_our_own_lack() -> None:
    error = socket.gaierror(socket.EAI_AGAIN, "temporary failure")
    with no_descriptor_left():
        assert lack_of(error) == errno.EMFILE
    assert lack_of(error) is None


def test_the_log_gets_a_line_a_minute_with_the_limit_and_what_was_left_out(said: list[str]) -> None:
    shortage = Shortage()
    for second in range(150):
        for _ in range(10):
            shortage.tell(errno.EMFILE, START_S + second)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert len(said) == 3
    assert all(line.startswith("ERROR connections cannot be made: no file descriptor") for line in said)
    assert f"of {limit}:" in said[0] and "ulimit -n" in said[0]
    assert "not logged before: 599" in said[1]


def test_that_no_descriptor_is_left_is_seen_without_a_dial(said: list[str]) -> None:
    shortage = Shortage()
    shortage.check(START_S)
    assert said == []
    with no_descriptor_left():
        shortage.check(START_S + 1)
        shortage.check(START_S + 2)
    shortage.check(START_S + 1 + INTERVAL_S)
    assert len(said) == 1
