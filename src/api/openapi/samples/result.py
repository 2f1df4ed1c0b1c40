import requests

result = {"status": "queued"}
while result["status"] in ("queued", "running"):
    # Waits up to 30 seconds for the end of the analysis.
    answer = requests.get(
        "http://127.0.0.1:8000/results/TOKEN",
        headers={"x-api-key": "KEY"},
        params={"wait": 30},
    )
    answer.raise_for_status()
    result = answer.json()
if result["status"] == "done":
    print(result["analysis"]["summary"]["dominant_emotion"])
else:
    print(result["status"], result["error"])
