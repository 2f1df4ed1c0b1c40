# Begins an upload, sends its parts and starts the analysis.
from pathlib import Path

import requests

service = requests.Session()
service.headers["x-api-key"] = "KEY"
video = Path("clip.mp4")

answer = service.post(
    "http://127.0.0.1:8000/v1/uploads",
    json={"size_bytes": video.stat().st_size, "notice": "given"},
)
answer.raise_for_status()
upload = answer.json()
with video.open("rb") as file:
    for part in upload["parts"]:
        file.seek(part["offset"])
        # Without the key: the address may be one of the bucket.
        requests.put(part["url"], data=file.read(part["size_bytes"])).raise_for_status()
answer = service.post(
    "http://127.0.0.1:8000/v1/analyses",
    json={"upload": upload["upload"]},
)
answer.raise_for_status()
print(answer.json()["token"])
