#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real guests on partitions of the software GPU: what quickstart shows, asserted, with every kind of
display, and over stop, reboot and a renderer's death."""
import concurrent.futures
import pathlib
import re
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import lablib  # noqa: E402
from taplib import contains, equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1])
LAB = lablib.Lab(BUILD / "lab-guest", BUILD, kvm=lablib.kvm_works(BUILD))
MIB = 1 << 20
GUESTS = {}
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


def boot(*names, displays=lablib.VNC):
    for name in names:
        LAB.define(name, displays)
        LAB.run("gpup", "assign", name)
        LAB.run("virsh", "start", name)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for guest in pool.map(LAB.guest, names):
            GUESTS[guest.name] = guest


def end(*names):
    for name in names:
        LAB.run("virsh", "destroy", name)
        LAB.run("virsh", "undefine", name)


def usage(name):
    for p in LAB.json("gpu", "show", "software")["gpu"]["partitions"]:
        if p["vm"] == name:
            return p["usage"]
    raise AssertionError("%s has no partition" % name)


def wait_for(what, condition, seconds=120):
    """What the condition says at last. What a device process counts gpupd hears of a moment later."""
    until = time.monotonic() + seconds
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() > until:
            raise AssertionError("never: " + what)
        time.sleep(0.05)


def draws(name):
    said = GUESTS[name].gltest("render", 20)
    equal(said.get("pixels_ok"), "1", "%s: %s" % (name, said))


def two_guests():
    boot("desk1", "desk2")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for info in pool.map(lambda n: GUESTS[n].gltest("info"), ("desk1", "desk2")):
            contains(info.get("renderer", str(info)), "virgl")
            equal(info["vram_bytes"], str(512 * MIB))
        list(pool.map(draws, ("desk1", "desk2")))
    equal(LAB.json("vm", "show", "desk2")["vm"]["partition"], "software/1")


