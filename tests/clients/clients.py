"""Ordinary clients of the five services and of DeepFace, written from what these document, and one of visage itself.

Each does what a client of its service does, with nothing changed but the base URL, and looks at every field: that it is
there, its type and its range.
"""

import base64
import datetime
import json
import os
import time
import uuid
from pathlib import Path

import requests

BASE = os.environ["VISAGE_TEST_BASE"]
KEY = os.environ["VISAGE_TEST_KEY"]
CLIP = Path(os.environ["VISAGE_TEST_LONG_CLIP"])
SHORT_CLIP = Path(os.environ["VISAGE_TEST_CLIP"])
FACELESS_CLIP = Path(os.environ["VISAGE_TEST_FACELESS_CLIP"])
PICTURE = Path(os.environ["VISAGE_TEST_PICTURE"])
SEVEN = {"angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"}
FIVE = {"Anger", "Happy", "Shock", "Neutral", "Sad"}

# The services have no keys of their own but one; this server asks everybody for one.
session = requests.Session()
session.headers["Authorization"] = f"Bearer {KEY}"


def whole(value, least, most):
    assert type(value) is int and least <= value <= most, value


def number(value, least, most):
    assert type(value) in (int, float) and least <= value <= most, value


def members(value, names):
    assert set(value) == set(names), sorted(value)


def moment(value):
    assert datetime.datetime.fromisoformat(value).tzinfo is not None, value


def share_of_hundred(emotions):
    """Percent a label, all seven, summing to 100."""
    members(emotions, SEVEN)
    for percent in emotions.values():
        number(percent, 0, 100)
    assert abs(sum(emotions.values()) - 100) < 0.01, emotions


def finished(token):
    for _ in range(600):
        result = session.get(f"{BASE}/results/{token}", params={"wait": 1}, timeout=60)
        assert result.status_code == 200, result.text
        if result.json()["status"] not in ("queued", "running"):
            return result.json()
        number(result.json()["progress"]["fraction"] or 0, 0, 1)
    raise AssertionError("the analysis does not end")


def upload(path, field="video", **fields):
    with CLIP.open("rb") as video:
        return session.post(BASE + path, files={field: (CLIP.name, video, "video/mp4")}, data=fields, timeout=300)


def gamma():
    """A Django service: a form with video and email, the slash at the end, a token to keep."""
    answer = upload("/analyze-video/", email="ann@example.org")
    assert answer.ok, answer.text
    token = answer.json()["token"]
    assert str(uuid.UUID(token)) == token
    assert answer.json()["status"] == "queued"
    assert answer.headers["location"] == f"/results/{token}" and int(answer.headers["retry-after"]) > 0
    result = finished(token)
    assert result["status"] == "done", result
    assert result["options"]["sample_every"] == 20
    summary = result["analysis"]["summary"]
    assert summary["dominant_emotion"] in SEVEN
    number(summary["calmness"], 0, 100)
    share_of_hundred(summary["emotions"])
    report = session.get(f"{BASE}/results/{token}/report", timeout=60)
    assert report.status_code == 200 and report.headers["content-type"].startswith("text/html")


