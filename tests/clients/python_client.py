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
VIDEOS = os.environ["VISAGE_TEST_VIDEOS"]
# Accepted, and refused when the name is resolved.
PRIVATE = "https://localhost/a.mp4"
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


def compared():
    with Client(BASE, KEY) as visage:
        one, two = visage.upload(CLIP, sample_every=5), visage.upload(CLIP, sample_every=7)
        for token in (one, two):
            visage.wait(token)
        found = visage.compare([one, (one, 1), two])
        assert [subject["name"] for subject in found["subjects"]] == [one, one, two]
        same, other = found["differences"]
        assert (other["from"], other["to"]) == (one, two)
        assert {figure["value"] for figure in same["figures"].values()} == {0.0}
        groups = {"before: it": [one]}
        assert refusal(lambda: visage.compare(groups=groups), "bad_parameter").members["parameter"] == "group"
        found = visage.compare(groups={"before it": [one, (two, 1)], "after & all": (token for token in [two])})
        assert [(subject["name"], len(subject["takes"])) for subject in found["subjects"]] == [("before it", 2), ("after & all", 1)]
        found = visage.compare([one], groups={"both": [one, two]})
        assert [(difference["from"], difference["to"]) for difference in found["differences"]] == [(one, "both")]
        assert refusal(lambda: visage.compare([one, two], person=9), "not_comparable").members["token"] == one
        try:
            visage.compare(one)
            raise AssertionError("a text was taken for a list of tokens")
        except TypeError as error:
            assert one in str(error)


def batches():
    transport = lossy(LossyTransport)
    with Client(BASE, KEY, retries=QUICK, transport=transport) as visage:
        before = {batch["id"] for batch in visage.batches()}
        items = [f"{VIDEOS}/a.mp4", {"video_url": f"{VIDEOS}/b.mp4", "file_name": "two.avi"}, PRIVATE, "https://10.0.0.1/c.mp4"]
        started = visage.start_batch(items, max_faces=2, notice="given")
        assert [item["status"] == "refused" for item in started["items"]] == [False, False, False, True], started
        seen = []
        ended = visage.wait_batch(started["id"], timeout=120, progress=lambda batch: seen.append(batch["fraction"]))
        assert (ended["status"], ended["fraction"]) == ("ended", 1.0) and seen == sorted(seen) and seen[-1] == 1.0, seen
        assert [item["status"] for item in ended["items"]] == ["done", "done", "failed", "refused"], ended
        assert [item["error"] and item["error"]["code"] for item in ended["items"]] == \
            [None, None, "address_refused", "bad_video_url"]
        result = visage.result(ended["items"][1]["token"])
        assert (result["file_name"], result["options"]["max_faces"], result["notice"] is not None) == ("two.avi", 2, True)
        # Its first answer was lost, so it was sent twice, and started once.
        assert transport.losses.calls.count(("POST", "/v1/batches")) == 2
        assert [batch["id"] for batch in visage.batches() if batch["id"] not in before] == [started["id"]]

        again = [visage.start_batch([PRIVATE], idempotency_key=f"batch of {started['id']}")["id"] for _ in range(2)]
        assert again[0] == again[1] and again[0] != started["id"]
        problem = refusal(lambda: visage.start_batch(["https://10.0.0.1/c.mp4"]), "no_item_accepted")
        assert [item["index"] for item in problem.members["items"]] == [0]
        refusal(lambda: visage.start_batch([]), "empty_batch")
        try:
            visage.start_batch(PRIVATE)
            raise AssertionError("a text was taken for a list of addresses")
        except TypeError as error:
            assert PRIVATE in str(error)

        # More videos than can be analyzed before the next call.
        long = visage.start_batch([f"{VIDEOS}/a.mp4"] * 30)["id"]
        try:
            visage.wait_batch(long, timeout=0)
            raise AssertionError("a batch of this size takes longer")
        except WaitTimeout as error:
            assert error.token == long and "batch" in str(error)
        visage.cancel_batch(long)
        cancelled = visage.wait_batch(long, timeout=30)
        assert cancelled["status"] == "cancelled" and cancelled["counts"]["cancelled"] > 0, cancelled
        # The answer of its first attempt is lost, and the second one finds nothing.
        for batch in (long, started["id"]):
            visage.cancel_batch(batch, erase=True)
            refusal(lambda: visage.batch(batch), "unknown_batch")
        refusal(lambda: visage.result(result["token"]), "unknown_token")


