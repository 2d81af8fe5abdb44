"""What can go wrong, apart from a test that fails."""


class NotRun(Exception):
    """Something can't be run here; the text says why. Such tests never count as passed."""


class NotApplicable(NotRun):
    """There is nothing that a test could be run on; the text says why."""


class SuiteError(Exception):
    """A suite's files, or what it was started with, are wrong; the text says where and what to do."""


class ProtocolError(Exception):
    """A server answered what its protocol does not allow, or more than is taken."""
