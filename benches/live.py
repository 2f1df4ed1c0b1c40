#!/usr/bin/env python3
"""Measures live sessions: the time from a picture to its answer, answers a second, and memory.

    benches/live.py [--binary target/release/visage] [--clip FILE] [--seconds 30] [--rate 30] [--sessions 1 4 8] [--job]

Makes pictures of 640x480 with one face from the clip (by default that of `make fixtures`), and sends them at the given
rate to `visage serve` on loopback, as a camera would: at their times, without waiting for answers. Prints for each number
of sessions the answers by kind, the median and the 99th percentile from message to answer (measured by the client), and
the memory of the service above that with loaded models. The memory of a session is that of the last sessions: the
difference between the last two numbers of sessions, because the models take buffers for pictures that are read together,
whatever their number. With --job, a video is analyzed in a loop beside them. Then `visage analyze` reads the same pictures as a video. Exits with 1 if a target is missed: with one
session nothing is skipped, p50 at most 15 ms and p99 at most 40 ms; with four at least 100 answers a second; at most 15
MB a session. Needs ffmpeg, the models, and two cores.
"""

import argparse
import asyncio
import base64
import collections
import json
import os
import pathlib
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from service import ROOT, Service

CLIP = ROOT / ".runtime/media/single_face.mp4"
P50_MS, P99_MS, ANSWERS_A_SECOND, MEGABYTES = 15, 40, 100, 15


def make_pictures(clip: pathlib.Path, folder: pathlib.Path, rate: int) -> list[bytes]:
    filters = f"fps={rate},scale=640:480:force_original_aspect_ratio=decrease,pad=640:480:-1:-1"
    subprocess.run(["ffmpeg", "-loglevel", "error", "-nostdin", "-y", "-i", clip, "-vf", filters, "-q:v", "3",
                    folder / "%04d.jpg"], check=True)
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]


