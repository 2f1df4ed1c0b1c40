#!/usr/bin/env python3
"""Measures what it costs to stop or kill workers while they analyze a long video.

    benches/scale_down.py [--binary target/release/visage] [--minutes 10] [--every 20] [--stops 5] VIDEO

Loops VIDEO to the given length without encoding it. Analyzes it with one `visage work` (SQLite, a temporary folder) in
several ways: without a stop; stopped by SIGTERM in equal distances, with `queue.shutdown_grace_s = 0`, and replaced at
once; killed by SIGKILL likewise; and each of both without stored progress (`queue.keep_progress_s = 0`), where a run begins
anew. Prints the CPU time (unless a worker is killed) and the time of each, what a stop adds, and the size of the stored
progress. The time of a killed worker includes the lease of 3 s. Exits with 1 if a result differs from the first one.
"""

import argparse
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

from outages import ROOT, free_port

LEASE_S = 3


def looped(video: pathlib.Path, minutes: float, folder: pathlib.Path) -> pathlib.Path:
    clip = folder / "long.mp4"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", "-1", "-i", str(video), "-t", str(60 * minutes)]
    subprocess.run([*command, "-c", "copy", str(clip)], check=True)
    return clip


class Run:
    """One analysis of a clip by a series of workers."""

    def __init__(self, binary: pathlib.Path, clip: pathlib.Path, every: int, keep_s: int):
        self.home = tempfile.TemporaryDirectory(prefix="visage-scale-down-")
        home, self.port = pathlib.Path(self.home.name), free_port()
        self.database, self.binary, self.log = home / "visage.db", binary, home / "log"
        self.variables = os.environ | {
            "VISAGE_DATABASE__URL": f"sqlite://{self.database}",
            "VISAGE_STORAGE__FOLDER": str(home / "storage"),
            "VISAGE_HTTP__LISTEN": f"127.0.0.1:{self.port}",
            "VISAGE_QUEUE__CONCURRENCY": "1",
            "VISAGE_QUEUE__LEASE_S": str(LEASE_S),
            "VISAGE_QUEUE__POLL_S": "1",
            "VISAGE_QUEUE__SHUTDOWN_GRACE_S": "0",
            "VISAGE_QUEUE__KEEP_PROGRESS_S": str(keep_s),
            "VISAGE_LOG": "visage=info",
        }
        api = self.spawn("serve", "--no-workers")
        self.token = self.upload(clip, every)
        api.terminate()
        api.wait()

    def spawn(self, *command: str) -> subprocess.Popen:
        with self.log.open("a") as log:
            return subprocess.Popen([str(self.binary), *command], cwd=ROOT, env=self.variables, stdout=log, stderr=log)

    def upload(self, clip: pathlib.Path, every: int) -> str:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < until, self.log.read_text()
                time.sleep(0.1)
        form = ["-F", f"video=@{clip}", "-F", f"sample_every={every}", "-F", "notice=given"]
        answer = subprocess.run(["curl", "-sSf", *form, f"http://127.0.0.1:{self.port}/analyze-video"], check=True,
                                capture_output=True)
        return json.loads(answer.stdout)["token"]

    def ask(self, sql: str) -> tuple:
        with sqlite3.connect(self.database, timeout=10) as database:
            return database.execute(sql).fetchone()

    def analyze(self, stop: signal.Signals, stops: int, distance_s: float) -> None:
        """Runs workers until the job is done. Sends `stop` to the first `stops` workers, each after `distance_s`."""
        self.cpu_s, self.kept_bytes, began = 0.0, 0, time.monotonic()
        for worker in range(stops + 1):
            is_last = worker == stops
            claims = self.ask("SELECT claim FROM jobs")[0]
            process = self.spawn("work")
            # The distance counts from the beginning of the analysis.
            while self.ask("SELECT claim FROM jobs")[0] == claims:
                time.sleep(0.05)
            ends = time.monotonic() + (1e9 if is_last else distance_s)
            while time.monotonic() < ends and self.ask("SELECT status FROM jobs")[0] != "done":
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM if is_last else stop)
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = 0
            self.cpu_s += used.ru_utime + used.ru_stime
            self.kept_bytes = max(self.kept_bytes, self.ask("SELECT COALESCE(SUM(LENGTH(content)), 0) FROM analysis_parts")[0])
            if self.ask("SELECT status FROM jobs")[0] == "done":
                break
        self.wall_s = time.monotonic() - began
        assert self.ask("SELECT status FROM jobs")[0] == "done", self.log.read_text()[-3000:]
        self.result = self.ask("SELECT analysis, timeline FROM results")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=pathlib.Path)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/visage")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--stops", type=int, default=5)
    parser.add_argument("--keep-s", type=int, nargs="+", default=[5, 20])
    wanted = parser.parse_args()
    binary = wanted.binary.resolve()
    with tempfile.TemporaryDirectory(prefix="visage-scale-down-") as folder:
        clip = looped(wanted.video.resolve(), wanted.minutes, pathlib.Path(folder))
        differing = measure(binary, clip, wanted)
    sys.exit(1 if differing else 0)


def measure(binary: pathlib.Path, clip: pathlib.Path, wanted) -> int:
    whole = Run(binary, clip, wanted.every, 20)
    whole.analyze(signal.SIGTERM, 0, 0)
    print(f"{wanted.minutes:g} minutes, every {wanted.every}th frame: {whole.cpu_s:.1f} s of CPU, {whole.wall_s:.1f} s")
    distance_s = whole.wall_s / (wanted.stops + 1)
    ways = [("stopped", signal.SIGTERM, 20), *(("killed", signal.SIGKILL, keep_s) for keep_s in wanted.keep_s),
            ("stopped", signal.SIGTERM, 0)]
    print(f"{wanted.stops} stops, {distance_s:.1f} s apart")
    differing = 0
    for way, stop, keep_s in ways:
        run = Run(binary, clip, wanted.every, keep_s)
        run.analyze(stop, wanted.stops, distance_s)
        differs = run.result != whole.result
        differing += differs
        # The processes of a killed worker are not counted.
        cpu = (f"{run.cpu_s:.1f} s of CPU, {(run.cpu_s - whole.cpu_s) / wanted.stops:.2f} s more a stop; "
               if stop == signal.SIGTERM else "")
        print(f"{way}, keep_progress_s = {keep_s}: {cpu}{run.wall_s:.1f} s, {(run.wall_s - whole.wall_s) / wanted.stops:.1f} s "
              f"more a stop; stored at most {run.kept_bytes / 1e6:.2f} MB"
              f"{'; THE RESULT DIFFERS' if differs else ''}")
    return differing


if __name__ == "__main__":
    main()
