"""``python -m ancestral``, where the script is not on the path."""

import sys

from ancestral.cli import main

sys.exit(main())
