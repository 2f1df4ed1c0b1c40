#!/usr/bin/env python3
"""Measures what it costs to decode in a confined process.

    benches/isolation.py [--binary target/release/visage] [--models models] [--runs 7] CLIP...

Analyzes each clip by turns with `video.isolation = "off"` and `"prefer"`, and prints the median time on the wall, the
CPU time and the peak memory of visage and its child together (proportional set size, which counts shared pages once),
and how the two differ. Exits with 1 if the results differ, or if isolation costs more than it may: 1.03 times the time
of a clip of at least 30 s, 25 ms for a shorter one, 30 MB of memory. Needs the models.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FACTOR, MILLISECONDS, MEGABYTES, LONG_S = 1.03, 25, 30, 30


def children(pid: int) -> list[int]:
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def memory(pid: int) -> int:
    """The proportional set size of a process in kB, or 0 if it ended."""
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def run(binary: str, models: str, clip: str, isolation: str, watch: bool):
    """Returns wall seconds, CPU seconds, peak megabytes (if watched) and the result."""
    environment = os.environ | {"VISAGE_VIDEO__ISOLATION": isolation, "VISAGE_MODELS__FOLDER": models,
                                "VISAGE_LOG__FILTER": "error", "VISAGE_ENGINE__DEVICE": "cpu"}
    before = os.times()
    started = time.monotonic()
    process = subprocess.Popen([binary, "analyze", clip], env=environment, stdout=subprocess.PIPE, cwd=ROOT)
    peak, done = [0], threading.Event()

    def look():
        while not done.is_set():
            total = sum(memory(pid) for pid in [process.pid, *children(process.pid)])
            peak[0] = max(peak[0], total)
            done.wait(0.05)

    watcher = threading.Thread(target=look)
    if watch:
        watcher.start()
    output, _ = process.communicate()
    wall = time.monotonic() - started
    done.set()
    if watch:
        watcher.join()
    after = os.times()
    if process.returncode != 0:
        sys.exit(f"{clip}: visage ended with {process.returncode}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu, peak[0] / 1000, json.loads(output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/visage"))
    parser.add_argument("--models", default=str(ROOT / "models"))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    options = parser.parse_args()
    failed = False
    for clip in options.clips:
        clip = os.path.abspath(clip)
        figures = {"off": [], "prefer": []}
        results, peaks = {}, {}
        for number in range(options.runs):
            for isolation in figures:
                wall, cpu, _, results[isolation] = run(options.binary, options.models, clip, isolation, False)
                # The first run of each reads the files from the disk.
                if number > 0 or options.runs == 1:
                    figures[isolation].append((wall, cpu))
        for isolation in figures:
            # Apart, because reading the memory of a process slows it down.
            peaks[isolation] = run(options.binary, options.models, clip, isolation, True)[2]
        walls, cpus = ({name: statistics.median(run[n] for run in runs) for name, runs in figures.items()} for n in (0, 1))
        duration = results["off"]["video"]["duration_s"]
        factor, more_ms = walls["prefer"] / walls["off"], 1000 * (walls["prefer"] - walls["off"])
        more_mb = peaks["prefer"] - peaks["off"]
        print(f"{os.path.basename(clip)} ({duration:.1f} s)")
        for name in figures:
            print(f"  {name:8} {walls[name]:7.3f} s  CPU {cpus[name]:7.3f} s  memory {peaks[name]:6.0f} MB")
        print(f"  time x {factor:.3f} ({more_ms:+.0f} ms), CPU x {cpus['prefer'] / cpus['off']:.3f}, memory {more_mb:+.0f} MB")
        if results["off"] != results["prefer"]:
            print("  the results differ")
            failed = True
        failed |= more_mb > MEGABYTES or (factor > FACTOR if duration >= LONG_S else more_ms > MILLISECONDS)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
