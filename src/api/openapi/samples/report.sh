curl -H 'x-api-key: KEY' -o report.html http://127.0.0.1:8000/results/TOKEN/report
