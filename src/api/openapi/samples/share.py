import requests

answer = requests.post(
    "http://127.0.0.1:8000/results/TOKEN/share",
    headers={"x-api-key": "KEY"},
)
answer.raise_for_status()
print(answer.json()["url"])
