#!/usr/bin/env python3
"""Replaces a running service by another version, process by process, under load.

    benches/upgrade.py --old BINARY [--binary target/release/visage] [--jobs 40]

Starts Postgres, a mail server, and the API and two workers of the old version, in a temporary folder. Then starts an API
of the new version, which updates the tables, and a worker, ends the old workers and the old API one after another, and
starts the last new worker. Uploads a part of the videos to each API that runs, at each stage. Reads each result from each
API. Waits until all jobs have ended and prints: jobs done by the old and by the new workers, failed and lost ones, and
missing mails. Exits with 1 if a job is lost or failed, a mail is missing, an answer differs between the APIs, or one of
the versions did nothing. Needs what benches/outages.py needs.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from outages import ROOT, Drill, free_port


class Upgrade(Drill):
    """The old version is that of the drill. Each process has a log of its own."""

    def spawn(self, *command: str) -> subprocess.Popen:
        self.log = self.home / f"log-{command[0]}-{len(list(self.home.glob('log-*')))}"
        return super().spawn(*command)

    def start_new(self, binary: pathlib.Path) -> None:
        self.binary, self.port, self.old_base = binary, free_port(), self.base
        self.base = f"http://127.0.0.1:{self.port}"
        self.new_api = self.spawn("serve", "--no-workers")
        self.wait_for_api()

    def upload_to(self, bases: list[str], jobs: int) -> None:
        for number in range(jobs):
            self.base = bases[number % len(bases)]
            self.add()
        assert self.refused == 0, "an upload was refused"

    def result(self, base: str, token: str) -> dict:
        with urllib.request.urlopen(f"{base}/results/{token}", timeout=10) as answer:
            return json.load(answer)

    def stop(self, process) -> None:
        """Ends a process in order, as an upgrade does."""
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)

    def compare(self, bases: list[str]) -> tuple[int, int]:
        """Counts the finished results, and those that differ between the APIs in members that both have."""
        compared = differing = 0
        for token in self.tokens:
            answers = [self.result(base, token) for base in bases]
            if all(answer["status"] == "done" for answer in answers):
                one, other = [answer["analysis"] for answer in answers]
                compared += 1
                differing += any(one[name] != other[name] for name in one.keys() & other.keys())
        return compared, differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=pathlib.Path, required=True)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/visage")
    parser.add_argument("--jobs", type=int, default=40)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visage-upgrade-") as home:
        drill = Upgrade(wanted.old.resolve(), pathlib.Path(home), None, 2, 1)
        try:
            failed = run(drill, wanted)
        finally:
            drill.end()
    sys.exit(1 if failed else 0)


def run(drill: Upgrade, wanted) -> bool:
    part = wanted.jobs // 5
    drill.upload_to([drill.base], part)
    drill.start_new(wanted.binary.resolve())
    old, new = drill.old_base, drill.base
    drill.upload_to([old, new], part)
    drill.workers.append(drill.spawn("work"))
    drill.upload_to([old, new], part)
    compared, differing = drill.compare([old, new])
    old_api, drill.api = drill.api, drill.new_api
    for process in [drill.workers[0], old_api]:
        drill.stop(process)
        drill.upload_to([new], part)
    drill.stop(drill.workers[1])
    drill.workers.append(drill.spawn("work"))
    drill.upload_to([new], wanted.jobs - 5 * part)
    drill.base = new
    until = time.monotonic() + 300
    states, missing = drill.states(), True
    while time.monotonic() < until and (states["done"] + states["failed"] < len(drill.tokens) or missing):
        time.sleep(1)
        states = drill.states()
        missing = set(drill.tokens.values()) - {recipient for recipient, _ in drill.mail.taken}
    logs = sorted(drill.home.glob("log-work-*"), key=lambda log: int(log.name.split("-")[-1]))
    done = [log.read_text().count('"job ended"') for log in logs]
    lost = len(drill.tokens) - states["done"] - states["failed"]
    print(f"jobs: accepted {len(drill.tokens)}, done {states['done']}, failed {states['failed']}, lost {lost}; "
          f"done by each worker, old ones first: {done}")
    print(f"mails missing: {len(missing)}; results that differ between the APIs: {differing} of {compared}")
    return bool(lost or states["failed"] or missing or differing or not compared or not sum(done[:2]) or not sum(done[2:]))


if __name__ == "__main__":
    main()
