# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole Debian host, booted from tools/boot-image's disk: its changes are kept over reboots and gone
with it."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "machine"))
from machine import Machine  # noqa: E402


class DebianMachine(Machine):
    """share: a folder of files for it, which it can mount by 9p as "share"."""

    def __init__(self, build, share):
        super().__init__(build, "boot")
        self.share = share

    def arguments(self):
        return ["-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-m", "2048",
                "-initrd", self.build / "boot/initrd",
                "-append", "console=ttyS0 quiet panic=-1 mitigations=off systemd.show_status=0 "
                "sysctl.kernel.printk_ratelimit=0 random.trust_cpu=on no_timer_check tsc=reliable",
                "-drive", "file=%s,format=raw,if=virtio,snapshot=on,cache=unsafe" % (self.build / "boot/root.img"),
                "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
                "-fsdev", "local,id=share,path=%s,security_model=none,readonly=on" % self.share,
                "-device", "virtio-9p-pci,fsdev=share,mount_tag=share"]

    def reboot(self):
        """As its administrator would; back when its agent answers again."""
        self.booted.clear()
        self.run("systemctl", "reboot")
        self.await_boot()
