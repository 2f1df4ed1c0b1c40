"""The client in clients/python against a running service, over connections that break."""

import asyncio
import os
from pathlib import Path

import httpx
from visage_client import AnalysisFailed, AsyncClient, Client, ProblemError, Retries, SessionEnded, Video, WaitTimeout

BASE = os.environ["VISAGE_TEST_BASE"]
KEY = os.environ["VISAGE_TEST_KEY"]
CLIP = Path(os.environ["VISAGE_TEST_LONG_CLIP"])
SHORT_CLIP = Path(os.environ["VISAGE_TEST_CLIP"])
LARGE_CLIP = Path(os.environ["VISAGE_TEST_LARGE_CLIP"])
PICTURE = Path(os.environ["VISAGE_TEST_PICTURE"])
QUICK = Retries(first_pause_s=0.01)


class Losses:
    """Loses the first answer of every call. The service did what was asked, and the client does not know."""

    def __init__(self):
        self.calls = []

    def loses(self, request):
        call = (request.method, request.url.path)
        self.calls.append(call)
        return self.calls.count(call) == 1


class LossyTransport(httpx.HTTPTransport):
    losses = None

    def handle_request(self, request):
        response = super().handle_request(request)
        if self.losses.loses(request):
            response.read()
            raise httpx.ReadError("the connection broke", request=request)
        return response


class AsyncLossyTransport(httpx.AsyncHTTPTransport):
    losses = None

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        if self.losses.loses(request):
            await response.aread()
            raise httpx.ReadError("the connection broke", request=request)
        return response


def lossy(kind):
    transport = kind()
    transport.losses = Losses()
    return transport


def refusal(call, code):
    try:
        call()
    except ProblemError as error:
        assert error.code == code and error.detail.endswith(".") and error.request_id, error.members
        return error
    raise AssertionError(f"not refused with {code}")


def blocking():
    transport = lossy(LossyTransport)
    with Client(BASE, KEY, retries=QUICK, transport=transport) as visage:
        before = {analysis["token"] for analysis in visage.analyses()}
        seen = []
        token = visage.upload(CLIP, notice="given", progress=lambda *sent: seen.append(sent))
        assert seen == [(CLIP.stat().st_size,) * 2]
        states = []
        result = visage.wait(token, progress=lambda state: states.append(state["status"]))
        assert states[-1] == "done" and result["analysis"]["summary"]["dominant_emotion"] == "happy", result
        assert (result["file_name"], result["notice"] is not None) == (CLIP.name, True)
        # Its first answer was lost, so it was sent twice, and analyzed once.
        assert transport.losses.calls.count(("POST", "/analyze-video")) == 2
        new = [analysis for analysis in visage.analyses(status="done") if analysis["token"] not in before]
        assert [analysis["token"] for analysis in new] == [token], new

        rows = list(visage.timeline(token))
        frame = visage.timeline_frame(token)
        assert len(rows) == len(frame) == result["analysis"]["faces"][0]["frames"]
        assert frame["happy"].max() > 0.9 and set(frame["face"]) == {1}, frame
        assert [row["time_s"] for row in rows] == list(frame["time_s"])
        assert visage.timeline_csv(token).count("\n") == len(rows) + 1
        assert "<html" in visage.report(token) and 'lang="de"' in visage.report(token, language="de")
        link = visage.share(token)
        assert httpx.get(link["url"], headers={"accept": "application/json"}).json()["status"] == "done"
        assert visage.notice("fr")["language"] == "fr"

        first = visage.pictures([PICTURE, PICTURE.read_bytes()], notice="given")
        later = visage.pictures([Video(PICTURE, "again.png")], face_state=first["face_state"], gaze=False)
        ids = [face["id"] for answer in (first, later) for picture in answer["pictures"] for face in picture["faces"]]
        assert ids == [1, 1, 1], ids

        refusal(lambda: visage.upload(b"nothing"), "not_a_video")
        assert refusal(lambda: visage.upload(SHORT_CLIP, sample_every=0), "bad_option").members["field"] == "sample_every"
        refusal(lambda: visage.upload_address("https://10.0.0.1/talk.mp4", gaze=False), "bad_video_url")
        visage.erase(token)
        refusal(lambda: visage.result(token), "unknown_token")
    with Client(BASE, "vis_000000000000_wrong") as stranger:
        assert refusal(lambda: stranger.upload(SHORT_CLIP), "wrong_key").status == 401


class StopsAfter(Video):
    """A file that cannot be read beyond its first parts."""

    def __init__(self, source, parts):
        super().__init__(source)
        self.parts = parts

    def read(self, offset, size):
        if self.parts == 0:
            raise OSError("the disk is gone")
        self.parts -= 1
        return super().read(offset, size)


