#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole Debian host with its own kernel, systemd, AppArmor, cgroups and libvirt: the packages are
installed, upgraded and purged beside VMs that run, gpupd is restarted, killed and stopped, the host is
rebooted. The VM's guest is a program that drives its partition (gpu_guest.c). Needs root."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from debian_machine import DebianMachine  # noqa: E402
from machine import TOP, lablib  # noqa: E402
import imagelib  # noqa: E402
from taplib import contains, equal, run  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
IMAGE = BUILD / "boot"
PACKAGES = BUILD / "package"  # tests/package makes the same ones
SHARE = IMAGE / "share"
OLDER = "0.0.1"
PATIENCE_S = 600  # a host without KVM, a VM in it, beside others: only who hangs is given up
FILES = "/var/lib/libvirt/images"
SERIAL = FILES + "/desk1.serial"
MEMORY_MAX = (64 + 1024 + 256) << 20  # the grant, the renderer's own, its programs' files
# A test's guest takes its time without KVM.
CONF = "[gpup]\nhang-seconds=120\n[software]\nmemory=512M\n# the administrator's own\n"
VM = """\
<domain type='qemu'><name>desk1</name><uuid>11111111-2222-4333-8444-00000000000a</uuid>
<memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{files}/guest</kernel></os>
<features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<serial type='unix'><source mode='bind' path='{serial}'/></serial>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
"""
PROFILE = "libvirt-11111111-2222-4333-8444-00000000000a"
# Starts at boot where libvirt's modular daemon would, which Debian does not have, and needs what that
# would need.
VIRTQEMUD = """\
[Unit]
Description=in the place of virtqemud
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'gpup gpu show software --json >/run/virtqemud.saw'
[Install]
WantedBy=multi-user.target
"""
# What of a journal is about gpup; what is denied is whoever's it is.
OURS = re.compile(r"gpup|DENIED", re.I)
# QEMU 9 and later ask in every VM; the rules of libvirt 9 do not know it.
NOT_OURS = [r'name="/proc/sys/vm/max_map_count"']