async def batches_at_once():
    async with AsyncClient(BASE, KEY, retries=QUICK, transport=lossy(AsyncLossyTransport)) as visage:
        started = await asyncio.gather(*(visage.start_batch([f"{VIDEOS}/{name}.mp4", PRIVATE]) for name in "ac"))
        seen = []
        ended = [await visage.wait_batch(batch["id"], timeout=120, progress=seen.append) for batch in started]
        assert seen[-1] == ended[-1]
        assert [[item["status"] for item in batch["items"]] for batch in ended] == [["done", "failed"], ["failed", "failed"]]
        assert (await visage.batch(started[1]["id"]))["items"][0]["error"]["code"] == "video_refused"
        token = ended[0]["items"][0]["token"]
        found = await visage.compare([token], groups={"group": [(token, 1)]})
        assert [subject["name"] for subject in found["subjects"]] == [token, "group"]
        ids = {batch["id"] for batch in started}
        assert ids <= {batch["id"] async for batch in visage.batches()}
        for batch in ids:
            await visage.cancel_batch(batch, erase=True)
        assert not ids & {batch["id"] async for batch in visage.batches()}


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


async def live_without_blocking():
    picture = PICTURE.read_bytes()
    async with AsyncClient(BASE, KEY) as visage:
        async with visage.live(name="Call", speech=True, notice="given") as session:
            first = await session.picture(picture, 5.0)
            assert (first["type"], first["picture"], first["time_s"], first["faces"][0]["id"]) == ("faces", 1, 0.0, 1), first
            # Tasks that wait at once get the answers of their own pictures.
            answers = await asyncio.gather(*(session.picture(picture, 5.0 + n / 2) for n in range(1, 6)))
            assert [answer["picture"] for answer in answers] == [2, 3, 4, 5, 6], answers
            numbers = [await session.send_picture(picture, 8.0 + n / 2) for n in (1, 2)]
            assert [(await session.answer(number))["picture"] for number in reversed(numbers)] == [8, 7]
            # One that is cancelled does not take the answers of the others.
            waiting = asyncio.create_task(session.answer(99))
            other = asyncio.create_task(session.picture(picture, 10.0))
            await asyncio.sleep(0)
            waiting.cancel()
            assert (await other)["picture"] == 9 and waiting.cancelled()
            try:
                await session.picture(b"nothing", 11.0)
            except ProblemError as problem:
                assert problem.code == "not_a_picture", problem.members
            else:
                raise AssertionError("bytes that are no picture were accepted")
            await session.sound(bytes(32000), 5.0)
            await session.sound(bytes(32000), 1.0)
        assert (session.finished["reason"], session.finished["people"]) == ("finish", [{"id": 1, "face": 1}])
        assert [problem.status for problem in session.refused] == [422], session.refused
        result = await visage.result(session.token)
        assert (result["status"], result["file_name"]) == ("done", "Call"), result
        for call in (session.picture(picture, 12.0), session.answer(99)):
            try:
                await call
            except SessionEnded as ended:
                assert ended.token == session.token
            else:
                raise AssertionError("an answer came after the end")
        session = await visage.live()
        await session.picture(picture)
        assert (await session.finish())["token"] == session.token
        try:
            await visage.live(max_faces=0)
        except ProblemError as problem:
            assert problem.code == "bad_option", problem.members
        else:
            raise AssertionError("no face was accepted")
        try:
            await visage.live().picture(picture)
        except RuntimeError as error:
            assert "async with" in str(error)
        else:
            raise AssertionError("a session that was not opened sent a picture")
    async with AsyncClient(BASE, "vis_wrong") as stranger:
        try:
            async with stranger.live():
                raise AssertionError("a wrong key was accepted")
        except ProblemError as problem:
            assert (problem.status, problem.code) == (401, "wrong_key"), problem.members


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
compared()
batches()
asyncio.run(batches_at_once())
asyncio.run(many_at_once())
live()
asyncio.run(live_without_blocking())
endings_without_a_result()
print("visage-client for Python: ok")
