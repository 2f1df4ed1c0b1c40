#!/usr/bin/env python3
"""Sends damaged and hostile files to a running service, and checks that it survives them.

    benches/hostile.py [--binary target/release/visage] [--files 1000] [--seed 1] [--models models] [--corpus FOLDER]

Makes clips of several containers and codecs with ffmpeg, or takes the files of --corpus. Makes --files mutations of them
with a fixed seed: changed bits, overwritten and repeated runs of bytes, extreme numbers, files that are cut off, and two
files joined. Starts `visage serve` with its workers on loopback, in a temporary folder, and uploads each file as a video.
Waits for the results. Prints the answers by code, the results by code, the decoder processes that ended by themselves,
the process id of the service, and its memory (with all child processes) after sound clips, at the peak, and at the end.
Exits with 1 if the process was replaced, if an answer is neither 202 nor 4xx, if a job did not end, or if the service
keeps more than --memory megabytes. Needs ffmpeg and the models.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURES = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2"]
SOUND = ["-f", "lavfi", "-i", "sine=duration=2"]
H264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12"]
CLIPS = {
    "avc.mp4": [*PICTURES, *SOUND, *H264, "-c:a", "aac"],
    "fragments.mp4": [*PICTURES, *SOUND, *H264, "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"],
    "hevc.mov": [*PICTURES, "-c:v", "libx265", "-x265-params", "log-level=none", "-tag:v", "hvc1"],
    "vp8.webm": [*PICTURES, *SOUND, "-c:v", "libvpx", "-c:a", "libopus"],
    "vp9.mkv": [*PICTURES, *SOUND, "-c:v", "libvpx-vp9", "-cpu-used", "8", "-c:a", "libvorbis"],
    "avc.mkv": [*PICTURES, *SOUND, *H264, "-c:a", "flac"],
    "asp.avi": [*PICTURES, *SOUND, "-c:v", "mpeg4", "-bf", "2", "-c:a", "mp3"],
    "mjpeg.mov": [*PICTURES, *SOUND, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-c:a", "pcm_s16le"],
    "avc.ts": [*PICTURES, *SOUND, *H264, "-c:a", "aac"],
    "mpeg2.mpg": [*PICTURES, *SOUND, "-c:v", "mpeg2video", "-c:a", "mp2"],
    "avc.flv": [*PICTURES, *SOUND, *H264, "-c:a", "aac"],
    "flash.flv": [*PICTURES, "-c:v", "flv"],
    "moving.gif": [*PICTURES],
}
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
UPLOADS = 4
JOB_SECONDS = 300


def make_clips(folder: pathlib.Path) -> list[bytes]:
    for name, arguments in CLIPS.items():
        subprocess.run(["ffmpeg", "-loglevel", "error", "-nostdin", "-y", *arguments, str(folder / name)], check=True)
    return [(folder / name).read_bytes() for name in CLIPS]


def mutated(files: list[bytes], chance: random.Random) -> bytes:
    """A file with one to four mutations. Half of them are near its start, where headers are."""
    content = bytearray(chance.choice(files))
    for _ in range(chance.randint(1, 4)):
        size = len(content)
        at = chance.randrange(min(size, 2000) if chance.random() < 0.5 else size)
        run = min(chance.choice([1, 4, 16, 200, 5000]), size - at)
        match chance.randrange(8):
            case 0:
                for _ in range(chance.choice([1, 8, 64])):
                    content[chance.randrange(size)] ^= 1 << chance.randrange(8)
            case 1:
                content[at] ^= 1 << chance.randrange(8)
            case 2:
                content[at:at + run] = bytes([chance.choice([0, 0xFF])]) * run
            case 3:
                content[at:at + run] = chance.randbytes(run)
            case 4:
                number = struct.pack(">I", chance.choice(NUMBERS))
                content[at:at + 4] = number if chance.random() < 0.5 else number[::-1]
            case 5:
                content[at:at] = content[at:at + run] * chance.choice([1, 3, 50])
            case 6:
                del content[max(at, 16):]
            case 7:
                other = chance.choice(files)
                content[at:] = other[chance.randrange(len(other)):]
        if len(content) < 16:
            content.extend(bytes(16))
    return bytes(content)


class Service:
    def __init__(self, binary: pathlib.Path, models: str, home: pathlib.Path):
        self.log = home / "log"
        (home / "settings.toml").write_text("")
        settings = {
            "CONFIG": home / "settings.toml", "HTTP__LISTEN": "127.0.0.1:0", "DATABASE__URL": f"sqlite://{home}/visage.db",
            "STORAGE__FOLDER": home / "videos", "MAIL__OUTBOX": home / "outbox", "MODELS__FOLDER": models,
            "LOG__FORMAT": "json", "VIDEO__SAMPLE_EVERY": 10, "QUEUE__POLL_S": 1,
        }
        environment = {**os.environ, **{f"VISAGE_{key}": str(value) for key, value in settings.items()}}
        self.process = subprocess.Popen([binary, "serve"], cwd=ROOT, env=environment, stderr=self.log.open("w"))
        for _ in range(1200):
            if found := re.search(r'"address":"([^"]+)"', self.log.read_text()):
                self.base = f"http://{found[1]}"
                return
            time.sleep(0.1)
        sys.exit(f"the service does not start:\n{self.log.read_text()[-2000:]}")

    def megabytes(self) -> float:
        """The resident memory of the service and its child processes."""
        parents, resident = {}, {}
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            pid, parent = int(status.parts[2]), int(re.search(r"^PPid:\s+(\d+)", text, re.M)[1])
            parents[pid] = parent
            kilobytes = re.search(r"^VmRSS:\s+(\d+)", text, re.M)
            resident[pid] = int(kilobytes[1]) if kilobytes else 0
        family, grown = {self.process.pid}, True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in family} - family
            family, grown = family | more, bool(more)
        return sum(resident.get(pid, 0) for pid in family) / 1000

    def request(self, path: str, body: bytes | None = None, headers: dict | None = None):
        """Returns the status and the JSON of an answer; status 0 if there is none."""
        try:
            with urllib.request.urlopen(urllib.request.Request(self.base + path, body, headers or {}), timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            try:
                return error.code, json.load(error)
            except ValueError:
                return error.code, {}
        except (OSError, ValueError):
            return 0, {}

    def upload(self, content: bytes):
        boundary = "0f8e3c61d2b74a59"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="clip"\r\n\r\n'.encode()
        body = head + content + f"\r\n--{boundary}--\r\n".encode()
        for _ in range(100):
            status, answer = self.request("/analyze-video", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
            if status != 429:
                break
            time.sleep(1)
        return status, answer

    def decoder_ends(self) -> collections.Counter:
        """How decoder processes ended that the service did not end, by the log."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if "a decoder process ended" in line)
        return collections.Counter(f"{line['cause']} ({line['reason']})" for line in lines)

    def result(self, token: str) -> str:
        """Waits for a job. Returns its status, or the code of its error."""
        until = time.monotonic() + JOB_SECONDS
        while time.monotonic() < until:
            status, answer = self.request(f"/results/{token}?wait=30")
            if answer.get("status") == "done":
                return "done"
            if answer.get("status") == "failed":
                return answer["error"]["code"]
            if status == 0:
                time.sleep(1)
        return "not ended"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/visage")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", default=str(ROOT / "models"))
    parser.add_argument("--corpus", type=pathlib.Path)
    parser.add_argument("--memory", type=int, default=100, help="megabytes that may be kept")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visage-hostile-") as folder:
        home = pathlib.Path(folder)
        (home / "clips").mkdir()
        sound = make_clips(home / "clips")
        files = [path.read_bytes() for path in sorted(wanted.corpus.iterdir()) if path.is_file()] if wanted.corpus else sound
        service = Service(wanted.binary.resolve(), wanted.models, home)
        try:
            return run(service, sound, files, wanted)
        finally:
            service.process.terminate()
            service.process.wait()


