"""Publish asv's site so that it works with no network, from a server or a folder: ``python benchmarks/publish.py [--out .asv/html]``.

The libraries that asv's page loads from content networks come from npm, once, into a folder (``--scripts``); their hashes are below.
Exit 0: published; 2: not.
"""
import argparse
import base64
import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a program: the modules beside this one are a package

from benchmarks.record import ROOT, configured, status


class Library(NamedTuple):
    """A package of npm: its hash, and what the end of an address in asv's page stands for."""

    sha512: str
    files: dict[str, str]
    fonts: str = "none"  # folder that its styles load from


LIBRARIES = {
    "jquery@3.3.1": Library("Ubldcmxp5np52/ENotGxlLe6aGMvmF4R8S6tZjsP6Knsaxd/xp3Zrh50cG93lR6nPXyUFwzN3ZSOQI0wRJNdGg==",
                            {"jquery-3.3.1.min.js": "dist/jquery.min.js"}),
    "flot@0.8.3": Library("xg2otcTJDvS+ERK+my4wxG/ASq90QURXtoM4LhacCq0jQW2jbyjdttbRNqU2cPykrpMvJ6b2uSp6SAgYAzj9tQ==",
                          {f"flot/0.8.3/jquery.flot{part}.min.js": f"jquery.flot{part}.js"
                           for part in ("", ".time", ".selection", ".categories")}),
    "flot-orderbars@1.0.0": Library("Jv51fvzevUjNXEeozpwEKfPjhiZhfiJddv0WHjduUTCmSF+7T5K7C9c9Y1wIVmUhDBv5fLMjgbwKecT0GIKPZA==",
                                    {"flot-orderbars@1.0.0/js/jquery.flot.orderBars.js": "js/jquery.flot.orderBars.js"}),
    "stupid-table-plugin@1.1.3": Library("2Vk7XouQPxUQPRe9w0Fu7ZZ8kHLK7rDoLMsCgtKxRNJ7f4dSOGvW9CkHsq5wD6QsaEnWoyLBYH3xOEsrK3yWBg==",
                                         {"stupidtable/1.0.1/stupidtable.min.js": "stupidtable.min.js"}),  # npm has no 1.0.1
    "blueimp-md5@2.19.0": Library("DRQrD6gJyy8FbiE4s+bDoXS9hiW3Vbx5uCdwvcCf3zLHL+Iv7LtGHLpr+GZV8rHG8tK766FGYBwRbu8pELTt+w==",
                                  {"blueimp-md5/2.19.0/js/md5.min.js": "js/md5.min.js"}),
    "bootstrap@3.1.1": Library("TAzqS8E/ISpVHP29gYhy+1NSV+FJwApDVQhDfgLYsIuUDJiqJzH2DfORN5tiu+Ie2iBLrzEG34t4Rf465cigqg==",
                               {"bootstrap@3.1.1/dist/js/bootstrap.min.js": "dist/js/bootstrap.min.js",
                                "bootstrap@3.1.1/dist/css/bootstrap.min.css": "dist/css/bootstrap.min.css"}, "dist/fonts/"),
}
LOCAL = {f"/{end}": f"vendor/{name.split('@')[0]}/{member}" for name, library in LIBRARIES.items() for end, member in library.files.items()}

ADDRESS = r"""["'`]?\s*((?:https?:)?//[^\s"'`)>]+)"""
TAG = re.compile(r"<(?:script|link)\b[^>]*?\s(?:src|href)\s*=\s*" + ADDRESS + "[^>]*>", re.I)
CHECKS = re.compile(r"""\s(?:integrity|referrerpolicy|crossorigin)\s*=\s*"[^"]*\"""")  # crossorigin: browsers then refuse file:// too
FIRST = re.compile(r'[ \t]*<script\b[^>]*\ssrc="asv\.js"')
SCRIPT = re.compile(r"<script\b[^>]*>(.*?)</script>", re.I | re.S)
LOADS = {  # what makes a browser load something, by the kind of file
    ".html": (TAG, re.compile(r"<(?:img|iframe|object|embed|source|video|audio)\b[^>]*?\s(?:src|data)\s*=\s*" + ADDRESS, re.I)),
    ".css": (re.compile(r"(?:url\(|@import)\s*" + ADDRESS, re.I),),
    ".js": (re.compile(r"\b(?:src|href|url)\s*[:=]\s*(?=[\"'`])" + ADDRESS),
            re.compile(r"\b(?:import|importScripts|fetch)\s*\(\s*" + ADDRESS)),
}
SHIM = """\
/* Answers jQuery's requests for the site's JSON from data.js: a browser that opened a folder reads no file by XMLHttpRequest. */
(function ($, data) {
    var has = Object.prototype.hasOwnProperty;
    data["swallow.ico"] = "";  /* what asv asks for to see if its server is alive */
    $.ajaxTransport("+*", function (options) {
        if (/^([a-z]+:|\\/)/i.test(options.url)) { return; }
        var path = decodeURIComponent(options.url.split(/[?#]/)[0]).replace(/^(\\.\\/)+/, ""), found = has.call(data, path), timer;
        if (!found && !/\\.json$/.test(path)) { return; }
        return {
            send: function (headers, complete) {
                var answer = {};
                answer[options.dataTypes[0] === "*" ? "json" : options.dataTypes[0]] = data[path];
                timer = setTimeout(function () { found ? complete(200, "OK", answer) : complete(404, "Not Found"); }, 0);
            },
            abort: function () { clearTimeout(timer); }
        };
    });
}(jQuery, siteData));
"""


