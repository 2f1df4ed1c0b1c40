# Starts a batch, and waits for its end.
import time

import requests

service = requests.Session()
service.headers["x-api-key"] = "KEY"

answer = service.post(
    "http://127.0.0.1:8000/v1/batches",
    json={
        "items": [
            {"video_url": "https://media.example.org/a.mp4"},
            {"video_url": "https://media.example.org/b.mp4", "file_name": "second.mp4"},
        ],
        "max_faces": 1,
        "notice": "given",
    },
)
answer.raise_for_status()
batch = answer.json()
while batch["status"] == "running":
    time.sleep(int(answer.headers["retry-after"]))
    answer = service.get(f"http://127.0.0.1:8000/v1/batches/{batch['id']}")
    answer.raise_for_status()
    batch = answer.json()
for item in batch["items"]:
    print(item["index"], item["status"], item["token"], item["error"])
