"""What goes wrong at a simulated provider before its answer begins, and how connections are broken.

Faults inside a stream belong to `stream`. Everything random is drawn from the provider's seeded generator.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus
from random import Random

import orjson
from aiohttp import web

from .received import Received
from .scenario import Scenario
from .wire import Dialect, error_object

# l_onoff=1, l_linger=0: close() then sends RST and drops what was not yet sent.
_NO_LINGER = struct.pack("ii", 1, 0)
_HEALTHY = Scenario()


async def never() -> None:
    """Wait until the client leaves or the provider stops."""
    await asyncio.get_running_loop().create_future()


def reset_connection(request: web.Request) -> None:
    """Break the connection with a TCP RST."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def close_connection(request: web.Request) -> None:
    """End the connection with a FIN, whatever the framing still promises."""
    if request.transport is not None:
        request.transport.close()


def broken(scenario: Scenario) -> Scenario:
    """The faults that the next request meets: the live ones, or none once `break_next` is used up."""
    if scenario.break_next is None:
        return scenario
    if scenario.break_next == 0:
        return _HEALTHY
    scenario.break_next -= 1
    return scenario


async def before_answer(
    request: web.Request, received: Received, faults: Scenario, content_type: str
) -> web.StreamResponse | None:
    """Act on the faults that come before any content; None when there are none.

    After a reset the response returned is never sent: there is no connection left to send it on.
    """
    if faults.hang == "accept":
        await never()
    if faults.reset == "accept":
        reset_connection(request)
        return web.Response()
    if faults.hang == "headers" or faults.reset == "head":
        response = web.StreamResponse(headers={"content-type": content_type})
        await response.prepare(request)
        if faults.hang == "headers":
            await never()
        reset_connection(request)
        return response
    if received.method == "POST" and faults.html_200:
        return _html(200)
    if received.method == "POST" and faults.empty_200:
        return web.Response(headers={"content-type": content_type})
    return None


def should_fail(received: Received, scenario: Scenario, draw: Random) -> bool:
    """Whether this request gets an error instead of an answer; counts `fail_next` down."""
    if received.method == "GET" and not scenario.errors_on_get:
        return False
    if scenario.error_models and received.model() not in scenario.error_models:
        return False
    if scenario.error_keys and received.api_key not in scenario.error_keys:
        return False
    if scenario.fail_next:
        scenario.fail_next -= 1
        return True
    return scenario.error_ratio > 0 and draw.random() < scenario.error_ratio


def error_response(scenario: Scenario, dialect: Dialect) -> web.Response:
    """The error the scenario describes, in the dialect's words or as HTML."""
    status = scenario.error_status
    if scenario.error_html:
        response = _html(status)
    else:
        error = error_object(
            status, scenario.error_message, code=scenario.error_code, type_=scenario.error_type
        )
        response = json_response(dialect.error(status, error), status)
    if scenario.retry_after is not None:
        response.headers["retry-after"] = scenario.retry_after
    return response


def json_response(payload: object, status: int = 200) -> web.Response:
    """A JSON answer in one piece."""
    return web.Response(
        status=status, body=orjson.dumps(payload), headers={"content-type": "application/json"}
    )


def _html(status: int) -> web.Response:
    try:
        title = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:  # 529 and others that no RFC names
        title = str(status)
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    return web.Response(
        status=status,
        body=f"{page}<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n".encode(),
        headers={"content-type": "text/html"},
    )