def analysis(found):
    """The result, field by field."""
    assert set(found) >= {"video", "summary", "speech", "faces", "models", "warnings"}, found
    video = found["video"]
    members(video, ["duration_s", "fps", "width", "height", "codec", "frames_total", "frames_analyzed", "has_audio", "start_s",
                    "turned"])
    assert (video["width"], video["height"], video["codec"], video["has_audio"]) == (640, 480, "h264", False)
    assert abs(video["duration_s"] - 9) < 0.1 and video["fps"] == 25
    assert (video["frames_total"], video["frames_analyzed"]) == (225, 12), video
    summary = found["summary"]
    assert summary["dominant_emotion"] in SEVEN
    share_of_hundred(summary["emotions"])
    for name in ("calmness", "eye_contact", "overall_score", "presence"):
        number(summary[name], 0, 100)
    number(summary["model_confidence"], 0, 1)
    number(summary["valence"], -1, 1)
    number(summary["arousal"], -1, 1)
    assert summary["feedback"] and all(type(sentence) is str for sentence in summary["feedback"])
    # The clip is silent, and the result says so.
    assert found["speech"] is None
    assert any("sound" in warning or "audio" in warning for warning in found["warnings"]), found["warnings"]
    (face,) = found["faces"]
    assert face["id"] == 1
    number(face["first_s"], 0, 9)
    number(face["last_s"], face["first_s"], 9)
    whole(face["frames"], 1, 12)
    assert face["dominant_emotion"] in SEVEN
    assert set(face["emotion_counts"]) <= SEVEN and sum(face["emotion_counts"].values()) == face["frames"]
    assert set(face["average_confidence"]) == set(face["emotion_counts"])
    for confidence in face["average_confidence"].values():
        number(confidence, 0, 1)
    assert face["embeddings_shape"] == [face["frames"], 7]
    assert len(face["example_embedding"]) == 7 and abs(sum(face["example_embedding"]) - 1) < 0.01
    number(face["eye_contact"], 0, 100)
    number(face["calmness"], 0, 100)
    for model in found["models"]:
        assert model["name"] and len(model["sha256"]) == 64 and int(model["sha256"], 16) >= 0


def native():
    """visage's own calls, from the upload to the end."""
    name = {"Idempotency-Key": str(uuid.uuid4())}
    files = {"video": (CLIP.name, CLIP.read_bytes(), "video/mp4")}
    sent = session.post(f"{BASE}/analyze-video", files=files, headers=name, timeout=300)
    assert sent.status_code == 202, sent.text
    token = sent.json()["token"]
    again = session.post(f"{BASE}/analyze-video", files=files, headers=name, timeout=300)
    assert (again.status_code, again.json()["token"]) == (202, token)
    other = session.post(f"{BASE}/analyze-video", files=files, data={"max_faces": 1}, headers=name, timeout=300)
    assert other.status_code == 422 and other.json()["code"] == "idempotency_key_reused", other.text

    result = finished(token)
    assert result["status"] == "done" and result["error"] is None, result
    members(result["progress"], ["fraction", "frames_done", "frames_total", "stage"])
    assert (result["progress"]["fraction"], result["progress"]["stage"]) == (1, "finished")
    for time_of in ("created_at", "started_at", "finished_at", "expires_at"):
        moment(result[time_of])
    analysis(result["analysis"])
    answer = session.get(f"{BASE}/results/{token}", timeout=60)
    unchanged = session.get(f"{BASE}/results/{token}", headers={"If-None-Match": answer.headers["etag"]}, timeout=60)
    assert (unchanged.status_code, unchanged.content) == (304, b"")

    events = session.get(f"{BASE}/results/{token}/events", timeout=60)
    assert events.headers["content-type"].startswith("text/event-stream") and "event: done" in events.text
    rows, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        parameters = {"limit": 5, **({"cursor": cursor} if cursor else {})}
        page = session.get(f"{BASE}/results/{token}/timeline", params=parameters, timeout=60).json()
        rows, cursor, pages = rows + page["rows"], page["next"], pages + 1
    assert len(rows) == result["analysis"]["faces"][0]["frames"] and pages > 1
    for row in rows:
        number(row["time_s"], 0, 9)
        members(row["emotions"], SEVEN)
    table = session.get(f"{BASE}/results/{token}/timeline", headers={"Accept": "text/csv"}, timeout=60)
    assert table.headers["content-type"].startswith("text/csv") and len(table.text.splitlines()) == len(rows) + 1
    listed = session.get(f"{BASE}/v1/analyses", params={"status": "done", "limit": 1}, timeout=60).json()
    assert listed["analyses"][0]["token"] == token, listed

    video = SHORT_CLIP.read_bytes()
    begun = session.post(f"{BASE}/v1/uploads", json={"size_bytes": len(video)}, timeout=60)
    assert begun.status_code == 201, begun.text
    for part in begun.json()["parts"]:
        piece = video[part["offset"]:part["offset"] + part["size_bytes"]]
        assert requests.put(part["url"], data=piece, timeout=60).ok
    started = session.post(f"{BASE}/v1/analyses", json={"upload": begun.json()["upload"]}, timeout=60)
    assert started.status_code == 202 and finished(started.json()["token"])["status"] == "done", started.text

    assert session.delete(f"{BASE}/results/{token}", timeout=60).status_code == 204
    gone = session.get(f"{BASE}/results/{token}", timeout=60)
    assert gone.status_code == 404 and gone.headers["content-type"] == "application/problem+json"
    problem = gone.json()
    assert problem["code"] and problem["detail"].endswith(".") and problem["status"] == 404
    assert problem["request_id"] == gone.headers["x-request-id"]
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert requests.get(BASE + path, timeout=60).status_code == 200, path
    assert requests.get(BASE + "/v1/analyses", timeout=60).status_code == 401


