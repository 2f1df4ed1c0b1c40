"""The clients: one with blocking calls, one with asyncio."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx
from typing_extensions import Self, Unpack

from . import _flows as flows
from . import types
from ._flows import BatchOptions, Call, Flow, Options, Pause, Retries, Step, Take
from ._live import AsyncLiveSession, LiveOptions, LiveSession, connect
from ._video import Source, Video

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")
Status = Literal["queued", "running", "done", "failed", "cancelled"]
Sent = Callable[[int, int], None]


def _headers(key: str | None) -> dict[str, str]:
    return {"x-api-key": key} if key else {}


def _request(http: httpx.Client | httpx.AsyncClient, base: str, key: str | None, timeout: float, call: Call) -> httpx.Request:
    address = call.path if "://" in call.path else base + call.path
    headers = {**(_headers(key) if call.with_key else {}), **call.headers}
    limits = httpx.Timeout(timeout, read=timeout + call.wait_s)
    return http.build_request(
        call.method, address, headers=headers, params=call.params or None, json=call.json, data=call.form,
        files=call.files, content=call.content, timeout=limits,
    )


def _live_address(base: str) -> str:
    return base.replace("http", "ws", 1) + "/v1/live"


def _frame(table: str) -> pandas.DataFrame:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("timeline_frame needs pandas: pip install 'visage-client[pandas]'") from error
    return pandas.read_csv(io.StringIO(table))


class Client:
    """A client with blocking calls.

    `base` is the address of the service, `key` an API key. `timeout` is the limit in seconds for each step of a call:
    to connect, to send and to receive. `transport` is that of httpx.
    """

    def __init__(
        self, base: str = "http://127.0.0.1:8000", key: str | None = None, *, timeout: float = 60,
        retries: Retries | None = None, transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._base, self._key, self._timeout = base.rstrip("/"), key, timeout
        self._retries = retries or Retries()
        self._http = httpx.Client(transport=transport, follow_redirects=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Call):
            try:
                return self._http.send(_request(self._http, self._base, self._key, self._timeout, step))
            except httpx.TransportError as error:
                return error
        return step.do()

    def _run(self, flow: Flow[T]) -> T:
        outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            outcome = self._do(step)

    def upload(self, video: Source, *, name: str | None = None, progress: Sent | None = None,
               **options: Unpack[Options]) -> str:
        """Sends a video and returns the token of its analysis. `progress` gets the bytes sent and the size."""
        return self._run(flows.upload(video, name, options, self._retries, progress))

    def upload_address(self, address: str, **options: Unpack[Options]) -> str:
        """Has the service fetch a video (`https://...`, or `s3://BUCKET/KEY`), and returns the token of its analysis."""
        return self._run(flows.upload_address(address, options, self._retries))

    def analyze(self, video: Source, *, name: str | None = None, timeout: float | None = None,
                **options: Unpack[Options]) -> types.Result:
        """Sends a video and waits for its result."""
        return self.wait(self.upload(video, name=name, **options), timeout=timeout)

    def begin_upload(self, size_bytes: int, *, notice: Literal["given"] | None = None,
                     notice_version: str | None = None) -> types.Upload:
        """Begins an upload in parts. Keep `upload` of the answer to resume it later, also in another process."""
        given = {name: value for name, value in (("notice", notice), ("notice_version", notice_version)) if value}
        return self._run(flows.begin_upload(size_bytes, given, self._retries))

    def send_parts(self, video: Source, upload: str, *, progress: Sent | None = None) -> None:
        """Sends the parts of an upload that the service does not have."""
        state = self._run(flows.upload_state(upload, self._retries))
        self._run(flows.send_parts(Video.of(video), state, self._retries, progress))

    def start(self, upload: str, *, name: str | None = None, **options: Unpack[Options]) -> str:
        """Starts the analysis of an upload and returns its token. Repeated, it returns the same token."""
        return self._run(flows.start(upload, name, options, self._retries))

    def wait(self, token: str, *, timeout: float | None = None,
             progress: Callable[[types.Result], None] | None = None) -> types.Result:
        """Waits for the end of an analysis. Raises `AnalysisFailed` or, after `timeout` seconds, `WaitTimeout`."""
        return self._run(flows.wait(token, timeout, self._retries, progress))

    def result(self, token: str) -> types.Result:
        """The state of an analysis, and its result if it is done."""
        return self._run(flows.result(token, 0, self._retries))

    def timeline(self, token: str) -> Iterator[types.TimelineRow]:
        """The rows of the timeline: one for each face in each sample."""
        cursor = None
        while True:
            page = self._run(flows.timeline_page(token, cursor, self._retries))
            yield from page["rows"]
            cursor = page["next"]
            if cursor is None:
                return

    def timeline_csv(self, token: str) -> str:
        """The timeline as a table (CSV)."""
        return self._run(flows.timeline_csv(token, self._retries))

    def timeline_frame(self, token: str) -> pandas.DataFrame:
        """The timeline as a data frame. Needs pandas (`pip install 'visage-client[pandas]'`)."""
        return _frame(self.timeline_csv(token))

    def report(self, token: str, language: str | None = None) -> str:
        """The report as an HTML page."""
        return self._run(flows.report(token, language, self._retries))

    def share(self, token: str) -> types.ShareLink:
        """Makes a link for readers without a key."""
        return self._run(flows.share(token, self._retries))

    def erase(self, token: str) -> None:
        """Erases an analysis, its result and its video. Cancels it if it has not ended."""
        self._run(flows.erase(token, self._retries))

    def analyses(self, *, status: Status | None = None, created_from: str | None = None,
                 created_before: str | None = None) -> Iterator[types.Listed]:
        """The analyses of this key, the newest first. Times are those of RFC 3339."""
        given = {"status": status, "created_from": created_from, "created_before": created_before}
        filters, cursor = {name: value for name, value in given.items() if value}, None
        while True:
            page = self._run(flows.analyses_page(filters, cursor, self._retries))
            yield from page["analyses"]
            cursor = page["next"]
            if cursor is None:
                return

    def compare(self, tokens: Iterable[Take] = (), *, groups: Mapping[str, Iterable[Take]] | None = None,
                person: int | None = None) -> types.Comparison:
        """Compares one person in several results with the first of them, and marks differences beyond chance.

        `groups` has lists of results by name, of which the means are compared. In both, a result is its token, or
        `(token, person)`. `person` is the number of the person in results without one; by default it is the person who
        was seen in most samples.
        """
        return self._run(flows.compare(tokens, groups or {}, person, self._retries))

    def start_batch(self, items: Iterable[str | types.BatchItemRequest], *, idempotency_key: str | None = None,
                    **options: Unpack[BatchOptions]) -> types.Batch:
        """Starts the analyses of videos at addresses (`https://...`, `s3://BUCKET/KEY`).

        An item is an address, or `{"video_url": address, "file_name": name}`. A refused item does not stop the others:
        its `status` is `refused`. Repeated with the same `idempotency_key`, it returns the same batch.
        """
        return self._run(flows.start_batch(items, idempotency_key, options, self._retries))

    def batch(self, batch: str) -> types.Batch:
        """The state of a batch (by its `id`) and of its items."""
        return self._run(flows.batch(batch, self._retries))

    def wait_batch(self, batch: str, *, timeout: float | None = None,
                   progress: Callable[[types.Batch], None] | None = None) -> types.Batch:
        """Waits for the end of a batch. Raises `WaitTimeout` after `timeout` seconds.

        A failed item raises no error: `status` and `error` of each item of the answer tell how it ended.
        """
        return self._run(flows.wait_batch(batch, timeout, self._retries, progress))

    def batches(self) -> Iterator[types.ListedBatch]:
        """The batches of this key, the newest first."""
        cursor = None
        while True:
            page = self._run(flows.batches_page(cursor, self._retries))
            yield from page["batches"]
            cursor = page["next"]
            if cursor is None:
                return

    def cancel_batch(self, batch: str, *, erase: bool = False) -> None:
        """Erases the analyses of a batch that have not ended. With `erase`, erases all of them and the batch."""
        self._run(flows.cancel_batch(batch, erase, self._retries))

    def pictures(self, pictures: Iterable[Source], **options: Unpack[flows.PictureOptions]) -> types.Pictures:
        """Reads the faces of pictures (JPEG, PNG, WebP)."""
        return self._run(flows.pictures(pictures, options, self._retries))

    def notice(self, language: str | None = None) -> types.NoticeText:
        """The text that people get before their faces and voices are analyzed."""
        return self._run(flows.notice(language, self._retries))

    def live(self, **options: Unpack[LiveOptions]) -> LiveSession:
        """Opens a live session. Needs websockets (`pip install 'visage-client[live]'`)."""
        return LiveSession(connect(_live_address(self._base), _headers(self._key), self._timeout), options, self._timeout)


class AsyncClient:
    """The same as `Client`, for asyncio. Files are read in threads."""

    def __init__(
        self, base: str = "http://127.0.0.1:8000", key: str | None = None, *, timeout: float = 60,
        retries: Retries | None = None, transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base, self._key, self._timeout = base.rstrip("/"), key, timeout
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(transport=transport, follow_redirects=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Call):
            try:
                return await self._http.send(_request(self._http, self._base, self._key, self._timeout, step))
            except httpx.TransportError as error:
                return error
        return await asyncio.to_thread(step.do)

    async def _run(self, flow: Flow[T]) -> T:
        outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            outcome = await self._do(step)

    async def upload(self, video: Source, *, name: str | None = None, progress: Sent | None = None,
                     **options: Unpack[Options]) -> str:
        """Sends a video and returns the token of its analysis. `progress` gets the bytes sent and the size."""
        return await self._run(flows.upload(video, name, options, self._retries, progress))

    async def upload_address(self, address: str, **options: Unpack[Options]) -> str:
        """Has the service fetch a video (`https://...`, or `s3://BUCKET/KEY`), and returns the token of its analysis."""
        return await self._run(flows.upload_address(address, options, self._retries))

    async def analyze(self, video: Source, *, name: str | None = None, timeout: float | None = None,
                      **options: Unpack[Options]) -> types.Result:
        """Sends a video and waits for its result."""
        return await self.wait(await self.upload(video, name=name, **options), timeout=timeout)

    async def begin_upload(self, size_bytes: int, *, notice: Literal["given"] | None = None,
                           notice_version: str | None = None) -> types.Upload:
        """Begins an upload in parts. Keep `upload` of the answer to resume it later, also in another process."""
        given = {name: value for name, value in (("notice", notice), ("notice_version", notice_version)) if value}
        return await self._run(flows.begin_upload(size_bytes, given, self._retries))

    async def send_parts(self, video: Source, upload: str, *, progress: Sent | None = None) -> None:
        """Sends the parts of an upload that the service does not have."""
        state = await self._run(flows.upload_state(upload, self._retries))
        await self._run(flows.send_parts(Video.of(video), state, self._retries, progress))

    async def start(self, upload: str, *, name: str | None = None, **options: Unpack[Options]) -> str:
        """Starts the analysis of an upload and returns its token. Repeated, it returns the same token."""
        return await self._run(flows.start(upload, name, options, self._retries))

    async def wait(self, token: str, *, timeout: float | None = None,
                   progress: Callable[[types.Result], None] | None = None) -> types.Result:
        """Waits for the end of an analysis. Raises `AnalysisFailed` or, after `timeout` seconds, `WaitTimeout`."""
        return await self._run(flows.wait(token, timeout, self._retries, progress))

    async def result(self, token: str) -> types.Result:
        """The state of an analysis, and its result if it is done."""
        return await self._run(flows.result(token, 0, self._retries))

    async def timeline(self, token: str) -> AsyncIterator[types.TimelineRow]:
        """The rows of the timeline: one for each face in each sample."""
        cursor = None
        while True:
            page = await self._run(flows.timeline_page(token, cursor, self._retries))
            for row in page["rows"]:
                yield row
            cursor = page["next"]
            if cursor is None:
                return

    async def timeline_csv(self, token: str) -> str:
        """The timeline as a table (CSV)."""
        return await self._run(flows.timeline_csv(token, self._retries))

    async def timeline_frame(self, token: str) -> pandas.DataFrame:
        """The timeline as a data frame. Needs pandas (`pip install 'visage-client[pandas]'`)."""
        return _frame(await self.timeline_csv(token))

    async def report(self, token: str, language: str | None = None) -> str:
        """The report as an HTML page."""
        return await self._run(flows.report(token, language, self._retries))

    async def share(self, token: str) -> types.ShareLink:
        """Makes a link for readers without a key."""
        return await self._run(flows.share(token, self._retries))

    async def erase(self, token: str) -> None:
        """Erases an analysis, its result and its video. Cancels it if it has not ended."""
        await self._run(flows.erase(token, self._retries))

    async def analyses(self, *, status: Status | None = None, created_from: str | None = None,
                       created_before: str | None = None) -> AsyncIterator[types.Listed]:
        """The analyses of this key, the newest first. Times are those of RFC 3339."""
        given = {"status": status, "created_from": created_from, "created_before": created_before}
        filters, cursor = {name: value for name, value in given.items() if value}, None
        while True:
            page = await self._run(flows.analyses_page(filters, cursor, self._retries))
            for analysis in page["analyses"]:
                yield analysis
            cursor = page["next"]
            if cursor is None:
                return

    async def compare(self, tokens: Iterable[Take] = (), *, groups: Mapping[str, Iterable[Take]] | None = None,
                      person: int | None = None) -> types.Comparison:
        """Compares one person in several results with the first of them, and marks differences beyond chance.

        `groups` has lists of results by name, of which the means are compared. In both, a result is its token, or
        `(token, person)`. `person` is the number of the person in results without one; by default it is the person who
        was seen in most samples.
        """
        return await self._run(flows.compare(tokens, groups or {}, person, self._retries))

    async def start_batch(self, items: Iterable[str | types.BatchItemRequest], *, idempotency_key: str | None = None,
                          **options: Unpack[BatchOptions]) -> types.Batch:
        """Starts the analyses of videos at addresses (`https://...`, `s3://BUCKET/KEY`).

        An item is an address, or `{"video_url": address, "file_name": name}`. A refused item does not stop the others:
        its `status` is `refused`. Repeated with the same `idempotency_key`, it returns the same batch.
        """
        return await self._run(flows.start_batch(items, idempotency_key, options, self._retries))

    async def batch(self, batch: str) -> types.Batch:
        """The state of a batch (by its `id`) and of its items."""
        return await self._run(flows.batch(batch, self._retries))

    async def wait_batch(self, batch: str, *, timeout: float | None = None,
                         progress: Callable[[types.Batch], None] | None = None) -> types.Batch:
        """Waits for the end of a batch. Raises `WaitTimeout` after `timeout` seconds.

        A failed item raises no error: `status` and `error` of each item of the answer tell how it ended.
        """
        return await self._run(flows.wait_batch(batch, timeout, self._retries, progress))

    async def batches(self) -> AsyncIterator[types.ListedBatch]:
        """The batches of this key, the newest first."""
        cursor = None
        while True:
            page = await self._run(flows.batches_page(cursor, self._retries))
            for batch in page["batches"]:
                yield batch
            cursor = page["next"]
            if cursor is None:
                return

    async def cancel_batch(self, batch: str, *, erase: bool = False) -> None:
        """Erases the analyses of a batch that have not ended. With `erase`, erases all of them and the batch."""
        await self._run(flows.cancel_batch(batch, erase, self._retries))

    async def pictures(self, pictures: Iterable[Source], **options: Unpack[flows.PictureOptions]) -> types.Pictures:
        """Reads the faces of pictures (JPEG, PNG, WebP)."""
        return await self._run(flows.pictures(pictures, options, self._retries))

    async def notice(self, language: str | None = None) -> types.NoticeText:
        """The text that people get before their faces and voices are analyzed."""
        return await self._run(flows.notice(language, self._retries))

    def live(self, **options: Unpack[LiveOptions]) -> AsyncLiveSession:
        """Opens a live session: `async with visage.live() as session`, or `session = await visage.live()`.

        Needs websockets (`pip install 'visage-client[live]'`).
        """
        return AsyncLiveSession(_live_address(self._base), _headers(self._key), options, self._timeout)
