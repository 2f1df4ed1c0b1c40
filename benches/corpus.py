#!/usr/bin/env python3
"""Runs every file of a folder through `visage analyze` and prints disagreements with FFmpeg's own tools.

    benches/corpus.py FOLDER [--limit SECONDS] [--memory MIB] [--seconds N] [--jobs N] [--every N,...] [--explained FILE]

Three programs read each file, with limits on their time (--limit) and address space (--memory):

- `visage analyze`, without gaze, for the facts in a result;
- the example `samples`, for the time and the pixels of each sample at several intervals (--every);
- `ffprobe`, once to count packets and once to decode every frame. The expected values are computed from its output only.

Each disagreement is a line: file, kind, and both values. If a program is killed by a signal, or ends with a code that
docs/API.md does not list, that is a crash. If it is stopped at the time limit, that is a hang. FILE explains known
disagreements, crashes and hangs: each line has a pattern of file names, a kind and a reason, separated by tabs. The exit
code is 1 after one that is not explained. Explanations that no file needed, and files that are not reached within the
total time (--seconds), are listed. VISAGE and SAMPLES name other programs than those in target/debug.
"""

import argparse
import fnmatch
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VISAGE = os.path.abspath(os.environ.get("VISAGE", ROOT / "target" / "debug" / "visage"))
SAMPLES = os.path.abspath(os.environ.get("SAMPLES", ROOT / "target" / "debug" / "examples" / "samples"))

# Exit codes of docs/API.md that depend on the file. The others (wrong usage, a missing part) stop the whole run.
DONE, REFUSED = 0, 3
# The accepted containers of docs/FORMATS.md, by the names of FFmpeg's demuxers.
CONTAINERS = {"mov", "matroska", "avi", "mpegts", "mpeg", "flv", "gif"}
# Tolerance of times, in seconds.
TOLERANCE_S = 0.05
# docs/FORMATS.md: a pixel aspect ratio this near to square, or beyond the second number, is ignored. A header's frame
# rate that is off by more than the third is replaced.
SQUARE, MOST_ASPECT, RATE = 0.01, 5.0, 0.05
# Tracks whose starts are further apart, in seconds, do not share a clock.
UNRELATED = 7200.0


class Stopped(Exception):
    """A program crashed or hung. Arguments: the kind, and details."""


