#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the documents and the D-Bus interface promise is tested: by tests that are there."""
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
from taplib import equal, run  # noqa: E402

# a test's suite, as docs/architecture.md calls it -> where its names are
SOURCES = {"daemon": "tests/daemon/*.c", "fakesys": "tests/fakesys/*.c", "lab": "tests/lab/test_lab.py",
           "lab-host": "tests/lab/test_host.py", "faults": "tests/lab/test_faults.py",
           "faults-hardware": "tests/lab/test_faults_hardware.py"}


def read(path):
    return (TOP / path).read_text(encoding="utf-8")


def is_there(suite, name):
    texts = [path.read_text(encoding="utf-8") for path in TOP.glob(SOURCES[suite])]
    function = "def %s():" % name.replace(" ", "_")
    return any('"%s"' % name in text or function in text for text in texts)


def who_is_right():
    """Each row of the table names tests that exist."""
    part = read("docs/architecture.md").split("## Who is right after a restart")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")][2:]
    equal(len(rows) >= 7, True, "rows")
    for question, _, tests in rows:
        named = 0
        for entry in tests.split(";"):
            suite, names = entry.strip().split(": ", 1)
            for name in names.split(", "):
                equal(is_there(suite, name.strip().strip("*")), True, "%s %s (%s)" % (suite, name, question))
                named += 1
        equal(named > 0, True, question)


def where_things_are():
    """Each folder of src/ is in the table, and the files in it include what the picture lets them."""
    part = read("docs/architecture.md").split("## Where things are")[1].split("\n## ")[0]
    picture = part.split("```")[1].splitlines()
    programs = re.findall(r"\w+", picture[1])[1:]
    below = {name: set() for name in programs}
    for line in picture[2:]:
        columns = re.findall(r"\w+(?:, \w+)*|\|", re.sub(r"^(with GLib|plain C)", "", line))
        if len(columns) == len(programs) and "(" not in line:
            for name, column in zip(programs, columns):
                below[name] |= set(re.findall(r"\w+", column))
    folders = {path.name for path in (TOP / "src").iterdir() if path.is_dir()}
    equal(sorted(re.findall(r"^\| `src/(\w+)`", part, re.M)), sorted(folders))
    equal(sorted(set(programs).union(*below.values(), {"fault"})), sorted(folders))
    for folder in sorted(folders):
        may = {"fault", folder}.union(below.get(folder) or {"core", "wire"})
        for path in (TOP / "src" / folder).glob("*.[ch]"):
            text = path.read_text(encoding="utf-8")
            used = set(re.findall(r'^#include "(\w+)/', text, re.M))
            equal(sorted(used - may), [], str(path))
            if folder in ("core", "wire", "vgpu", "render", "sandbox"):
                equal(re.findall(r"^#include <(?:glib|gio)\S*", text, re.M), [], str(path))


def interface():
    """{method's full name: (the comment before it, its element)}"""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.fromstring(read("data/org.gpup1.xml"), parser)
    found = {}
    for part in root.findall("interface"):
        comment = ""
        for element in part:
            if element.tag is ET.Comment:
                comment = element.text
            elif element.tag == "method":
                found["%s.%s" % (part.get("name"), element.get("name"))] = (comment, element)
                comment = ""
    return found


def calls():
    """CALLS of tests/lab/test_host.py, which calls each as root, as who may and as who may not."""
    text = read("tests/lab/test_host.py")
    return re.findall(r'^    "(org\.gpup1\.[\w.]+)": \((None|"\w+"),', text, re.M)


def every_method_is_called():
    equal(sorted(name for name, _ in calls()), sorted(interface()))


def every_change_has_a_dry_run():
    """Each method that needs an action, and does not only look, takes "dry-run", and each command behind it --dry-run."""
    methods = interface()
    for name, action in calls():
        comment, _ = methods[name]
        if action != "None" and not name.rsplit(".", 1)[1].startswith("Get"):
            equal('"dry-run" b' in comment, True, "%s says dry-run" % name)
    page = read("man/gpup.1.scd")
    for command in ("gpu partition", "gpu passthrough", "assign", "unassign", "vm start", "vm stop",
                    "rescan"):
        usage = re.search(r"^\*gpup\* \*%s\*.*?\+\+$" % re.escape(command), page, re.M)
        equal(bool(usage) and "--dry-run" in usage.group(0), True, "gpup %s --dry-run" % command)


def messages():
    """What the programs may say, each with its formats."""
    literal = r'"((?:[^"\\\n]|\\.)*)"'
    found = []
    for path in (TOP / "src").rglob("*.c"):
        for match in re.finditer(literal + r"(?:\s*" + literal + ")*", path.read_text(encoding="utf-8")):
            found.append("".join(re.findall(literal, match.group(0))))
    return found


def messages_that_are_explained():
    """What docs/admin.md tells people to look up is what they are told."""
    said = "\n".join(messages())
    part = read("docs/admin.md").split("## When something is wrong")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| `")]
    equal(len(rows) >= 10, True, "rows")
    for row in rows:
        message = re.match(r"\| `([^`]*)`", row).group(1)
        # what stands for something else: FILE.damaged, VM, and so on
        for piece in re.split(r"\.\.\.|\b[A-Z]{2,}\b(?:\.format-N)?|[()]|org\.gpup1", message):
            piece = piece.strip(" ;:")
            equal(len(piece) < 4 or piece in said, True, "%r of %r is said" % (piece, message))


if __name__ == "__main__":
    run([(f.__name__.replace("_", " "), f) for f in (
        who_is_right, where_things_are, every_method_is_called, every_change_has_a_dry_run, messages_that_are_explained)])
