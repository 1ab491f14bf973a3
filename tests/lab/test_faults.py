#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of any process at any step (src/fault/fault.h): afterwards no partition is lost or given
twice, no VM that ran is harmed, nothing is left behind, and nobody had to repair anything. Prints the
matrix of points and processes.

  test_faults.py BUILD [TEST...]    BUILD: with the lab's host and guest; BUILD/faults is made
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
import lablib  # noqa: E402
from taplib import contains, equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
FAULTS = BUILD / "faults"
LAB = lablib.Lab(BUILD / "lab-faults", BUILD, stage=FAULTS / "stage")
GUEST = "desk1"    # a guest that draws: runs through all of it, and is the subject of RENDERER
SUBJECT = "desk2"  # has nothing to boot
CARD = "0000:03:00.0"
POINTS = "run/gpup-faults"
REACH_S = 20   # until an operation comes to its point
SETTLE_S = 15  # until all is as it should be

# What libvirt, systemd's Restart= and an administrator's patience would do: only start again.
KEEP = "while :; do %s </dev/null >>/var/log/%s.log 2>&1; sleep 0.1; done"
PROGRAMS = {"gpupd": ["gpupd"], "gpup-vgpu": ["gpup-vhost-user-gpu"], "gpup-render": ["gpup-render"],
            "libvirtd": ["libvirtd"], "gpup-hook": ["gpup-hook"], "client": ["gpup", "virsh"]}
COLUMNS = ("gpupd", "gpup-vgpu", "gpup-render", "libvirtd", "client", "gpup-hook")
GUESTS = {}  # the connection to the agent in the guest
MATRIX = {}  # (operation, point) -> {victim: "ok" or what went wrong}

VM = """\
<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>
  <controller type='usb' model='none'/>
  <video><model type='vga'/></video></devices></domain>
"""


# ---- processes of the lab, as seen from outside ----

def stat_of(pid):
    """(comm, parent)"""
    try:
        text = pathlib.Path("/proc/%d/stat" % pid).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, 0
    fields = text[text.rindex(")") + 2:].split()
    if fields[0] == "Z":
        return None, 0
    return text[text.index("(") + 1:text.rindex(")")], int(fields[1])


def lab_processes(programs):
    init = int((LAB.dir / "pid").read_text(encoding="utf-8"))
    space = os.readlink("/proc/%d/ns/pid" % init)
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/exe" % name).rsplit("/", 1)[-1] not in programs:
                continue
            pid = int(name)
            # what was entered is no child of the lab's first process, a renderer has its own space
            while pid and os.readlink("/proc/%d/ns/pid" % pid) != space:
                pid = stat_of(pid)[1]
            if pid:
                found.append(int(name))
        except OSError:
            continue
    return found


def inside(path):
    return LAB.root() / path


def processes(victim, vm=None):
    """The lab's processes of a kind; of one VM where they belong to one."""
    pids = lab_processes(PROGRAMS[victim])
    if victim == "gpup-vgpu" and vm:
        adapter = ADAPTERS[vm].encode()
        pids = [p for p in pids if adapter in pathlib.Path("/proc/%d/cmdline" % p).read_bytes()]
    return pids


def qemu_of(vm):
    return [p for p in lab_processes(["qemu-system-x86_64"])
            if b"guest=%s," % vm.encode() in pathlib.Path("/proc/%d/cmdline" % p).read_bytes()]


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    wait_for("the killed are gone", lambda: not any(stat_of(p)[0] for p in pids), 5)


def wait_for(what, condition, seconds=SETTLE_S):
    until = time.monotonic() + seconds
    seen = None
    while True:
        try:
            seen = condition()
            if seen is True or (seen is not False and seen):
                return seen
        except (lablib.Failed, OSError, ValueError, KeyError) as error:
            seen = error
        if time.monotonic() > until:
            raise AssertionError("never: %s (%s)" % (what, seen))
        time.sleep(0.02)


# ---- the state that must come back ----

ADAPTERS = {}
BEREFT = []  # VMs whose device process was killed, which lasts until they are stopped


def names_in(path):
    try:
        return sorted(os.listdir(inside(path)))
    except OSError:
        return []


# One command for all of it: starting one in the lab takes longer than what it does.
LOOK = ("gpup vm list --json && gpup gpu show software --json && gpup gpu show %s --json &&"
        " echo '[' && virsh list --name | sed 's/..*/\"&\",/' && echo 'null]'" % CARD)


