# Begins an upload, sends its parts and starts the analysis.
size=$(wc -c <clip.mp4)
upload=$(curl -H 'x-api-key: KEY' --json "{\"size_bytes\": $size, \"notice\": \"given\"}" http://127.0.0.1:8000/v1/uploads)
jq -r '.parts[] | "\(.offset) \(.size_bytes) \(.url)"' <<<"$upload" | while read -r offset bytes url; do
  tail -c "+$((offset + 1))" clip.mp4 | head -c "$bytes" | curl -X PUT --data-binary @- "$url"
done
jq '{upload}' <<<"$upload" | curl -H 'x-api-key: KEY' --json @- http://127.0.0.1:8000/v1/analyses