def in_parts():
    size = LARGE_CLIP.stat().st_size
    transport = lossy(LossyTransport)
    with Client(BASE, KEY, retries=QUICK, transport=transport) as visage:
        seen = []
        token = visage.upload(LARGE_CLIP, name="große Datei.avi", progress=lambda *sent: seen.append(sent), speech=False)
        assert len(seen) > 1 and seen == sorted(seen) and seen[-1] == (size, size), seen
        try:
            visage.wait(token, timeout=0)
            raise AssertionError("a clip of this size takes longer")
        except WaitTimeout as error:
            assert error.token == token
        result = visage.wait(token, timeout=300)
        assert (result["file_name"], result["options"]["speech"]) == ("große Datei.avi", False)
        assert result["analysis"]["summary"]["dominant_emotion"] == "happy"

        upload = visage.begin_upload(size, notice="given")["upload"]
        try:
            visage.send_parts(StopsAfter(LARGE_CLIP, 1), upload)
            raise AssertionError("the file ended early")
        except OSError:
            pass
        # Another process would go on like this.
        seen = []
        visage.send_parts(LARGE_CLIP, upload, progress=lambda *sent: seen.append(sent))
        assert seen[-1] == (size, size)
        sent = [path for method, path in transport.losses.calls if method == "PUT" and upload in path]
        assert len(sent) == 2 * len(set(sent)) and len(seen) == len(set(sent)) - 1, sent
        first = visage.start(upload, sample_every=100)
        assert visage.start(upload, sample_every=100) == first
        assert visage.wait(first)["notice"] is not None
        try:
            visage.send_parts(SHORT_CLIP, visage.begin_upload(size)["upload"])
            raise AssertionError("another file was taken")
        except ValueError as error:
            assert str(size) in str(error)


async def many_at_once():
    async with AsyncClient(BASE, KEY, retries=QUICK, transport=lossy(AsyncLossyTransport)) as visage:
        with SHORT_CLIP.open("rb") as file:
            results = await asyncio.gather(
                visage.analyze(CLIP, notice="given"), visage.analyze(file, detail="expressions"),
                visage.analyze(SHORT_CLIP.read_bytes(), name="third.mp4"),
            )
        assert [result["file_name"] for result in results] == [CLIP.name, SHORT_CLIP.name, "third.mp4"]
        tokens = [result["token"] for result in results]
        assert len(set(tokens)) == 3
        rows = [row async for row in visage.timeline(tokens[1])]
        assert rows and rows[0]["expressions"]["mouthSmileLeft"] > 0.5, rows
        assert len(await visage.timeline_frame(tokens[1])) == len(rows)
        listed = [analysis["token"] async for analysis in visage.analyses()]
        assert set(tokens) <= set(listed)
        found = await visage.pictures([PICTURE])
        assert found["pictures"][0]["faces"][0]["dominant_emotion"] == "happy"
        token = await visage.upload(LARGE_CLIP)
        assert (await visage.wait(token))["status"] == "done"
        await visage.erase(token)


def live():
    picture = PICTURE.read_bytes()
    with Client(BASE, KEY) as visage:
        with visage.live(name="Call", speech=True, notice="given") as session:
            first = session.picture(picture, 5.0)
            assert (first["type"], first["picture"], first["time_s"], first["faces"][0]["id"]) == ("faces", 1, 0.0, 1), first
            numbers = [session.send_picture(picture, 5.0 + n / 2) for n in (1, 2)]
            assert [session.answer(number)["picture"] for number in reversed(numbers)] == [3, 2]
            try:
                session.picture(b"nothing", 7.0)
            except ProblemError as problem:
                assert problem.code and problem.detail, problem.members
            else:
                raise AssertionError("bytes that are no picture were accepted")
            session.sound(bytes(32000), 5.0)
            session.sound(bytes(32000), 1.0)
        assert (session.finished["reason"], session.finished["people"]) == ("finish", [{"id": 1, "face": 1}])
        assert [problem.status for problem in session.refused] == [422], session.refused
        result = visage.result(session.token)
        assert (result["status"], result["file_name"]) == ("done", "Call"), result
        try:
            session.picture(picture, 8.0)
        except SessionEnded as ended:
            assert ended.token == session.token
        else:
            raise AssertionError("a picture was sent after the end")
        try:
            visage.live(max_faces=0)
        except ProblemError as problem:
            assert problem.code == "bad_option", problem.members
        else:
            raise AssertionError("no face was accepted")
    refusal(lambda: Client(BASE, "vis_wrong").live(), "wrong_key")


def endings_without_a_result():
    """What a service answers that fails or is busy. A real one cannot be made to."""
    failed = {"status": "failed", "error": {"code": "decoder_failed", "detail": "The decoder crashed."}}
    answers = [
        httpx.Response(503, headers={"retry-after": "0"}),
        httpx.Response(502, text="<html>Bad gateway</html>"),
        httpx.Response(200, json={"status": "running", "error": None}),
        httpx.Response(200, json=failed),
    ]
    with Client(BASE, retries=QUICK, transport=httpx.MockTransport(lambda _: answers.pop(0))) as visage:
        try:
            visage.wait("a")
            raise AssertionError("it failed")
        except AnalysisFailed as error:
            assert (str(error), error.result, answers) == ("The decoder crashed.", failed, [])
    busy = httpx.Response(429, headers={"retry-after": "86400"}, json={"code": "quota_used_up", "detail": "Tomorrow."})
    calls = []
    with Client(BASE, transport=httpx.MockTransport(lambda request: calls.append(request) or busy)) as visage:
        try:
            visage.result("a")
            raise AssertionError("it was refused")
        except ProblemError as error:
            assert (error.code, len(calls)) == ("quota_used_up", 1)
    gateway = httpx.Response(504, text="<html>Gateway timeout</html>")
    with Client(BASE, retries=QUICK, transport=httpx.MockTransport(lambda _: gateway)) as visage:
        try:
            visage.result("a")
            raise AssertionError("it was refused")
        except ProblemError as error:
            assert (error.status, error.code) == (504, None)
    with Client("http://127.0.0.1:9", retries=QUICK) as visage:
        try:
            visage.result("a")
            raise AssertionError("nobody listens there")
        except httpx.ConnectError:
            pass


blocking()
in_parts()
asyncio.run(many_at_once())
live()
endings_without_a_result()
print("visage-client for Python: ok")
