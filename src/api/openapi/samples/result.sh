# Waits up to 30 seconds for the end of the analysis.
curl -H 'x-api-key: KEY' 'http://127.0.0.1:8000/results/TOKEN?wait=30'
