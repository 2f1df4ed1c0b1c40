"""Live sessions: pictures are sent while they are taken, and each has an answer."""

from __future__ import annotations

import json
import struct
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import httpx
from typing_extensions import Self, TypedDict

from . import types
from ._errors import ProblemError, SessionEnded

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_PICTURE, _SOUND = 1, 2


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


def connect(address: str, headers: dict[str, str], timeout: float) -> ClientConnection:
    try:
        from websockets.exceptions import InvalidStatus
        from websockets.sync.client import connect
    except ImportError as error:
        raise ImportError("live needs websockets: pip install 'visage-client[live]'") from error
    try:
        return connect(address, additional_headers=headers, open_timeout=timeout, max_size=None)
    except InvalidStatus as error:
        answer = error.response
        raise ProblemError(httpx.Response(
            answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body or b""),
        )) from error


class LiveSession:
    """A live session. `Client.live` opens it. At the end of a `with` block it is finished."""

    def __init__(self, connection: ClientConnection, options: LiveOptions, timeout: float) -> None:
        self._connection, self._timeout, self._sent = connection, timeout, 0
        self._answers: dict[int, Any] = {}
        self.refused: list[ProblemError] = []
        """Errors of messages that have no answer, such as sound."""
        self.finished: types.LiveAnswerFinished | None = None
        """The last answer."""
        self.configured: types.LiveAnswerConfigured | None = None
        """The first answer: token, links, models and limits."""
        self._tell({"type": "configure", **options})
        first = self._next()
        if first["type"] == "error":
            connection.close()
            raise _problem(first)
        self.configured = first

    @property
    def token(self) -> str | None:
        """The token of the result."""
        return self.configured["token"] if self.configured else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None and self.finished is None:
            self.finish()
        self._connection.close()

    def picture(self, file: bytes, time_s: float | None = None) -> types.LiveAnswerFaces | types.LiveAnswerSkipped:
        """Sends a JPEG, PNG or WebP file with the time at which it was taken, by any clock. Waits for its answer."""
        return self.answer(self.send_picture(file, time_s))

    def send_picture(self, file: bytes, time_s: float | None = None) -> int:
        """Sends a picture without waiting. Returns its number, for `answer`."""
        self._send(struct.pack(">Bd", _PICTURE, time.monotonic() if time_s is None else time_s) + file)
        self._sent += 1
        return self._sent

    def answer(self, picture: int) -> types.LiveAnswerFaces | types.LiveAnswerSkipped:
        """Waits for the answer of a picture. Raises `ProblemError` if it was refused."""
        while picture not in self._answers:
            self._keep(self._next())
        answer = self._answers.pop(picture)
        if answer["type"] == "error":
            raise _problem(answer)
        return answer  # type: ignore[no-any-return]

    def sound(self, samples: bytes, time_s: float) -> None:
        """Sends sound: mono, 16,000 samples a second, 16-bit integers, low byte first. It has no answer."""
        self._send(struct.pack(">Bd", _SOUND, time_s) + samples)

    def finish(self) -> types.LiveAnswerFinished:
        """Ends the session, and waits until its result is stored."""
        if self.finished is None:
            self._tell({"type": "finish"})
        while self.finished is None:
            self._keep(self._next())
        return self.finished

    def _keep(self, answer: Any) -> None:
        if answer["type"] == "finished":
            self.finished = answer
        elif answer["picture"] is None:
            self.refused.append(_problem(answer))
        else:
            self._answers[answer["picture"]] = answer

    def _tell(self, command: dict[str, Any]) -> None:
        self._send(json.dumps(command))

    def _send(self, message: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._connection.send(message)
        except ConnectionClosed as error:
            raise SessionEnded(self.token) from error

    def _next(self) -> Any:
        from websockets.exceptions import ConnectionClosed

        try:
            return json.loads(self._connection.recv(self._timeout))
        except ConnectionClosed as error:
            raise SessionEnded(self.token) from error


def _problem(answer: Any) -> ProblemError:
    problem = answer["problem"]
    return ProblemError(httpx.Response(problem["status"], json=problem))
