import requests

answer = requests.delete(
    "http://127.0.0.1:8000/results/TOKEN",
    headers={"x-api-key": "KEY"},
)
answer.raise_for_status()
