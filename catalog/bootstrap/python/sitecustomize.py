"""Undoes Debian's change of where packages go (/usr/local/.../dist-packages).

A package's place is that of every other distribution's Python:
PREFIX/lib/pythonX.Y/site-packages.
"""

import sysconfig


def _get_preferred_schemes():
    return {"prefix": "posix_prefix", "home": "posix_home", "user": "posix_user"}


sysconfig._get_preferred_schemes = _get_preferred_schemes
# These took the default when the module was read.
for _function in (sysconfig.get_paths, sysconfig.get_path):
    _function.__defaults__ = tuple(
        "posix_prefix" if default == "posix_local" else default for default in _function.__defaults__
    )
