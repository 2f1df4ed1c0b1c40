"""What the client does, without input and output.

A flow is a generator. It yields steps (a call, a pause, or work that may block), and gets the outcome of each. `_client`
runs flows, once with blocking calls and once with asyncio, so that both clients do the same.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar, Union, cast

import httpx

from . import types
from ._errors import AnalysisFailed, ProblemError, WaitTimeout
from ._video import Source, Video

T = TypeVar("T")
Take = Union[str, tuple[str, int]]
"""The token of a result, or the token and the number of a person in it."""

FORM_LIMIT = 8 * 1024 * 1024
"""Larger videos are sent in parts, so that a broken connection costs one part."""

LONGEST_WAIT_S = 30
BATCH_PAUSE_S = 2
"""Seconds until a batch is asked for again, if the service does not say."""
RETRIED = frozenset({429, 502, 503, 504})


class BatchOptions(TypedDict, total=False):
    """Options of all analyses of a batch. The documentation of visage (API.md) describes them."""

    webhook_url: str
    sample_every: int
    samples_per_second: int
    sampling: Literal["exact", "fast"]
    max_faces: int
    priority: Literal["high", "normal", "low"]
    language: Literal["de", "en", "es", "fr"]
    gaze: bool
    speech: bool
    detail: Literal["expressions"]
    notice: Literal["given"]
    notice_version: str


class Options(BatchOptions, total=False):
    """Options of an analysis."""

    email: str | list[str]


class PictureOptions(TypedDict, total=False):
    """Options of pictures. `face_state` is that of the last answer, so that people keep their ids."""

    max_faces: int
    gaze: bool
    detail: Literal["expressions"]
    face_state: str
    notice: Literal["given"]
    notice_version: str


@dataclass
class Call:
    """A request. It may be repeated if its outcome is unknown."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, Any] | None = None
    files: list[tuple[str, tuple[str | None, bytes]]] | None = None
    content: bytes | None = None
    wait_s: float = 0
    """How long the service may wait before it answers, beside the time limit of the client."""
    with_key: bool = True
    """Whether the key is sent. The addresses of a bucket refuse it."""
    erases: bool = False
    """Whether 404 after a broken attempt means that the attempt succeeded."""


@dataclass
class Pause:
    seconds: float


@dataclass
class Work(Generic[T]):
    """Something that may block, such as reading a file."""

    do: Callable[[], T]


Step = Union[Call, Pause, Work[Any]]
Flow = Generator[Step, Any, T]


