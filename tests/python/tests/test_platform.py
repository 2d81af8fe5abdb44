"""Which platforms this kernel runs."""

from pathlib import Path

import pytest

from minimill_tests.errors import NotRun, SuiteError
from minimill_tests.platform import Platform, platform

ENABLED = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: F\noffset 0\nmagic 7f454c46\n"


@pytest.mark.parametrize(
    ("asked", "machine", "found"),
    [
        (None, "x86_64", Platform("linux/amd64", emulated=False)),
        (None, "aarch64", Platform("linux/arm64", emulated=False)),
        ("linux/amd64", "x86_64", Platform("linux/amd64", emulated=False)),
        ("linux/arm64", "x86_64", Platform("linux/arm64", emulated=True)),
    ],
)
def test_platforms_of_images(tmp_path: Path, asked: str | None, machine: str, found: Platform) -> None:
    (tmp_path / "qemu-aarch64").write_text(ENABLED, encoding="utf-8")
    assert platform(asked, machine, tmp_path) == found


@pytest.mark.parametrize(
    "entry",
    [ENABLED.replace("enabled", "disabled"), ENABLED.replace("flags: F", "flags: OC"), ENABLED.replace("64-", "-")],
)
def test_without_an_emulator_that_is_loaded_nothing_is_run(tmp_path: Path, entry: str) -> None:
    (tmp_path / "entry").write_text(entry, encoding="utf-8")
    with pytest.raises(NotRun, match="linux/arm64: this kernel has no emulator"):
        platform("linux/arm64", "x86_64", tmp_path)
    with pytest.raises(NotRun):
        platform("linux/arm64", "x86_64", tmp_path / "absent")


def test_other_platforms_are_refused() -> None:
    with pytest.raises(SuiteError, match="expected one of linux/amd64, linux/arm64"):
        platform("linux/riscv64")
