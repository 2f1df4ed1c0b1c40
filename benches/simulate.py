#!/usr/bin/env python3
"""Simulates days of visage at sizes that no test reaches: what waits, what it costs, and what breaks first.

usage: simulate.py                      the table of docs/PERFORMANCE.md
       simulate.py --videos 300000      one size; see --help for the other assumptions
       simulate.py --check              compares the simulation with a formula (Erlang C)

The simulation is discrete: a video arrives, waits, is claimed by a free worker, and ends. Arrivals follow a daily curve
with bursts. KEDA and the autoscaler of Kubernetes start and stop workers with the delays that these have by default. A
spot node may be taken back; its worker finishes what it can within its grace and hands back the rest.

Measured (docs/PERFORMANCE.md): the CPU time of a video and of the start of a program, the speed-up on two cores, and the
complete cycles of the queue a second. Assumed: everything that is an option below.
"""

import argparse
import heapq
import math
import random
from collections import deque

DAY = 86_400
# CPU seconds on one core: for a run, and for each second of 720p30 with one face and sound, `exact`.
RUN_S, SECOND_S = 0.15, 0.0658
# How much faster a video is on the two cores of a worker than on one.
SPEED_UP = 1.85
# Complete cycles (claim, heartbeat, completion) a second of a Postgres on two cores, with the queue's own code.
CYCLES = 625
# Statements of an upload and its polls, as a share of such a cycle.
OTHER_STATEMENTS = 0.5
# Bytes of a second of video: 5 Mbit/s.
BYTES = 625_000

ARRIVAL, FINISH, TICK, READY, LOSS = range(5)


class Worker:
    __slots__ = ("video", "begun", "run", "is_ending", "started")

    def __init__(self, now):
        self.video, self.begun, self.run, self.is_ending, self.started = None, 0.0, 0, False, now


