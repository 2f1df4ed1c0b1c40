import requests

with open("picture.png", "rb") as picture:
    answer = requests.post(
        "http://127.0.0.1:8000/v1/pictures",
        headers={"x-api-key": "KEY"},
        files={"picture": picture},
        data={"notice": "given"},
    )
answer.raise_for_status()
for face in answer.json()["pictures"][0]["faces"]:
    print(face["id"], face["dominant_emotion"], face["eye_contact"])