@dataclass
class Retries:
    """How often and when a call is repeated: after a broken connection, and when the service says that it is busy."""

    attempts: int = 6
    first_pause_s: float = 0.5
    longest_pause_s: float = 60

    def pause(self, attempt: int, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if attempt >= self.attempts or isinstance(outcome, httpx.UnsupportedProtocol):
            return None
        if isinstance(outcome, httpx.Response):
            if outcome.status_code not in RETRIED:
                return None
            asked = outcome.headers.get("retry-after", "")
            if asked.isdigit():
                # A day's quota is not worth waiting for.
                return float(asked) if int(asked) <= self.longest_pause_s else None
        pause = min(self.first_pause_s * 2.0 ** (attempt - 1), self.longest_pause_s)
        return pause * random.uniform(0.5, 1)


def attempt(call: Call, retries: Retries) -> Flow[httpx.Response]:
    """Makes a call until it succeeds, is refused, or no attempts are left."""
    number = 1
    while True:
        outcome: httpx.Response | httpx.TransportError = yield call
        pause = retries.pause(number, outcome)
        if pause is None:
            break
        yield Pause(pause)
        number += 1
    if isinstance(outcome, httpx.TransportError):
        raise outcome
    if call.erases and number > 1 and outcome.status_code == 404:
        return outcome
    if not outcome.is_success:
        raise ProblemError(outcome)
    return outcome


def upload(video: Source, name: str | None, options: Options, retries: Retries,
           progress: Callable[[int, int], None] | None) -> Flow[str]:
    file = Video.of(video)
    name = name or file.name
    size: int = yield Work(file.size)
    if size > FORM_LIMIT:
        notice: dict[str, Any] = {key: options[key] for key in ("notice", "notice_version", "language") if key in options}
        begun = yield from begin_upload(size, notice, retries)
        yield from send_parts(file, begun, retries, progress)
        return (yield from start(begun["upload"], name, options, retries))
    content: bytes = yield Work(lambda: file.read(0, size))
    response = yield from attempt(
        Call(
            "POST", "/analyze-video",
            # With this the service recognises a repeated upload.
            headers={"Idempotency-Key": str(uuid.uuid4())},
            form=_form(options),
            files=[("video", (name, content))],
        ),
        retries,
    )
    if progress is not None:
        progress(size, size)
    return cast(str, response.json()["token"])


def upload_address(address: str, options: Options, retries: Retries) -> Flow[str]:
    # Parts without a file name, because httpx makes another kind of form of fields alone.
    fields: list[tuple[str, tuple[str | None, bytes]]] = [
        (name, (None, str(value).encode())) for name, value in _fields({"video_url": address, **options})
    ]
    response = yield from attempt(
        Call("POST", "/analyze-video", headers={"Idempotency-Key": str(uuid.uuid4())}, files=fields), retries
    )
    return cast(str, response.json()["token"])


def begin_upload(size: int, notice: Mapping[str, Any], retries: Retries) -> Flow[types.Upload]:
    response = yield from attempt(Call("POST", "/v1/uploads", json={"size_bytes": size, **notice}), retries)
    return cast(types.Upload, response.json())


def upload_state(upload: str, retries: Retries) -> Flow[types.Upload]:
    response = yield from attempt(Call("GET", f"/v1/uploads/{upload}"), retries)
    return cast(types.Upload, response.json())


def send_parts(file: Video, upload: types.Upload, retries: Retries,
               progress: Callable[[int, int], None] | None) -> Flow[None]:
    """Sends the parts that the service does not have."""
    total = upload["size_bytes"]
    size: int = yield Work(file.size)
    if size != total:
        raise ValueError(f"{file.name} has {size} bytes, but the upload was begun for {total}")
    sent = sum(part["size_bytes"] for part in upload["parts"] if part["done"])
    for part in upload["parts"]:
        if part["done"]:
            continue
        content: bytes = yield Work(lambda part=part: file.read(part["offset"], part["size_bytes"]))  # type: ignore[misc]
        yield from attempt(Call("PUT", part["url"], content=content, with_key=False), retries)
        sent += part["size_bytes"]
        if progress is not None:
            progress(sent, total)


def start(upload: str, name: str | None, options: Options, retries: Retries) -> Flow[str]:
    body = {"upload": upload, **({"file_name": name} if name else {}), **options}
    response = yield from attempt(Call("POST", "/v1/analyses", json=body), retries)
    return cast(str, response.json()["token"])


def result(token: str, wait_s: int, retries: Retries) -> Flow[types.Result]:
    params = {"wait": wait_s} if wait_s > 0 else {}
    response = yield from attempt(Call("GET", f"/results/{token}", params=params, wait_s=wait_s), retries)
    return cast(types.Result, response.json())


def wait(token: str, timeout: float | None, retries: Retries,
         progress: Callable[[types.Result], None] | None) -> Flow[types.Result]:
    """Waits for the end of an analysis."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = LONGEST_WAIT_S if end is None else max(0.0, end - time.monotonic())
        asked = time.monotonic()
        found = yield from result(token, int(min(LONGEST_WAIT_S, left)), retries)
        if progress is not None:
            progress(found)
        if found["status"] == "done":
            return found
        if found["status"] not in ("queued", "running"):
            raise AnalysisFailed(found)
        if end is not None and time.monotonic() >= end:
            raise WaitTimeout(token)
        # A service may be set to answer sooner than it was asked to.
        if time.monotonic() - asked < 1:
            yield Pause(1 if end is None else min(1.0, max(0.0, end - time.monotonic())))


def timeline_page(token: str, cursor: str | None, retries: Retries) -> Flow[types.TimelinePage]:
    params = {"limit": 5000, **({"cursor": cursor} if cursor else {})}
    response = yield from attempt(Call("GET", f"/results/{token}/timeline", params=params), retries)
    return cast(types.TimelinePage, response.json())


def timeline_csv(token: str, retries: Retries) -> Flow[str]:
    call = Call("GET", f"/results/{token}/timeline", headers={"accept": "text/csv"})
    return (yield from attempt(call, retries)).text


def report(token: str, language: str | None, retries: Retries) -> Flow[str]:
    call = Call("GET", f"/results/{token}/report", params={"language": language} if language else {})
    return (yield from attempt(call, retries)).text


def share(token: str, retries: Retries) -> Flow[types.ShareLink]:
    response = yield from attempt(Call("POST", f"/results/{token}/share"), retries)
    return cast(types.ShareLink, response.json())


def erase(token: str, retries: Retries) -> Flow[None]:
    yield from attempt(Call("DELETE", f"/results/{token}", erases=True), retries)


def analyses_page(filters: Mapping[str, Any], cursor: str | None, retries: Retries) -> Flow[types.Analyses]:
    params = {**filters, **({"cursor": cursor} if cursor else {})}
    response = yield from attempt(Call("GET", "/v1/analyses", params=params), retries)
    return cast(types.Analyses, response.json())


def compare(tokens: Iterable[Take], groups: Mapping[str, Iterable[Take]], person: int | None,
            retries: Retries) -> Flow[types.Comparison]:
    params: dict[str, Any] = {}
    if joined := _takes(tokens):
        params["tokens"] = joined
    if groups:
        params["group"] = [f"{name}:{_takes(takes)}" for name, takes in groups.items()]
    if person is not None:
        params["person"] = person
    response = yield from attempt(Call("GET", "/v1/compare", params=params), retries)
    return cast(types.Comparison, response.json())


def _takes(takes: Iterable[Take]) -> str:
    if isinstance(takes, str):
        raise TypeError(f"expected a list of tokens, not the text {takes!r}")
    return ",".join(take if isinstance(take, str) else f"{take[0]}:{take[1]}" for take in takes)


def start_batch(items: Iterable[str | types.BatchItemRequest], idempotency_key: str | None, options: BatchOptions,
                retries: Retries) -> Flow[types.Batch]:
    if isinstance(items, str):
        raise TypeError(f"expected a list of addresses, not the text {items!r}")
    given = [{"video_url": item} if isinstance(item, str) else item for item in items]
    # With the key the service recognises a repeated request.
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    response = yield from attempt(Call("POST", "/v1/batches", headers=headers, json={"items": given, **options}), retries)
    return cast(types.Batch, response.json())


def batch(batch: str, retries: Retries) -> Flow[types.Batch]:
    response = yield from attempt(Call("GET", f"/v1/batches/{batch}"), retries)
    return cast(types.Batch, response.json())


def wait_batch(batch: str, timeout: float | None, retries: Retries,
               progress: Callable[[types.Batch], None] | None) -> Flow[types.Batch]:
    """Waits for the end of a batch."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        response = yield from attempt(Call("GET", f"/v1/batches/{batch}"), retries)
        found = cast(types.Batch, response.json())
        if progress is not None:
            progress(found)
        if found["status"] != "running":
            return found
        asked = response.headers.get("retry-after", "")
        pause = float(asked) if asked.isdigit() else BATCH_PAUSE_S
        if end is not None:
            left = end - time.monotonic()
            if left <= 0:
                raise WaitTimeout(batch, "batch")
            pause = min(pause, left)
        yield Pause(pause)


def batches_page(cursor: str | None, retries: Retries) -> Flow[types.Batches]:
    response = yield from attempt(Call("GET", "/v1/batches", params={"cursor": cursor} if cursor else {}), retries)
    return cast(types.Batches, response.json())


def cancel_batch(batch: str, erase: bool, retries: Retries) -> Flow[None]:
    params = {"erase": "true"} if erase else {}
    yield from attempt(Call("DELETE", f"/v1/batches/{batch}", params=params, erases=erase), retries)


def pictures(sources: Iterable[Source], options: Mapping[str, Any], retries: Retries) -> Flow[types.Pictures]:
    files: list[tuple[str, tuple[str | None, bytes]]] = []
    for source in sources:
        file = Video.of(source)
        content: bytes = yield Work(lambda file=file: file.read(0, file.size()))  # type: ignore[misc]
        files.append(("picture", (file.name, content)))
    response = yield from attempt(Call("POST", "/v1/pictures", form=_form(options), files=files), retries)
    return cast(types.Pictures, response.json())


def notice(language: str | None, retries: Retries) -> Flow[types.NoticeText]:
    call = Call("GET", "/v1/notice", params={"language": language} if language else {})
    return cast(types.NoticeText, (yield from attempt(call, retries)).json())


def _form(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form. Lists become repeated fields."""
    words = {True: "on", False: "off"}
    return {name: words[value] if isinstance(value, bool) else value for name, value in options.items()}


def _fields(options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The fields of a form, one for each value."""
    values = ((name, value if isinstance(value, list) else [value]) for name, value in _form(options).items())
    return [(name, one) for name, several in values for one in several]
