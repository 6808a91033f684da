"""``python -m freehold.run.proof``: the proof as a child process, see ``child``."""

import sys

from freehold.run.proof import child

sys.exit(child.main())
