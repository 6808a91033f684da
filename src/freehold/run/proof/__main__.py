"""``python -m freehold.run.proof``: the proof as a child process, see ``child``."""

import sys

from freehold.parent import die_with_parent
from freehold.run.proof import child

die_with_parent()
sys.exit(child.main())
