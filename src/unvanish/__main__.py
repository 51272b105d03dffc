"""``python -m unvanish``."""

import sys

from unvanish.command.main import main

sys.exit(main())