def facial_emotion_analysis():
    answer = upload("/api/facial-analysis/")
    assert answer.status_code == 200, answer.text
    members(answer.json(), ["facialAnalysisResult"])
    result = answer.json()["facialAnalysisResult"]
    members(result, ["confidence", "emotions", "eyeContact", "speechClarity", "overallScore", "feedback"])
    members(result["emotions"], SEVEN)
    for figure in [*result["emotions"].values(), result["confidence"], result["eyeContact"], result["overallScore"]]:
        whole(figure, 0, 100)
    assert sum(result["emotions"].values()) == 100
    # The clip has no sound.
    assert result["speechClarity"] is None
    assert type(result["feedback"]) is str and result["feedback"]
    missing = session.post(BASE + "/api/facial-analysis/", files={"other": b"x"}, timeout=60)
    assert missing.status_code == 400 and missing.json()["error"], missing.text
    corrupt = session.post(BASE + "/api/facial-analysis/", files={"video": ("a.mp4", b"nothing")}, timeout=60)
    assert corrupt.status_code == 422 and corrupt.json()["error"], corrupt.text
    with FACELESS_CLIP.open("rb") as video:
        faceless = session.post(BASE + "/api/facial-analysis/", files={"video": ("b.avi", video)}, timeout=300)
    assert (faceless.status_code, faceless.json()["code"]) == (422, "no_face"), faceless.text


def flask_video_emotion():
    health = session.get(BASE + "/", timeout=60)
    assert health.status_code == 200 and health.headers["content-type"] == "application/json"
    assert health.json()["status"] == "ok"
    answer = session.post(BASE + "/process-frame", data=CLIP.read_bytes(), timeout=300)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    members(result, ["average_emotion_scores", "overall_dominant_emotion", "total_frames_analyzed",
                     "average_confidence_score", "eye_contact_score"])
    members(result["average_emotion_scores"], SEVEN)
    share_of_hundred(result["average_emotion_scores"])
    assert result["overall_dominant_emotion"] in SEVEN
    # 225 frames, of which every 30th is looked at.
    assert result["total_frames_analyzed"] == 8, result
    number(result["average_confidence_score"], 0, 1)
    number(result["eye_contact_score"], 0, 100)


