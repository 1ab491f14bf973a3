#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a real guest shows on its partition's head is what QEMU shows: buffers that programs write
and ones that the GPU renders, over stop and cont."""
import pathlib
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import vmlib  # noqa: E402
from taplib import contains, equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="gpup-display-"))
WIDTH, HEIGHT = 1280, 800
VM = vmlib.Machine(BUILD, [BUILD / "src/vgpu/gpup-vhost-user-gpu", "--vram=256M", "--display",
                           "--renderer=%s" % (BUILD / "src/render/gpup-render")], FOLDER, "guest")


def picture():
    """What QEMU shows: its size and a function that tells a pixel."""
    path = FOLDER / "shown.ppm"
    VM.qmp(("screendump", {"filename": str(path), "device": "gpu", "head": 0}))
    data = path.read_bytes()
    found = re.match(rb"P6\n(\d+) (\d+)\n255\n", data)
    width, height = int(found.group(1)), int(found.group(2))
    start = found.end()

    def pixel(x, y):
        at = start + (y * width + x) * 3
        return tuple(data[at:at + 3])
    return width, height, pixel


def written(x, y):
    return (x & 255, y & 255, 0x40)


def rendered(_, y):
    return (255, 0, 0) if y < HEIGHT // 4 else (0, 0, 255)


class Over(Exception):
    """The guest does not show it any more."""


def is_shown(expected, said):
    """Waits for it; said: the guest's words, once it has ended."""
    places = [(0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1), (WIDTH - 1, HEIGHT - 1), (300, 199), (301, 200),
              (700, 555)]
    until = time.monotonic() + 600
    while True:
        width, height, pixel = picture()
        got = [pixel(x, y) if (width, height) == (WIDTH, HEIGHT) else None for x, y in places]
        wanted = [expected(x, y) for x, y in places]
        if got == wanted:
            return
        if said or time.monotonic() > until:
            raise Over("%dx%d: %r, not %r; the guest: %r" % (width, height, got, wanted, said))
        time.sleep(0.1)


def shows_for(seconds, kind, expected, during):
    """The guest shows it, in a thread of its own, while it is looked at."""
    said = []
    thread = threading.Thread(target=lambda: said.append(VM.guest.run("gltest show %s %d" % (kind, seconds))))
    thread.start()
    try:
        is_shown(expected, said)
        during(said)
    finally:
        thread.join()
        equal(said[0][1], 0, said[0][0])
    contains(said[0][0], "mode=%dx%d" % (WIDTH, HEIGHT))


def shows(kind, expected, during=lambda said: None):
    try:
        shows_for(8, kind, expected, during)
    except Over: # before it was looked at, on a busy machine
        shows_for(120, kind, expected, during)


def stop_and_cont(said):
    VM.qmp(("stop", {}))
    VM.qmp(("cont", {}))
    is_shown(rendered, said)


def all_and_end():
    try:
        run([
            ("written", lambda: shows("written", written)),
            ("rendered", lambda: shows("rendered", rendered, stop_and_cont)),
        ])
    finally:
        VM.stop()


all_and_end()
