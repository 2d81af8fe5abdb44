"""`python -m minimill_tests`."""

import sys

from minimill_tests.command import main

sys.exit(main())
