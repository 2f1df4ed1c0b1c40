# All rows as CSV.
curl -H 'x-api-key: KEY' -H 'Accept: text/csv' -o timeline.csv http://127.0.0.1:8000/results/TOKEN/timeline
