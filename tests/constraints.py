"""The pinned, hashed dependencies in `.ci/`: what they hold, and how they are made again.

Two files: `constraints-node.txt` has what a node needs, `constraints.txt` has that and what the
checks need, at the same versions. Both name packages, versions and hashes and nothing of the
place they came from, so any index, mirror or folder of wheels will do. The resolver is
pip-tools in a throw-away environment: it is needed a few times a year, by one person.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

RESOLVER = "pip-tools==7.6.2"
ALL = Path(".ci/constraints.txt")
NODE = Path(".ci/constraints-node.txt")
_HEADER = """\
# {what}, pinned and hashed.
# Made from pyproject.toml by: python -m tests --constraints
"""
_OPTIONS = (
    "--quiet",
    "--generate-hashes",
    "--allow-unsafe",
    "--strip-extras",
    "--no-header",
    "--no-annotate",
    "--no-emit-index-url",
    "--no-emit-trusted-host",
    "--no-emit-find-links",
    "--no-emit-options",
    "--build-deps-for=editable",
)


def parse_pins(text: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of every package pinned in `text`, by normalised name.

    Raises ValueError for a line that is no pin, no hash and no comment: an index option
    for example, which must never get in.
    """
    pins: dict[str, tuple[str, int]] = {}
    name = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip().removesuffix("\\").strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("--hash=sha256:") and name:
            version, hashes = pins[name]
            pins[name] = (version, hashes + 1)
            continue
        name, separator, version = line.partition("==")
        if not separator or name.startswith("-"):
            raise ValueError(f"line {number}: {line!r} is neither name==version nor a sha256 hash")
        pins[name] = (version, 0)
    return pins


def regenerate(root: Path, *, upgrade: bool) -> None:
    """Write both files again; with `upgrade` every package moves to its newest version.

    Raises subprocess.CalledProcessError when the resolver fails; the files are then as
    they were.
    """
    with tempfile.TemporaryDirectory(prefix="orca-constraints-") as scratch:
        place = Path(scratch)
        print(f"Making a throw-away environment with {RESOLVER} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
        tools = place / "venv" / "bin"
        subprocess.run([str(tools / "pip"), "install", "--quiet", RESOLVER], check=True)
        everything, node = place / "all.txt", place / "node.txt"
        if not upgrade and (root / ALL).exists():
            everything.write_text((root / ALL).read_text())
        print("Resolving what the checks need …", flush=True)
        _compile(root, tools, everything, "--extra=dev", *(["--upgrade"] if upgrade else []))
        print("Resolving what a node needs, at the same versions …", flush=True)
        _compile(root, tools, node, f"--constraint={everything}")
        for target, made, what in (
            (ALL, everything, "What Orca and its checks need"),
            (NODE, node, "What an Orca node needs"),
        ):
            pins = "".join(line for line in made.read_text().splitlines(keepends=True) if not line.startswith("#"))
            (root / target).write_text(_HEADER.format(what=what) + pins.lstrip("\n").replace("\n\n", "\n"))
            print(f"Wrote {target}: {len(parse_pins(pins))} packages.", flush=True)


def _compile(root: Path, tools: Path, output: Path, *options: str) -> None:
    command = [str(tools / "pip-compile"), *_OPTIONS, *options, f"--output-file={output}", "pyproject.toml"]
    environment = {**os.environ, "CUSTOM_COMPILE_COMMAND": "python -m tests --constraints"}
    subprocess.run(command, cwd=root, env=environment, check=True)
