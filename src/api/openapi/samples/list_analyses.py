import requests

answer = requests.get(
    "http://127.0.0.1:8000/v1/analyses",
    headers={"x-api-key": "KEY"},
    params={"status": "done"},
)
answer.raise_for_status()
for analysis in answer.json()["analyses"]:
    print(analysis["token"], analysis["file_name"])
