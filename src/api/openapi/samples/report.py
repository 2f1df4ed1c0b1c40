import requests

answer = requests.get(
    "http://127.0.0.1:8000/results/TOKEN/report",
    headers={"x-api-key": "KEY"},
)
answer.raise_for_status()
with open("report.html", "w", encoding="utf-8") as page:
    page.write(answer.text)
