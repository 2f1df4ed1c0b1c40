import requests

rows, cursor = [], None
while True:
    answer = requests.get(
        "http://127.0.0.1:8000/results/TOKEN/timeline",
        headers={"x-api-key": "KEY"},
        params={"cursor": cursor},
    )
    answer.raise_for_status()
    page = answer.json()
    rows += page["rows"]
    cursor = page["next"]
    if cursor is None:
        break
for row in rows:
    print(row["time_s"], row["face"], row["emotions"]["happy"], row["eye_contact"])