def run(command, options):
    """Runs a program under the limits. Returns exit code, standard output and standard error."""

    def set_limits():
        resource.setrlimit(resource.RLIMIT_AS, (options.memory << 20, options.memory << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    environment = {**os.environ, "VISAGE_LOG": "error", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=options.limit, preexec_fn=set_limits)
    except subprocess.TimeoutExpired:
        raise Stopped("hang", f"{Path(command[0]).name} ran for {options.limit} s") from None
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def ours(command, options):
    """Like `run`, for a program of visage: a panic or an unlisted exit code is a crash."""
    code, out, err = run(command, options)
    last = err.strip().splitlines()[-1:] or [""]
    if code in (2, 4):
        sys.exit(f"{' '.join(map(str, command))}: {err.strip()}")
    if code not in (DONE, REFUSED) or "panicked at" in err:
        raise Stopped("crash", f"{Path(command[0]).name} ended with {code}: {last[0]}")
    return code, out, last[0]


def number(text):
    """Parses a finite number of ffprobe. None if there is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def ratio(text, separator="/"):
    """Parses a ratio such as 30/1. None if it is not one."""
    above, _, below = (text or "").partition(separator)
    above, below = number(above), number(below)
    return above / below if above and below and above > 0 and below > 0 else None


def aspect(stream, frame):
    """Returns the pixel aspect ratio (width / height) that players use."""
    for holder in (stream, frame):
        told = ratio(holder.get("sample_aspect_ratio"), ":")
        if told and 1 / MOST_ASPECT <= told <= MOST_ASPECT:
            return 1.0 if abs(told - 1) <= SQUARE else told
    return 1.0


def quarter_turned(*holders):
    """Tells whether the first of these with a display matrix rotates by 90 or 270 degrees."""
    for holder in holders:
        for data in holder.get("side_data_list", []):
            if "rotation" in data:
                return round(float(data["rotation"]) / 90) % 2 == 1
    return False


class Reference:
    """The facts of a file according to FFmpeg's tools, or the reason why visage should refuse it."""

    def __init__(self, path, options):
        ffprobe = ["ffprobe", "-v", "error", "-of", "json"]
        self.why_refused, self.frames, self.complaints = None, [], []
        told = ["-count_packets", "-show_streams", "-show_format"]
        code, out, err = run([*ffprobe, *told, f"file:{path}"], options)
        if code != 0:
            self.why_refused = f"ffprobe: {(err.strip().splitlines() or [code])[-1]}"
            return
        told = json.loads(out)
        self.streams = told.get("streams", [])
        self.format = told.get("format", {})
        names = set(self.format.get("format_name", "").split(","))
        if not names & CONTAINERS:
            self.why_refused = f"the container is {self.format.get('format_name')}"
            return
        brand = self.format.get("tags", {}).get("major_brand", "").strip()
        if brand in ("avif", "mif1", "heic", "heix", "heim", "heis"):
            self.why_refused = f"a still picture by its brand {brand}"
            return
        self.is_avi = "avi" in names
        pictures = [stream for stream in self.streams if stream.get("codec_type") == "video" and not self.is_still(stream)]
        if not pictures:
            self.why_refused = "no track of moving pictures"
            return
        packets = lambda stream: int(stream.get("nb_read_packets") or 0)
        self.stream = max(pictures, key=lambda stream: (packets(stream) > 1, stream.get("codec_name") is not None,
                                                        stream["disposition"].get("default", 0), -stream["index"]))
        self.packets = packets(self.stream)
        self.sounds = [stream for stream in self.streams if stream.get("codec_type") == "audio"]
        self.decode(path, options)

    @staticmethod
    def is_still(stream):
        disposition = stream.get("disposition", {})
        return bool(disposition.get("attached_pic") or disposition.get("timed_thumbnails"))

    def decode(self, path, options):
        """Decodes every frame of the picture track."""
        entries = "frame=best_effort_timestamp_time,pts_time,width,height,sample_aspect_ratio,repeat_pict:frame_side_data"
        code, out, err = run(["ffprobe", "-v", "error", "-of", "json", "-select_streams", str(self.stream["index"]),
                              "-show_frames", "-show_entries", entries, f"file:{path}"], options)
        self.complaints = err.strip().splitlines()
        self.frames = json.loads(out).get("frames", []) if code == 0 and out.strip() else []
        if "mov" in self.format.get("format_name", ""):
            self.frames = [frame for frame in self.frames if not self.is_hidden(frame)]
        if not self.frames:
            codec = self.stream.get("codec_name", "an unknown codec")
            self.why_refused = f"no frame of {codec} comes out: {(self.complaints or ['no reason'])[-1]}"

    def is_hidden(self, frame):
        """Tells whether a frame is before the start of an edit (docs/FORMATS.md)."""
        stamp = number(frame.get("best_effort_timestamp_time") or frame.get("pts_time"))
        length = number(self.stream.get("duration")) or 0.0
        return stamp is not None and -length < stamp < min(self.zero(), 0.0) - 0.0005

    def size(self):
        """Returns the size of the first picture as players show it."""
        first = self.frames[0]
        width, height = float(first["width"]), float(first["height"])
        across = aspect(self.stream, first)
        width, height = (width * across, height) if across >= 1 else (width, height / across)
        return (height, width) if quarter_turned(self.stream, first) else (width, height)

    def zero(self):
        """Returns the time stamp that is time 0 in players."""
        own = number(self.stream.get("start_time"))
        others = [max(start, 0.0) for start in (number(sound.get("start_time")) for sound in self.sounds) if start is not None]
        if own is None:
            return min(others, default=0.0)
        return min(own, *others) if others and abs(own - min(others)) <= UNRELATED else own

    def times(self):
        """Returns the time of each picture. None if a time stamp is missing, and for AVI, which has decoding times only."""
        stamps = [number(frame.get("best_effort_timestamp_time") or frame.get("pts_time")) for frame in self.frames]
        if self.is_avi or None in stamps:
            return None
        zero = self.zero()
        return [stamp - zero for stamp in stamps]

    def rates(self):
        """Returns acceptable frame rates: those of the header, and the counted one."""
        rates = [ratio(self.stream.get("avg_frame_rate")), ratio(self.stream.get("r_frame_rate"))]
        times = self.times() or []
        if len(times) > 1 and times[-1] > times[0]:
            rates.append((len(times) - 1) / (times[-1] - times[0]))
        return [rate for rate in rates if rate]

    def durations(self):
        """Returns acceptable durations in seconds: those of the header, and the end of the pictures."""
        zero = self.zero()
        durations = []
        told = number(self.format.get("duration"))
        if told:
            durations += [told, told - zero]
        for stream in [self.stream, *self.sounds]:
            start, lasts = number(stream.get("start_time")), number(stream.get("duration"))
            if lasts:
                durations.append((start or 0.0) + lasts - zero)
        times = self.times()
        if times:
            step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.04
            durations.append(times[-1] + step)
        return durations


def compared(result, reference, is_damaged):
    """Yields disagreements of a result with the expected values: kind, and both values. `is_damaged`: visage warns of damage if it
    samples every picture."""
    video = result["video"]

    def differs(kind, ours, theirs):
        yield kind, f"visage {ours}, ffmpeg {theirs}"

    width, height = reference.size()
    # Both values may be rounded.
    if abs(video["width"] - width) > 1 or abs(video["height"] - height) > 1:
        yield from differs("size", f"{video['width']}x{video['height']}", f"{width:.0f}x{height:.0f}")
    if video["codec"] != reference.stream.get("codec_name"):
        yield from differs("codec", video["codec"], reference.stream.get("codec_name"))
    if video["has_audio"] != bool(reference.sounds):
        yield from differs("sound", video["has_audio"], bool(reference.sounds))
    if video["frames_total"] != len(reference.frames):
        yield from differs("frames", video["frames_total"], f"{len(reference.frames)} of {reference.packets} packets")
    rates, fps = reference.rates(), video["fps"]
    if rates and not any(abs(fps - rate) <= RATE * rate for rate in rates):
        yield from differs("rate", fps, "/".join(f"{rate:.3f}" for rate in rates))
    durations, lasts = reference.durations(), video["duration_s"]
    # One picture more or less is accepted, because the duration of the last one is unknown.
    room = TOLERANCE_S + (1 / fps if fps else 0.0)
    if durations and not any(abs(lasts - duration) <= room for duration in durations):
        yield from differs("duration", lasts, "/".join(f"{duration:.3f}" for duration in sorted(set(durations))))
    if is_damaged != bool(reference.complaints):
        complaint = (reference.complaints or ["no complaint"])[0]
        yield from differs("damage", "warns" if is_damaged else "does not warn", complaint)


def sampled(samples, reference, is_damaged):
    """Yields disagreements between the samples at different intervals, and with the times of all frames."""
    every = {int(interval): [tuple(sample) for sample in taken] for interval, taken in samples.items()}
    whole = every.pop(1)
    times = reference.times()
    for interval, taken in sorted(every.items()):
        wanted = whole[::interval]
        lacks = len(set(wanted) - set(taken))
        foreign = len(set(taken) - set(whole))
        # Damaged pictures may be left out. All other samples must equal those of full decoding.
        if foreign or (lacks and not is_damaged):
            yield "samples", f"every {interval}: {lacks} of {len(wanted)} samples of full decoding are missing, {foreign} are different"
    if times and not is_damaged and len(times) == len(whole):
        apart = [abs(taken[0] - time) for taken, time in zip(whole, times)]
        if max(apart) > TOLERANCE_S:
            at = apart.index(max(apart))
            yield "times", f"frame {at}: visage {whole[at][0]:.3f} s, ffmpeg {times[at]:.3f} s"


def check(path, options):
    """Returns the outcome for one file (ok, refused, crash or hang), its details, and the disagreements."""
    try:
        reference = Reference(path, options)
        code, out, _ = ours([VISAGE, "analyze", "--sampling", "exact", "--sample-every", "20", "--gaze", "off", str(path)], options)
        intervals = sorted({1, *options.every})
        sample_code, samples, _ = ours([SAMPLES, str(path), *map(str, intervals)], options)
        samples = json.loads(samples) if sample_code == DONE else {}
    except Stopped as stopped:
        kind, detail = stopped.args
        return kind, detail, []
    if code == REFUSED:
        reason = samples.get("refused", "samples did not refuse it")
        # The refusal is expected if FFmpeg finds a reason as well.
        expected = reference.why_refused
        return "refused", reason, [] if expected else [("refused", f"visage {reason}, ffmpeg {len(reference.frames)} frames")]
    if reference.why_refused:
        return "ok", "", [("taken", f"visage accepts it; {reference.why_refused}")]
    result = json.loads(out)
    if "refused" in samples:
        return "ok", "", [("samples", f"samples refuses it as {samples['refused']}, visage analyzes it")]
    is_damaged = any(warning["code"] in ("pictures_damaged", "video_cut_off") for warning in samples["warnings"])
    return "ok", "", [*compared(result, reference, is_damaged), *sampled(samples["samples"], reference, is_damaged)]


def explanations(path):
    """Reads patterns, kinds and reasons from a file."""
    lines = [line.split("\t") for line in Path(path).read_text().splitlines() if line.strip() and not line.startswith("#")]
    bad = [line for line in lines if len(line) != 3]
    if bad:
        sys.exit(f"{path}: expected a pattern, a kind and a reason, separated by tabs: {bad[0]}")
    return lines


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--limit", type=float, default=120, help="seconds for each program and file")
    arguments.add_argument("--memory", type=int, default=8192, help="address space of each program, in MiB")
    arguments.add_argument("--seconds", type=float, default=math.inf, help="total time in seconds")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments.add_argument("--every", type=lambda text: [int(every) for every in text.split(",")], default=[2, 3, 5, 8, 20])
    arguments.add_argument("--explained", help="a file of known disagreements")
    options = arguments.parse_args()
    for program in (VISAGE, SAMPLES):
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is missing: cargo build --locked --bin visage --example samples")
    if not shutil.which("ffprobe"):
        sys.exit("ffprobe is missing: it is part of FFmpeg")
    options.folder = options.folder.resolve()
    known = explanations(options.explained) if options.explained else []
    paths = sorted(path for path in options.folder.rglob("*") if path.is_file())
    if not paths:
        sys.exit(f"{options.folder} has no files")

    until = time.monotonic() + options.seconds
    counts, refusals, kinds, explained, left_out = Counter(), Counter(), Counter(), Counter(), []
    needed = set()
    work = lambda path: check(path, options) if time.monotonic() < until else None
    with ThreadPoolExecutor(options.jobs) as pool:
        for path, checked in zip(paths, pool.map(work, paths)):
            name = str(path.relative_to(options.folder))
            if checked is None:
                left_out.append(name)
                continue
            outcome, detail, disagreements = checked
            counts[outcome] += 1
            if outcome == "refused":
                refusals[detail] += 1
            if outcome in ("crash", "hang"):
                disagreements = [(outcome, detail)]
            for kind, sides in disagreements:
                matches = (nth for nth, (pattern, of, _) in enumerate(known) if of == kind and fnmatch.fnmatch(name, pattern))
                nth = next(matches, None)
                (kinds if nth is None else explained)[kind] += 1
                needed.add(nth)
                print(f"{name}: {kind}: {sides}" + ("" if nth is None else f" (known: {known[nth][2]})"), flush=True)
    for name in left_out:
        print(f"{name}: left out for time")
    for nth, (pattern, kind, _) in enumerate(known):
        if nth not in needed:
            print(f"{pattern}: {kind}: the explanation was not needed")
    listed = lambda counter: ", ".join(f"{key} {count}" for key, count in sorted(counter.items())) or "none"
    print(f"\n{len(paths)} files: {counts['ok']} ok, {counts['refused']} refused ({listed(refusals)}), "
          f"{counts['crash']} crashes, {counts['hang']} hangs, {len(left_out)} left out for time")
    print(f"disagreements not explained: {listed(kinds)}; explained: {listed(explained)}")
    sys.exit(1 if kinds else 0)


if __name__ == "__main__":
    main()
