#!/usr/bin/env python3
"""Compares the time of an analysis with that of decoding the video, and with that of typical Python scripts.

    benches/run.py [--rounds N] [--clips NAME,...] [--seconds N] [--skip CONTENDER,...]

Makes its clips, then runs all contenders in turn on each clip, several times, and prints medians: wall time, the
ratio to FFmpeg's decoding, CPU seconds (user and system; other load on the machine affects them less than wall time),
peak memory, and the number of faces. Each figure includes starting the program and loading its models. Then it prints:

- the time of each stage of visage, in total and per face (stages overlap and compete for the CPU);
- the CPU time of landmarks and sound in a talk;
- the time of the networks alone in ONNX Runtime on one core, to compare machines.

VISAGE names another program.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "target" / "bench"
VISAGE = os.environ.get("VISAGE", str(ROOT / "target" / "release" / "visage"))
PYTHON = BENCH / "venv" / "bin" / "python"
HAAR_PYTHON = BENCH / "venv-haar" / "bin" / "python"
FER_PYTHON = BENCH / "venv-fer" / "bin" / "python"

# Name: size, bit rate, coding, frames between key frames, faces.
CLIPS = {
    "720p30": ("1280", "720", "5M", "h264", "250", "1"),
    "720p30-key1s": ("1280", "720", "5M", "h264", "30", "1"),
    "720p30-2M": ("1280", "720", "2M", "h264", "250", "1"),
    "720p30-5faces": ("1280", "720", "5M", "h264", "250", "5"),
    "1080p30": ("1920", "1080", "8M", "h264", "250", "1"),
    "1080p30-key1s": ("1920", "1080", "16M", "h264", "30", "1"),
    "720p30-hevc": ("1280", "720", "3M", "hevc", "250", "1"),
    "720p30-vp9": ("1280", "720", "3M", "vp9", "240", "1"),
}
EVERY = 20


def contenders(clip):
    """Returns the command line of each contender."""
    script = str(ROOT / "benches" / "contenders.py")
    visage = [VISAGE, "analyze", "--sample-every", str(EVERY)]
    return {
        "ffmpeg": ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", clip, "-an", "-f", "null", "-"],
        "visage exact": [*visage, "--sampling", "exact", clip],
        "visage fast": [*visage, "--sampling", "fast", clip],
        "haar": [str(HAAR_PYTHON), script, "haar", clip],
        "yunet": [str(PYTHON), script, "yunet", clip],
        "fer": [str(FER_PYTHON), script, "fer", clip],
    }


def missing(name):
    """Returns the reason why a contender cannot run, or None."""
    if name.startswith("visage") or name == "ffmpeg":
        return None
    if not PYTHON.exists():
        return "no Python environment: benches/python.sh makes one"
    if name == "fer" and not FER_PYTHON.exists():
        return "no environment with the package: benches/python.sh fer"
    return None


def run(command):
    """Runs a command. Returns wall seconds, CPU seconds, peak memory in MiB, and its output."""
    with tempfile.TemporaryFile() as complaints, tempfile.TemporaryFile() as printed:
        since = time.monotonic()
        child = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=complaints,
                                 env={**os.environ, "VISAGE_LOG": "error"})
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - since
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            complaints.seek(0)
            sys.exit(f"{' '.join(command)}: {complaints.read().decode(errors='replace')}")
        printed.seek(0)
        return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed.read().decode()


def faces_read(contender, printed):
    """Returns the number of faces that a contender printed; empty for FFmpeg."""
    if contender.startswith("visage"):
        return sum(face["frames"] for face in json.loads(printed)["faces"])
    return printed.rpartition(" faces:")[0].rpartition("\n")[2]


def stages(clip):
    """Prints the time of each stage of one run with all options on."""
    command = [VISAGE, "analyze", "--sample-every", str(EVERY), "--detail", "expressions", "--csv", os.devnull,
               "--stage-times", str(clip)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "VISAGE_LOG": "error"})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    times = json.loads(done.stderr.splitlines()[-1])
    faces = sum(face["frames"] for face in json.loads(done.stdout)["faces"])
    print(f"  stages, s (ms for each of {faces} faces):")
    for name in ("decode_s", "detect_s", "landmarks_s", "expressions_s", "read_s", "speech_s", "whole_s"):
        print(f"  {name:14}{times[name]:8.2f}{times[name] * 1000 / max(faces, 1):10.1f}", flush=True)


def parts(talk, times, rounds):
    """Prints the CPU time of landmarks and sound per face, compared with a run without them."""
    clip = BENCH / f"talk-{times}.mp4"
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-stream_loop", str(times - 1), "-i", talk, "-c", "copy", clip],
                   check=True)
    left_out = {"everything": [], "without sound": ["--speech", "off"], "neither": ["--speech", "off", "--gaze", "off"]}
    taken = {name: [] for name in left_out}
    for _ in range(rounds):
        for name, options in left_out.items():
            taken[name].append(run([VISAGE, "analyze", "--sample-every", str(EVERY), *options, str(clip)])[1])
    cpu = {name: statistics.median(seconds) for name, seconds in taken.items()}
    told = subprocess.run([VISAGE, "analyze", "--sample-every", str(EVERY), *left_out["neither"], str(clip)], cwd=ROOT,
                          capture_output=True, text=True, check=True, env={**os.environ, "VISAGE_LOG": "error"})
    faces = sum(face["frames"] for face in json.loads(told.stdout)["faces"])
    each = lambda more, less: (cpu[more] - cpu[less]) * 1000 / faces
    print(f"\ntalk of {40 * times} s, CPU for each of {faces} faces without detection and emotion: "
          f"{each('everything', 'neither'):.1f} ms, of which {each('everything', 'without sound'):.1f} ms for sound", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", default="60")
    arguments.add_argument("--clips", default=",".join(CLIPS))
    arguments.add_argument("--skip", default="")
    options = arguments.parse_args()
    if not os.access(VISAGE, os.X_OK):
        sys.exit(f"{VISAGE} is missing: make build")

    skipped = options.skip.split(",")
    for name in options.clips.split(","):
        clip = BENCH / f"{name}-{options.seconds}s.{'webm' if 'vp9' in name else 'mp4'}"
        width, height, rate, coding, gop, faces = CLIPS[name]
        subprocess.run([ROOT / "benches" / "clip.sh", clip, width, height, rate, options.seconds, coding, gop, faces],
                       check=True)
        chosen = {}
        for contender, command in contenders(str(clip)).items():
            reason = "by --skip" if contender in skipped else missing(contender)
            if reason:
                print(f"{name}: {contender} left out ({reason})", file=sys.stderr)
            else:
                chosen[contender] = command
        taken = {contender: [] for contender in chosen}
        for _ in range(options.rounds):
            for contender, command in chosen.items():
                taken[contender].append(run(command))
        print(f"\n{name}: {width}x{height}, 30 fps, {coding} at {rate}bit/s, key frame every {gop} at most, "
              f"{faces} face(s), {options.seconds} s, every {EVERY}th frame; {os.cpu_count()} cores, "
              f"median of {options.rounds}")
        print(f"  {'':14}{'wall s':>8}{'x ffmpeg':>10}{'cpu s':>8}{'x ffmpeg':>10}{'MiB':>7}{'faces':>7}")
        limit_wall, limit_cpu = (statistics.median(column) for column in list(zip(*taken["ffmpeg"]))[:2])
        for contender, runs in taken.items():
            wall, cpu, memory = (statistics.median(column) for column in list(zip(*runs))[:3])
            print(f"  {contender:14}{wall:8.2f}{wall / limit_wall:10.2f}{cpu:8.2f}{cpu / limit_cpu:10.2f}{memory:7.0f}"
                  f"{faces_read(contender, runs[0][3]):>7}", flush=True)
        stages(clip)

    subprocess.run([ROOT / "scripts" / "fetch-test-media.sh"], check=True)
    talk = ROOT / ".runtime" / "media" / "speech_and_face.mp4"
    for times in (1, 3):
        parts(talk, times, options.rounds)
    if PYTHON.exists():
        print("\none core of this machine, networks alone in ONNX Runtime:", flush=True)
        subprocess.run([PYTHON, ROOT / "benches" / "contenders.py", "models"], cwd=ROOT, check=True)
    start = [run([VISAGE, "--version"]) for _ in range(options.rounds)]
    print(f"\nstart of the program: {statistics.median(wall for wall, *_ in start) * 1000:.0f} ms")


main()
