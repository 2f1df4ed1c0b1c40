#!/usr/bin/env python3
"""Stops the parts of a running service, one after another, and counts the losses.

    benches/outages.py [--binary target/release/visage] [--jobs 24] [--seconds 20] [--only NAME] [--bucket]
                       [--workers 2] [--clip-s 3]

Starts Postgres, a mail server, `visage serve --no-workers` and some `visage work` on loopback, in a temporary folder.
Uploads a half of the videos before each outage, and the others evenly during it. The outages last --seconds each: storage unavailable (its folder is
replaced, as if a disk is not mounted; with --bucket, an S3 server refuses every request), database frozen, database
down, mail server down, full disk (no file may grow), processes killed (workers and, less often, the API, at random
times, from the first upload on until all jobs have ended). --only runs one of them, with all jobs:
`--only "processes killed" --jobs 10000 --workers 6 --clip-s 0.7`. Then waits until all jobs have ended and prints: jobs
accepted, done, failed and lost; uploads refused with 503 and Retry-After; uploads that a kill cut off, which are repeated with the same Idempotency-Key;
addresses without a mail; mails that arrived twice with the same Message-ID (a kill may cause this) and with two
different ones (an error). Exits with 1 if a job is lost or failed, a mail is missing, or a mail arrived with two ids.
Needs Postgres, ffmpeg, curl and prlimit; --bucket needs scripts/install-s3-servers.sh.
"""

import argparse
import collections
import glob
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Mail:
    """A mail server that records recipient and Message-ID of each accepted mail."""

    def __init__(self):
        self.port, self.taken, self.server = free_port(), [], None

    def start(self) -> None:
        taken = self.taken

        class Session(socketserver.StreamRequestHandler):
            def handle(self):
                say = lambda text: self.wfile.write(text.encode() + b"\r\n")
                say("220 outages")
                recipient = ""
                while line := self.rfile.readline().decode(errors="replace").strip():
                    verb = line.upper()
                    if verb.startswith("RCPT"):
                        recipient = line[line.index("<") + 1:line.index(">")]
                        say("250 ok")
                    elif verb.startswith("DATA"):
                        say("354 go on")
                        text = []
                        while (part := self.rfile.readline()) not in (b".\r\n", b""):
                            text.append(part.decode(errors="replace"))
                        found = re.search(r"^message-id: *(\S+)", "".join(text), re.I | re.M)
                        taken.append((recipient, found[1] if found else ""))
                        say("250 taken")
                    elif verb.startswith("QUIT"):
                        say("221 bye")
                        return
                    else:
                        say("250 ok")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads = True, True

            def handle_error(self, request, address):
                """Says nothing of a connection that a kill cut off."""

        self.server = Server(("127.0.0.1", self.port), Session)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Bucket:
    """An S3 server behind a door that can refuse all requests."""

    def __init__(self):
        self.port, self.refuses, self.refused, behind = free_port(), False, 0, free_port()
        program = ROOT / ".runtime/s3-servers/bin/moto_server"
        self.server = subprocess.Popen([program, "--port", str(behind)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        bucket = self

        class Door(socketserver.BaseRequestHandler):
            def handle(self):
                if bucket.refuses:
                    self.refuse()
                    return
                try:
                    other = socket.create_connection(("127.0.0.1", behind))
                except OSError:
                    # The server is starting or has ended.
                    return
                with other:
                    threading.Thread(target=self.copy, args=(other, self.request), daemon=True).start()
                    self.copy(self.request, other)

            def copy(self, source, target):
                try:
                    while (part := source.recv(65536)) and not bucket.refuses:
                        target.sendall(part)
                except OSError:
                    pass
                for line in (source, target):
                    try:
                        line.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass

            def refuse(self):
                bucket.refused += 1
                try:
                    self.request.recv(65536)
                    self.request.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads = True, True

        threading.Thread(target=Server(("127.0.0.1", self.port), Door).serve_forever, daemon=True).start()
        for _ in range(600):
            made = subprocess.run(["curl", "-s", "-f", "-X", "PUT", f"http://127.0.0.1:{self.port}/videos"],
                                  stdout=subprocess.DEVNULL)
            if made.returncode == 0:
                return
            time.sleep(0.1)
        sys.exit("the S3 server does not start")

    def settings(self) -> dict[str, object]:
        return {"STORAGE__KIND": "s3", "STORAGE__S3__BUCKET": "videos", "STORAGE__S3__PATH_STYLE": "true",
                "STORAGE__S3__ENDPOINT": f"http://127.0.0.1:{self.port}", "STORAGE__S3__ACCESS_KEY": "outages",
                "STORAGE__S3__SECRET_KEY": "outages"}


class Postgres:
    def __init__(self, home: pathlib.Path):
        self.folder, self.port = home / "postgres", free_port()
        self.programs = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        self.user = []
        if os.geteuid() == 0:
            # Postgres refuses to run as root.
            self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            self.folder.mkdir()
            shutil.chown(self.folder, "postgres", "postgres")
            home.chmod(0o755)
        subprocess.run([*self.user, self.programs / "initdb", "--username=postgres", "--auth=trust", "--no-sync",
                        "--encoding=UTF8", "--locale=C", "-D", self.folder], check=True, stdout=subprocess.DEVNULL, cwd="/")
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        self.process = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self.user, self.programs / "postgres", "-D", self.folder, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
             "-c", "unix_socket_directories=", "-c", "fsync=off"], stderr=subprocess.DEVNULL, cwd="/")
        for _ in range(200):
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        sys.exit("Postgres does not start")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)
        for status in glob.glob("/proc/[0-9]*/status"):
            try:
                if f"PPid:\t{self.process.pid}\n" in pathlib.Path(status).read_text():
                    os.kill(int(status.split("/")[2]), number)
            except (FileNotFoundError, ProcessLookupError):
                pass


