#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of any process at any step (src/fault/fault.h): afterwards no partition is lost or given
twice, no VM that ran is harmed, nothing is left behind, and nobody had to repair anything. Prints the
matrix of points and processes. Steps of hardware: test_faults_hardware.py.

  test_faults.py BUILD [PART [TEST...]]    BUILD: with the lab's host and guest; BUILD/faults is made

The parts run beside each other, each in a lab of its own.
"""
import re
import sys
import threading
import time

from faultlib import (ADAPTERS, BEREFT, BUILD, CARD, GUEST, HARDWARE, KEPT_RENDERERS, LAB, LAST, MATRIX,
                      REACH_S, SUBJECT, assign_to, cases, define, hit, hit_all, holders, kill, names_in,
                      popen, processes, qemu_of, run_and_end, set_up_lab, settled, wait_for)
from taplib import contains, equal

GUESTS = {}  # the connection to the agent in the guest


# ---- the operations ----

def up():
    if SUBJECT not in LAST[0].running:
        LAB.run("virsh", "start", SUBJECT)
        settled("the subject started")


def down():
    """False: there was nothing to do. As if its QEMU crashed: that virsh destroy works is another
    test, and waits for what it has killed by looking five times a second."""
    if SUBJECT not in LAST[0].running:
        return False
    kill(qemu_of(SUBJECT) + processes("gpup-vgpu", SUBJECT))
    BEREFT.clear()
    settled("the subject stopped")
    return False


def start_and_stop():
    """What was cut off can be done."""
    up()
    contains(str(holders()), SUBJECT)
    LAB.run("virsh", "destroy", SUBJECT)
    settled("the subject stopped")


def virsh_start():
    both = ("gpupd", "libvirtd", "client")
    cases("virsh start", {
        "hook.read": both + ("gpup-hook",),
        "hook.asked": both + ("gpup-hook",),
        "gpupd.prepare.asked": both + ("gpup-hook",),
        "gpupd.ready.begun": ("gpupd",),
        "gpupd.ready.done": ("gpupd",),
        "gpupd.prepare.resolved": ("gpupd", "libvirtd"),
        "gpupd.prepare.taken": ("gpupd",),
        "gpupd.claim.written": ("gpupd", "libvirtd"),
        "gpupd.prepare.saved": both + ("gpup-hook",),
        "hook.answered": both + ("gpup-hook",),
        "vgpu.hello.begin": both + ("gpup-vgpu",),
        "gpupd.hello.asked": both + ("gpup-vgpu",),
        "gpupd.hello.granted": both + ("gpup-vgpu",),
        "vgpu.hello.granted": both + ("gpup-vgpu",),
        "gpupd.started.asked": both + ("gpup-vgpu", "gpup-hook"),
        "gpupd.started.saved": both + ("gpup-vgpu",),
    }, lambda: popen("virsh", "start", SUBJECT), down, down)
    start_and_stop()


def gpup_vm_start():
    cases("gpup vm start", {
        "gpupd.start.asked": ("gpupd", "libvirtd", "client"),
        "gpupd.prepare.saved": ("gpupd", "libvirtd", "client"),
        "gpupd.start.done": ("gpupd", "libvirtd", "client", "gpup-vgpu"),
    }, lambda: popen("gpup", "vm", "start", SUBJECT), down, down)
    start_and_stop()


def virsh_destroy():
    three = ("gpupd", "libvirtd", "client")
    cases("virsh destroy", {
        "hook.read": ("gpupd", "libvirtd", "client", "gpup-hook"),
        "gpupd.release.asked": three + ("gpup-hook",),
        "gpupd.release.given-back": ("gpupd", "libvirtd"),
        "gpupd.release.half": ("gpupd",),
        "gpupd.release.freed": three,
        "hook.answered": ("gpupd", "libvirtd", "client"),
    }, lambda: popen("virsh", "destroy", SUBJECT), up, down)
    start_and_stop()


def count_of(gpu):
    return len(LAB.json("gpu", "show", gpu)["gpu"]["partitions"])


def partition():
    """The old count or the new one, and what is shown is what is stored."""
    wanted = [4]

    def start():
        wanted[0] = 6 - count_of(CARD)  # 2 and 4 in turn
        return popen("gpup", "gpu", "partition", CARD, str(wanted[0]))

    def after():
        contains(str((2, 4)), str(count_of(CARD)))
        kill(processes("gpupd"))
        count = wait_for("gpupd is back", lambda: count_of(CARD))
        settled("gpupd started again")
        LAB.run("gpup", "gpu", "partition", CARD, str(wanted[0]))
        equal(count_of(CARD), wanted[0])
        contains(str((2, 4)), str(count))

    LAB.run("gpup", "gpu", "partition", CARD, "2")
    cases("gpup gpu partition", {
        "gpupd.partition.begun": ("gpupd", "client"),
        "gpupd.partition.made": ("gpupd", "client"),
        "gpupd.partition.stored": ("gpupd", "client"),
    }, start, after=after)


def partition_powers_off():
    """--power-off-vms: the VM on that GPU may be off or on, the other one is not touched."""
    LAB.run("gpup", "assign", SUBJECT, "--gpu", CARD)

    def start():
        return popen("gpup", "gpu", "partition", CARD, str(6 - count_of(CARD)), "--power-off-vms")

    try:
        cases("gpup gpu partition --power-off-vms", {
            "gpupd.partition.powered-off": ("gpupd", "libvirtd", "client"),
            "gpupd.release.asked": ("gpupd", "libvirtd"),
            "gpupd.partition.made": ("gpupd",),
        }, start, up, down)
    finally:
        LAB.run("gpup", "assign", SUBJECT, "--gpu", "")
    start_and_stop()


def assign():
    """The VM has an adapter or has none, and unassign gives the definition back."""
    fresh = "desk3"
    original = define(fresh)

    def after():
        LAB.run("gpup", "assign", fresh)
        LAB.run("gpup", "unassign", fresh)
        equal(LAB.run("virsh", "dumpxml", "--inactive", fresh).stdout, original, "the definition")

    def assigned():
        if "urn:gpup:adapter" not in LAB.run("virsh", "dumpxml", fresh).stdout:
            LAB.run("gpup", "assign", fresh)

    victims = ("gpupd", "libvirtd", "client")
    points = {"gpupd.assign.edited": victims, "gpupd.assign.defined": victims,
              "gpupd.assign.noted": victims}
    try:
        cases("gpup assign", points, lambda: popen("gpup", "assign", fresh), after=after)
        cases("gpup unassign", points, lambda: popen("gpup", "unassign", fresh), assigned, after)
    finally:
        LAB.run("virsh", "undefine", fresh)


def assign_live():
    """The VM runs on, with what it had or with what it was to get; and it can be done again."""
    life, turn = [None], [0]

    def share():
        return LAB.json("vm", "show", SUBJECT)["vm"]["grant"]["compute"]["cap"] // 10000

    def before():
        up()
        life[0] = (qemu_of(SUBJECT), processes("gpup-vgpu", SUBJECT))

    def start():
        turn[0] += 1
        return popen("gpup", "assign", SUBJECT, "--live", "--compute", "::%d%%" % (50 + turn[0]))

    def after():
        had = share()
        LAB.run("gpup", "assign", SUBJECT, "--live", "--compute", "::%d%%" % (50 + turn[0]))
        equal(LAST[0].running, sorted((GUEST, SUBJECT)))
        equal(share(), 50 + turn[0])
        if not BEREFT:
            equal((qemu_of(SUBJECT), processes("gpup-vgpu", SUBJECT)), life[0], "the VM that was changed")
        else:
            down()
        contains(str((50 + turn[0], 50 + turn[0] - 1, 100)), str(had))

    LAB.run("gpup", "assign", SUBJECT, "--gpu", "software")
    three = ("gpupd", "libvirtd", "client")
    cases("gpup assign --live", {
        "gpupd.assign.edited": three,
        "gpupd.assign.defined": three,
        "gpupd.assign.noted": three,
        "gpupd.claim.written": three,
        "gpupd.live.saved": three,
        "gpupd.live.told": three + ("gpup-vgpu",),
    }, start, before, after)
    down()
    LAB.run("gpup", "assign", SUBJECT, "--gpu", "", "--compute", "::")


def assign_restarts():
    """Begun, it is gone through with: the VM is started again, whoever was killed."""
    before = [None]

    def as_it_was():
        up()
        before[0] = qemu_of(SUBJECT)

    def guest_ends():
        """There is no guest that could: its QEMU ends when it has been asked to."""
        wait_for("it is asked to shut down", lambda: names_in("run/gpup/restarts"), REACH_S)
        kill(before[0])

    def start():
        client = popen("gpup", "assign", SUBJECT, "--restart", "--compute", "::50%")
        threading.Thread(target=guest_ends, daemon=True).start()
        return client

    def after():
        wait_for("it runs again", lambda: qemu_of(SUBJECT) not in ([], before[0]))
        settled("it runs again")
        equal(LAST[0].running, sorted((GUEST, SUBJECT)))
        wait_for("nothing is left to do", lambda: not names_in("run/gpup/restarts"))

    LAB.run("gpup", "assign", SUBJECT, "--gpu", "software")
    three = ("gpupd", "libvirtd", "client")
    cases("gpup assign --restart", {
        "gpupd.restart.noted": three,
        "gpupd.restart.stopped": three,
        "gpupd.restart.started": three,
    }, start, as_it_was, after)
    down()
    LAB.run("gpup", "assign", SUBJECT, "--gpu", "", "--compute", "::")
    start_and_stop()


def libvirtd_comes_back():
    """Two VMs run while libvirtd is replaced: gpupd hears of each again."""
    def restart():
        kill(processes("libvirtd"))

    up()
    cases("libvirtd restarts", {
        "gpupd.reconnect.asked": ("gpupd", "libvirtd"),
        "gpupd.reconnect.saved": ("gpupd", "libvirtd"),
    }, restart, up, lambda: equal(LAST[0].running, sorted((GUEST, SUBJECT))))
    down()


def renderer():
    """The guest asks for a renderer. Whoever is killed meanwhile: it draws again."""
    guest = GUESTS[GUEST]
    KEPT_RENDERERS.clear()

    def no_renderer():
        kill(processes("gpup-render"))

    def draw():
        guest.socket.sendall(b"gltest render 1\n")  # its answer is read, or drained, in after()

    def after():
        while not guest.line().startswith("= "):
            pass
        until = time.monotonic() + 40
        while True:
            said = guest.gltest("render", 1)
            if said.get("pixels_ok") == "1":
                break
            if time.monotonic() > until:
                raise AssertionError("%s does not draw again: %s" % (GUEST, said))
        equal(len(processes("gpup-render")), 1, "renderers")

    two, three = ("gpupd", "gpup-render"), ("gpupd", "gpup-render", "libvirtd")
    cases("a guest draws", {
        "gpupd.renderer.started": three,
        "gpupd.renderer.recorded": two,
        "gpupd.renderer.handed": two,
        "vgpu.renderer.given": two,
        "vgpu.renderer.ready": two,
        "render.set-up": ("gpup-render",),
        "render.initialised": ("gpup-render",),
        "render.ready": ("gpup-render",),
        "render.command": ("gpup-render",),
    }, draw, no_renderer, after, GUEST)


def the_device_process():
    """Killed with its renderer starting: its VM has lost its GPU, and is as good as new when it is
    started again. The other one is not harmed."""
    LAB.run("virsh", "start", SUBJECT)
    other = processes("gpup-vgpu", SUBJECT)
    points = ("gpupd.renderer.started", "vgpu.renderer.given", "vgpu.renderer.ready")
    for point in points:
        kill(processes("gpup-render"))
        hit(point, lambda: GUESTS[GUEST].socket.sendall(b"gltest render 1\n"), "gpup-vgpu", GUEST)
        wait_for("its renderer ends with it", lambda: not processes("gpup-render"))
        contains(str(holders()), GUEST)  # it runs, and libvirt says so
        LAB.run("virsh", "destroy", GUEST)
        BEREFT.clear()
        settled("its VM stopped")
        equal(processes("gpup-vgpu", SUBJECT), other)
        LAB.run("virsh", "start", GUEST)
        settled("its VM started again")
        if point != points[-1]:  # its boot takes long
            GUESTS[GUEST] = LAB.guest(GUEST)
            guest_draws()
        MATRIX.setdefault(("a guest draws", point), {})["gpup-vgpu"] = "ok"
    down()


def guest_draws():
    said = GUESTS[GUEST].gltest("render", 1)
    equal(said.get("pixels_ok"), "1", "%s draws: %s" % (GUEST, said))


# ---- the whole ----

# Part -> its tests, and the points of which it hits every one. That of None: whatever is nobody else's.
PARTS = {
    "starts": ((virsh_start, gpup_vm_start, guest_draws),
               r"(hook|vgpu\.hello|gpupd\.(prepare|ready|claim|hello|start|started))\."),
    "changes": ((partition, partition_powers_off, assign, assign_live, assign_restarts,
                 guest_draws),
                r"gpupd\.(partition|assign|live|restart)\."),
    "ends": ((virsh_destroy, libvirtd_comes_back, guest_draws, renderer, the_device_process), None),
}


def belongs(point):
    if HARDWARE.match(point):
        return False
    if OWN_POINTS is not None:
        return re.match(OWN_POINTS, point)
    return not any(re.match(points, point) for _, points in PARTS.values() if points)


def every_point_was_hit():
    hit_all(belongs)


def ordinary_builds_have_none():
    """What is installed on hosts contains no fault points."""
    for name in ("src/daemon/gpupd", "src/hook/gpup-hook", "src/render/gpup-render",
                 "src/vgpu/gpup-vhost-user-gpu", "src/gpu/gpup-gpu-helper"):
        equal(b"gpup-faults" in (BUILD / name).read_bytes(), False, name)
        equal(b"GPUP_FAULT" in (BUILD / name).read_bytes(), False, name)


def set_up():
    set_up_lab(lambda: LAB.fake_gpus(CARD))
    define(SUBJECT)
    LAB.define(GUEST)
    assign_to(GUEST, "software")
    assign_to(SUBJECT, "")
    LAB.run("virsh", "start", GUEST)
    GUESTS[GUEST] = LAB.guest(GUEST)
    guest_draws()
    settled("at the beginning")
    KEPT_RENDERERS.extend(processes("gpup-render"))


TESTS, OWN_POINTS = PARTS[sys.argv[2]] if len(sys.argv) > 2 else (sum((t for t, _ in PARTS.values()), ()), "")
run_and_end(set_up, (*TESTS, every_point_was_hit, ordinary_builds_have_none), sys.argv[3:])
