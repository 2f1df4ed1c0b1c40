#!/usr/bin/env python3
"""Measures how much sooner several workers finish a long video than one does.

    benches/pieces.py [--binary target/release/visage] [--minutes 10] [--every 20] [--piece-s 60] [--workers 2] VIDEO

Loops VIDEO to the given length without encoding it. Analyzes it with one `visage work` as a whole, with one in pieces
(`queue.split_from_s`), and with several in pieces (SQLite, a temporary folder). Each worker has one core of its own, so
there have to be as many cores as workers. Prints the time of each and, for one worker, its CPU time. Exits with 1 if a
result differs from the first one.
"""

import argparse
import os
import pathlib
import signal
import sys
import tempfile
import time

from outages import ROOT
from scale_down import Run, looped


class Together(Run):
    """One analysis of a clip by several workers at the same time."""

    def __init__(self, binary: pathlib.Path, clip: pathlib.Path, every: int, piece_s: int, split_from_s: int):
        os.environ["VISAGE_VIDEO__PIECE_S"] = str(piece_s)
        os.environ["VISAGE_QUEUE__SPLIT_FROM_S"] = str(split_from_s)
        super().__init__(binary, clip, every, 60)

    def analyze_with(self, workers: int) -> None:
        began, processes = time.monotonic(), []
        for core in range(workers):
            os.sched_setaffinity(0, {core})
            processes.append(self.spawn("work"))
        os.sched_setaffinity(0, range(os.cpu_count()))
        while self.ask("SELECT status FROM jobs")[0] != "done":
            time.sleep(0.1)
        self.wall_s, self.cpu_s = time.monotonic() - began, 0.0
        for process in processes:
            process.send_signal(signal.SIGTERM)
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = 0
            self.cpu_s += used.ru_utime + used.ru_stime
        self.result = self.ask("SELECT analysis, timeline FROM results")
        self.helped = self.log.read_text().count("doer=Other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=pathlib.Path)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/visage")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--piece-s", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    wanted = parser.parse_args()
    if wanted.workers > os.cpu_count():
        sys.exit(f"{wanted.workers} workers need as many cores, and there are {os.cpu_count()}")
    binary, first, differing = wanted.binary.resolve(), None, 0
    with tempfile.TemporaryDirectory(prefix="visage-pieces-") as folder:
        clip = looped(wanted.video.resolve(), wanted.minutes, pathlib.Path(folder))
        print(f"{wanted.minutes:g} minutes, every {wanted.every}th frame, pieces of {wanted.piece_s} s")
        for workers, split_from_s in [(1, 0), (1, 1), (wanted.workers, 1)]:
            run = Together(binary, clip, wanted.every, wanted.piece_s, split_from_s)
            run.analyze_with(workers)
            first = first or run
            differs = run.result != first.result
            differing += differs
            print(f"{workers} worker{'s' * (workers > 1)}, {'in pieces' if split_from_s else 'as a whole'}: {run.wall_s:.1f} s "
                  f"(x {run.wall_s / first.wall_s:.2f}), {run.cpu_s:.1f} s of CPU; {run.helped} pieces by helpers"
                  f"{'; THE RESULT DIFFERS' if differs else ''}", flush=True)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