def journaling_thumbnails():
    headers = {"x-api-key": KEY, "X-Client-ID": "journal", "date": datetime.datetime.now().isoformat()}
    body = {"encoding": "base64", "format": "mp4", "fps": 25, "content": base64.b64encode(CLIP.read_bytes()).decode()}
    answer = requests.post(BASE + "/predict", json=body, headers=headers, timeout=300)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    members(result, ["emotion", "confidence", "prediction", "latency_ms"])
    assert result["emotion"] in FIVE and result["prediction"] == result["emotion"]
    number(result["confidence"], 0, 1)
    whole(result["latency_ms"], 0, 300_000)

    answer = requests.post(BASE + "/thumbnail", json={**body, "duration": 2.0}, headers=headers, timeout=300)
    assert answer.status_code == 200, answer.text
    thumbnail = answer.json()
    members(thumbnail, ["thumbnail", "video", "duration", "latency_ms"])
    assert thumbnail["duration"] == 2.0
    for name in ("thumbnail", "video"):
        assert base64.b64decode(thumbnail[name], validate=True)[4:8] == b"ftyp"
    whole(thumbnail["latency_ms"], 0, 300_000)
    short = base64.b64encode(SHORT_CLIP.read_bytes()).decode()
    by_data = {**body, "content": f"data:video/mp4;base64,{short}"}
    usual = requests.post(BASE + "/thumbnail", json=by_data, headers=headers, timeout=300).json()
    assert usual["duration"] == 3.0 and usual["thumbnail"] == usual["video"], usual.keys()
    for wrong in (0.05, 10.5, "long"):
        refused = requests.post(BASE + "/thumbnail", json={**by_data, "duration": wrong}, headers=headers, timeout=300)
        assert refused.status_code == 400, refused.text
        members(refused.json(), ["error"])
    too_short = {**body, "content": base64.b64encode(FACELESS_CLIP.read_bytes()).decode()}
    refused = requests.post(BASE + "/predict", json=too_short, headers=headers, timeout=300)
    assert refused.status_code == 400 and "15" in refused.json()["error"], refused.text

    for wrong in ({}, {"x-api-key": "wrong"}):
        for method, path in (("POST", "/predict"), ("POST", "/thumbnail"), ("GET", "/logs")):
            refused = requests.request(method, BASE + path, json=body, headers=wrong, timeout=60)
            assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"}), refused.text

    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    filters = {"start_date": today, "end_date": "2999-01-01", "status_code": 200, "success": "True", "client_id": "journal"}
    for _ in range(100):
        # Both ways: a body on GET, and parameters.
        logs = requests.get(BASE + "/logs", json=filters, headers=headers, timeout=60).json()
        as_query = requests.get(BASE + "/logs", params=filters, headers=headers, timeout=60).json()
        if logs["count"] >= 2 and as_query["count"] >= 2:
            break
        time.sleep(0.1)
    assert logs["count"] == len(logs["logs"]) >= 2, logs
    whole(logs["latency_ms"], 0, 300_000)
    for entry in logs["logs"]:
        members(entry, ["timestamp", "request_method", "endpoint", "status_code", "latency_ms", "client_id", "success",
                        "prediction", "confidence", "error_message"])
        assert (entry["status_code"], entry["success"], entry["client_id"]) == (200, True, "journal")
        moment(entry["timestamp"])
        assert entry["request_method"] in ("GET", "POST") and entry["endpoint"] in ("/predict", "/thumbnail", "/logs")
        whole(entry["latency_ms"], 0, 300_000)
        assert entry["error_message"] is None
    predicted = [entry for entry in logs["logs"] if entry["endpoint"] == "/predict"]
    assert predicted and predicted[0]["prediction"] == result["emotion"]
    assert predicted[0]["confidence"] == result["confidence"]
    for _ in range(100):
        failed = requests.get(BASE + "/logs", params={"success": "False", "client_id": "journal"}, headers=headers, timeout=60)
        if failed.json()["count"] >= 4:
            break
        time.sleep(0.1)
    for entry in failed.json()["logs"]:
        assert (entry["status_code"], entry["success"], entry["prediction"]) == (400, False, None), entry
        assert type(entry["error_message"]) is str and entry["error_message"]


