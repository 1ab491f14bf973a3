#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the pages tell to type exists: each command of gpup in README.md, docs/ and the manual pages is
one that the parser takes, with its options. argv: the gpup, the pages."""
import os
import pathlib
import re
import shlex
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from taplib import equal, run  # noqa: E402

GPUP, *PAGES = sys.argv[1:]
USAGE_ERROR = 2  # EXIT STATUS in gpup(1)


def helped(*words):
    result = subprocess.run([GPUP, *words, "--help"], check=False, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)
    return result.stdout if result.returncode == 0 else ""


def nouns_and_verbs():
    """Each command as its words: ("assign",), ("gpu", "list"), ..."""
    def below(*words):
        return [line.split()[0] for line in
                helped(*words).split("Commands:\n")[1].split("\n\n")[0].splitlines()]
    paths = []
    for word in below():
        paths += [(word, verb) for verb in below(word)] if word in ("gpu", "vm") else [(word,)]
    return paths


PATHS = nouns_and_verbs()
OPTIONS = {path: set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", helped(*path))) | {"-h", "--help"}
           for path in PATHS}


def typed(text, is_manual):
    """The commands that a page shows: whole ones in blocks of code (True), and what lines mention."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.M | re.S)
    inside = re.sub(r"^```\n.*?^```", "", text, flags=re.M | re.S)
    for block in blocks:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = re.split(r"\s{2,}| \| | && ", re.sub(r"^[#$] ", "", line))[0]
            if line.startswith("gpup "):
                yield line, True
    marks = r"\*(gpup [^*\n]+)\*" if is_manual else r"`(gpup\s[^`]+)`"
    for found in re.findall(marks, inside):
        yield " ".join(found.split()), False


def refuses(line):
    """Why the parser would not take the line; None where it does."""
    try:
        words = shlex.split(line.replace("\\", ""), comments=True)[1:]
    except ValueError as error:
        return str(error)
    if not words or words[0].startswith("-"):
        return None if not words or words[0] in ("--json", "--version", "--help") else "no such option"
    if re.match(r"(?i)(get|set|add|remove)-", words[0]):
        return None if helped(words[0]) else "no such cmdlet"
    path = next((p for p in PATHS if tuple(words[:len(p)]) == p), None)
    if not path:
        return "no such command"
    for word in words[len(path):]:
        option = word.split("=")[0]
        if option.startswith("-") and option != "-" and option not in OPTIONS[path]:
            return "no option " + option
    return None


def is_taken(line):
    """The whole line goes through the parser, where no gpupd answers: only its form can be wrong."""
    words = shlex.split(line.replace("\\", ""), comments=True)
    result = subprocess.run([GPUP, *words[1:]], check=False, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                            env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"})
    return result.returncode != USAGE_ERROR, result.stderr


def page(path):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    lines = sorted(set(typed(text, path.endswith(".scd"))))
    wrong = ["%s: %s" % (line, why) for line, _ in lines for why in [refuses(line)] if why]
    equal(wrong, [], path)
    for line in [line for line, whole in lines if whole]:
        if re.match(r"gpup (top|check|(?i:get|set|add|remove)-|$)", line):
            continue  # these answer without gpupd, or wait for one
        taken, said = is_taken(line)
        equal(taken, True, "%s: %s" % (line, said))


def it_notices():
    """That a wrong one would be found."""
    equal(refuses("gpup assign desk1 --vram 1G"), None)
    for line in ("gpup asign desk1", "gpup assign desk1 --vramm 1G", "gpup gpu cut X", "gpup Get-VMGpu"):
        equal(refuses(line) is None, False, line)
    equal(is_taken("gpup gpu partition software four")[0], False)
    equal(len(list(typed("```\n# gpup vm list\n$ gpup assign a  # b\n```\n`gpup top`\n", False))), 3)


run([("it notices", it_notices)] + [(pathlib.Path(p).name, lambda p=p: page(p)) for p in PAGES])
