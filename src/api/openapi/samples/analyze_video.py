import requests

with open("clip.mp4", "rb") as video:
    answer = requests.post(
        "http://127.0.0.1:8000/analyze-video",
        headers={"x-api-key": "KEY"},
        files={"video": video},
        data={"notice": "given"},
    )
answer.raise_for_status()
print(answer.json()["token"])
