#!/usr/bin/env bash
# openapi-python-client leaves out every schema that reaches a union with one composed variant.
#
# Expected: a document of OpenAPI 3.1 with `oneOf` over inline objects, one of which is an `allOf` of a reference and an object, is valid
# JSON Schema. A generator that cannot express one variant leaves out that variant, or types the member as "any".
# Seen: the union is dropped, then each schema that refers to it, then each that refers to those. The call is generated without its
# answer: its result type is None. The program ends with status 0 and a warning, unless --fail-on-warning is given. The same union with
# named variants (references, no `allOf`) is generated completely.
# Versions: openapi-python-client 0.29.1.
# Why it matters here: serde's internally tagged enums with a struct in a variant are described this way by utoipa. One such enum deep in
# the result of visage took the whole result out of the generated client. visage gives each variant a name of its own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check openapi-python-client==0.29.1

env/bin/python - <<'PYTHON'
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

print("openapi-python-client", importlib.metadata.version("openapi-python-client"))

reference = {"$ref": "#/components/schemas/Measure"}


def kind(name):
    return {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string", "enum": [name]}}}


def document(remark, more):
    measure = {"type": "object", "required": ["value"], "properties": {"value": {"type": "number"}}}
    report = {"type": "object", "required": ["remark"], "properties": {"remark": {"$ref": "#/components/schemas/Remark"}}}
    result = {"type": "object", "required": ["report"], "properties": {"report": {"$ref": "#/components/schemas/Report"}}}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Result"}}}
    answer = {"200": {"description": "The result", "content": content}}
    schemas = {"Measure": measure, "Remark": remark, "Report": report, "Result": result, **more}
    return {"openapi": "3.1.0", "info": {"title": "sample", "version": "1"}, "components": {"schemas": schemas},
            "paths": {"/result": {"get": {"operationId": "result", "responses": answer}}}}


def generate(name, remark, more):
    Path(f"{name}.json").write_text(json.dumps(document(remark, more)))
    Path("config.json").write_text(json.dumps({"post_hooks": []}))
    done = subprocess.run(["env/bin/openapi-python-client", "generate", "--path", f"{name}.json", "--meta", "none", "--config",
                           "config.json", "--output-path", name], capture_output=True, text=True)
    models = sorted(file.stem for file in Path(name, "models").glob("*.py") if file.stem != "__init__")
    print(f"{name}: status {done.returncode}, models: {', '.join(models)}")
    return done.returncode, models


composed = {"oneOf": [kind("nothing"), {"allOf": [reference, kind("strongest")]}]}
strongest = kind("strongest")
strongest["properties"]["value"] = {"type": "number"}
names = {"RemarkNothing": kind("nothing"), "RemarkStrongest": strongest}
named = {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
dropped = generate("composed", composed, {})
kept = generate("named", named, names)
print("the answer of the call is", "missing" if "result" not in dropped[1] else "there", "with composed variants,",
      "there" if "result" in kept[1] else "missing", "with named ones")
sys.exit(0 if dropped == (0, ["measure"]) and kept[0] == 0 and {"report", "result"} <= set(kept[1]) else "changed")
PYTHON
