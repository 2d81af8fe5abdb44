"""Tests of container images over every available tag.

A suite is a folder with a `compose.yaml` (or a `Dockerfile`) and `test_*.py`. Where an image is named with a variable
in the place of its tag, the pytest plugin runs the tests once for every tag of that image that a registry lists.
"""

from minimill_tests.errors import NotRun, ProtocolError, SuiteError

__all__ = ["NotRun", "ProtocolError", "SuiteError", "__version__"]

__version__ = "0.1.0"