class Seen:
    """What gpup and libvirt say at a moment."""

    def __init__(self):
        text = LAB.run("sh", "-c", LOOK).stdout
        read, parts = json.JSONDecoder().raw_decode, []
        while text.strip():
            part, end = read(text.strip())
            text = text.strip()[end:]
            parts.append(part)
        vms, *gpus, names = parts
        self.connected = vms["libvirt_connected"]
        self.partitions = {vm["name"]: vm["partition"] for vm in vms["vms"]}
        self.holders = sorted(p["vm"] for gpu in gpus for p in gpu["gpu"]["partitions"] if p["vm"])
        self.running = sorted(n for n in names if n in ADAPTERS)

    def consistent(self):
        """Who runs holds, who does not run holds nothing, and nothing else is left."""
        if not self.connected:
            return "libvirt is not connected"
        ours = sorted(ADAPTERS[n] for n in self.running)
        state = {"holders": self.holders, "reservations": names_in("run/gpup/reservations"),
                 "vm files": names_in("run/gpup/vm"), "device processes": len(processes("gpup-vgpu"))}
        wanted = {"holders": self.running, "reservations": ours, "vm files": ours,
                  "device processes": len([n for n in self.running if n not in BEREFT])}
        unknown = [n for n in self.running if not self.partitions.get(n)]
        if unknown:  # gpupd has just heard of them
            return "%s not in gpup vm list" % unknown
        return True if state == wanted else "%s, not %s" % (state, wanted)


LAST = [None]  # what was seen when all was as it should be, and nothing was done since


def holders():
    return Seen().holders


def settled(what):
    until = time.monotonic() + SETTLE_S
    while True:
        try:
            seen = Seen()
            problem = seen.consistent()
        except (lablib.Failed, ValueError) as error:  # a daemon is not back yet
            problem = str(error)
        if problem is True:
            LAST[0] = seen
            return
        if time.monotonic() > until:
            raise AssertionError("%s: %s" % (what, problem))
        time.sleep(0.05)


def life_of_guest():
    """Its QEMU, its device process and its partition."""
    pid = inside("run/libvirt/qemu/%s.pid" % GUEST).read_text(encoding="utf-8").strip()
    return pid, processes("gpup-vgpu", GUEST), LAST[0].partitions[GUEST]


def guest_draws():
    said = GUESTS[GUEST].gltest("render", 1)
    equal(said.get("pixels_ok"), "1", "%s draws: %s" % (GUEST, said))


# ---- one case ----