class Drill:
    def __init__(self, binary: pathlib.Path, home: pathlib.Path, bucket: Bucket | None, workers: int, clip_s: float):
        self.binary, self.home, self.bucket = binary, home, bucket
        self.kills, self.api_kills, self.ended = 0, 0, threading.Event()
        self.killer = threading.Thread(target=self.kill_processes, daemon=True)
        self.mail, self.database = Mail(), Postgres(home)
        self.mail.start()
        self.database.start()
        self.videos, self.log = home / "videos", home / "log"
        (home / "settings.toml").write_text("")
        self.clip = home / "clip.mp4"
        subprocess.run(["ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i",
                        f"testsrc=size=320x240:rate=25:duration={clip_s}", "-c:v", "mpeg4", self.clip], check=True)
        self.tokens, self.ended_as, self.refused, self.repeated, self.added = {}, {}, 0, 0, 0
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.api = self.spawn("serve", "--no-workers")
        self.wait_for_api()
        self.workers = [self.spawn("work") for _ in range(workers)]

    def spawn(self, *command: str) -> subprocess.Popen:
        settings = {
            "CONFIG": self.home / "settings.toml", "HTTP__LISTEN": f"127.0.0.1:{self.port}", "DATABASE__URL": self.database.url,
            "STORAGE__FOLDER": self.videos, "MODELS__FOLDER": ROOT / "models", "QUEUE__CONCURRENCY": 1, "QUEUE__LEASE_S": 5,
            "QUEUE__BACKOFF_BASE_S": 1, "QUEUE__BACKOFF_MAX_S": 10, "MAIL__TRANSPORT": "smtp", "MAIL__SMTP__HOST": "127.0.0.1",
            "MAIL__SMTP__PORT": self.mail.port, "MAIL__SMTP__SECURITY": "none", "MAIL__SMTP__TIMEOUT_S": 3,
            "MAIL__BACKOFF_BASE_S": 1, "LOG__FORMAT": "json", "RETENTION__FAILED_VIDEOS_H": 1,
            "LIMITS__MAILS_PER_DAY_ADDRESS": 0,
        }
        settings |= self.bucket.settings() if self.bucket else {}
        environment = {**os.environ, **{f"VISAGE_{key}": str(value) for key, value in settings.items()}}
        shell = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", str(self.binary), *command]
        return subprocess.Popen(shell, cwd=ROOT, env=environment, stderr=self.log.open("a"))

    def wait_for_api(self) -> None:
        for _ in range(600):
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        sys.exit(f"the service does not start:\n{self.log.read_text()[-2000:]}")

    def add(self) -> None:
        """Uploads a video once, and counts the answer as accepted or refused. Repeats a call that a kill cut off."""
        self.added += 1
        recipient = f"reader{self.added}@example.org"
        call = ["curl", "-s", "-m", "60", "-w", "\n%header{retry-after} %{http_code}", "-H", f"Idempotency-Key: {self.added}",
                "-F", f"video=@{self.clip}", "-F", f"email={recipient}", f"{self.base}/analyze-video"]
        for _ in range(20):
            answer = subprocess.run(call, capture_output=True, text=True)
            body, _, told = answer.stdout.rpartition("\n")
            retry_after, _, status = told.rpartition(" ")
            if status != "000":
                break
            self.repeated += 1
            self.wait_for_api()
        if status == "202":
            self.tokens[json.loads(body)["token"]] = recipient
        else:
            self.refused += 1
            assert status == "503" and retry_after.isdigit(), f"{status}, Retry-After {retry_after}: {body}"

    def outage(self, name: str, jobs: int, seconds: float, begin, end) -> None:
        before = (len(self.tokens), self.refused)
        for _ in range(jobs // 2):
            self.add()
        begin()
        start, during = time.monotonic(), jobs - jobs // 2
        for number in range(during):
            self.add()
            time.sleep(max(0, start + seconds * (number + 1) / during - time.monotonic()))
        end()
        print(f"{name:<16} {seconds:4.0f} s   accepted {len(self.tokens) - before[0]:3}   refused {self.refused - before[1]:3}",
              flush=True)

    def bound_files(self, limit: str) -> None:
        for process in [self.api, *self.workers]:
            subprocess.run(["prlimit", "--pid", str(process.pid), f"--fsize={limit}:"], check=True)

    def mount(self, away: bool) -> None:
        if self.bucket:
            self.bucket.refuses = away
            return
        kept = self.home / "videos.kept"
        if away:
            self.videos.rename(kept)
            # A process may have made the folder already, because visage creates a missing storage folder.
            self.videos.mkdir(exist_ok=True)
        else:
            while True:
                shutil.rmtree(self.videos, ignore_errors=True)
                try:
                    kept.rename(self.videos)
                    return
                except OSError:
                    time.sleep(0.01)

    def kill_processes(self) -> None:
        """Kills and restarts a worker, or once in ten times the API, at random times, ever more slowly."""
        chance = random.Random(1)
        while not self.ended.wait(chance.uniform(0.2, 1) + self.kills / 200):
            if chance.random() < 0.1:
                self.api_kills += 1
                self.api.kill()
                self.api.wait()
                self.api = self.spawn("serve", "--no-workers")
            else:
                self.kills += 1
                number = chance.randrange(len(self.workers))
                self.workers[number].kill()
                self.workers[number].wait()
                self.workers[number] = self.spawn("work")

    def states(self) -> collections.Counter:
        found = collections.Counter(self.ended_as.values())
        for token in self.tokens.keys() - self.ended_as.keys():
            try:
                with urllib.request.urlopen(f"{self.base}/results/{token}", timeout=10) as answer:
                    status = json.load(answer)["status"]
            except (OSError, ValueError) as error:
                status = f"unanswered: {error}"
            found[status] += 1
            if status in ("done", "failed"):
                self.ended_as[token] = status
        return found

    def end(self) -> None:
        self.ended.set()
        if self.killer.is_alive():
            self.killer.join()
        for process in [self.api, *self.workers, *([self.bucket.server] if self.bucket else [])]:
            process.kill()
            process.wait()
        self.database.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/visage")
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", help="the name of one outage")
    parser.add_argument("--bucket", action="store_true", help="store videos in a bucket, and run its outage only")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clip-s", type=float, default=3, help="length of the videos")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visage-outages-") as home:
        drill = Drill(wanted.binary.resolve(), pathlib.Path(home), Bucket() if wanted.bucket else None,
                      wanted.workers, wanted.clip_s)
        try:
            failed = run(drill, wanted)
        finally:
            drill.end()
    sys.exit(1 if failed else 0)


