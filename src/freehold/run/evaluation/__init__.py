"""Evaluation of a language model by a client's own cases, with Inspect: what is asked, how it is run, how two compare.

Inspect lives in an environment of its own on the controller, made when it is first needed from a list of packages that is
locked by hash: none of them is a dependency of Freehold's (``docs/decisions/evaluation.md``).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from freehold.errors import FreeholdError
from freehold.run.evaluation.cases import Case

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
_RUNNER = HERE / "runner.py"
_INSTALLING = 1200
_ANSWER = 600
"""Seconds that one answer may take before it counts as none."""
_READY = ".complete"
_ALONE = {"PYTHON_DOTENV_DISABLED": "1", "NO_PROXY": "*"}
"""Inspect reads a file ``.env`` of the working directory or above it. A proxy that stands there, as in many a company's, would be
shown the key and the questions."""


class EvaluationError(FreeholdError):
    """The cases could not be run; no answer was judged."""


@dataclass(frozen=True)
class Result:
    """One answer, and what is wrong with it."""

    case: str
    answer: str
    seconds: float | None
    """None where there was no answer."""
    wrong: dict[str, str]
    tokens: int
    """Tokens of the answer."""


def environment(mirror: str | None, wheels: Sequence[str], say: Callable[[str], None]) -> Path:
    """The Python of the environment with Inspect, made if it is not there.

    Args:
        mirror: The client's own mirror, asked instead of the package index.
        wheels: More places for wheels.
        say: Told when the environment is made, which takes a minute.

    Raises:
        EvaluationError: The packages could not be installed.
    """
    lock = REQUIREMENTS.read_bytes()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(lock).hexdigest()[:12]
    folder = platformdirs.user_cache_path("freehold") / f"evaluation-{version}-{digest}"
    python = folder / "bin" / "python"
    if (folder / _READY).is_file() and python.exists():
        return python
    say("Installing Inspect, which runs the cases: once on this machine, 250 MB")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    sources = ["--no-index", f"--find-links={mirror.rstrip('/')}/pypi/"] if mirror else []
    install = [
        *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--require-hashes", "--no-deps", "--only-binary=:all:", f"--requirement={REQUIREMENTS}"),
        *sources,
        *(f"--find-links={place}" for place in wheels),
    ]
    for command in ([sys.executable, "-m", "venv", str(folder)], install):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_INSTALLING, env=_environment()
        )
        if done.returncode:
            raise EvaluationError(
                "Inspect could not be installed",
                doing="making the environment in which cases are run",
                where=str(folder),
                answer=(done.stderr or done.stdout).strip()[-1500:],
                remedy="It needs the package index"
                + (
                    f", here the mirror {mirror}: add it there with `freehold mirror build`."
                    if mirror
                    else "."
                ),
            )
    (folder / _READY).touch()
    return python


def run(
    python: Path,
    cases: Sequence[Case],
    *,
    url: str,
    key: str,
    model: str,
    log_dir: Path,
    at_once: int = 1,
) -> list[Result]:
    """Ask one language model all cases.

    Args:
        python: The environment's, from :func:`environment`.
        cases: What is asked.
        url: Address of its OpenAI-compatible API, up to ``/v1``.
        key: Key of the API; it is in no argument, no environment and no log.
        model: Its name there.
        log_dir: Folder that takes Inspect's own log (JSON; ``inspect view`` shows it).
        at_once: Questions at the same time. More than one makes times longer.

    Raises:
        EvaluationError: Inspect did not come to an end.
    """
    told: dict[str, Any] = {
        "url": url,
        "key": key,
        "model": model,
        "at_once": at_once,
        "timeout": _ANSWER,
        "log_dir": str(log_dir),
        "cases": [{**case.model_dump(mode="json"), "expected": case.properties()} for case in cases],
    }
    log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    limit = _ANSWER * (2 + sum(case.repeat for case in cases))
    try:
        done = subprocess.run(
            [str(python), "-I", str(_RUNNER)],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
            env=_environment() | _ALONE,
        )
    except subprocess.TimeoutExpired as error:
        raise EvaluationError(
            f"Inspect did not end within {limit} s", doing=f"asking {model}", where=url
        ) from error
    if done.returncode:
        raise EvaluationError(
            "Inspect did not run the cases",
            doing=f"asking {model}",
            where=str(log_dir),
            answer=done.stderr.replace(key, "***").strip()[-1500:],
            remedy="See whether the engine answers: freehold verify.",
        )
    return [Result(**result) for result in json.loads(done.stdout)]


def _environment() -> dict[str, str]:
    """What the programs see: no proxy, no settings of Inspect's, and no secret."""
    kept = (
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "SSL_CERT_FILE",
        "PIP_INDEX_URL",
        "PIP_CONFIG_FILE",
    )
    return {name: os.environ[name] for name in kept if name in os.environ} | {"DO_NOT_TRACK": "1"}
