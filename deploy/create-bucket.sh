#!/bin/sh
# usage: create-bucket.sh ENDPOINT BUCKET, with S3_ACCESS_KEY and S3_SECRET_KEY in the environment
#
# Makes a bucket in an S3-compatible store, unless it exists.
set -eu

endpoint=$1 bucket=$2
# The checksum of an empty body. S3 requires it in the signature.
empty=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
body=$(mktemp)
status=$(curl --silent --show-error --retry 5 --retry-connrefused --request PUT \
    --aws-sigv4 "aws:amz:${S3_REGION:-us-east-1}:s3" --user "$S3_ACCESS_KEY:$S3_SECRET_KEY" \
    --header "x-amz-content-sha256: $empty" --output "$body" --write-out '%{http_code}' "$endpoint/$bucket")
case $status in
    200 | 204) echo "made the bucket $bucket" ;;
    409) echo "the bucket $bucket exists" ;;
    *)
        echo "the bucket $bucket was not made: $endpoint answered $status: $(cat "$body")" >&2
        exit 1
        ;;
esac
