"""``python -m freehold.pyinfra``: one request as JSON on standard input, events as JSON lines on standard output."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402 - gevent patches the standard library before anything uses it
import sys  # noqa: E402

from pydantic import ValidationError  # noqa: E402

from freehold.events import Event  # noqa: E402
from freehold.parent import die_with_parent  # noqa: E402
from freehold.pyinfra.engine import log_to_stderr, run  # noqa: E402
from freehold.pyinfra.request import Request  # noqa: E402


def main() -> int:
    """Read the request, run it, write events; returns the exit code (0 done, 1 a host failed, 2 no such request)."""
    die_with_parent()
    # nothing but events may reach the pipe, whatever prints
    events = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(event: Event) -> None:
        os.write(events, event.line().encode() + b"\n")

    try:
        request = Request.model_validate_json(sys.stdin.read())
    except ValidationError as error:
        # without what was found there: it may be a secret
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            print(".".join(map(str, problem["loc"])) or "document", problem["msg"], sep=": ", file=sys.stderr)
        return 2
    log_to_stderr(request.options.verbosity)
    try:
        return run(request, emit)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