def run(drill: Drill, wanted) -> bool:
    mail, database, seconds = drill.mail, drill.database, wanted.seconds
    outages = {
        "storage down": (lambda: drill.mount(True), lambda: drill.mount(False)),
        "database frozen": (lambda: database.signal(signal.SIGSTOP), lambda: database.signal(signal.SIGCONT)),
        "database down": (database.stop, database.start),
        "mail down": (mail.stop, mail.start),
        "disk full": (lambda: drill.bound_files("1000"), lambda: drill.bound_files("unlimited")),
        "processes killed": (drill.killer.start, lambda: None),
    }
    chosen = [wanted.only] if wanted.only else list(outages)
    if drill.bucket and not wanted.only:
        chosen = ["storage down"]
    for name in chosen:
        drill.outage(name, wanted.jobs // len(chosen), seconds, *outages[name])
    until = time.monotonic() + 600 + 5 * len(drill.tokens)
    states = drill.states()
    missing = set(drill.tokens.values())
    while time.monotonic() < until and (states["done"] + states["failed"] < len(drill.tokens) or missing):
        time.sleep(1)
        states = drill.states()
        missing = set(drill.tokens.values()) - {recipient for recipient, _ in mail.taken}
    drill.ended.set()
    ids = collections.defaultdict(collections.Counter)
    for recipient, message in mail.taken:
        ids[recipient][message] += 1
    again = sum(count - 1 for of_one in ids.values() for count in of_one.values())
    under_two = sum(len(of_one) > 1 for of_one in ids.values())
    lost = len(drill.tokens) - states["done"] - states["failed"]
    print(f"kills: {drill.kills} of workers, {drill.api_kills} of the API")
    if drill.bucket:
        print(f"requests that the bucket refused: {drill.bucket.refused}")
    print(f"jobs: accepted {len(drill.tokens)}, done {states['done']}, failed {states['failed']}, lost {lost}; "
          f"uploads refused {drill.refused}, cut off and repeated {drill.repeated}")
    print(f"mails: taken {len(mail.taken)}, missing {len(missing)}, repeated with the same id {again}, with two ids {under_two}")
    return bool(lost or states["failed"] or missing or under_two)


if __name__ == "__main__":
    main()
