import requests

answer = requests.get(
    "http://127.0.0.1:8000/v1/compare",
    headers={"x-api-key": "KEY"},
    params={"tokens": "TOKEN,OTHER_TOKEN"},
)
answer.raise_for_status()
for figure, difference in answer.json()["differences"][0]["figures"].items():
    if difference["beyond_chance"]:
        print(figure, difference["value"], difference["interval"])
