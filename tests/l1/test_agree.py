#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""fakesys answers as the kernel does: the cases of kernel_cases.py, whose answers by a real kernel
are in kernel_cases.expected (the l1 suite holds the kernel to them).

test_agree.py FAKESYS: the test; test_agree.py set|hold ...: what kernel_cases.py asks for faults and
open functions, at the machine that FAKESYS_MOUNT names.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tools"))
from taplib import equal, run  # noqa: E402

PF, SHARED = "0000:01:00.0", "0000:02:00.0"
GPU = "add %s vendor=0x1234 device=0x0b50 class=0x038000 totalvfs=4 driver=gpu"
# what is about VFIO itself, which fakesys does not have
ONLY_KERNEL = "group members"


def order(text):
    with open(pathlib.Path(os.environ["FAKESYS_MOUNT"]) / "control", "w", encoding="ascii") as file:
        file.write(text + "\n")


def helper():
    if sys.argv[1] == "set" and sys.argv[2] == "fail_errno":
        order("fail %s enable %s" % (PF, sys.argv[3]))
    elif sys.argv[1] == "set" and sys.argv[2] == "short_by":
        order("short %s %d" % (PF, 4 - int(sys.argv[3])))
    elif sys.argv[1] == "set" and sys.argv[2] == "hang":
        order("hang %s %s" % (PF, "on" if sys.argv[3].startswith("1") else "off"))
    elif sys.argv[1] == "hold":
        order("hold %s qemu" % sys.argv[2])
        print("open", flush=True)
        sys.stdin.read()
        order("close " + sys.argv[2])


def mounted(path):
    return (pathlib.Path(path) / "control").exists()


def answers(orders, shared):
    """What kernel_cases.py prints for a machine that is made by these orders."""
    with tempfile.TemporaryDirectory(prefix="gpup-agree-") as mount:
        fakesys = subprocess.Popen([sys.argv[1], mount])
        try:
            until = time.monotonic() + 20
            while not mounted(mount):
                if fakesys.poll() is not None or time.monotonic() > until:
                    raise AssertionError("fakesys does not start")
                time.sleep(0.01)
            os.environ["FAKESYS_MOUNT"] = mount
            for text in orders:
                order(text)
            return subprocess.run([sys.executable, HERE / "kernel_cases.py", mount + "/sys", PF, shared, __file__],
                                  stdout=subprocess.PIPE, text=True, check=True, timeout=90).stdout
        finally:
            fakesys.terminate()
            fakesys.wait()
            subprocess.run(["umount", "-l", mount], check=False, stderr=subprocess.DEVNULL)


def are(got, wanted):
    differ = ["%r, the kernel says %r" % pair for pair in zip(got.splitlines(), wanted)
              if pair[0] != pair[1]]
    equal(differ, [])
    equal(len(got.splitlines()), len(wanted))


def the_same_answers():
    got = answers(["bridge 0000:00:02.0 acs=none", GPU % PF, GPU % SHARED + " parent=0000:00:02.0"], SHARED)
    wanted = (HERE / "kernel_cases.expected").read_text(encoding="utf-8").splitlines()
    are(got, wanted[:next(i for i, line in enumerate(wanted) if line.startswith(ONLY_KERNEL))])


def the_same_without_an_iommu():
    got = answers(["iommu off", "drop /sys/class/iommu/dmar0", GPU % PF], "no-iommu")
    are(got, (HERE / "kernel_cases.no-iommu.expected").read_text(encoding="utf-8").splitlines())


if sys.argv[1] in ("set", "hold"):
    helper()
else:
    run([("the same answers", the_same_answers), ("the same without an IOMMU", the_same_without_an_iommu)])
