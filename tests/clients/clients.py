"""Ordinary clients of the five services, written from what those services document, driven against visage.

Each does what a client of its service does, with nothing changed but the base URL, and looks at every field: that it is
there, its type and its range.
"""

import base64
import datetime
import os
import time
from pathlib import Path

import requests

BASE = os.environ["VISAGE_TEST_BASE"]
KEY = os.environ["VISAGE_TEST_KEY"]
CLIP = Path(os.environ["VISAGE_TEST_LONG_CLIP"])
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


def upload(path, field="video", **fields):
    with CLIP.open("rb") as video:
        return session.post(BASE + path, files={field: (CLIP.name, video, "video/mp4")}, data=fields, timeout=300)


def gamma():
    """A Django service: a form with video and email, the slash at the end, a token to keep."""
    answer = upload("/analyze-video/", email="ann@example.org")
    assert answer.ok, answer.text
    token = answer.json()["token"]
    assert type(token) is str and len(token) == 36
    for _ in range(600):
        result = session.get(f"{BASE}/results/{token}?wait=1", timeout=60).json()
        if result["status"] not in ("queued", "running"):
            break
        time.sleep(0.1)
    assert result["status"] == "done", result
    assert result["options"]["sample_every"] == 20
    summary = result["analysis"]["summary"]
    assert summary["dominant_emotion"] in SEVEN
    number(summary["calmness"], 0, 100)
    members(summary["emotions"], SEVEN)
    assert abs(sum(summary["emotions"].values()) - 100) < 0.01
    assert session.get(f"{BASE}/results/{token}/report", timeout=60).headers["content-type"].startswith("text/html")
    return token


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
    for score in result["average_emotion_scores"].values():
        number(score, 0, 100)
    assert abs(sum(result["average_emotion_scores"].values()) - 100) < 0.01
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
    predicted = [entry for entry in logs["logs"] if entry["endpoint"] == "/predict"]
    assert predicted and predicted[0]["prediction"] == result["emotion"]


def emotion_detection_from_video():
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


for client in (gamma, facial_emotion_analysis, flask_video_emotion, journaling_thumbnails, emotion_detection_from_video):
    client()
    print(f"{client.__name__}: ok")