def popen(*command):
    return subprocess.Popen(LAB.command(*command), text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def victims_of(victim, vm):
    if victim == "gpup-render":  # the subject's: the one that came last
        pids = [p for p in processes("gpup-render") if p not in KEPT_RENDERERS]
        return pids
    return processes(victim, vm)


KEPT_RENDERERS = []


def hit(point, start, victim, vm):
    """Starts the operation, and kills the victim when it is at the point."""
    armed, reached = inside("%s/%s" % (POINTS, point)), inside("%s/%s.hit" % (POINTS, point))
    armed.touch()
    client = start()
    try:
        if point.startswith("render."):
            wait_for("%s is reached" % point, lambda: not armed.exists(), REACH_S)
        else:
            wait_for("%s is reached" % point, reached.exists, REACH_S)
            pids = victims_of(victim, vm)
            if not pids:
                raise AssertionError("there is no %s to kill at %s" % (victim, point))
            kill(pids)
            if victim == "gpup-vgpu":
                BEREFT.append(vm)
            reached.unlink()
    finally:
        for path in (armed, reached):
            path.unlink(missing_ok=True)
        if client:
            said = client.communicate(timeout=60)[0]
    return said if client else ""


def case(operation, point, victim, start, before, after, vm=SUBJECT):
    """Begins and ends with all settled."""
    BEREFT.clear()
    before()
    guest = life_of_guest()
    said = hit(point, start, victim, vm)
    try:
        settled("after")
        if victim == "client":  # what it asked for may only just have begun
            settled("after, again")
        equal(life_of_guest(), guest, "the VM that ran")
        if after() is not False:
            settled("at the end")
        MATRIX.setdefault((operation, point), {})[victim] = "ok"
    except (AssertionError, lablib.Failed) as error:
        MATRIX.setdefault((operation, point), {})[victim] = "LOST"
        raise AssertionError("%s: kill -9 of %s at %s: %s\n(the command said: %s)" %
                             (operation, victim, point, error, said.strip())) from error


def cases(operation, points, start, before=lambda: None, after=lambda: None, vm=SUBJECT):
    failed = []
    for point, victims in points.items():
        for victim in victims:
            try:
                case(operation, point, victim, start, before, after, vm)
            except AssertionError as error:
                failed.append(str(error))
                print("# FAILED %s" % str(error).replace("\n", "\n#   "), flush=True)
                bring_down()
    if failed:
        raise AssertionError("\n".join(failed))


def bring_down():
    """After a failure only: the next case begins from a clean state."""
    LAB.run("virsh", "-q", "destroy", SUBJECT, check=False)
    BEREFT.clear()
    try:
        settled("cleaning up")
    except AssertionError as error:
        print("# %s" % error)


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
    points = ("gpupd.renderer.started", "vgpu.renderer.given")
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


# ---- the whole ----

def every_point_was_hit():
    points = set()
    for path in (TOP / "src").rglob("*.c"):
        points.update(re.findall(r'GPUP_FAULT(?:_RENDER)?\("([^"]+)"\)', path.read_text(encoding="utf-8")))
    hits = {point for _, point in MATRIX}
    equal(sorted(points - hits), [], "points that no case hits")
    equal(sorted(hits - points), [], "points that are not in the source")


def ordinary_builds_have_none():
    """What is installed on hosts contains no fault points."""
    for name in ("src/daemon/gpupd", "src/hook/gpup-hook", "src/render/gpup-render",
                 "src/vgpu/gpup-vhost-user-gpu"):
        equal(b"gpup-faults" in (BUILD / name).read_bytes(), False, name)
        equal(b"GPUP_FAULT" in (BUILD / name).read_bytes(), False, name)


def print_matrix():
    width = max(len(o) + len(p) for o, p in MATRIX) + 2
    print("# %-*s %s" % (width, "point", " ".join("%-11s" % c for c in COLUMNS)))
    for (operation, point), row in MATRIX.items():
        print("# %-*s %s" % (width, "%s: %s" % (operation, point),
                             " ".join("%-11s" % row.get(c, "-") for c in COLUMNS)))
    results = [r for row in MATRIX.values() for r in row.values()]
    print("# %d points, %d kills, %d recovered" %
          (len({p for _, p in MATRIX}), len(results), results.count("ok")), flush=True)


def define(name):
    LAB.run("sh", "-c", "cat >/tmp/vm.xml <<'X'\n%sX\nvirsh -q define /tmp/vm.xml" % VM.format(name=name))
    return LAB.run("virsh", "dumpxml", "--inactive", name).stdout


def keep(name, command):
    LAB.run("sh", "-c", "setsid sh -c '%s' >/dev/null 2>&1 &" % (KEEP % (command, name)))


def build():
    """gpup with fault points, without the tests."""
    if not (FAULTS / "build.ninja").exists():
        subprocess.run(["meson", "setup", FAULTS, "-Dfault_points=true", "-Dtests=false"], check=True,
                       cwd=TOP, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", FAULTS, "--quiet"], check=True, stdout=subprocess.DEVNULL)


def set_up():
    build()
    lablib.stage(FAULTS)
    LAB.start("[software]\nmemory=2G\n")
    inside(POINTS).mkdir()
    inside(POINTS).chmod(0o777)
    LAB.fake_gpus(CARD)
    # a service manager starts again what ended
    for name, command in (("gpupd", "gpupd-service"), ("libvirtd", "libvirtd")):
        kill(processes(name))
        keep(name, command)
    wait_for("gpupd and libvirtd run", lambda: LAB.json("vm", "list")["libvirt_connected"])
    LAB.run("gpup", "gpu", "partition", "software", "4")
    define(SUBJECT)
    LAB.define(GUEST, cpus=1)
    for name in (GUEST, SUBJECT):
        LAB.run("gpup", "assign", name, "--gpu", "software" if name == GUEST else "")
        ADAPTERS[name] = LAB.json("vm", "show", name)["vm"]["adapter"]["id"]
    LAB.run("virsh", "start", GUEST)
    GUESTS[GUEST] = LAB.guest(GUEST)
    guest_draws()
    settled("at the beginning")
    KEPT_RENDERERS.extend(processes("gpup-render"))


def main():
    set_up()
    tests = (virsh_start, gpup_vm_start, virsh_destroy, partition, partition_powers_off, assign,
             libvirtd_comes_back, guest_draws, renderer, the_device_process,
             every_point_was_hit, ordinary_builds_have_none)
    wanted = sys.argv[2:]
    try:
        run([(f.__name__.replace("_", " "), f) for f in tests if not wanted or f.__name__ in wanted])
    finally:
        if MATRIX:
            print_matrix()
        (FAULTS / "faults.log").write_text(LAB.log(), encoding="utf-8")
        LAB.stop()


main()