class Simulation:
    def __init__(self, options):
        self.options, self.random = options, random.Random(options.seed)
        self.events, self.count = [], 0
        self.queue, self.idle, self.workers, self.starting = deque(), [], set(), 0
        self.waits, self.busy_s, self.lost_s, self.losses, self.paid_s = [], 0.0, 0.0, 0, 0.0
        self.most_workers = self.most_waiting = self.done = 0
        self.wanted_before, self.arrivals_in_minute, self.most_in_minute, self.minute = deque(), 0, 0, 0

    def at(self, time, kind, subject=None):
        self.count += 1
        heapq.heappush(self.events, (time, self.count, kind, subject))

    def rate(self, time):
        """Videos a second: a day with its peak in the evening, and bursts of five minutes."""
        o = self.options
        curve = 1 + o.swing * math.sin(2 * math.pi * (time / DAY - 0.58))
        burst = o.burst if time % (o.burst_every_h * 3600) < 300 else 1
        share = 1 + (o.burst - 1) * 300 / (o.burst_every_h * 3600)
        return o.videos / DAY * curve * burst / share

    def next_arrival(self, time):
        # Thinning: candidates of the highest rate, of which a share counts.
        o = self.options
        highest = o.videos / DAY * (1 + o.swing) * o.burst
        while True:
            time += self.random.expovariate(highest)
            if self.random.random() * highest <= self.rate(time):
                return time

    def service_s(self):
        o = self.options
        if o.service == "exponential":
            return self.random.expovariate(1 / o.mean_s)
        # Lengths vary as those of calls and recordings do: log-normal, of this mean.
        length = self.random.lognormvariate(math.log(o.mean_s) - o.spread**2 / 2, o.spread)
        return (RUN_S + SECOND_S * min(length, 7200) * o.cpu) / SPEED_UP

    def add_worker(self, now):
        worker = Worker(now)
        self.workers.add(worker)
        self.most_workers = max(self.most_workers, len(self.workers))
        if self.options.losses_per_hour > 0:
            self.at(now + self.random.expovariate(self.options.losses_per_hour / 3600), LOSS, worker)
        self.work(worker, now)

    def remove(self, worker, now):
        if worker in self.workers:
            self.workers.discard(worker)
            self.paid_s += now - worker.started

    def work(self, worker, now):
        if worker.is_ending:
            self.remove(worker, now)
        elif self.queue:
            arrived, service, is_new = self.queue.popleft()
            if is_new:
                self.waits.append(now - arrived)
            worker.video, worker.begun = (arrived, service), now
            worker.run += 1
            self.at(now + service, FINISH, (worker, worker.run))
        else:
            worker.video = None
            self.idle.append(worker)

    def arrive(self, now):
        if now // 60 != self.minute:
            self.most_in_minute = max(self.most_in_minute, self.arrivals_in_minute)
            self.arrivals_in_minute, self.minute = 0, now // 60
        self.arrivals_in_minute += 1
        self.queue.append((now, self.service_s(), True))
        self.most_waiting = max(self.most_waiting, len(self.queue))
        self.wake(now)

    def wake(self, now):
        while self.idle and self.queue:
            worker = self.idle.pop()
            if worker in self.workers:
                self.work(worker, now)

    def finish(self, now, worker, run):
        # A run that a loss broke off has another number.
        if worker.video is None or worker.run != run:
            return
        self.busy_s += worker.video[1]
        self.done += 1
        worker.video = None
        self.work(worker, now)

    def lose(self, now, worker):
        """The node is taken back: the worker has its grace, and then hands back its video."""
        if worker not in self.workers or worker.is_ending:
            return
        self.losses += 1
        worker.is_ending = True
        if worker.video is None:
            self.remove(worker, now)
            return
        arrived, service = worker.video
        end = worker.begun + service
        if end - now > self.options.grace_s:
            stopped = now + self.options.grace_s
            self.lost_s += stopped - worker.begun
            self.busy_s += stopped - worker.begun
            worker.run += 1
            worker.video = None
            self.remove(worker, stopped)
            self.queue.appendleft((arrived, service, False))
            self.wake(now)

    def scale(self, now):
        """One look of KEDA and of the autoscaler."""
        o = self.options
        running = sum(1 for worker in self.workers if worker.video is not None)
        wanted = min(max(math.ceil((len(self.queue) + running) / o.videos_per_worker), o.min_workers), o.max_workers)
        # Up: at most double or four more in 15 seconds. Down: to the highest number of the last five minutes.
        self.wanted_before.append((now, wanted))
        while self.wanted_before[0][0] < now - o.cooldown_s:
            self.wanted_before.popleft()
        present = len(self.workers) + self.starting
        if wanted > present:
            for _ in range(min(wanted - present, max(4, present))):
                self.starting += 1
                self.at(now + self.random.uniform(0.7, 1.3) * o.start_s, READY)
        lowest = max(wanted for _, wanted in self.wanted_before)
        for _ in range(len(self.workers) - lowest):
            if not self.idle:
                break
            self.remove(self.idle.pop(0), now)
        self.at(now + o.every_s, TICK)

    def run(self):
        o = self.options
        end = o.days * DAY
        for _ in range(o.fixed_workers or o.min_workers):
            self.add_worker(0)
        if not o.fixed_workers:
            self.at(0, TICK)
        self.at(self.next_arrival(0), ARRIVAL)
        now = 0
        while self.events:
            now, _, kind, subject = heapq.heappop(self.events)
            if now > end:
                break
            if kind == ARRIVAL:
                self.arrive(now)
                self.at(self.next_arrival(now), ARRIVAL)
            elif kind == FINISH:
                self.finish(now, *subject)
            elif kind == TICK:
                self.scale(now)
            elif kind == READY:
                self.starting -= 1
                self.add_worker(now)
            else:
                self.lose(now, subject)
        for worker in list(self.workers):
            self.remove(worker, end)
        self.waits.sort()
        return self

    def wait(self, share):
        return self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))]

    def row(self):
        o = self.options
        hours, days = self.paid_s / 3600, o.days
        peak = self.most_in_minute / 60
        return {
            "videos a day": f"{o.videos:,}",
            "workers, mean and peak": f"{hours / 24 / days:.0f}, {self.most_workers}",
            "busy": f"{self.busy_s / self.paid_s:.0%}",
            "wait p50": seconds(self.wait(0.5)),
            "p99": seconds(self.wait(0.99)),
            "longest": seconds(self.waits[-1]),
            "most waiting": f"{self.most_waiting:,}",
            "work lost": f"{self.lost_s / self.busy_s:.2%}",
            "Postgres, peak": f"{peak * (1 + OTHER_STATEMENTS) / CYCLES:.0%}",
            "bucket, peak": f"{peak * o.mean_s * BYTES * 2 * 8 / 1e9:.1f} Gbit/s",
            "dollars for 1,000 videos": f"{hours * 2 * o.price / self.done * 1000:.2f}",
        }