class Session:
    """A client of RFC 6455 with what a session needs. Its masking key is 0, so that masking costs nothing."""

    async def open(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.reader, self.writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(f"GET /v1/live HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                          f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head

    def send(self, content: bytes, opcode: int) -> None:
        size = len(content)
        length = bytes([0x80 | size]) if size < 126 else \
            struct.pack(">BH", 0xFE, size) if size < 1 << 16 else struct.pack(">BQ", 0xFF, size)
        self.writer.write(bytes([0x80 | opcode]) + length + bytes(4) + content)

    def command(self, **message) -> None:
        self.send(json.dumps(message).encode(), 1)

    async def receive(self) -> dict:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack(">H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
        content = await self.reader.readexactly(size)
        assert first == 0x81, (first, content)
        return json.loads(content)


async def run(address: str, pictures: list[bytes], rate: int, seconds: float) -> tuple[collections.Counter, list[float]]:
    """One session. Returns its answers by kind, and the milliseconds from each picture to its faces."""
    session = Session()
    await session.open(address)
    session.command(type="configure", max_faces=1)
    assert (configured := await session.receive())["type"] == "configured", configured
    count, sent, kinds, taken = int(rate * seconds), {}, collections.Counter(), []

    async def send() -> None:
        begun = time.perf_counter()
        for number in range(1, count + 1):
            await asyncio.sleep(begun + number / rate - time.perf_counter())
            # The clip forwards and backwards, without a jump.
            place = number % (2 * len(pictures) - 2)
            file = pictures[min(place, 2 * len(pictures) - 2 - place)]
            sent[number] = time.perf_counter()
            session.send(struct.pack(">Bd", 1, number / rate) + file, 2)
            await session.writer.drain()

    async def receive() -> None:
        while kinds.total() < count:
            answer = await session.receive()
            kinds[answer["type"]] += 1
            if answer["type"] == "faces":
                assert len(answer["faces"]) == 1, answer
                taken.append(1000 * (time.perf_counter() - sent[answer["picture"]]))

    await asyncio.gather(send(), receive())
    session.command(type="finish")
    finished = await session.receive()
    assert finished["status"] == "done", finished
    session.writer.close()
    return kinds, taken


def memory_mb(process: int) -> float:
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


async def run_all(service: Service, pictures: list[bytes], rate: int, seconds: float, sessions: int,
                  before: float = 0) -> dict:
    address = service.base.removeprefix("http://")
    peak, begun = 0.0, time.perf_counter()
    tasks = [asyncio.create_task(run(address, pictures, rate, seconds)) for _ in range(sessions)]
    while not all(task.done() for task in tasks):
        peak = max(peak, memory_mb(service.process.pid))
        await asyncio.wait(tasks, timeout=0.25)
    kinds, taken = collections.Counter(), []
    for task in tasks:
        kinds += task.result()[0]
        taken += task.result()[1]
    # The result is computed in a moment after the last answer.
    return {"kinds": dict(kinds), "p50": statistics.median(taken), "p99": statistics.quantiles(taken, n=100)[98],
            "a_second": kinds["faces"] / min(time.perf_counter() - begun, seconds + 1),
            "mb": peak - before}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/visage")
    parser.add_argument("--clip", type=pathlib.Path, default=CLIP)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--job", action="store_true")
    options = parser.parse_args()
    os.environ["VISAGE_LIVE__MAX_SESSIONS_CLIENT"] = "0"
    missed, memory = [], []
    with tempfile.TemporaryDirectory(prefix="visage-live-") as name:
        folder = pathlib.Path(name)
        pictures = make_pictures(options.clip, folder, options.rate)
        video = folder / "pictures.mkv"
        subprocess.run(["ffmpeg", "-loglevel", "error", "-nostdin", "-y", "-framerate", str(options.rate), "-i",
                        folder / "%04d.jpg", "-c", "copy", video], check=True)
        service = Service(options.binary, 1)
        try:
            # Loads the models.
            asyncio.run(run_all(service, pictures, options.rate, 2, 1))
            before = memory_mb(service.process.pid)
            job = subprocess.Popen(["sh", "-c", f"while :; do curl -sf -F video=@{options.clip} -F sample_every=1 "
                                    f"{service.base}/analyze-video >/dev/null; sleep 0.5; done"],
                                   start_new_session=True) if options.job else None
            for sessions in options.sessions:
                found = asyncio.run(run_all(service, pictures, options.rate, options.seconds, sessions,
                                            before))
                print(f"{sessions} session(s) at {options.rate}/s: {found['kinds']}, p50 {found['p50']:.1f} ms, p99 "
                      f"{found['p99']:.1f} ms, {found['a_second']:.0f} answers/s, {found['mb']:.0f} MB")
                memory.append((sessions, found["mb"]))
                if sessions == 1 and not options.job:
                    missed += [name for name, is_missed in [
                        ("skipped", set(found["kinds"]) != {"faces"}), ("p50", found["p50"] > P50_MS),
                        ("p99", found["p99"] > P99_MS)] if is_missed]
                if sessions == 4 and not options.job and found["a_second"] < ANSWERS_A_SECOND:
                    missed.append("answers a second")
            if job:
                os.killpg(job.pid, 15)
            if len(memory) > 1:
                (few, least), (many, most) = memory[-2:]
                each = (most - least) / (many - few)
                print(f"memory of a session: {each:.1f} MB")
                missed += ["memory"] if each > MEGABYTES else []
        finally:
            service.process.terminate()
            service.process.wait()
        arguments = [options.binary, "analyze", video, "--sample-every", "1"]
        begun = time.perf_counter()
        subprocess.run(arguments, check=True, capture_output=True, cwd=ROOT)
        print(f"visage analyze, the same {len(pictures)} pictures as a video: "
              f"{1000 * (time.perf_counter() - begun) / len(pictures):.1f} ms a picture, with the start of the program")
    for name in missed:
        print(f"missed: {name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
