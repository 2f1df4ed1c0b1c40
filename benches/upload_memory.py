#!/usr/bin/env python3
"""Measures the memory of `visage serve` while many clients upload large videos at once.

Starts the service without workers, with a temporary folder and SQLite, on a free port. CLIENTS clients upload
MEGABYTES MB each at the same time. Prints resident memory before the uploads and at the peak. Each upload is a short
real clip followed by a large empty box, which is generated while it is sent. Ends with 1 if the peak is more than
LIMIT MB above idle.

    benches/upload_memory.py [--binary target/release/visage] [--clients 10] [--megabytes 500] [--limit 150]

Needs ffmpeg, and CLIENTS x MEGABYTES of free space in --folder. Other settings come from the environment
(VISAGE_STORAGE__KIND=s3 ... measures a bucket).
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

MB = 1_000_000
CHUNK = bytes(64 * 1024)
BOUNDARY = "visage-upload-memory"


def short_clip(folder: pathlib.Path) -> bytes:
    """Makes a clip of one second of a test picture, with its index at the start."""
    path = folder / "clip.mp4"
    command = "ffmpeg -loglevel error -nostdin -y -f lavfi -i testsrc=size=320x240:rate=25:duration=1 -c:v libx264 "
    subprocess.run([*command.split(), "-pix_fmt", "yuv420p", "-movflags", "+faststart", path], check=True)
    return path.read_bytes()


def upload(address: str, clip: bytes, size: int, answers: list) -> None:
    before = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="video"; filename="clip.mp4"\r\n\r\n'.encode()
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    padding = size - len(clip)
    # A box whose size does not fit into 32 bits would need a longer header.
    box = struct.pack(">I4s", padding, b"free")

    def body():
        yield before + clip + box
        left = padding - len(box)
        while left > 0:
            yield CHUNK[: min(left, len(CHUNK))]
            left -= len(CHUNK)
        yield after

    connection = http.client.HTTPConnection(address, timeout=600)
    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(len(before) + size + len(after)),
    }
    try:
        connection.request("POST", "/analyze-video", body=body(), headers=headers)
        response = connection.getresponse()
        answers.append((response.status, json.loads(response.read())))
    except OSError as error:
        answers.append((0, str(error)))


def memory_mb(pid: int, field: str) -> float:
    """Returns VmRSS (current) or VmHWM (peak) of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024 / MB


def wait_for_address(log: pathlib.Path, process: subprocess.Popen) -> str:
    for _ in range(600):
        found = re.search(r'"address":"([^"]+)"', log.read_text())
        if found:
            return found[1]
        if process.poll() is not None:
            sys.exit(f"the service ended: {log.read_text()}")
        time.sleep(0.1)
    sys.exit("the service did not start within 60 s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/visage")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--limit", type=float, default=150, help="MB above idle")
    parser.add_argument("--folder", help="folder for the videos; default: the temporary folder")
    arguments = parser.parse_args()
    binary = pathlib.Path(arguments.binary).absolute()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="visage-upload-memory-", dir=arguments.folder))
    settings = {
        "VISAGE_HTTP__LISTEN": "127.0.0.1:0",
        "VISAGE_DATABASE__URL": f"sqlite://{folder}/visage.db",
        "VISAGE_STORAGE__FOLDER": f"{folder}/videos",
        "VISAGE_LOG__FORMAT": "json",
    }
    log = folder / "log"
    try:
        clip = short_clip(folder)
        with log.open("w") as errors:
            process = subprocess.Popen(
                [binary, "serve", "--no-workers"], cwd=folder, env={**settings, **os.environ}, stderr=errors
            )
        try:
            address = wait_for_address(log, process)
            # A small upload first, so that one-time allocations count as idle memory.
            answers: list = []
            upload(address, clip, len(clip) + 1000, answers)
            time.sleep(1)
            pathlib.Path(f"/proc/{process.pid}/clear_refs").write_text("5")
            idle = memory_mb(process.pid, "VmRSS")
            begun = time.monotonic()
            size = arguments.megabytes * MB
            clients = [
                threading.Thread(target=upload, args=(address, clip, size, answers)) for _ in range(arguments.clients)
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            took = time.monotonic() - begun
            peak = memory_mb(process.pid, "VmHWM")
        finally:
            process.terminate()
            process.wait(timeout=60)
        refused = [answer for answer in answers if answer[0] != 202]
        if refused or len(answers) != arguments.clients + 1:
            sys.exit(f"not every upload was accepted: {refused}")
    finally:
        shutil.rmtree(folder)
    rate = arguments.clients * arguments.megabytes / took
    print(f"{arguments.clients} uploads of {arguments.megabytes} MB at once: {took:.1f} s, {rate:.0f} MB/s together")
    print(f"resident memory: idle {idle:.1f} MB, peak {peak:.1f} MB, difference {peak - idle:.1f} MB")
    if peak - idle > arguments.limit:
        sys.exit(f"more than {arguments.limit:.0f} MB above idle")


if __name__ == "__main__":
    main()
