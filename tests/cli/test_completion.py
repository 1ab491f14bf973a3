#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bash completion: what it offers, with a stand-in for gpup's lists, against the help of the real one.
argv: the gpup, the completion, the
manual page."""
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from taplib import equal, run  # noqa: E402

GPUP, COMPLETION, PAGE = sys.argv[1:4]

# $1...: the words, the last one being typed.
SCRIPT = r"""
. /usr/share/bash-completion/bash_completion
. "$COMPLETION"
gpup() {
    case "$*" in
    'vm list --name') printf '%s\n' desk1 'my  vm' '$(touch /tmp/gpup-ran)' deskä ;;
    'gpu list --name') printf '%s\n' 03:00.0 software ;;
    esac
}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
# readline takes the words apart at colons
COMP_POINT=${#COMP_LINE}
_gpup
printf '%s\n' "${COMPREPLY[@]}"
"""


def complete(*words):
    out = subprocess.run(["bash", "-c", SCRIPT, "bash", "gpup", *words], check=True, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"COMPLETION": COMPLETION,
                         "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    equal(out.stderr, "")
    return sorted(line for line in out.stdout.split("\n") if line)


def help_of(*words):
    return subprocess.run([GPUP, *words, "--help"], check=True, text=True, stdout=subprocess.PIPE).stdout


def commands(*words):
    text = help_of(*words).split("Commands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in text.splitlines()]


def paths():
    return ([[c] for c in commands() if c not in ("gpu", "vm")] +
            [[noun, c] for noun in ("gpu", "vm") for c in commands(noun)])


def options(*words):
    return sorted(set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", help_of(*words), re.M)))


def live_names():
    equal(complete("assign", "desk"), ["desk1", "deskä"])
    equal(complete("vm", "start", "m"), ["my\\ \\ vm"])
    equal(complete("unassign", "$"), ["\\$\\(touch\\ /tmp/gpup-ran\\)"])
    equal(pathlib.Path("/tmp/gpup-ran").exists(), False)
    equal(complete("gpu", "show", ""), ["03:00.0", "software"])
    equal(complete("assign", "desk1", "--gpu", "s"), ["software"])
    equal(complete("events", "--vm", "desk1"), ["desk1"])
    equal(complete("gpu", "passthrough", "software", ""), ["off", "on"])


def every_command():
    equal(complete(""), sorted(commands()))
    for noun in ("gpu", "vm"):
        equal(complete(noun, ""), sorted(commands(noun)))


def every_option():
    for path in paths():
        equal(complete(*path, "--"), options(*path), " ".join(path))


def the_page():
    """The manual page has every command and every option, each in its command's section."""
    text = pathlib.Path(PAGE).read_text(encoding="utf-8")
    for path in paths():
        sections = re.findall(r"^\*%s\*.*?(?=^\S|\Z)" % " ".join(path), text.split("# COMMANDS")[1], re.M | re.S)
        equal(len(sections), 1, " ".join(path))
        general = text.split("# OPTIONS")[1]
        for option in options(*path):
            equal("*%s*" % option in sections[0] or "*%s*" % option in general, True,
                  " ".join(path) + " " + option)


def cmdlets():
    equal(complete("get-"), ["Get-VMGpuPartitionAdapter", "Get-VMHostPartitionableGpu"])
    for name in complete("get-") + complete("set-") + complete("add-") + complete("remove-"):
        wanted = sorted(set(re.findall(r"\[(-\w+)", help_of(name))) - {"-VM"})
        equal(complete(name, "-"), wanted, name)
    equal(complete("Add-VMGpuPartitionAdapter", "-minpartitionV"), ["-MinPartitionVRAM"])
    equal(complete("Set-VMGpuPartitionAdapter", "-VMName", "desk1"), ["desk1"])
    equal(complete("Set-VMHostPartitionableGpu", ""), ["03:00.0", "software"])


run([(f.__name__.replace("_", " "), f) for f in (live_names, every_command, every_option, the_page, cmdlets)])
