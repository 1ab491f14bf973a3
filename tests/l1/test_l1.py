#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""SR-IOV on a real kernel, in a machine of its own: what its PCI core answers, what gpupd makes of
it, and VMs of a libvirt in there that get a virtual function."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from machine import FILES, PF, Machine, lablib  # noqa: E402
from taplib import equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1])
MACHINE = Machine(BUILD, "iommu")


def the_kernel():
    """The answers that fakesys imitates."""
    got = MACHINE.run("python3", "/run/l1/kernel_cases.py", "/sys", PF, timeout=120).stdout
    wanted = (FILES / "kernel_cases.expected").read_text(encoding="utf-8")
    for line, expected in zip(got.splitlines(), wanted.splitlines()):
        equal(line, expected)
    equal(got, wanted)


def main():
    lablib.stage(BUILD)
    try:
        MACHINE.start()
        run([(f.__name__.replace("_", " "), f) for f in (the_kernel,)])
    finally:
        MACHINE.stop()


main()
