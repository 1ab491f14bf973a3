#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/apt-layer finds the archive in every form that apt's sources have."""
import importlib.machinery
import importlib.util
import pathlib
import sys
import tempfile

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
sys.dont_write_bytecode = True
from taplib import equal, run  # noqa: E402

LOADER = importlib.machinery.SourceFileLoader("apt_layer", str(TOOLS / "apt-layer"))
apt_layer = importlib.util.module_from_spec(importlib.util.spec_from_loader("apt_layer", LOADER))
LOADER.exec_module(apt_layer)


def entry(codename="bookworm", **files):
    """What is found in a folder with these files (__ stands for a dot in a name)."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "sources.list.d").mkdir()
        for file, text in files.items():
            place = folder if file == "sources__list" else folder / "sources.list.d"
            (place / file.replace("__", ".")).write_text(text, encoding="utf-8")
        try:
            return apt_layer.entry_of(codename, folder)
        except SystemExit as error:
            return str(error)


def sources(**files):
    return apt_layer.sources_of(entry(**files), ["trixie", "trixie-updates"]).splitlines()


HEAD = ["types: deb", "suites: trixie trixie-updates", "components: main"]


def one_line():
    equal(sources(sources__list="# deb http://no.example/ bookworm main\n"
                                "deb-src http://no.example/ bookworm main\n"
                                "deb http://a.example/debian bookworm main contrib # ours\n"),
          HEAD + ["uris: http://a.example/debian"])


def one_line_with_options():
    equal(sources(own__list="deb [arch=amd64 signed-by=/a.gpg,/b.gpg] http://a.example/ bookworm main\n"),
          HEAD + ["uris: http://a.example/", "signed-by: /a.gpg /b.gpg"])


def deb822():
    equal(sources(debian__sources="# a remark\nTypes: deb deb-src\nURIs: http://a.example/debian\n"
                                  "Suites: bookworm bookworm-updates\nComponents: main\n"
                                  "Signed-By: /usr/share/keyrings/a.gpg\n"),
          HEAD + ["uris: http://a.example/debian", "signed-by: /usr/share/keyrings/a.gpg"])


def a_key_in_the_file():
    key = " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBGPL\n -----END PGP PUBLIC KEY BLOCK-----"
    text = "\n".join(sources(debian__sources="Types: deb\nURIs: http://a.example/\nSuites: bookworm\n"
                                             "Components: main\nSigned-By:\n" + key + "\n"))
    equal(text.endswith("signed-by: \n" + key), True, text)


def what_does_not_count():
    disabled = "Types: deb\nURIs: http://no.example/\nSuites: bookworm\nComponents: main\nEnabled: no\n"
    sources_only = disabled.replace("Enabled: no\n", "").replace("Types: deb", "Types: deb-src")
    security = ("Types: deb\nURIs: http://no.example/\nSuites: bookworm-security\nComponents: main\n")
    found = entry(a__sources=disabled + "\n" + sources_only + " \n" + security,
                  z__list="deb http://right.example/ bookworm main\n",
                  b__disabled="deb http://no.example/ bookworm main\n")
    equal(found.get("uris") if isinstance(found, dict) else found, "http://right.example/")


def others_with_the_same_names():
    own = "Types: deb\nURIs: http://{}\nSuites: bookworm\nComponents: main\n"
    other = own.format("vendor.example/debian/12/prod") + "Signed-By: /usr/share/keyrings/vendor.gpg\n"
    found = entry(a__sources=other, debian__sources=own.format("mirror.example/debian/"))
    equal(found["uris"], "http://mirror.example/debian/")
    found = entry(a__sources=other, z__list="deb [signed-by=/usr/share/keyrings/debian-archive-"
                                            "keyring.gpg] http://mirror.example/d bookworm main\n")
    equal(found["uris"], "http://mirror.example/d")


def nothing():
    equal("no source" in entry(z__list="deb http://a.example/ bullseye main\n"), True)


run([(f.__name__.replace("_", " "), f) for f in (
    one_line, one_line_with_options, deb822, a_key_in_the_file, what_does_not_count,
    others_with_the_same_names, nothing)])
