curl -X DELETE -H 'x-api-key: KEY' http://127.0.0.1:8000/results/TOKEN
