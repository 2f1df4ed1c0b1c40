"""Live sessions: pictures are sent while they are taken, and each has an answer.

`_Session` has the messages and the answers, without input and output. `LiveSession` sends and receives them with blocking
calls, and `AsyncLiveSession` with asyncio.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Union

import httpx
from typing_extensions import Self, TypedDict

from . import types
from ._errors import ProblemError, SessionEnded

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection as AsyncConnection
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import ClientConnection

_PICTURE, _SOUND = 1, 2

Answer = Union[types.LiveAnswerFaces, types.LiveAnswerSkipped]


class LiveOptions(TypedDict, total=False):
    """Options of a live session. The documentation of visage (API.md) describes them."""

    max_faces: int
    gaze: bool
    detail: Literal["expressions"]
    speech: bool
    language: Literal["de", "en", "es", "fr"]
    name: str
    email: str
    webhook_url: str
    notice: Literal["given"]
    notice_version: str


class _Session:
    """The messages of a live session and their answers, without input and output."""

    def __init__(self) -> None:
        self._sent = 0
        self._answers: dict[int, Any] = {}
        self.refused: list[ProblemError] = []
        """Errors of messages that have no answer, such as sound."""
        self.finished: types.LiveAnswerFinished | None = None
        """The last answer."""
        self.configured: types.LiveAnswerConfigured | None = None
        """The first answer: token, links, models and limits."""

    @property
    def token(self) -> str | None:
        """The token of the result."""
        return self.configured["token"] if self.configured else None

    def _configure(self, options: LiveOptions) -> str:
        return json.dumps({"type": "configure", **options})

    def _finish(self) -> str:
        return json.dumps({"type": "finish"})

    def _picture(self, file: bytes, time_s: float | None) -> tuple[int, bytes]:
        """The number of the next picture, and its message."""
        self._sent += 1
        return self._sent, struct.pack(">Bd", _PICTURE, time.monotonic() if time_s is None else time_s) + file

    def _sound(self, samples: bytes, time_s: float) -> bytes:
        return struct.pack(">Bd", _SOUND, time_s) + samples

    def _begin(self, message: str | bytes) -> None:
        """Keeps the first answer. Raises `ProblemError` if the session was refused."""
        answer = json.loads(message)
        if answer["type"] == "error":
            raise _problem(answer)
        self.configured = answer

    def _keep(self, message: str | bytes) -> None:
        """Keeps an answer until it is asked for."""
        answer = json.loads(message)
        if answer["type"] == "finished":
            self.finished = answer
        elif answer["picture"] is None:
            self.refused.append(_problem(answer))
        else:
            self._answers[answer["picture"]] = answer

    def _take(self, picture: int) -> Answer | None:
        """The answer of a picture, if it has come. Raises `ProblemError` if the picture was refused."""
        answer = self._answers.pop(picture, None)
        if answer is not None and answer["type"] == "error":
            raise _problem(answer)
        return answer  # type: ignore[no-any-return]


class LiveSession(_Session):
    """A live session. `Client.live` opens it. At the end of a `with` block it is finished."""

    def __init__(self, connection: ClientConnection, options: LiveOptions, timeout: float) -> None:
        super().__init__()
        self._connection, self._timeout = connection, timeout
        try:
            self._send(self._configure(options))
            self._begin(self._next())
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None and self.finished is None:
                self.finish()
        finally:
            self._connection.close()

    def picture(self, file: bytes, time_s: float | None = None) -> Answer:
        """Sends a JPEG, PNG or WebP file with the time at which it was taken, by any clock. Waits for its answer."""
        return self.answer(self.send_picture(file, time_s))

    def send_picture(self, file: bytes, time_s: float | None = None) -> int:
        """Sends a picture without waiting. Returns its number, for `answer`."""
        number, message = self._picture(file, time_s)
        self._send(message)
        return number

    def answer(self, picture: int) -> Answer:
        """Waits for the answer of a picture. Raises `ProblemError` if it was refused."""
        while (answer := self._take(picture)) is None:
            self._keep(self._next())
        return answer

    def sound(self, samples: bytes, time_s: float) -> None:
        """Sends sound: mono, 16,000 samples a second, 16-bit integers, low byte first. It has no answer."""
        self._send(self._sound(samples, time_s))

    def finish(self) -> types.LiveAnswerFinished:
        """Ends the session, and waits until its result is stored."""
        if self.finished is None:
            self._send(self._finish())
        while self.finished is None:
            self._keep(self._next())
        return self.finished

    def _send(self, message: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._connection.send(message)
        except ConnectionClosed as error:
            raise SessionEnded(self.token) from error

    def _next(self) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            return self._connection.recv(self._timeout)
        except ConnectionClosed as error:
            raise SessionEnded(self.token) from error


class AsyncLiveSession(_Session):
    """A live session for asyncio. At the end of an `async with` block it is finished.

    Its methods are those of `LiveSession`. Several tasks may send pictures and wait for answers at once.
    """

    def __init__(self, address: str, headers: Mapping[str, str], options: LiveOptions, timeout: float) -> None:
        super().__init__()
        self._address, self._headers, self._options, self._timeout = address, headers, options, timeout
        self._connection: AsyncConnection | None = None
        self._sending, self._receiving = asyncio.Lock(), asyncio.Lock()
        self._received = 0

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        assert self._connection is not None
        try:
            if error is None and self.finished is None:
                await self.finish()
        finally:
            await self._connection.close()

    async def _open(self) -> Self:
        if self._connection is not None:
            return self
        self._connection = await connect_async(self._address, self._headers, self._timeout)
        try:
            async with self._sending:
                await self._send(self._configure(self._options))
            self._begin(await self._next())
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def picture(self, file: bytes, time_s: float | None = None) -> Answer:
        """Sends a JPEG, PNG or WebP file with the time at which it was taken, by any clock. Waits for its answer."""
        return await self.answer(await self.send_picture(file, time_s))

    async def send_picture(self, file: bytes, time_s: float | None = None) -> int:
        """Sends a picture without waiting. Returns its number, for `answer`."""
        async with self._sending:
            number, message = self._picture(file, time_s)
            await self._send(message)
        return number

    async def answer(self, picture: int) -> Answer:
        """Waits for the answer of a picture. Raises `ProblemError` if it was refused."""
        while (answer := self._take(picture)) is None:
            await self._receive()
        return answer

    async def sound(self, samples: bytes, time_s: float) -> None:
        """Sends sound: mono, 16,000 samples a second, 16-bit integers, low byte first. It has no answer."""
        async with self._sending:
            await self._send(self._sound(samples, time_s))

    async def finish(self) -> types.LiveAnswerFinished:
        """Ends the session, and waits until its result is stored."""
        if self.finished is None:
            async with self._sending:
                await self._send(self._finish())
        while self.finished is None:
            await self._receive()
        return self.finished

    async def _receive(self) -> None:
        """Waits until an answer has come, to this task or to another one."""
        received = self._received
        async with self._receiving:
            if self._received == received:
                self._keep(await self._next())
                self._received += 1

    async def _send(self, message: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        if self._connection is None:
            raise RuntimeError("open the session with `async with` or `await` first")
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise SessionEnded(self.token) from error

    async def _next(self) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        assert self._connection is not None
        try:
            return await asyncio.wait_for(self._connection.recv(), self._timeout)
        except ConnectionClosed as error:
            raise SessionEnded(self.token) from error
        except asyncio.TimeoutError as error:
            # Another class than the built-in one before Python 3.11.
            raise TimeoutError(f"no answer within {self._timeout} seconds") from error


def connect(address: str, headers: Mapping[str, str], timeout: float) -> ClientConnection:
    try:
        from websockets.exceptions import InvalidStatus
        from websockets.sync.client import connect
    except ImportError as error:
        raise ImportError(_MISSING) from error
    try:
        return connect(address, additional_headers=headers, open_timeout=timeout, max_size=None)
    except InvalidStatus as error:
        raise _refused(error) from error


async def connect_async(address: str, headers: Mapping[str, str], timeout: float) -> AsyncConnection:
    try:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus
    except ImportError as error:
        raise ImportError(_MISSING) from error
    try:
        return await connect(address, additional_headers=headers, open_timeout=timeout, max_size=None)
    except InvalidStatus as error:
        raise _refused(error) from error


_MISSING = "live needs websockets: pip install 'visage-client[live]'"


def _refused(error: InvalidStatus) -> ProblemError:
    """The error of a handshake that the service refused."""
    answer = error.response
    return ProblemError(httpx.Response(
        answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body or b""),
    ))


def _problem(answer: Any) -> ProblemError:
    problem = answer["problem"]
    return ProblemError(httpx.Response(problem["status"], json=problem))
