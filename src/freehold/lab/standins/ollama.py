"""Stand-in of Ollama (lab): builds ``ollama-linux-amd64.tar.zst``; what it answers stands in ``ollama_server.py``.

``lib/ollama`` holds the real llama.cpp: Debian's package ``llama.cpp-tools`` with the libraries it needs and their
loader, so that it runs on any Debian. Only Debian unstable has it, from where it is taken as it is that day; the
archive's signature is checked, its date is not, for unstable's is short.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from freehold.catalog import versions
from freehold.lab.standins import HERE, StandIn, archive, run

_LOADER = "ld-linux-x86-64.so.2"


def build(folder: Path) -> Path:
    """Write the archive into a folder.

    Raises:
        subprocess.CalledProcessError: Debian's packages could not be fetched.
    """
    root = folder / "root"
    command = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=amd64"]
    for option in (
        'Acquire::Check-Valid-Until "false"',
        'APT::Install-Recommends "false"',
        'Acquire::Languages "none"',
    ):
        command.append(f"--aptopt={option}")
    run([*command, "--include=llama.cpp-tools", "sid", str(root)])
    library = folder / "ollama"
    library.mkdir()
    for path in _needed(root):
        shutil.copy(path, library / path.name)
    program = (HERE / "ollama_server.py").read_bytes().replace(b"@VERSION@", STAND_IN.version.encode())
    made = archive(
        folder / f"{_name()}.tar.zst", [("bin/ollama", program, 0o755), ("lib/ollama", library, 0o644)]
    )
    shutil.rmtree(root)
    shutil.rmtree(library)
    return made


def _name() -> str:
    return str(versions.load()["ollama"].url).rpartition("/")[2].removesuffix(".tar.zst")


def _needed(root: Path) -> list[Path]:
    """llama.cpp's server, what its loader finds for it, and its variants for kinds of CPU, which it opens itself."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader, server = libraries / _LOADER, root / "usr/bin/llama-server"
    said = run(
        [str(loader), "--library-path", f"{libraries}:{libraries / 'llama'}", "--list", str(server)],
        LC_ALL="C.UTF-8",
    )
    found = {Path(path) for path in re.findall(r"=> (/\S+)", said)}
    variants = set((libraries / "ggml").rglob("libggml-cpu-*.so"))
    return sorted({server, loader} | {path for path in found if path.name != _LOADER} | variants)


STAND_IN = StandIn(artifact="ollama", build=build, sources=("ollama.py", "ollama_server.py"))
