"""Results as JSON, in the shape in which Minimill keeps checks (`Check` in `shared/verify`). README.md describes it."""

import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from minimill_tests.platform import Platform
from minimill_tests.suite import Substitution

FORMAT = "minimill-tests/1"
MAXIMUM_EVIDENCE_CHARACTERS = 16 << 10
NOT_RUN = "not run: "
NOT_APPLICABLE = "not applicable: "


@dataclass
class Check:
    """One test and what came of it."""

    id: str
    status: str = "passed"
    message: str = ""
    milliseconds: int = 0
    evidence: list[str] = field(default_factory=list)
    #: False when the image may be published although this was not run.
    blocks: bool = True

    def add_evidence(self, title: str, text: str) -> None:
        """Keeps what a failure was judged by; of long texts the end."""
        if text.strip():
            self.evidence.append(f"{title}:\n{text.strip()[-MAXIMUM_EVIDENCE_CHARACTERS:]}")


@dataclass
class Run:
    """All tests of a file with one substitution."""

    suite: str
    file: str
    images: list[dict[str, Any]]
    checks: dict[str, Check] = field(default_factory=dict)


class Results:
    """What a session's tests came to."""

    def __init__(self, now: datetime | None = None) -> None:
        self._started = now or datetime.now(UTC)
        self._begin = time.monotonic()
        #: What images were run for; none when none was.
        self.platform: Platform | None = None
        self._runs: dict[tuple[str, str], Run] = {}

    def check(self, suite: str, file: str, substitution: Substitution | None, name: str) -> Check:
        """The check of a test, made when it is first asked for."""
        key = (file, str(substitution))
        run = self._runs.setdefault(key, Run(suite, file, images_of(substitution)))
        return run.checks.setdefault(name, Check(f"{suite}/{name}"))

    def count(self, status: str) -> int:
        """How many checks have a status."""
        return sum(check.status == status for run in self._runs.values() for check in run.checks.values())

    def not_run(self) -> Iterable[tuple[str, str]]:
        """Checks that were not run, and why."""
        for run in self._runs.values():
            for check in run.checks.values():
                if check.status == "not-run":
                    yield check.id, check.message

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "format": FORMAT,
            "started": self._started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "milliseconds": round((time.monotonic() - self._begin) * 1000),
            **({} if self.platform is None else {"platform": self.platform.name, "emulated": self.platform.emulated}),
            "runs": [
                {
                    "suite": run.suite,
                    "file": run.file,
                    "images": run.images,
                    "checks": [vars(check) for check in run.checks.values()],
                }
                for run in self._runs.values()
            ],
        }

    def write(self, path: Path) -> None:
        """Writes the document; a file that is there is replaced as a whole."""
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self.document(), file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def images_of(substitution: Substitution | None) -> list[dict[str, Any]]:
    """The images of a run."""
    if substitution is None:
        return []
    values: Mapping[str, str] = substitution.values
    return [
        {
            "name": image.name,
            "tag": image.tag,
            "digest": image.digest,
            "variable": variable,
            "substituted": variable == substitution.substituted,
        }
        for variable, image in zip(values, substitution.images, strict=True)
    ]
