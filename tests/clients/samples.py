"""Runs every sample of a call in /openapi.json, in the order in which a reader would."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

BASE = os.environ["VISAGE_TEST_BASE"]
KEY = os.environ["VISAGE_TEST_KEY"]
VIDEOS = os.environ["VISAGE_TEST_VIDEOS"]
ADDRESS = "http://127.0.0.1:8000"
# `erase` comes last, because the samples before it need the analysis.
ORDER = ("analyze_video", "events", "result", "compare", "report", "timeline", "share", "list_analyses", "start_batch",
         "begin_upload", "pictures", "deepface_analyze", "erase")


def samples():
    document = requests.get(f"{BASE}/openapi.json", timeout=60).json()
    calls = [call for path in document["paths"].values() for call in path.values()]
    return {call["operationId"]: call["x-codeSamples"] for call in calls if "x-codeSamples" in call}


def analyzed(clip):
    """The token of an analysis that is done."""
    with clip.open("rb") as video:
        answer = requests.post(f"{BASE}/analyze-video", headers={"x-api-key": KEY}, files={"video": video}, timeout=60)
    token, result = answer.json()["token"], {"finished_at": None}
    while result["finished_at"] is None:
        result = requests.get(f"{BASE}/results/{token}", headers={"x-api-key": KEY}, params={"wait": 1}, timeout=60).json()
    assert result["status"] == "done", result
    return token


def run(sample, token, other, folder):
    """The standard output of a sample."""
    source = sample["source"].replace(ADDRESS, BASE).replace("https://media.example.org", VIDEOS)
    for word, value in [("KEY", KEY), ("TOKEN", token), ("OTHER_TOKEN", other)]:
        source = re.sub(rf"\b{word}\b", value, source)
    command = {"Shell": ["bash", "-euo", "pipefail", "-c"], "Python": [sys.executable, "-c"]}[sample["lang"]]
    # curl reads .curlrc there: a sample fails if its call does.
    done = subprocess.run([*command, source], cwd=folder, env={**os.environ, "HOME": str(folder)}, timeout=300,
                          capture_output=True, text=True)
    assert done.returncode == 0, (sample, done.stdout, done.stderr)
    return done.stdout


given = samples()
assert set(given) == set(ORDER), set(given) ^ set(ORDER)
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    shutil.copy(os.environ["VISAGE_TEST_LONG_CLIP"], folder / "clip.mp4")
    shutil.copy(os.environ["VISAGE_TEST_PICTURE"], folder / "picture.png")
    other = analyzed(folder / "clip.mp4")
    for language in ("Shell", "Python"):
        token = ""
        for operation in ORDER:
            (sample,) = [sample for sample in given[operation] if sample["lang"] == language]
            printed = run(sample, token, other, folder)
            if operation == "analyze_video":
                token = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", printed).group()
            elif operation == "result":
                assert "happy" in printed, printed
            elif operation == "compare" and language == "Shell":
                assert json.loads(printed)["differences"][0]["to"] == other, printed
            elif operation == "start_batch" and language == "Shell":
                assert [item["status"] for item in json.loads(printed)["items"]] != ["refused"] * 2, printed
            elif operation == "start_batch":
                assert re.fullmatch(r"0 done .*\n1 done .*\n", printed), printed
        assert "<html" in (folder / "report.html").read_text()
        gone = requests.get(f"{BASE}/results/{token}", headers={"x-api-key": KEY}, timeout=60)
        assert gone.status_code == 404, gone.text
        print(f"samples in {language}: ok")
