"""`python -m edgepress.cli`: the same as the command `edgepress`."""

import sys

from edgepress.cli.main import main

sys.exit(main())
