"""Stand-in of SGLang (lab): builds a wheel of that name; what it answers stands in ``sglang_server.py``.

SGLang's own packages are made for NVIDIA's GPUs, and its build for CPUs must be compiled and wants Intel's AMX. The role
installs from a lock file; the one that is made here names the wheel by its address in the lab.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from freehold.lab.standins import HERE, StandIn
from freehold.lab.tiny_model import ANSWER

_SERVER = HERE / "sglang_server.py"
_RUNS_ON = HERE / "sglang.txt"
_LOCK = "requirements.txt"


def build(folder: Path) -> Path:
    """Write the wheel into a folder: the package ``sglang`` with the module that the role's unit starts."""
    version = STAND_IN.version.replace("-", ".")  # as Python writes what follows a plus
    program = _SERVER.read_text(encoding="utf-8").replace("@VERSION@", STAND_IN.version)
    about = f"sglang-{version}.dist-info"
    members = {
        "sglang/__init__.py": '"""Stand-in of SGLang (lab)."""\n',
        "sglang/launch_server.py": program.replace("@ANSWER@", ANSWER),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: sglang\nVersion: {version}\nRequires-Dist: pyyaml\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: freehold\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},{_digest(text.encode())},{len(text.encode())}\n" for name, text in members.items()
    )
    members[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n"
    made = folder / f"sglang-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, text in members.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    return made


def _digest(content: bytes) -> str:
    return f"sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')}"


def describe(file: Path, address: str) -> Mapping[str, Any]:
    """The entry of the lock: another list of packages, written beside the wheel because it holds the wheel's address."""
    lock = file.with_name(_LOCK)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    place = f"{address.rpartition('/')[0]}/{quote(file.name)}"
    lock.write_text(
        _RUNS_ON.read_text(encoding="utf-8") + f"sglang @ {place} --hash=sha256:{digest}\n", encoding="utf-8"
    )
    return {"lock": str(lock)}


STAND_IN = StandIn("sglang", build, ("sglang.py", "sglang_server.py", "sglang.txt"), describe)
