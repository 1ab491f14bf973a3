# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine of its own kernel, in QEMU without KVM. agent.py runs in it."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
FILES = TOP / "tests" / "machine"
sys.path.insert(0, str(TOP / "tools"))
import lablib  # noqa: E402

# Without KVM, on a host that has much else to do: only what hangs is given up.
START_S = 900
COMMAND_S = 600


class Machine:
    """`run` has commands run in it, as lablib.Lab does in a lab. Subclasses say what it is made of."""

    def __init__(self, build, name):
        """name: of its log, below build."""
        self.build = pathlib.Path(build).resolve()
        self.name = name
        self.log = self.build / (name + ".log")
        self.layer = self.build / "host/root"
        self.dir = self.process = self.socket = self.file = None
        self.waiting = {}
        self.next_id = 1
        self.lock = threading.Lock()
        self.booted = threading.Event()
        self.ended = False

    def arguments(self):
        """QEMU's, beside those for the channel; self.dir is there."""
        raise NotImplementedError

    def start(self):
        """Back when its agent answers."""
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gpup-%s-" % self.name))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.dir / "channel"))
            listener.listen(1)
            with open(self.log, "wb") as log:
                self.process = subprocess.Popen(
                    self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    env={**os.environ, "QEMU_MODULE_DIR": "/nonexistent", "TMPDIR": "/var/tmp",
                         "MALLOC_PERTURB_": "0"})
            self.accept(listener)
        self.file = self.socket.makefile("r", encoding="utf-8", errors="replace", newline="\n")
        threading.Thread(target=self.receive, daemon=True).start()
        self.await_boot()

    def command(self):
        qemu = next(p for p in (self.layer / "usr/bin/qemu-system-x86_64",
                                pathlib.Path("/usr/bin/qemu-system-x86_64")) if p.exists())
        words = ["setpriv", "--pdeathsig", "KILL", qemu]  # whatever ends this test
        for folder in (self.layer / "usr/share/qemu", self.layer / "usr/share/seabios",
                       pathlib.Path("/usr/share/qemu"), pathlib.Path("/usr/share/seabios")):
            if folder.is_dir():
                words += ["-L", folder]
        return [*words, "-machine", "q35", "-cpu", "Nehalem", "-nodefaults", "-no-user-config",
                "-display", "none", "-serial", "stdio", "-kernel", self.build / "guest/kernel",
                *self.arguments(),
                "-device", "virtio-serial-pci", "-chardev", "socket,id=channel,path=%s" % (self.dir / "channel"),
                "-device", "virtserialport,chardev=channel,name=org.gpup.test"]

    def accept(self, listener):
        """QEMU, which connects when it starts."""
        listener.settimeout(1)
        until = time.monotonic() + START_S
        while True:
            try:
                self.socket, _ = listener.accept()
                return
            except socket.timeout:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.stop()
                    raise lablib.Failed("QEMU did not start: see %s" % self.log) from None

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
            self.ended = True
            for event in self.waiting.values():
                event.set()
        self.booted.set()

    def await_boot(self):
        if not self.booted.wait(START_S) or self.ended:
            self.stop()
            raise lablib.Failed("the test machine did not boot: see %s" % self.log)

    def run(self, *command, check=True, timeout=COMMAND_S, given=""):
        """A command in the machine; its result, or Failed with what it said."""
        done = threading.Event()
        done.said = None
        with self.lock:
            if self.ended:
                raise lablib.Failed("the test machine ended: see %s" % self.log)
            ident = self.next_id
            self.next_id += 1
            self.waiting[ident] = done
            job = {"id": ident, "argv": [str(c) for c in command], "input": given, "timeout": timeout}
            self.socket.sendall((json.dumps(job) + "\n").encode())
        done.wait(timeout + COMMAND_S)
        with self.lock:
            del self.waiting[ident]
        if done.said is None:
            raise lablib.Failed("%s: the test machine does not answer: see %s" % (" ".join(job["argv"]), self.log))
        result = subprocess.CompletedProcess(job["argv"], done.said["code"], done.said["out"], done.said["err"])
        if check and result.returncode:
            raise lablib.Failed("%s: %s (status %d)" % (
                " ".join(job["argv"]), (result.stderr or result.stdout).strip(), result.returncode))
        return result

    def sh(self, script, check=True, timeout=COMMAND_S, given=""):
        return self.run("bash", "-c", script, check=check, timeout=timeout, given=given)

    def out(self, script, timeout=COMMAND_S):
        return self.sh(script, timeout=timeout).stdout.strip()

    def json(self, *command):
        return json.loads(self.run("gpup", *command, "--json").stdout)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.socket:
            self.socket.close()
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
