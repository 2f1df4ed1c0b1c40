#!/usr/bin/env bash
# Silero VAD's ONNX model hears no speech at all when it is fed the 512 samples that its documentation speaks of.
#
# Expected: the model takes 512 samples at 16 kHz a call (256 at 8 kHz) and keeps what it needs of the past in `state`.
# A call with a wrong number of samples would be refused.
# Seen: each call has to carry the last 64 samples of the call before in front of the 512 (32 in front of 256). The Python
# wrapper of the package does that. Its input has no fixed size, so a program that runs the ONNX file itself and leaves them out gets no error,
# and at 16 kHz a probability of at most 0.01 for clear speech.
# Versions: silero-vad 6.2.3, onnxruntime 1.31.1; the speech is test data of webrtcvad 2.0.10.
# Why it matters here: a result that says "no speech" looks like a silent recording. visage's test of voice activity
# holds a recording with speech against the known ratio for this reason.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.31.1 numpy==2.4.6
env/bin/pip install --quiet --disable-pip-version-check --no-deps --target package silero-vad==6.2.3
env/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest . webrtcvad==2.0.10
tar xzf webrtcvad-2.0.10.tar.gz webrtcvad-2.0.10/test-audio.raw

env/bin/python - <<'PYTHON'
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(
    "package/silero_vad/data/silero_vad.onnx", providers=["CPUExecutionProvider"]
)
print("onnxruntime", onnxruntime.__version__, "| input", session.get_inputs()[0].shape)

# 0.9 s of speech at 8 kHz, and the same at 16 kHz by linear interpolation.
narrow = np.fromfile("webrtcvad-2.0.10/test-audio.raw", "<i2").astype(np.float32) / 32768
wide = np.interp(np.arange(2 * len(narrow)) / 2, np.arange(len(narrow)), narrow).astype(np.float32)


def highest(samples, rate, size, context):
    state = np.zeros((2, 1, 128), np.float32)
    before = np.zeros(context, np.float32)
    best = 0.0
    for start in range(0, len(samples) - size + 1, size):
        chunk = samples[start:start + size]
        feed = {"input": np.concatenate([before, chunk])[None], "state": state, "sr": np.array(rate)}
        probability, state = session.run(None, feed)
        best = max(best, float(probability[0, 0]))
        before = chunk[len(chunk) - context:]
    return best


alone, preceded = highest(wide, 16000, 512, 0), highest(wide, 16000, 512, 64)
print(f"16 kHz: highest probability of speech {alone:.3f} with 512 samples a call, {preceded:.3f} with 64 + 512")
print(f" 8 kHz: {highest(narrow, 8000, 256, 0):.3f} with 256 samples a call, {highest(narrow, 8000, 256, 32):.3f} with 32 + 256")
sys.exit(0 if alone < 0.01 and preceded > 0.99 else "changed")
PYTHON