def the_limit():
    with concurrent.futures.ThreadPoolExecutor() as pool:
        other = pool.submit(GUESTS["desk2"].gltest, "watch", 4)
        said = GUESTS["desk1"].gltest("fill", 1024)
        equal(other.result().get("pixels_ok"), "1", str(other.result()))
    held = int(said["held_bytes"])
    if not 448 * MIB <= held <= 512 * MIB:
        raise AssertionError("held %d MiB of 512" % (held // MIB))
    wait_for("a refusal is counted", lambda: usage("desk1")["refused"] >= 1)
    equal(usage("desk2")["refused"], 0)
    draws("desk1")  # memory is free again when the program has gone


def what_is_used_and_refused_is_shown():
    """By the command, as JSON, and on D-Bus: the same figures."""
    for seconds in (6, 30, 120):  # a busy machine may take longer to look
        with concurrent.futures.ThreadPoolExecutor() as pool:
            drawing = pool.submit(GUESTS["desk1"].gltest, "watch", seconds)
            # bytes; it has begun
            wait_for("something is used", lambda d=drawing: d.done() or usage("desk1")["vram_used"] >= MIB)
            refused = usage("desk1")["refused"]
            shown = LAB.run("gpup", "vm", "show", "desk1").stdout
            bus = LAB.run("gdbus", "call", "--system", "--dest", "org.gpup1", "--object-path",
                          "/org/gpup1/partition/software/0", "--method",
                          "org.gpup1.Partition.GetUsage").stdout
            vm = LAB.json("vm", "show", "desk1")["vm"]
            in_time = not drawing.done() and vm["usage"]["vram_used"] >= MIB
            equal(drawing.result().get("pixels_ok"), "1", str(drawing.result()))
        if in_time:
            break
    in_use = re.search(r"^vram .* (\d+\.?\d*) ([KM])iB$", shown, re.M)
    equal(bool(in_use), True, shown)
    equal(vm["usage"]["vram_used"] >= MIB, True, str(vm))
    equal(vm["usage"]["vram_peak"] >= 448 * MIB, True, str(vm))
    equal(vm["usage"]["refused"], refused)
    contains(bus, "'vram-used': <uint64 ")
    contains(bus, "'refused': <uint64 %d>" % refused)
    contains(shown, "1 request beyond its memory was refused\n" if refused == 1 else
             "%d requests beyond its memory were refused\n" % refused)
    other = LAB.run("gpup", "vm", "show", "desk2").stdout
    equal("beyond its memory" in other, False, other)


class Drawing:
    """A program in the guest that draws until something is wrong: at most two minutes."""

    def __init__(self, name):
        self.name = name
        self.said = {}
        self.began = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        if not self.began.wait(120):
            raise AssertionError("%s does not draw" % name)

    def watch(self):
        for kind, text in GUESTS[self.name].lines("gltest watch 120"):
            if text == "drawing=1":
                self.began.set()
            self.said[kind] = text

    def lose_renderer(self):
        """It is killed while it is in use: one that nobody draws with ends by itself."""
        pid = wait_for("its renderer is known", lambda: usage(self.name).get("renderer_pid"))
        LAB.run("kill", "-9", str(pid))
        self.thread.join(180)
        equal(self.said.get("="), 3, "the program that drew notices")


def a_killed_renderer():
    drawing = Drawing("desk1")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        other = pool.submit(GUESTS["desk2"].gltest, "watch", 4)
        drawing.lose_renderer()
        draws("desk1")
        equal(other.result().get("pixels_ok"), "1", str(other.result()))
    wait_for("its death is counted", lambda: usage("desk1")["renderer_deaths"] == 1)
    equal(usage("desk2")["renderer_deaths"], 0)


def stop_and_cont():
    with concurrent.futures.ThreadPoolExecutor() as pool:
        watching = pool.submit(GUESTS["desk1"].gltest, "watch", 4)
        for _ in range(5):
            LAB.run("virsh", "suspend", "desk1")
            LAB.run("virsh", "resume", "desk1")
        equal(watching.result().get("pixels_ok"), "1", str(watching.result()))
    draws("desk1")


def gpupd_restarts_while_it_draws():
    with concurrent.futures.ThreadPoolExecutor() as pool:
        watching = pool.submit(GUESTS["desk1"].gltest, "watch", 4)
        LAB.run("pkill", "-9", "-x", "gpupd")
        LAB.run("sh", "-c", "gpupd-service </dev/null >>/tmp/gpupd.log 2>&1 &")
        LAB.run("gdbus", "wait", "--system", "--timeout", "60", "org.gpup1")
        equal(watching.result().get("pixels_ok"), "1", str(watching.result()))
    wait_for("its device process comes back", lambda: usage("desk1"))
    # a renderer that dies now is replaced by the new gpupd
    Drawing("desk1").lose_renderer()
    wait_for("desk1 draws again", lambda: GUESTS["desk1"].gltest("render", 1).get("pixels_ok") == "1")


def what_went_wrong_is_known():
    """Counted once, also over the restart of gpupd, with its cause where gpupd has seen the end."""
    def health():
        return LAB.json("gpu", "show", "software")["gpu"]["health"]
    wait_for("both deaths are counted", lambda: health()["renderer_deaths"] == 2)
    equal(health()["refused_memory"] >= 1, True, str(health()))
    equal(health()["hangs"], 0)
    said = {e["kind"]: e for e in LAB.json("events", "--vm", "desk1", "-n", "100")["events"]}
    contains(said["renderer"]["text"], "desk1: its renderer ended")
    contains(said["limit"]["text"], "512 MiB")
    equal(said["renderer"]["user"], "guest")
    contains(LAB.log() + LAB.run("cat", "/tmp/gpupd.log").stdout, "its renderer ended (SIGKILL) and was replaced")
    contains(LAB.run("gpup", "metrics").stdout,
             'gpup_vm_renderer_deaths_total{vm="desk1",gpu="software",partition="0"} 2\n')


def shut_down_from_inside():
    GUESTS["desk2"].run("poweroff")
    wait_for("desk2 is off", lambda: LAB.json("vm", "show", "desk2")["vm"]["state"] == "shut off")
    equal(LAB.json("vm", "show", "desk2")["vm"]["partition"] or "", "")
    LAB.run("virsh", "undefine", "desk2")
    end("desk1")
    equal([p["state"] for p in LAB.json("gpu", "show", "software")["gpu"]["partitions"]],
          ["free"] * 4)


def without_graphics():
    boot("plain", displays=AGENT)
    contains(GUESTS["plain"].gltest("info").get("renderer", ""), "virgl")
    draws("plain")


def wait_for_agent(state):
    """Until libvirt sees the agent's port open, or not."""
    until = time.monotonic() + 60
    while True:
        found = re.search(r"name='org.qemu.guest_agent.0' state='(\w+)'", LAB.run("virsh", "dumpxml", "plain").stdout)
        if found and found.group(1) == state:
            return
        if time.monotonic() > until:
            raise AssertionError("the guest agent is not %s" % state)
        time.sleep(0.1)


def agent_says(script):
    """What gpupd makes of a guest agent that runs this on its port (descriptor 3)."""
    said, status = GUESTS["plain"].run(
        "for p in /sys/class/virtio-ports/*; do"
        " [ $(cat $p/name) != org.qemu.guest_agent.0 ] || port=/dev/${p##*/}; done;"
        " (exec 3<>$port; %s; exec sleep 600) >/dev/null 2>&1 & echo $! >/tmp/stand-in" % script)
    equal(status, 0, said)
    wait_for_agent("connected")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # 60 s are many times what it may take; it blocks nobody else meanwhile
        asked = pool.submit(LAB.run, "gdbus", "call", "--system", "--timeout", "60", "-d", "org.gpup1",
                            "-o", "/org/gpup1", "-m", "org.gpup1.Manager.GetGuest", "plain", "4318",
                            check=False)
        equal(LAB.json("vm", "show", "plain")["vm"]["state"], "running")
        said = asked.result().stderr
    GUESTS["plain"].run("kill -9 $(cat /tmp/stand-in)")
    wait_for_agent("disconnected")
    return said


def answering(command):
    """A script that runs this for each line. Until libvirt is connected, reading is at its end."""
    return "while :; do read -r line <&3 || { sleep .05; continue; }; %s; done" % command


def a_silent_guest_agent():
    """It takes what it is asked and never answers; answers that it is there and then no more; talks
    nonsense, at each question or once."""
    there = answering("case $line in *guest-sync*) id=${line##*:};"
                      " echo '{\"return\":'${id%%[!0-9]*}'}' >&3;; esac")
    nonsense = answering("printf '{\"return\": [{\\033[31m]\\n' >&3")
    for script in (there, nonsense, "echo '{\"return\":}' >&3", ":"):
        said = agent_says(script)
        contains(said, "plain: its guest agent does not answer")
        equal(len(said.strip().split("\n")), 1, said)
        equal("\033" in said, False, said)
    end("plain")


def with_spice():
    """Where the guest's kernel takes a GPU without outputs it draws; an older one refuses the device
    and runs all the same."""
    boot("spice", displays="<graphics type='spice' autoport='yes'/><video><model type='qxl'/></video>")
    release, _ = GUESTS["spice"].run("uname -r")
    if tuple(int(n) for n in release.split(".")[:2]) >= (6, 12):
        draws("spice")
    else:
        contains(GUESTS["spice"].run("dmesg")[0], "virtio_gpu")
    end("spice")


def shown():
    """With its head connected libvirt has a second screen of the guest."""
    LAB.define("shown")
    LAB.run("gpup", "assign", "shown", "--display", "pixels")
    equal(LAB.json("vm", "show", "shown")["vm"]["adapter"]["display"], "pixels")
    LAB.run("virsh", "start", "shown")
    GUESTS["shown"] = LAB.guest("shown")
    said = GUESTS["shown"].gltest("show", "written", 1)
    equal(said.get("mode"), "1280x800", str(said))
    LAB.run("virsh", "screenshot", "shown", "/tmp/shown", "--screen", "1")
    end("shown")


def main():
    lablib.stage(BUILD)
    LAB.start("[software]\nmemory=2G\n")
    try:
        LAB.run("gpup", "gpu", "partition", "software", "4")
        wanted = sys.argv[2:]
        run([(f.__name__.replace("_", " "), f) for f in (
            two_guests, the_limit, what_is_used_and_refused_is_shown, a_killed_renderer, stop_and_cont, gpupd_restarts_while_it_draws,
            what_went_wrong_is_known, shut_down_from_inside, without_graphics,
            a_silent_guest_agent, with_spice, shown) if not wanted or f.__name__ in wanted])
    finally:
        (BUILD / "lab-guest.log").write_text(LAB.log(), encoding="utf-8")
        LAB.stop()


main()
