# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine of its own kernel for tests of SR-IOV: QEMU without KVM, its root is this host's (read
only, below gpup as built), with emulated devices that gpup_test_gpu dresses as GPUs."""
import importlib.machinery
import importlib.util
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
FILES = TOP / "tests" / "l1"
sys.path.insert(0, str(TOP / "tools"))
import lablib  # noqa: E402

START_S = ANSWER_S = 600 # a machine that has much else to do takes its time

# One GPU by itself, and one without ACS before it, so that all its functions share one IOMMU group;
# that has a sound function as well.
PF, SHARED_PF = "0000:01:00.0", "0000:02:00.0"
SOUND = "0000:02:00.7" # behind those of the VFs
VFS = 4

LIBVIRTD_CONF = """\
unix_sock_group = "root"
auth_unix_rw = "none"
log_outputs = "2:file:/var/log/libvirtd.log"
"""
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
seccomp_sandbox = 0
"""


def load_tool(name):
    loader = importlib.machinery.SourceFileLoader(name, str(TOP / "tools" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def gpu(name, port, more="", sound=False):
    """An nvme controller with VFs behind a port of its own."""
    return ["-device", "pcie-root-port,id=port%d,bus=pcie.0,chassis=%d,slot=%d%s" % (port, port, port, more),
            "-device", "nvme-subsys,id=sub%d" % port,
            "-device", "nvme,bus=port%d,serial=%s,subsys=sub%d,sriov_max_vfs=%d,sriov_vq_flexible=%d,"
            "sriov_vi_flexible=%d,max_ioqpairs=%d,msix_qsize=%d%s" % (
                port, name, port, VFS, 2 * VFS, VFS, 2 * VFS + 2, VFS + 1,
                ",multifunction=on" if sound else ""),
            *(["-device", "ich9-intel-hda,bus=port%d,addr=%s" % (port, SOUND[-3:])] if sound else [])]


class Machine:
    """`run` has commands run in it, as lablib.Lab does in a lab."""

    def __init__(self, build, name, iommu=True):
        self.build = pathlib.Path(build).resolve()
        self.name = name
        self.iommu = iommu
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gpup-l1-"))
        self.log = self.build / ("l1-%s.log" % name)
        self.process = self.socket = None
        self.waiting = {}
        self.next_id = 1
        self.lock = threading.Lock()

    def start(self):
        self.write_config()
        path = self.dir / "channel"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(START_S)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command(path), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "QEMU_MODULE_DIR": "/nonexistent"})
        try:
            self.socket, _ = listener.accept()
            self.socket.settimeout(START_S)
            self.file = self.socket.makefile("r", encoding="utf-8", newline="\n")
            if not self.file.readline():
                raise lablib.Failed("it ended")
        except (OSError, lablib.Failed) as error:
            self.stop()
            raise lablib.Failed("the test machine did not start (%s): see %s" % (error, self.log)) from error
        self.socket.settimeout(None)
        threading.Thread(target=self.receive, daemon=True).start()

    def write_config(self):
        config = self.dir / "config"
        etc = config / "etc"
        for folder in ("libvirt", "gpup"):
            (etc / folder).mkdir(parents=True)
        load_tool("lab").write_users(etc)
        (etc / "libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF, encoding="utf-8")
        (etc / "libvirt/qemu.conf").write_text(QEMU_CONF, encoding="utf-8")
        for name in ("start", "agent.py", "kernel_cases.py"):
            shutil.copy(FILES / name, config / name)
        for path in ("l1/payload", "tests/daemon/test-cgroup"):
            shutil.copy(self.build / path, config / pathlib.Path(path).name)

    def command(self, channel):
        layer = self.build / "host/root"
        qemu = next(p for p in (layer / "usr/bin/qemu-system-x86_64",
                                pathlib.Path("/usr/bin/qemu-system-x86_64")) if p.exists())
        words = ["setpriv", "--pdeathsig", "KILL", qemu]  # whatever ends this test
        for folder in (layer / "usr/share/qemu", layer / "usr/share/seabios",
                       pathlib.Path("/usr/share/qemu"), pathlib.Path("/usr/share/seabios")):
            if folder.is_dir():
                words += ["-L", folder]
        # emulated processors are quickest alone, with few features; machines run side by side instead
        words += ["-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "1",
                  "-m", "1536", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
                  "-kernel", self.build / "guest/kernel", "-initrd", self.build / "l1/initrd",
                  "-append", "console=ttyS0 quiet panic=-1 mitigations=off "
                  # the kernel tries its timer by how long that takes: too long on a busy machine
                  # with ARI (nvme has it) the sound function would not be looked for
                  "no_timer_check pci=noari " +
                  ("intel_iommu=on" if self.iommu else "intel_iommu=off")]
        if self.iommu:
            words += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
        words += gpu("one", 1) + gpu("two", 2, ",disable-acs=on", sound=True)
        for tag, path in (("host", "/"), ("layer", layer), ("stage", self.build / "stage"),
                          ("config", self.dir / "config")):
            words += ["-fsdev", "local,id=%s,path=%s,security_model=none,readonly=on,multidevs=remap" % (tag, path),
                      "-device", "virtio-9p-pci,fsdev=%s,mount_tag=%s" % (tag, tag)]
        words += ["-device", "virtio-serial-pci", "-chardev", "socket,id=channel,path=%s" % channel,
                  "-device", "virtserialport,chardev=channel,name=org.gpup.test"]
        return words

    def receive(self):
        for line in self.file:
            said = json.loads(line)
            with self.lock:
                event = self.waiting.get(said["id"])
            if event:
                event.said = said
                event.set()
        with self.lock:
            for event in self.waiting.values():
                event.set()

    def run(self, *command, check=True, timeout=120, given=""):
        """A command in the machine; its result, or Failed with what it said."""
        done = threading.Event()
        done.said = None
        with self.lock:
            ident = self.next_id
            self.next_id += 1
            self.waiting[ident] = done
            job = {"id": ident, "argv": [str(c) for c in command], "input": given, "timeout": timeout}
            self.socket.sendall((json.dumps(job) + "\n").encode())
        done.wait(ANSWER_S)
        with self.lock:
            del self.waiting[ident]
        if done.said is None:
            raise lablib.Failed("%s: the test machine does not answer: see %s" % (" ".join(job["argv"]), self.log))
        result = subprocess.CompletedProcess(job["argv"], done.said["code"], done.said["out"], done.said["err"])
        if check and result.returncode:
            raise lablib.Failed("%s: %s" % (" ".join(job["argv"]), (result.stderr or result.stdout).strip()))
        return result

    def sh(self, script, check=True, timeout=120):
        return self.run("bash", "-c", script, check=check, timeout=timeout)

    def json(self, *command):
        return json.loads(self.run("gpup", *command, "--json").stdout)

    def keep_logs(self):
        """Those of its programs, beside its own."""
        if not self.process or self.process.poll() is not None or not self.socket:
            return
        try:
            said = self.sh("tail -n +1 /var/log/gpupd.log /var/log/libvirtd.log; dmesg", check=False)
            self.log.with_suffix(".programs.log").write_text(said.stdout, encoding="utf-8")
        except (lablib.Failed, OSError) as error:
            print("# no logs: %s" % error)

    def stop(self):
        self.keep_logs()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.socket:
            self.socket.close()
        shutil.rmtree(self.dir, ignore_errors=True)