def prepare():
    """What the host gets: the packages, an older one, the guest."""
    done = subprocess.run([TOP / "tools/build-packages", PACKAGES], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise lablib.Failed(done.stdout)
    shutil.rmtree(SHARE, ignore_errors=True)
    SHARE.mkdir()
    package = next(PACKAGES.glob("gpup_*.deb"))
    shutil.copy(package, SHARE / "gpup.deb")
    older = IMAGE / "older"
    shutil.rmtree(older, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-R", package, older], check=True)
    control = older / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: " + OLDER, control.read_text(encoding="utf-8")),
                       encoding="utf-8")
    subprocess.run(["dpkg-deb", "-Zgzip", "-b", older, SHARE / "older.deb"], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(older)
    imagelib.build_guest(TOP / "tests/boot/gpu_guest.c", SHARE / "guest")
    shutil.copy(TOP / "tests/boot/talk", SHARE / "talk")
    (SHARE / "virtqemud.service").write_text(VIRTQEMUD, encoding="utf-8")
    (SHARE / "vm.xml").write_text(VM.format(files=FILES, serial=SERIAL), encoding="utf-8")
    (SHARE / "gpup.conf").write_text(CONF, encoding="utf-8")


class Host:
    """The steps, in their order; each goes on from what the one before left."""

    def __init__(self):
        self.machine = DebianMachine(BUILD, SHARE)
        self.pids = None
        self.seen = None  # what may be in the journal

    def out(self, script, timeout=PATIENCE_S):
        return self.machine.out(script, timeout)

    def guest(self, letters):
        return self.out("/run/share/talk %s %s" % (SERIAL, " ".join(letters))).splitlines()

    def pid(self, name):
        return self.out("pidof -s %s || true" % name)

    def partitions(self):
        gpu = self.machine.json("gpu", "show", "software")["gpu"]
        return [p["vm"] for p in gpu["partitions"]]

    def processes(self):
        """Those of the VM, which have to live on."""
        names = ("qemu-system-x86_64", "gpup-vhost-user-gpu", "gpup-render")
        return dict(zip(names, self.out("for p in %s; do pidof -s $p || echo; done" % " ".join(names)).split("\n")))

    def lives_on(self, letters="u"):
        equal(self.processes(), self.pids)
        equal(self.guest(letters), ["done"] * len(letters))

    def wait_for(self, what, script, seconds=PATIENCE_S):
        until = time.monotonic() + seconds
        while self.machine.sh(script, check=False).returncode:
            if time.monotonic() > until:
                raise AssertionError("never: " + what)
            time.sleep(0.5)

    def group(self):
        return "/sys/fs/cgroup" + self.out("cut -d: -f3 /proc/%s/cgroup" % self.pid("gpup-render"))

    def install(self, name):
        self.machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /run/share/%s" % name)

    def nothing_failed(self):
        equal(self.out("systemctl --failed --no-legend --plain"), "")

    def journal_is_clean(self, *allowed):
        """Nothing of ours since the boot that is an error or a warning, and nothing was denied."""
        self.nothing_in("journalctl -b -p warning -o cat --no-pager", *allowed)
        self.nothing_was_denied(*allowed)

    def nothing_was_denied(self, *allowed):
        self.nothing_in("journalctl -b -k -o cat --no-pager | grep DENIED || true", *allowed)

    def nothing_in(self, script, *allowed):
        lines = [line for line in self.out(script).splitlines()
                 if OURS.search(line) and not any(re.search(a, line) for a in (*NOT_OURS, *allowed))]
        equal(lines, [])

    # ---- the steps ----

    def boots(self):
        prepare()
        self.machine.start()
        self.machine.sh("mkdir -p /run/share && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro "
                        "share /run/share && cp /run/share/guest %s" % FILES)
        self.machine.sh("systemctl is-system-running --wait || true")
        self.nothing_failed()
        equal(self.out("cat /sys/module/apparmor/parameters/enabled"), "Y")
        contains(self.out("cat /proc/$(pidof libvirtd)/attr/current"), "libvirtd (enforce)")

    def is_installed(self):
        self.install("older.deb")
        self.machine.sh("cp /run/share/gpup.conf /etc/gpup/gpup.conf && systemctl restart gpupd")
        equal(self.out("systemctl is-active gpupd; systemctl is-enabled gpupd"), "active\nenabled")
        findings = self.out("gpup check || true")
        contains(findings, "AppArmor rules")
        assert "FAIL" not in findings and "cgroup" not in findings, findings
        assert "note:" not in self.machine.run("gpup", "gpu", "show", "software").stderr

    def starts(self):
        self.machine.sh("virsh -q define /run/share/vm.xml && gpup gpu partition software 4 && "
                        "gpup assign desk1 --vram 64M --compute 20%:30%:50%")
        self.machine.sh("virsh -q start desk1")
        equal(self.partitions(), ["desk1", None, None, None])
        equal(self.guest("dk"), ["done", "done"])
        self.pids = self.processes()
        assert all(self.pids.values()), self.pids

    def is_confined(self):
        for name in ("qemu-system-x86_64", "gpup-vhost-user-gpu"):
            equal(self.out("cat /proc/%s/attr/current" % self.pids[name]), PROFILE + " (enforce)")
        status = self.out("cat /proc/%s/status" % self.pids["gpup-render"])
        for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
            contains(status, line)
        equal(self.out("stat -c %%U /proc/%s" % self.pids["gpup-render"]), "gpup-render")
        self.journal_is_clean()
        # what the VM may not: its rules are asked, not the files' modes
        for path in ("/var/lib/gpup/*", "/etc/gpup/gpup.conf", "/run/gpup/reservations/*"):
            said = self.machine.sh("for f in %s; do test -f $f && aa-exec -p %s -- /bin/cat $f; done" % (path, PROFILE),
                                   check=False)
            contains(said.stderr, "Permission denied")
            equal(said.stdout, "")
        contains(self.out("journalctl -b -k -o cat --no-pager | grep DENIED"), "/var/lib/gpup")

    def is_limited(self):
        group = self.group()
        contains(group, "/gpup.slice/partitions/partition-")
        equal(self.out("cd %s && cat memory.max cpu.max" % group), "%d\n100000 100000" % MEMORY_MAX)
        equal(self.out("cat %s/cpu.weight" % group), "300")

    def restarts(self):
        before = self.pid("gpupd")
        self.machine.sh("systemctl restart gpupd")
        self.is_taken_up()
        assert self.pid("gpupd") != before
        self.machine.sh("systemctl kill -s KILL gpupd")
        self.wait_for("gpupd comes back", "gpup vm list >/dev/null 2>&1")
        self.is_taken_up()
        self.machine.sh("chrt -a -r -p 1 %s" % self.pids["gpup-render"]) # as gpupd does with light ones
        self.machine.sh("systemctl stop gpupd")
        equal(self.out("chrt -a -p %s | grep -c SCHED_RR || true" % self.pids["gpup-render"]), "0")
        self.lives_on()
        self.machine.sh("systemctl start gpupd")
        self.is_taken_up()
        self.nothing_failed()

    def is_taken_up(self):
        equal(self.partitions(), ["desk1", None, None, None])
        self.lives_on()

    def libvirtd_is_killed(self):
        before = self.pid("libvirtd")
        self.machine.sh("kill -KILL %s" % before)
        self.wait_for("libvirtd comes back and knows the VM", "p=$(pidof -s libvirtd) && [ $p != %s ] && "
                      "virsh domstate desk1 | grep -q running" % before)
        self.is_taken_up()
        said = self.machine.sh("virsh -q start desk1", check=False).stderr
        contains(said, "already")
        self.is_taken_up()
        self.nothing_failed()

    def is_upgraded(self):
        daemon, libvirtd = self.pid("gpupd"), self.pid("libvirtd")
        self.install("gpup.deb")
        assert self.pid("gpupd") not in ("", daemon)
        equal(self.pid("libvirtd"), libvirtd)
        self.is_taken_up()
        contains(self.out("cat /etc/gpup/gpup.conf"), "the administrator's own")
        self.nothing_failed()

    def memory_ends(self):
        """Both limits are lowered by hand, so that they are reached soon."""
        self.machine.sh("prlimit --pid %s --data=125829120" % self.pid("gpup-render"))
        contains(self.guest("a")[0], "refused after")
        equal(self.guest("dk"), ["done", "done"])
        # the next renderer, which comes at once, is not to meet it
        self.machine.sh("kill -STOP $(pidof gpupd); echo 8M >%s/memory.max; kill -CONT $(pidof gpupd)" % self.group())
        self.wait_for("it is told", "gpup events | grep -q 'its renderer ended (SIGKILL: it took more memory'")
        equal(self.guest("d"), ["done"])
        equal(self.out("virsh domstate desk1"), "running")
        equal(self.pid("gpup-vhost-user-gpu"), self.pids["gpup-vhost-user-gpu"])
        equal(self.out("cat %s/memory.max" % self.group()), str(MEMORY_MAX))

    def reboots(self):
        self.nothing_was_denied('comm="cat"')  # the test's own
        self.machine.sh("virsh -q autostart desk1 && cp /run/share/virtqemud.service /etc/systemd/system && "
                        "systemctl -q enable virtqemud")
        self.machine.reboot()
        self.machine.sh("mkdir -p /run/share && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro "
                        "share /run/share")
        self.machine.sh("systemctl is-system-running --wait || true")
        self.wait_for("the VM is started", "virsh domstate desk1 | grep -q running")
        equal(self.partitions(), ["desk1", None, None, None])
        equal(self.guest("d"), ["done"])
        self.nothing_failed()
        self.journal_is_clean()
        ready, began = self.out("systemctl show -P ActiveEnterTimestampMonotonic gpupd; "
                                "systemctl show -P ExecMainStartTimestampMonotonic libvirtd").splitlines()
        assert 0 < int(ready) <= int(began), (ready, began)
        self.virtqemud_would_find_them(int(ready))

    def virtqemud_would_find_them(self, ready):
        began = int(self.out("systemctl show -P ExecMainStartTimestampMonotonic virtqemud"))
        assert ready <= began, (ready, began)
        gpu = json.loads(self.out("cat /run/virtqemud.saw"))["gpu"]
        equal(len(gpu["partitions"]), 4)
        self.machine.sh("systemctl -q disable --now virtqemud && rm /etc/systemd/system/virtqemud.service && "
                        "systemctl daemon-reload")

    def is_removed(self):
        self.machine.sh("virsh -q destroy desk1 && gpup unassign desk1")
        self.wait_for("its renderer ends", "! pidof gpup-render")
        self.machine.sh("dpkg --purge gpup")
        left = self.out("ls -d /etc/gpup /var/lib/gpup /run/gpup /usr/libexec/gpup /usr/sbin/gpup* "
                        "/etc/libvirt/hooks/qemu.d/gpup /etc/systemd/system/*/gpup* "
                        "/etc/apparmor.d/abstractions/libvirt-qemu.d/gpup 2>/dev/null; "
                        "grep -s gpup /etc/apparmor.d/local/abstractions/libvirt-qemu; pidof gpupd; true")
        equal(left, "")
        self.machine.sh("virsh -q start --paused desk1 && virsh -q destroy desk1")
        self.nothing_failed()


def main():
    host = Host()
    steps = [("a Debian host boots", host.boots),
             ("an older package is installed, and gpup check finds nothing", host.is_installed),
             ("a VM starts with its partition, and its guest draws", host.starts),
             ("AppArmor and the jail confine it, and nothing that it needs is denied", host.is_confined),
             ("its renderer's cgroup has the limits of its grant", host.is_limited),
             ("gpupd is restarted, killed and stopped: the VM and its renderer live on", host.restarts),
             ("libvirtd is killed: they live on, and it takes them up again", host.libvirtd_is_killed),
             ("the package is upgraded: they live on, what was set stays", host.is_upgraded),
             ("a renderer that takes too much memory ends, its VM gets another", host.memory_ends),
             ("the host is rebooted: the VM starts by itself with its partition", host.reboots),
             ("the package is purged: nothing is left, VMs start", host.is_removed)]
    try:
        run(steps)
    finally:
        host.machine.stop()


main()
