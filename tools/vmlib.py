# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest on a vhost-user GPU back-end, under QEMU without libvirt: for benchmarks, and for what
libvirt does not show."""
import json
import os
import socket
import subprocess
import time

import lablib


class Machine:
    """Runs `command` (a back-end; --socket-path is added) and a guest on it; files go to `folder`.
    `environment` is the back-end's; preexec_fn runs in both processes. `image`: another root image
    than the test guest's, which may write to it until it ends; `append` and `arguments`: further ones
    of its kernel and of QEMU. More `cpus` are faster, and QEMU may abort (lablib.EMULATED_CPUS)."""

    def __init__(self, build, command, folder, name, environment=None, preexec_fn=None, image=None,
                 memory=640, cpus=lablib.EMULATED_CPUS, append="", arguments=()):
        host = build / "host/root"
        libs = host / "usr/lib/x86_64-linux-gnu"
        sock, channel = folder / (name + ".vgpu"), folder / (name + ".channel")
        self.name = name
        self.control = folder / (name + ".qmp")
        quiet = {"stdout": subprocess.DEVNULL, "preexec_fn": preexec_fn}
        with open(folder / (name + ".log"), "w", encoding="utf-8") as log:
            quiet["stderr"] = log
            self.backend = subprocess.Popen([*command, "--socket-path=%s" % sock],
                                            env=environment or dict(os.environ), **quiet)
            until = time.monotonic() + 60
            while not sock.exists() and time.monotonic() < until:
                time.sleep(0.01)
            program = host / "usr/bin/qemu-system-x86_64"
            env = dict(os.environ)
            data = []
            if program.exists(): # else the machine's own
                env.update(LD_LIBRARY_PATH=str(libs), QEMU_MODULE_DIR=str(libs / "qemu"))
                data = ["-L", host / "usr/share/qemu", "-L", host / "usr/share/seabios"]
            else:
                program = "qemu-system-x86_64"
            guest = build / "guest"
            drive = "file=%s,format=raw,if=virtio,%s" % ((image, "snapshot=on") if image else
                                                         (guest / "root.img", "readonly=on"))
            self.qemu = subprocess.Popen([
                program, *data, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                "-accel", "tcg", "-smp", str(cpus), "-m", str(memory),
                "-machine", "q35,memory-backend=mem",
                "-object", "memory-backend-memfd,id=mem,size=%dM,share=on" % memory,
                "-kernel", guest / "kernel", "-initrd", guest / "initrd",
                "-append", "quiet panic=-1 no_timer_check " + append,
                "-drive", drive,
                "-device", "virtio-serial",
                "-chardev", "socket,id=agent,path=%s,server=on,wait=off" % channel,
                "-device", "virtserialport,chardev=agent,name=org.gpup.test",
                "-qmp", "unix:%s,server=on,wait=off" % self.control,
                "-chardev", "socket,id=vgpu,path=%s" % sock,
                "-vga", "std", "-device", "vhost-user-gpu-pci,id=gpu,chardev=vgpu", *arguments],
                env=env, **quiet)
        try:
            self.guest = lablib.Guest(name, channel, folder / (name + ".log"))
        except lablib.Failed:
            self.stop()
            raise

    def qmp(self, *commands):
        """Executes QMP commands, each a name and its arguments; the last one's answer."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(180)
            s.connect(str(self.control))
            file = s.makefile("rw", encoding="utf-8")
            file.readline() # the greeting
            answer = None
            for name, arguments in (("qmp_capabilities", {}), *commands):
                file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                file.flush()
                answer = json.loads(file.readline())
                while "event" in answer:
                    answer = json.loads(file.readline())
                if "error" in answer:
                    raise lablib.Failed("%s: %s" % (name, answer["error"]["desc"]))
            return answer["return"]

    def stop(self):
        for process in (self.qemu, self.backend):
            process.kill()
            process.wait()
