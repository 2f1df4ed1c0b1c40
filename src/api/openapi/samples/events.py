import requests

with requests.get(
    "http://127.0.0.1:8000/results/TOKEN/events",
    headers={"x-api-key": "KEY"},
    stream=True,
) as events:
    events.raise_for_status()
    for line in events.iter_lines(decode_unicode=True):
        if line.startswith("data:"):
            print(line)
