"""Platforms, and whether this machine's kernel runs their programs."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from minimill_tests.errors import NotRun, SuiteError

#: Machines, as the kernel calls them, by their names in images.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Platform:
    """What images are run for."""

    #: For example `linux/arm64`.
    name: str
    #: Programs run through an emulator.
    emulated: bool


def platform(name: str | None, machine: str | None = None, binfmt: Path = BINFMT) -> Platform:
    """A platform, by default this machine's.

    Raises:
        NotRun: when the kernel can't run its programs.
        SuiteError: when images have no such platform.
    """
    machine = machine or os.uname().machine
    names = {kernel: f"linux/{own}" for own, kernel in MACHINES.items()}
    if name is None:
        return Platform(names.get(machine, f"linux/{machine}"), emulated=False)
    if name not in names.values():
        raise SuiteError(f"--platform `{name}`: expected one of {', '.join(names.values())}")
    wanted = MACHINES[name.removeprefix("linux/")]
    if wanted == machine:
        return Platform(name, emulated=False)
    # Flag F: the emulator is loaded already, so that it works in roots that don't hold it.
    for entry in sorted(binfmt.glob("*")) if binfmt.is_dir() else []:
        if entry.name not in ("register", "status") and re.search(
            rf"^enabled$.*^interpreter .*qemu-{wanted}.*^flags: \S*F", entry.read_text(), re.MULTILINE | re.DOTALL
        ):
            return Platform(name, emulated=True)
    raise NotRun(f"{name}: this kernel has no emulator for it; infra/setup/emulation.sh registers qemu")
