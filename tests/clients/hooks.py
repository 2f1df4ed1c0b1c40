"""What a generator cannot make up: videos, pictures, and videos in base64."""

import base64
import os
from pathlib import Path

import schemathesis
from hypothesis import strategies as st

clip = Path(os.environ["VISAGE_TEST_CLIP"]).read_bytes()
picture = Path(os.environ["VISAGE_TEST_PICTURE"]).read_bytes()

schemathesis.openapi.media_type("video/mp4", st.just(clip))
schemathesis.openapi.media_type("application/octet-stream", st.just(clip))
schemathesis.openapi.format("a-video", st.just(clip))
schemathesis.openapi.format("a-picture", st.just(picture))
schemathesis.openapi.format("a-video-in-base64", st.just(base64.b64encode(clip).decode()))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Says where these belong, which the document can only say in words."""
    schemas = raw_schema["components"]["schemas"]
    for schema in schemas.values():
        for member in schema.get("properties", {}).values():
            kind = member.get("contentMediaType", "")
            if kind.startswith("video/"):
                member["format"] = "a-video"
            elif kind.startswith("image/"):
                member["format"] = "a-picture"
    schemas["ClipBody"]["properties"]["content"]["format"] = "a-video-in-base64"
