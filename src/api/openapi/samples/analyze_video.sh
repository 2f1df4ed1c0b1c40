curl -H 'x-api-key: KEY' -F video=@clip.mp4 -F notice=given http://127.0.0.1:8000/analyze-video
