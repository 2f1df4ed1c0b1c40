"""What a generator cannot make up: videos, pictures, things that are there, and what a description has no words for."""

import base64
import os
import re
from itertools import count
from pathlib import Path

import requests
import schemathesis
from hypothesis import strategies as st

BASE = os.environ["VISAGE_TEST_BASE"]
session = requests.Session()
session.headers["x-api-key"] = os.environ["VISAGE_TEST_KEY"]

clip = Path(os.environ["VISAGE_TEST_CLIP"]).read_bytes()
picture = Path(os.environ["VISAGE_TEST_PICTURE"]).read_bytes()


def begun():
    """An upload that waits for the clip as its one part."""
    answer = session.post(f"{BASE}/v1/uploads", json={"size_bytes": len(clip)}, timeout=60)
    answer.raise_for_status()
    return answer.json()


def complete():
    """An upload that can be started."""
    upload = begun()
    session.put(upload["parts"][0]["url"], data=clip, timeout=60).raise_for_status()
    return upload["upload"]


def analyzed():
    """An analysis that is done."""
    started = session.post(f"{BASE}/v1/analyses", json={"upload": complete()}, timeout=60)
    started.raise_for_status()
    token = started.json()["token"]
    while session.get(f"{BASE}/results/{token}", params={"wait": 1}, timeout=60).json()["finished_at"] is None:
        pass
    return token


# Accepted, and refused when a worker resolves the name: nothing is fetched.
ADDRESSES = ["https://localhost/a.mp4", "https://localhost:8443/b%20c.mp4?x=1"]


def batch():
    """The id of a batch."""
    answer = session.post(f"{BASE}/v1/batches", json={"items": [{"video_url": ADDRESSES[0]}]}, timeout=60)
    answer.raise_for_status()
    return answer.json()["id"]


uploads = [complete() for _ in range(12)]
tokens = [analyzed() for _ in range(3)]
batches = [batch() for _ in range(2)]
# Results as they are named in a comparison.
takes = [*tokens, f"{tokens[0]}:1"]
# Another text is refused.
face_state = session.post(f"{BASE}/v1/pictures", files={"picture": picture}, timeout=60).json()["face_state"]
# Another version is refused as outdated.
notice_version = session.get(f"{BASE}/v1/notice", timeout=60).json()["version"]

