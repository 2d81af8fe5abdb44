"""`python -m minimill_cluster`."""

import sys

from minimill_cluster.command import main

sys.exit(main())