def seconds(time):
    return f"{time:.1f} s" if time < 100 else f"{time / 60:.0f} min"


def check(options):
    """With a fixed number of workers and exponential times, the mean wait is that of Erlang's formula."""
    servers, service, load = 20, 2.0, 0.9
    options.videos = round(load * servers / service * DAY)
    options.swing, options.burst, options.losses_per_hour, options.days = 0, 1, 0, 3
    options.fixed_workers, options.service, options.mean_s = servers, "exponential", service
    simulation = Simulation(options).run()
    offered = load * servers
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    waiting = blocked / (1 - load * (1 - blocked))
    formula = waiting * service / (servers * (1 - load))
    found = sum(simulation.waits) / len(simulation.waits)
    print(f"mean wait of {len(simulation.waits):,} videos: {found:.4f} s, by the formula {formula:.4f} s")
    return abs(found / formula - 1) < 0.05


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = arguments.add_argument
    add("--videos", type=int, help="videos a day; by default the sizes of the table")
    add("--days", type=float, default=1)
    add("--mean-s", type=float, default=60, help="mean length of a video in seconds")
    add("--spread", type=float, default=0.8, help="standard deviation of the logarithm of the length")
    add("--cpu", type=float, default=1, help="CPU time as a multiple of that of 720p30, exact, Zen 5")
    add("--swing", type=float, default=0.7, help="the peak of the day is 1 + SWING of the mean")
    add("--burst", type=float, default=4, help="arrivals in a burst as a multiple of those around it")
    add("--burst-every-h", type=float, default=6)
    add("--videos-per-worker", type=float, default=5, help="videos for which the autoscaler wants one more worker")
    add("--min-workers", type=int, default=0)
    add("--max-workers", type=int, default=100_000)
    add("--every-s", type=float, default=15, help="interval of the autoscaler")
    add("--start-s", type=float, default=60, help="time from the wish for a worker to its first video: node, image, models")
    add("--cooldown-s", type=float, default=300)
    add("--losses-per-hour", type=float, default=0.05, help="rate at which the node of a worker is taken back")
    add("--grace-s", type=float, default=100)
    add("--price", type=float, default=0.02, help="dollars for an hour of a core")
    add("--seed", type=int, default=1)
    add("--check", action="store_true")
    options = arguments.parse_args()
    options.service, options.fixed_workers = "videos", 0
    if options.check:
        raise SystemExit(0 if check(options) else "the simulation differs from the formula")
    sizes = [options.videos] if options.videos else [1_000, 10_000, 100_000, 1_000_000, 10_000_000]
    for number, size in enumerate(sizes):
        options.videos = size
        row = Simulation(options).run().row()
        if number == 0:
            print("| " + " | ".join(row) + " |\n|" + " --- |" * len(row))
        print("| " + " | ".join(row.values()) + " |", flush=True)


main()