def emotion_detection_from_video():
    page = requests.get(BASE + "/", headers={"Accept": "text/html,*/*;q=0.8"}, timeout=60)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html") and "<form" in page.text
    for path in ("/upload", "/record_video"):
        answer = upload(path)
        assert answer.ok, answer.text
        token = answer.json()["token"]
        for _ in range(600):
            stats = session.get(BASE + "/get_stats", params={"token": token, "wait": 1}, timeout=60)
            if stats.status_code != 202:
                break
            time.sleep(0.1)
        assert stats.status_code == 200, stats.text
        result = stats.json()
        members(result, ["token", "status", "total_frames_analyzed", "faces"])
        assert (result["token"], result["status"], result["total_frames_analyzed"]) == (token, "done", 12), result
        assert len(result["faces"]) == 1, result
        face = result["faces"][0]
        members(face, ["face_id", "emotion_counts", "most_common_emotion", "average_confidence", "total_frames",
                       "embeddings_shape", "example_embedding"])
        members(face["emotion_counts"], SEVEN)
        assert sum(face["emotion_counts"].values()) == face["total_frames"]
        assert face["most_common_emotion"] in SEVEN
        for emotion, confidence in face["average_confidence"].items():
            assert emotion in SEVEN
            number(confidence, 0, 1)
        assert face["embeddings_shape"] == [face["total_frames"], 7]
        assert len(face["example_embedding"]) == 7
        assert abs(sum(face["example_embedding"]) - 1) < 0.01
    file = session.get(BASE + "/get_stats", params={"token": token, "download": 1}, timeout=60)
    assert "attachment" in file.headers["content-disposition"] and file.json() == result
    saved = session.post(BASE + "/save_frame", files={"frame": ("frame.png", PICTURE.read_bytes())}, timeout=60)
    assert saved.status_code == 201, saved.text
    kept = session.get(f"{BASE}/frames/{saved.json()['frame']}", timeout=60)
    assert kept.content == PICTURE.read_bytes() and kept.headers["content-type"] == "image/png"
    assert session.delete(kept.url, timeout=60).status_code == 204
    assert session.get(kept.url, timeout=60).status_code == 404


def deepface():
    """As the README and the Postman collection of DeepFace call its own REST service."""

    def check(answer):
        assert answer.status_code == 200, answer.text
        members(answer.json(), ["results"])
        assert len(answer.json()["results"]) == 1, answer.text
        result = answer.json()["results"][0]
        members(result, ["emotion", "dominant_emotion", "region", "face_confidence"])
        share_of_hundred(result["emotion"])
        assert result["dominant_emotion"] == max(result["emotion"], key=result["emotion"].get)
        members(result["region"], ["x", "y", "w", "h", "left_eye", "right_eye"])
        for side in "xywh":
            whole(result["region"][side], 0, 160)
        for eye in ("left_eye", "right_eye"):
            for place in result["region"][eye]:
                whole(place, 0, 160)
        number(result["face_confidence"], 0.5, 1)
        return result

    encoded = "data:image/png;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
    by_json = check(session.post(BASE + "/analyze", json={"img": encoded, "actions": ["emotion"]}, timeout=60))
    form = {"actions": '["emotion"]', "detector_backend": "mtcnn"}
    files = {"img": ("test_image.png", PICTURE.read_bytes())}
    assert check(session.post(BASE + "/analyze", files=files, data=form, timeout=60)) == by_json
    body = json.dumps({"img": encoded, "actions": ["emotion"]})
    plain = {"Content-Type": "application/x-www-form-urlencoded"}
    assert check(session.post(BASE + "/analyze", data=body, headers=plain, timeout=60)) == by_json
    other = session.post(BASE + "/analyze", json={"img": encoded, "actions": ["age", "gender"]}, timeout=60)
    assert other.status_code == 400 and "age, gender" in other.json()["error"], other.text
    url = "https://raw.githubusercontent.com/serengil/deepface/refs/heads/master/tests/unit/dataset/img2.jpg"
    address = session.post(BASE + "/analyze", json={"img": url, "actions": ["emotion"]}, timeout=60)
    assert address.status_code == 400 and address.json()["error"], address.text
    missing = session.post(BASE + "/analyze", json={"actions": ["emotion"]}, timeout=60)
    assert missing.status_code == 400 and "'img' not found" in missing.json()["exception"], missing.text
    refused = requests.post(BASE + "/analyze", json={"img": encoded}, timeout=60)
    assert (refused.status_code, list(refused.json())) == (401, ["message"]), refused.text


for client in (
    gamma, facial_emotion_analysis, flask_video_emotion, journaling_thumbnails, emotion_detection_from_video, deepface,
    native,
):
    client()
    print(f"{client.__name__}: ok")