def tarball(name: str, sha512: str, folder: Path) -> Path:
    """The package's file, from the folder or else from npm; it is the one that was looked at when its hash was written here."""
    file = folder/f"{name.replace('@', '-')}.tgz"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(f"publish: found no npm, needed {name}. Install Node.js, or put {file.name} into {folder}.")
        folder.mkdir(parents=True, exist_ok=True)
        pack = [npm, "pack", "--loglevel=error", "--prefer-offline", "--fetch-retries=1", name]  # 10 s without a network, not minutes
        done = subprocess.run(pack, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or not file.exists():
            raise RuntimeError(f"publish: npm pack {name} ended with {done.returncode}, needed {file.name}. "
                               f"Is there a network? npm says:\n{done.stderr.strip()}")
    found = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    if found != sha512:
        raise RuntimeError(f"publish: {file} has sha512-{found}, needed sha512-{sha512}. Delete it and run this again.")
    return file


def unpack(tarballs: dict[str, Path], out: Path) -> None:
    """The files that the page and its styles load, in vendor/PACKAGE/, placed as in the package."""
    for name, file in tarballs.items():
        library = LIBRARIES[name]
        with tarfile.open(file) as archive:
            members = {m.name.removeprefix("package/"): m for m in archive if m.isfile()}
            missing = set(library.files.values()) - set(members)
            if missing:
                raise RuntimeError(f"publish: {file} lacks {sorted(missing)}. Edit LIBRARIES.")
            for member in [*library.files.values(), *(m for m in members if m.startswith(library.fonts))]:
                target = out/"vendor"/name.split("@")[0]/member
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.extractfile(members[member]).read())


def localized(html: str) -> str:
    """asv's page with our copies in the place of its libraries, and the data and the shim before asv's own scripts."""
    def local(tag: re.Match[str]) -> str:
        path = next((path for end, path in LOCAL.items() if tag[1].endswith(end)), None)
        if path is None:
            raise RuntimeError(f"publish: asv's page loads {tag[1]}, needed one of {', '.join(LIBRARIES)}. Add it to LIBRARIES.")
        return CHECKS.sub("", tag[0].replace(tag[1], path))
    html, places = TAG.sub(local, html), len(FIRST.findall(html))
    if places != 1:
        raise RuntimeError(f"publish: asv's page has {places} tags for asv.js, needed 1 to put the data before. Look at index.html.")
    return FIRST.sub(lambda tag: f'    <script src="data.js"></script>\n    <script src="vendor/local.js"></script>\n{tag[0]}', html)


def data(out: Path) -> str:
    """Every JSON file of the site in one script (a NaN, which asv writes and JSON forbids, is right there)."""
    files = {file.relative_to(out).as_posix(): json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.rglob("*.json"))}
    return f"var siteData = {json.dumps(files, separators=(',', ':'))};\n"


def remote(out: Path) -> Iterator[tuple[str, str]]:
    """File and address of everything that the site would load from a network; links for people to follow are none."""
    for file in sorted(out.rglob("*")):
        if file.suffix not in LOADS or file.name == "data.js":
            continue
        text = file.read_text(encoding="utf-8")
        parts = [(file.suffix, text), *((".js", script) for script in SCRIPT.findall(text) if file.suffix == ".html")]
        for kind, part in parts:
            for pattern in LOADS[kind]:
                yield from ((file.relative_to(out).as_posix(), found[1]) for found in pattern.finditer(part))


def make_local(out: Path, tarballs: dict[str, Path]) -> None:
    """Make a published site work with no network."""
    page = out/"index.html"
    page.write_text(localized(page.read_text(encoding="utf-8")), encoding="utf-8")
    unpack(tarballs, out)
    (out/"vendor"/"local.js").write_text(SHIM, encoding="utf-8")
    (out/"data.js").write_text(data(out), encoding="utf-8")
    if left := list(remote(out)):
        file, address = left[0]
        raise RuntimeError(f"publish: {file} still loads {address}, needed nothing from a network. Add it to LIBRARIES.")


def publish(out: Path, scripts: Path) -> None:
    """``asv publish``, which reads no machine file and asks nothing, into a folder that it empties first."""
    if out.exists() and any(out.iterdir()) and not (out/"asv.js").exists():
        raise RuntimeError(f"publish: {out} holds other files, needed a new folder or an old site: asv empties it. Name another.")
    importlib.import_module("asv")  # before anything is fetched
    tarballs = {name: tarball(name, library.sha512, scripts) for name, library in LIBRARIES.items()}
    with tempfile.TemporaryDirectory() as folder:
        asv = [sys.executable, "-m", "asv", "--config", str(configured(Path(folder), ROOT))]
        done = subprocess.run([*asv, "publish", "--no-pull", "--html-dir", str(out)], cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"publish: asv publish ended with {done.returncode}, needed 0. Read what it says above; without results: "
                           "python benchmarks/record.py HEAD")
    make_local(out, tarballs)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="publish.py", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT/".asv"/"html", help="folder of the site (default: %(default)s)")
    parser.add_argument("--scripts", type=Path, default=ROOT/".asv"/"scripts", help="folder of npm's packages (default: %(default)s)")
    given = parser.parse_args(words)

    def work() -> None:
        publish(given.out.resolve(), given.scripts.resolve())
        print(f"publish: open {given.out/'index.html'}")
    return status(work)


if __name__ == "__main__":
    sys.exit(main())
