#!/usr/bin/env python3
"""Measures several videos at once, and results per second, with one `visage serve` on default settings.

    benches/service.py [--binary target/release/visage] [--videos 8] [--seconds 60] [--connections 16] [--rounds 3]

Analyzes copies of the clip of `benches/run.py` (720p30, one face) one after another on one core, then all at once on
all cores, and measures time and peak memory. Ideally the second takes the time of the first divided by the number of
cores. Then wrk requests a result repeatedly over persistent connections, on one core, while the service runs on
another. Needs wrk (apt install wrk) and at least two cores.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Service:
    """A running service with a temporary folder."""

    def __init__(self, binary: pathlib.Path, workers: int, cores: set[int] | None = None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="visage-service-"))
        self.log = self.folder / "log"
        settings = {
            "VISAGE_HTTP__LISTEN": "127.0.0.1:0",
            "VISAGE_DATABASE__URL": f"sqlite://{self.folder}/visage.db",
            "VISAGE_STORAGE__FOLDER": f"{self.folder}/videos",
            "VISAGE_MODELS__FOLDER": str(ROOT / "models"),
            "VISAGE_QUEUE__CONCURRENCY": str(workers),
            "VISAGE_LOG__FORMAT": "json",
        }
        errors = self.log.open("w")
        pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
        self.process = subprocess.Popen([binary, "serve"], cwd=ROOT, env={**os.environ, **settings}, stderr=errors,
                                        preexec_fn=pin)
        for _ in range(600):
            if found := re.search(r'"address":"([^"]+)"', self.log.read_text()):
                self.base = f"http://{found[1]}"
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        sys.exit(f"the service did not start: {self.log.read_text()}")

    def upload(self, clip: pathlib.Path) -> str:
        answer = subprocess.run(["curl", "-sf", "-F", f"video=@{clip}", f"{self.base}/analyze-video"],
                                check=True, capture_output=True)
        return json.loads(answer.stdout)["token"]

    def wait(self, tokens: list[str]) -> None:
        for token in tokens:
            while True:
                with urllib.request.urlopen(f"{self.base}/results/{token}?wait=30") as answer:
                    status = json.load(answer)["status"]
                if status == "done":
                    break
                if status not in ("queued", "running"):
                    sys.exit(f"{token} is {status}")

    def peak_mib(self) -> float:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 1024

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        shutil.rmtree(self.folder)


def analyses(binary: pathlib.Path, workers: int, videos: int, clip: pathlib.Path) -> tuple[float, float]:
    """Returns the seconds from the first upload to the last result, and the peak memory in MiB. One worker gets one core."""
    service = Service(binary, workers, {0} if workers == 1 else None)
    try:
        # The first analysis loads the models and is not measured.
        service.wait([service.upload(clip)])
        begun = time.monotonic()
        service.wait([service.upload(clip) for _ in range(videos)])
        return time.monotonic() - begun, service.peak_mib()
    finally:
        service.end()


def results(binary: pathlib.Path, clip: pathlib.Path, connections: int, rounds: int) -> None:
    service = Service(binary, 1, {0})
    try:
        token = service.upload(clip)
        service.wait([token])
        command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", "-d8s", "--latency",
                   f"{service.base}/results/{token}"]
        for _ in range(rounds):
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rate = re.search(r"Requests/sec:\s+(\S+)", said)[1]
            half, most = (re.search(rf"^\s+{share}%\s+(\S+)", said, re.MULTILINE)[1] for share in (50, 99))
            wrong = re.search(r"Non-2xx.*", said)
            print(f"GET /results, {connections} connections, one core: {rate} a second, half within {half}, 99 % within "
                  f"{most}{', ' + wrong[0] if wrong else ''}", flush=True)
    finally:
        service.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/visage")
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--seconds", default="60")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    binary = pathlib.Path(options.binary).absolute()
    clip = ROOT / "target" / "bench" / f"720p30-{options.seconds}s.mp4"
    subprocess.run([ROOT / "benches" / "clip.sh", clip, "1280", "720", "5M", options.seconds, "h264", "250", "1"],
                   check=True, cwd=ROOT)

    if options.videos:
        taken = {workers: [] for workers in (1, options.videos)}
        peaks = {}
        for _ in range(options.rounds):
            for workers in taken:
                seconds, peaks[workers] = analyses(binary, workers, options.videos, clip)
                taken[workers].append(seconds)
        one, all_at_once = (statistics.median(taken[workers]) for workers in taken)
        more = (peaks[options.videos] - peaks[1]) / (options.videos - 1)
        loss = all_at_once / (one / os.cpu_count())
        print(f"{options.videos} videos of {options.seconds} s, median of {options.rounds}: one after another on one core "
              f"{one:.1f} s, all at once on {os.cpu_count()} cores {all_at_once:.1f} s ({loss:.2f} x the first divided by the "
              f"number of cores); peak memory "
              f"{peaks[1]:.0f} and {peaks[options.videos]:.0f} MiB, {more:.0f} MiB for each further video", flush=True)
    results(binary, clip, options.connections, options.rounds)


if __name__ == "__main__":
    main()
