"""What all tests share."""

from __future__ import annotations

import signal

# A job in the background is started with SIGINT ignored, and its children inherit that; tests of Ctrl-C need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)
