#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""gpup-guest: which device of a machine it takes for the partition, and what it says to wrong input."""
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from taplib import contains, equal, run  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parents[2]


def said(sysfs, *words):
    done = subprocess.run([TOP / "guest/gpup-guest", *words], check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=dict(os.environ, GPUP_SYSFS=str(sysfs)))
    return done.returncode, done.stdout


def device(sysfs, name, number, values):
    """A virtio GPU: its PCI function, the virtio device in it, and its node."""
    function = sysfs / "devices" / name
    (function / "virtio0/drm" / ("card%d" % number)).mkdir(parents=True)
    for key, value in values.items():
        (function / key).write_text(value + "\n", encoding="utf-8")
    (function / "virtio0/device").write_text("0x0010\n", encoding="utf-8")
    node = sysfs / "class/drm" / ("renderD%d" % (128 + number))
    node.mkdir(parents=True)
    (node / "device").symlink_to(function / "virtio0")


def which_device():
    """Not the one that the machine shows its own display on (class 0x030000)."""
    with tempfile.TemporaryDirectory() as name:
        sysfs = pathlib.Path(name)
        device(sysfs, "0000:00:01.0", 0, {"vendor": "0x1af4", "class": "0x030000"})
        code, text = said(sysfs, "show")
        equal(code, 1)
        contains(text, "there is no GPU partition in this machine: on the host, gpup assign VM")
        device(sysfs, "0000:00:02.0", 1, {"vendor": "0x1af4", "class": "0x038000"})
        code, text = said(sysfs, "show")
        equal(code, 0, text)
        contains(text, "render node  /dev/dri/renderD129\ncard         /dev/dri/card1\n")


def wrong_input():
    for words, reason in (([], "Usage"), (["sohw"], "unknown command 'sohw'"), (["run"], "which program"),
                          (["desktop", "--port", "5900"], "--listen"),
                          (["desktop", "--size", "large"], "1280x720"), (["desktop", "--size"], "value"),
                          (["desktop", "--listen", "::1", "--port", "vnc"], "not a number"),
                          (["desktop", "--colour"], "--colour")):
        code, text = said("/nonexistent", *words)
        equal(code, 2, text)
        contains(text, reason)
    equal(said("/nonexistent", "--help")[0], 0)


run([("which device", which_device), ("wrong input", wrong_input)])
