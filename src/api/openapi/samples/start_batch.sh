curl -H 'x-api-key: KEY' --json @- http://127.0.0.1:8000/v1/batches <<'END'
{
  "items": [
    {"video_url": "https://media.example.org/a.mp4"},
    {"video_url": "https://media.example.org/b.mp4", "file_name": "second.mp4"}
  ],
  "max_faces": 1,
  "notice": "given"
}
END
