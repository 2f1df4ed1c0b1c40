curl -H 'x-api-key: KEY' 'http://127.0.0.1:8000/v1/compare?tokens=TOKEN,OTHER_TOKEN'
