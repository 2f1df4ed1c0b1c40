#!/usr/bin/env python3
"""Measures what small files make a decoder do, with and without the limits of the section [video].

    benches/bombs.py [--binary target/release/visage] [--models models]

Makes videos of a few hundred kilobytes with ffmpeg: 16 reference frames of 36 million pixels in H.264 (in MP4, FLV and
MPEG-TS) and of 16 million, frames that are repeated a hundred times, and small frames whose stream changes to large ones. Analyzes each without limits and
with the default limits (but 5 s of CPU time for decoding), and prints the exit code, the peak memory, the CPU time and
the error. An analysis is stopped after a minute. Exits with 1 if an analysis with limits takes more than --memory
megabytes, or is stopped. Needs ffmpeg and the models.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARAMETERS = "ref=16:keyint=1000:log-level=error"
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-x264-params", PARAMETERS, "-pix_fmt", "yuv420p"]
UNLIMITED = {
    "VISAGE_VIDEO__MAX_PIXELS": "36000000",
    "VISAGE_VIDEO__MAX_TOTAL_MEGAPIXELS": "1000000000",
    "VISAGE_VIDEO__MAX_DECODER_MEMORY": "64 GiB",
    "VISAGE_VIDEO__MAX_CPU_S": "1000000",
}
SECONDS = 60


def ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-loglevel", "error", "-nostdin", "-y", *arguments], check=True)


def gray(path: pathlib.Path, size: str, frames: int) -> pathlib.Path:
    ffmpeg("-f", "lavfi", "-i", f"color=gray:size={size}:rate=25", "-frames:v", str(frames), *X264, str(path))
    return path


def bombs(folder: pathlib.Path):
    large = gray(folder / "large.mp4", "5984x5984", 20)
    yield "16 references of 5984x5984", large
    # FFmpeg finds the streams of these containers late, and takes no limits for them.
    for container in ("flv", "ts"):
        late = large.with_suffix("." + container)
        ffmpeg("-i", str(large), "-c", "copy", str(late))
        yield f"the same in {container.upper()}", late
    allowed = gray(folder / "allowed.mp4", "4000x4000", 40)
    yield "16 references of 4000x4000", allowed
    long = folder / "long.mp4"
    ffmpeg("-stream_loop", "99", "-i", str(allowed), "-c", "copy", str(long))
    yield "4000 frames of 4000x4000", long
    first, second = gray(folder / "first.h264", "160x120", 25), gray(folder / "second.h264", "4000x4000", 40)
    both = folder / "both.h264"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    hidden = folder / "hidden.mp4"
    ffmpeg("-r", "25", "-i", str(both), "-c", "copy", "-bsf:v", "setts=ts=N", str(hidden))
    yield "160x120, then 4000x4000", hidden


def run(command: list[str], environment: dict[str, str]):
    """Runs a command. Returns its exit code, peak memory in MB, CPU seconds and last line of errors."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=errors,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)))
        _, status, usage = os.wait4(child.pid, 0)
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    cpu = usage.ru_utime + usage.ru_stime
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1000, cpu, (lines or [""])[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/visage"))
    parser.add_argument("--models", default=str(ROOT / "models"))
    parser.add_argument("--memory", type=int, default=1800)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, path in bombs(pathlib.Path(folder)):
            print(f"{name}: {path.stat().st_size / 1000:.0f} kB")
            for label, limits in [("without limits", UNLIMITED), ("with limits", {"VISAGE_VIDEO__MAX_CPU_S": "5"})]:
                environment = limits | {"VISAGE_MODELS__FOLDER": options.models}
                command = [options.binary, "analyze", "--sample-every", "39", str(path)]
                code, memory, cpu, error = run(command, environment)
                reason = error.rsplit("/", 1)[-1] if code else ""
                print(f"  {label}: exit code {code}, {memory:.0f} MB, {cpu:.1f} CPU s  {reason}")
                failed |= limits is not UNLIMITED and (memory > options.memory or code < 0)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
