# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole host, booted in QEMU without KVM from tools/boot-image's disk: its changes are kept over
reboots and gone with it."""
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
import lablib  # noqa: E402

START_S = 900
COMMAND_S = 600


class Machine:
    """`run` has commands run in it. `share`: a folder of files for it, at /run/share there."""

    def __init__(self, build, share):
        self.build = pathlib.Path(build).resolve()
        self.share = share
        self.dir = tempfile.TemporaryDirectory(prefix="gpup-boot-")
        self.log = self.build / "boot.log"
        self.process = self.socket = None
        self.waiting = {}
        self.next_id = 1
        self.lock = threading.Lock()
        self.booted = threading.Event()

    def start(self):
        path = pathlib.Path(self.dir.name) / "channel"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(30)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command(path), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "QEMU_MODULE_DIR": "/nonexistent", "TMPDIR": "/var/tmp",
                     "MALLOC_PERTURB_": "0"})
        try:
            self.socket, _ = listener.accept()
        except OSError as error:
            self.stop()
            raise lablib.Failed("QEMU did not start (%s): see %s" % (error, self.log)) from error
        self.file = self.socket.makefile("r", encoding="utf-8", errors="replace", newline="\n")
        threading.Thread(target=self.receive, daemon=True).start()
        self.await_boot()

    def command(self, channel):
        layer = self.build / "host/root"
        qemu = next(p for p in (layer / "usr/bin/qemu-system-x86_64",
                                pathlib.Path("/usr/bin/qemu-system-x86_64")) if p.exists())
        words = ["setpriv", "--pdeathsig", "KILL", qemu]  # whatever ends this test
        for folder in (layer / "usr/share/qemu", layer / "usr/share/seabios",
                       pathlib.Path("/usr/share/qemu"), pathlib.Path("/usr/share/seabios")):
            if folder.is_dir():
                words += ["-L", folder]
        return words + [
            "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Nehalem", "-smp", "2", "-m", "2048",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
            "-kernel", self.build / "guest/kernel", "-initrd", self.build / "boot/initrd",
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off systemd.show_status=0 "
            "sysctl.kernel.printk_ratelimit=0 random.trust_cpu=on no_timer_check tsc=reliable",
            "-drive", "file=%s,format=raw,if=virtio,snapshot=on,cache=unsafe" % (self.build / "boot/root.img"),
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
            "-fsdev", "local,id=share,path=%s,security_model=none,readonly=on" % self.share,
            "-device", "virtio-9p-pci,fsdev=share,mount_tag=share",
            "-device", "virtio-serial-pci", "-chardev", "socket,id=channel,path=%s" % channel,
            "-device", "virtserialport,chardev=channel,name=org.gpup.test"]

    def receive(self):
        try:
            for line in self.file:
                try:
                    said = json.loads(line)
                except ValueError:  # cut off by a reset
                    continue
                if said["id"] == 0:
                    self.booted.set()
                    continue
                with self.lock:
                    event = self.waiting.get(said["id"])
                if event:
                    event.said = said
                    event.set()
        except OSError:
            pass
        with self.lock:
            for event in self.waiting.values():
                event.set()

    def await_boot(self):
        if not self.booted.wait(START_S):
            self.stop()
            raise lablib.Failed("the test machine did not boot: see %s" % self.log)

    def run(self, *command, check=True, timeout=COMMAND_S, given=""):
        """A command in the machine; its result, or Failed with what it said."""
        done = threading.Event()
        done.said = None
        with self.lock:
            ident = self.next_id
            self.next_id += 1
            self.waiting[ident] = done
            job = {"id": ident, "argv": [str(c) for c in command], "input": given, "timeout": timeout}
            self.socket.sendall((json.dumps(job) + "\n").encode())
        done.wait(timeout + 30)
        with self.lock:
            del self.waiting[ident]
        if done.said is None:
            raise lablib.Failed("%s: the test machine does not answer: see %s" % (" ".join(job["argv"]), self.log))
        result = subprocess.CompletedProcess(job["argv"], done.said["code"], done.said["out"], done.said["err"])
        if check and result.returncode:
            raise lablib.Failed("%s: %s" % (" ".join(job["argv"]), (result.stderr or result.stdout).strip()))
        return result

    def sh(self, script, check=True, timeout=COMMAND_S, given=""):
        return self.run("bash", "-c", script, check=check, timeout=timeout, given=given)

    def out(self, script, timeout=COMMAND_S):
        return self.sh(script, timeout=timeout).stdout.strip()

    def json(self, *command):
        return json.loads(self.run("gpup", *command, "--json").stdout)

    def reboot(self):
        """As its administrator would; back when its agent answers again."""
        self.booted.clear()
        self.run("systemctl", "reboot")
        self.await_boot()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.socket:
            self.socket.close()
        self.dir.cleanup()
