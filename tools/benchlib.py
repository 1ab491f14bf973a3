# SPDX-License-Identifier: LGPL-2.1-or-later
"""What benchmarks share: cases with their goals, the table, the JSON."""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.*)", text)
    return {"cpu": model.group(1) if model else platform.machine(), "cpus": os.cpu_count(),
            "kernel": platform.release()}


def met(value, goal):
    """Whether a value keeps to a goal such as "<= 2.0 x"; None without a goal."""
    if not goal:
        return None
    operator, limit = goal.split()[:2]
    return {"<=": value <= float(limit), ">=": value >= float(limit), "<": value < float(limit)}[operator]


def reference(build):
    """QEMU's own back-end, unpacked; None where the distribution has none."""
    release = pathlib.Path("/etc/os-release").read_text(encoding="utf-8")
    if "VERSION_CODENAME=bookworm" not in release:
        return None
    program = build / "reference/usr/lib/qemu/vhost-user-gpu"
    if not program.exists():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root",
                            "qemu-system-gui/bookworm"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            for package in pathlib.Path(folder).glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package, build / "reference"], check=True)
    return program


# More than this part of all CPUs' time taken away: what was measured meanwhile tells little.
MOST_STOLEN = 0.01


class Watch:
    """How much of the CPUs' time the hypervisor takes away from now on ("steal" in proc(5))."""

    def __init__(self):
        self.since = self.read()

    @staticmethod
    def read():
        first = pathlib.Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        numbers = [int(n) for n in first.split()[1:9]]
        return sum(numbers), numbers[7]

    def stolen(self):
        now = self.read()
        return (now[1] - self.since[1]) / max(1, now[0] - self.since[0])


def clean_pairs(count, measure):
    """`count` results of measure() during which no CPU time was stolen, and a note. It is tried three
    times as often; where fewer than three were left alone, all results are taken."""
    clean, every = [], []
    while len(clean) < count and len(every) < 3 * count:
        watch = Watch()
        every.append(measure())
        if watch.stolen() <= MOST_STOLEN:
            clean.append(every[-1])
    if len(clean) < 3:
        return every, "CPUs were taken away in all but %d of %d pairs: all were taken" % (len(clean), len(every))
    left = len(every) - len(clean)
    return clean, "%d of %d pairs left out: CPUs were taken away" % (left, len(every)) if left else None


class Benchmark:
    def __init__(self, doc, options=None):
        """`options` adds some of its own to the parser."""
        parser = argparse.ArgumentParser(description=doc)
        parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
        if options:
            options(parser)
        self.args = parser.parse_args()
        self.cases = []

    def add(self, name, unit, value, baseline=None, goal=None, ratio=None, note=None):
        """A goal that ends in "x" is about value/baseline (or `ratio`, where pairs were compared), any
        other about the value. A note says what the figures do not."""
        if ratio is None and baseline:
            ratio = value / baseline
        result = met(ratio if goal and goal.endswith(" x") else value, goal)
        self.cases.append({"name": name, "value": value, "unit": unit, "baseline": baseline,
                           "ratio": ratio, "goal": goal, "met": result, "note": note})

    def finish(self):
        """Prints the table, writes the JSON, exits."""
        def text(value, digits=3):
            return "-" if value is None else "%.*g" % (digits, value)
        rows = [("CASE", "VALUE", "BASELINE", "RATIO", "GOAL", "MET")]
        rows += [(c["name"], "%s %s" % (text(c["value"]), c["unit"]),
                  "-" if c["baseline"] is None else "%s %s" % (text(c["baseline"]), c["unit"]),
                  text(c["ratio"]), c["goal"] or "-", {True: "yes", False: "NO", None: "-"}[c["met"]])
                 for c in self.cases]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row, note in zip(rows, [None] + [c["note"] for c in self.cases]):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
            if note:
                print("    (%s)" % note)
        if self.args.json:
            self.args.json.write_text(json.dumps({"version": 1, "machine": machine(), "cases": self.cases},
                                                 indent=2) + "\n", encoding="utf-8")
        sys.exit(1 if any(c["met"] is False for c in self.cases) else 0)


def median(values):
    return statistics.median(values)


def build(lab=False, guest=False):
    """What a benchmark runs: gpup in build/, and the lab's host and its guest."""
    if os.geteuid() != 0:
        sys.exit("error: run it as root (it makes a host in namespaces)")
    folder = TOP / "build"
    steps = [[TOP / "tools/install-packages", TOP / "tools/packages-build", TOP / "tools/packages-lab"],
             ["meson", "setup", *(["--reconfigure"] if (folder / "build.ninja").exists() else []), folder],
             ["ninja", "-C", folder]]
    if lab or guest:
        steps.append([TOP / "tools/host-layer", folder / "host"])
    if guest:
        steps.append([TOP / "tools/guest-image", folder / "guest", folder / "tests/guest/gltest"])
    for step in steps:
        result = subprocess.run(step, check=False, cwd=TOP, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)
        if result.returncode:
            sys.exit("error: %s:\n%s" % (step[0], result.stdout[-3000:]))
    return folder
