curl -H 'x-api-key: KEY' -F picture=@picture.png -F notice=given http://127.0.0.1:8000/v1/pictures
