curl -H 'x-api-key: KEY' -F img=@picture.png -F 'actions=["emotion"]' -F notice=given http://127.0.0.1:8000/analyze
