"""The caller's side of an upload: its body in pieces as they come, and why, where it does not come whole.

aiohttp waits for a body for as long as the connection lives; and where its framing is broken, it notes that
down for whoever reads the next request, while the one at hand waits on. Here both end the upload, with what
the fast path answers. Only the time that is spent waiting for the caller counts, not the provider's.
"""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import StreamReader, web

from sidecar.clock import NEVER, Ticker
from sidecar.downstream.connection import REQUEST_S, STEP_BYTES
from sidecar.errors import bad_request, refuse
from sidecar.exchange import Reply


class BrokenUpload(Exception):
    """The rest of the body will not come; `Upload.fault` says why."""


class Upload:
    """A request's body on its way. `fault` answers a caller that sends it too slowly, or malformed."""

    def __init__(self, content: StreamReader, ticker: Ticker) -> None:
        self.fault: Reply | None = None
        self.has_begun = False
        self.is_whole = False
        self.is_awaited = False  # it is the caller's turn: nothing of it is held here
        self.deadline_s = NEVER
        self._content = content
        self._ticker = ticker
        self._task: asyncio.Task[None] | None = None  # that reads it

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body. Raises BrokenUpload."""
        self._task = asyncio.current_task()
        self.has_begun = True
        left_s, step_bytes = REQUEST_S, 0
        while True:
            self.deadline_s = self._ticker.now_s + left_s
            piece = await self._next()
            if not piece:
                self.is_whole = True
                return
            left_s = self.deadline_s - self._ticker.now_s
            step_bytes += len(piece)
            if step_bytes >= STEP_BYTES:
                left_s, step_bytes = REQUEST_S, 0
            yield piece

    async def _next(self) -> bytes:
        if self.fault is not None:
            raise BrokenUpload
        self.is_awaited = True
        self._ticker.arm(self)
        try:
            piece = await self._content.readany()
        except asyncio.CancelledError:
            if self.fault is None:
                raise
            raise BrokenUpload from None
        finally:
            self._ticker.disarm(self)
        self.is_awaited = False
        return piece

    def fail(self, fault: Reply) -> None:
        """End it; harmless once it is whole."""
        if self.fault is None and not self._content.is_eof():
            self.fault = fault
            if self.is_awaited and self._task is not None:
                self._task.cancel()

    def on_deadline(self) -> None:
        """The ticker's call: the caller is too slow."""
        self.deadline_s = NEVER
        self.fail(TOO_SLOW)


class LaneConnection(web.RequestHandler):
    """aiohttp's connection, with one request on it."""

    _upload: Upload | None = None

    def take(self, data: bytes) -> None:
        """The bytes read so far: a whole head, and what is behind it."""
        end = data.index(b"\r\n\r\n") + 4
        self.data_received(data[:end])  # alone: what is wrong behind it would have all of it thrown away
        if len(data) > end:
            self.data_received(data[end:])

    def watch(self, upload: Upload) -> None:
        """Have the body of the request at hand fail if it turns out malformed, or has."""
        self._upload = upload
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._upload is not None:
            self._look()

    def _look(self) -> None:
        # What comes behind a request whose body is not whole is aiohttp's note that it is broken.
        if self._request_count > 1 and self._upload is not None:
            self._upload.fail(_MALFORMED)


TOO_SLOW = refuse(
    408,
    "request_timeout",
    f"The upload stopped coming, or came slower than {STEP_BYTES // 1024} KiB in {REQUEST_S:g} s.",
    flag="SI",
    close=True,
)
_MALFORMED = bad_request("The body of the request is not valid HTTP/1.1 chunks.", close=True)
