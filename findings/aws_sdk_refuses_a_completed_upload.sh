#!/usr/bin/env bash
# The AWS SDK for Rust calls an upload in parts failed that a stand-in for S3 has completed.
#
# Expected: CompleteMultipartUpload succeeds if the server answers 200 and the object is there, as with the SDK for Python (boto3).
# Seen: moto answers with the root element CompleteMultipartUploadResponse instead of CompleteMultipartUploadResult. boto3 does not look at
# the name. The SDK for Rust does: the call returns an error ("invalid XML root ... This is likely a bug in the SDK"), and the object lies in the
# bucket in full.
# Versions: aws-sdk-s3 1.157.0 (Rust), boto3 1.40.76, moto 5.2.1.
# Why it matters here: a program that deletes or retries after this error loses a video that was stored, or keeps it for ever. moto is what many
# projects test against. visage asks for the size of the object after such an error and goes on if it is whole.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check 'moto[s3]==5.2.1' flask==3.1.2 flask-cors==6.0.1 boto3==1.40.76
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
env/bin/moto_server --port "$port" >server.log 2>&1 &
server=$!
export ENDPOINT=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1
for _ in $(seq 100); do curl --silent --output /dev/null "$ENDPOINT" && break || sleep 0.1; done

env/bin/python - <<'PYTHON'
import os
import boto3

s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], region_name="us-east-1")
s3.create_bucket(Bucket="videos")
upload = s3.create_multipart_upload(Bucket="videos", Key="python")["UploadId"]
tag = s3.upload_part(Bucket="videos", Key="python", UploadId=upload, PartNumber=1, Body=b"12345")["ETag"]
s3.complete_multipart_upload(Bucket="videos", Key="python", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
print("boto3", boto3.__version__, "completes;", s3.head_object(Bucket="videos", Key="python")["ContentLength"], "bytes")
PYTHON

mkdir -p rust/src
cat >rust/Cargo.toml <<'TOML'
[package]
name = "complete"
version = "0.0.0"
edition = "2024"

[dependencies]
aws-sdk-s3 = { version = "=1.157.0", default-features = false, features = ["rt-tokio", "behavior-version-latest"] }
aws-smithy-http-client = { version = "=1.5.2", default-features = false, features = ["default-client"] }
tokio = { version = "1", features = ["rt", "macros"] }

[profile.dev]
debug = false
TOML
cat >rust/src/main.rs <<'RUST'
use aws_sdk_s3::config::{Builder, Credentials, Region};
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let config = Builder::new()
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(std::env::var("ENDPOINT").unwrap())
        .force_path_style(true)
        .behavior_version_latest()
        .build();
    let s3 = aws_sdk_s3::Client::from_conf(config);
    let begun = s3.create_multipart_upload().bucket("videos").key("rust").send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let part = s3.upload_part().bucket("videos").key("rust").upload_id(id).part_number(1);
    let tag = part.body(b"12345".to_vec().into()).send().await.unwrap().e_tag;
    let parts = CompletedMultipartUpload::builder().parts(CompletedPart::builder().part_number(1).set_e_tag(tag).build()).build();
    let done = s3.complete_multipart_upload().bucket("videos").key("rust").upload_id(id).multipart_upload(parts).send().await;
    let size = s3.head_object().bucket("videos").key("rust").send().await.unwrap().content_length();
    let error = done.err().map(|error| DisplayErrorContext(error).to_string()).unwrap_or_default();
    println!("aws-sdk-s3 1.157.0: {}", error.split(" (").next().unwrap());
    println!("the object has {size:?} bytes");
    std::process::exit(if error.contains("invalid XML root") && size == Some(5) { 0 } else { 1 });
}
RUST
cargo run --quiet --manifest-path rust/Cargo.toml || { echo changed >&2; exit 1; }
