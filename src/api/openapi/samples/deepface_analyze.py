import base64

import requests

with open("picture.png", "rb") as picture:
    data = base64.b64encode(picture.read()).decode()
answer = requests.post(
    "http://127.0.0.1:8000/analyze",
    headers={"x-api-key": "KEY"},
    json={"img": f"data:image/png;base64,{data}", "actions": ["emotion"], "notice": "given"},
)
answer.raise_for_status()
for face in answer.json()["results"]:
    print(face["dominant_emotion"], face["region"])