def run(service: Service, sound: list[bytes], files: list[bytes], wanted) -> int:
    pid, peak, ended = service.process.pid, [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            peak[0] = max(peak[0], service.megabytes())

    def tried(content: bytes):
        status, answer = service.upload(content)
        return status, answer.get("code", ""), service.result(answer["token"]) if status == 202 else ""

    with concurrent.futures.ThreadPoolExecutor(UPLOADS) as uploads:
        warm_up = list(uploads.map(tried, sound * 2))
        assert all(found == (202, "", "done") for found in warm_up), warm_up
        before = service.megabytes()
        threading.Thread(target=watch, daemon=True).start()
        begun, chance = time.monotonic(), random.Random(wanted.seed)
        found = list(uploads.map(tried, (mutated(files, chance) for _ in range(wanted.files))))
    seconds = time.monotonic() - begun
    time.sleep(5)
    ended.set()
    after = service.megabytes()
    answers = collections.Counter(f"{status} {code}".strip() for status, code, _ in found)
    results = collections.Counter(result for _, _, result in found if result)
    wrong = sum(status != 202 and not 400 <= status < 500 for status, _, _ in found) + results["not ended"]
    is_alive = service.process.poll() is None and service.request("/healthz")[0] == 200
    print(f"{wanted.files} files of seed {wanted.seed} in {seconds:.0f} s")
    for name, counts in (("answers", answers), ("results", results), ("decoder processes", service.decoder_ends())):
        print(f"{name}: " + ", ".join(f"{code} {count}" for code, count in counts.most_common()))
    print(f"process {pid}: {'the same, and answers' if is_alive else 'gone'}; answers or jobs that are wrong: {wrong}")
    print(f"memory: {before:.0f} MB after sound clips, {peak[0]:.0f} MB at the peak, {after:.0f} MB at the end")
    return int(wrong > 0 or not is_alive or after > before + wanted.memory)


if __name__ == "__main__":
    sys.exit(main())