schemathesis.openapi.media_type("video/mp4", st.just(clip))
schemathesis.openapi.media_type("application/octet-stream", st.just(clip))
schemathesis.openapi.format("a-video", st.just(clip))
schemathesis.openapi.format("a-picture", st.just(picture))
schemathesis.openapi.format("a-video-in-base64", st.just(base64.b64encode(clip).decode()))
schemathesis.openapi.format("a-picture-in-base64", st.just(base64.b64encode(picture).decode()))
schemathesis.openapi.format("an-upload", st.sampled_from(uploads))
schemathesis.openapi.format("a-token", st.sampled_from(tokens))
schemathesis.openapi.format("a-batch", st.sampled_from(batches))
schemathesis.openapi.format("an-old-batch", st.sampled_from([batch() for _ in range(6)]))
schemathesis.openapi.format("a-video-address", st.sampled_from(ADDRESSES))
schemathesis.openapi.format("a-take", st.sampled_from(takes))
schemathesis.openapi.format("a-group", st.builds(
    lambda name, takes: f"{name}:{','.join(takes)}",
    st.text(st.characters(codec="utf-8", exclude_characters=":", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100),
    st.lists(st.sampled_from(takes), min_size=1, max_size=3),
))
# Nobody listens there, and that is no fault of the one who asks.
schemathesis.openapi.format("a-webhook", st.sampled_from(["https://hooks.example.org/x?y=1", "https://a.example:8443"]))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Says where these belong, which the document can only say in words."""
    schemas = raw_schema["components"]["schemas"]
    for schema in schemas.values():
        for member, what in schema.get("properties", {}).items():
            if member == "face_state" and "pattern" in what:
                what["enum"] = [face_state]
            # Several files are a list.
            what = what.get("items", what)
            kind = what.get("contentMediaType", "")
            if what.get("contentEncoding") == "base64":
                what["format"] = "a-video-in-base64" if kind.startswith("video/") else "a-picture-in-base64"
            elif kind.startswith("video/"):
                what["format"] = "a-video"
            elif kind.startswith("image/"):
                what["format"] = "a-picture"
            elif member == "webhook_url":
                del what["pattern"], what["maxLength"]
                what["format"] = "a-webhook"
            elif member == "video_url" and "pattern" in what:
                del what["pattern"], what["maxLength"]
                what["format"] = "a-video-address"
            elif member == "notice_version":
                what["enum"] = [notice_version]
    # Cannot be judged where a member is bytes; see before_call.
    del schemas["VideoForm"]["not"], schemas["PictureForm"]["not"]
    # `detail` excludes it, and it cannot be taken out of a request with pictures later; see before_call.
    del schemas["PictureForm"]["properties"]["gaze"]
    # A made-up address would let the service call another machine, and an upload is analyzed at once.
    for name, file in [("VideoForm", "video"), ("StartRequest", "upload")]:
        for keyword in ("if", "then", "else"):
            del schemas[name][keyword]
        del schemas[name]["properties"]["video_url"]
        schemas[name]["required"] = [file]
    schemas["StartRequest"]["properties"]["upload"] = {"type": "string", "format": "an-upload"}
    for path, methods in raw_schema["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                # What is erased is gone: those who read should find something.
                if parameter["name"] == "token" and method == "get":
                    parameter["schema"]["format"] = "a-token"
                elif parameter["name"] == "id" and path == "/v1/batches/{id}":
                    parameter["schema"]["format"] = "a-batch" if method == "get" else "an-old-batch"
                elif path == "/v1/compare" and parameter["name"] == "person":
                    # Nobody else is in the results.
                    parameter["schema"]["maximum"] = 1
                elif path == "/v1/compare":
                    del parameter["schema"]["items"]["pattern"]
                    parameter["schema"]["items"]["format"] = "a-take" if parameter["name"] == "tokens" else "a-group"


names = count()
used = set()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes a good request one that is good at this moment."""
    if case.meta is None:
        return
    if not case.meta.generation.mode.is_positive:
        # In a form, one picture and a list of one are the same, and no field is sent for null or an empty list. Such a
        # request is made wrong in another way.
        body = case.body
        if case.media_type == "multipart/form-data" and isinstance(body, dict) and "picture" in body:
            if not isinstance(body["picture"], list) or any(value is None or value == [] for value in body.values()):
                case.body = {**body, "unknown": "field"}
        return
    # A name that stands for another request already.
    name = next((name for name in case.headers if name.lower() == "idempotency-key"), None)
    if name is not None:
        if case.headers[name] in used:
            case.headers[name] = f"another-{next(names)}"
        used.add(case.headers[name])
    operation = case.operation.definition.raw["operationId"]
    if isinstance(case.body, dict) and case.media_type == "multipart/form-data":
        # Quotes and line ends would break the head of a field.
        body = {name: value for name, value in case.body.items() if re.fullmatch(r"\w{1,40}", name, re.ASCII)}
        # Two options that exclude each other, and may stand in the address, too.
        if "detail" in body or "detail" in (case.query or {}):
            body.pop("gaze", None)
        # A body that is set is judged again, which fails for a list of bytes.
        if body != case.body:
            case.body = body
    # A batch that was only cancelled is still there, which would be reported.
    if operation == "cancel_batch" and case.meta.phase.name.value == "stateful":
        case.query = {**(case.query or {}), "erase": "true"}
    if operation == "compare":
        # At least two sides and at most a hundred results, however they are given.
        query = dict(case.query or {})
        given, groups = query.get("tokens") or [], query.get("group") or []
        given = given.split(",") if isinstance(given, str) else given
        groups = [groups] if isinstance(groups, str) else groups
        if len(given) + len(groups) < 2 or len(given) + 3 * len(groups) > 100:
            query.pop("group", None)
            case.query = {**query, "tokens": ",".join((given + takes)[:100])}
    if operation == "send_part":
        state = session.get(f"{BASE}/v1/uploads/{case.path_parameters['upload']}", timeout=60)
        parts = state.json().get("parts", [])
        size = next((part["size_bytes"] for part in parts if str(part["number"]) == str(case.path_parameters["number"])), None)
        if size is not None:
            case.body = (clip * (size // len(clip) + 1))[:size]


open_uploads = []


@schemathesis.hook
def after_call(context, case, response):
    """Throws old uploads away, of which there may be a hundred."""
    if case.operation.definition.raw["operationId"] == "begin_upload" and response.status_code == 201:
        open_uploads.append(response.json()["upload"])
        if len(open_uploads) > 60:
            session.delete(f"{BASE}/v1/uploads/{open_uploads.pop(0)}", timeout=60)
