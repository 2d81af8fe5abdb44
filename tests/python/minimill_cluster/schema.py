"""The JSON schemas of Kubernetes, as the package kubernetes-validate ships them."""

from collections.abc import Iterator

import kubernetes_validate
import kubernetes_validate.utils

from minimill_cluster.manifests import Document
from minimill_tests.errors import NotRun, SuiteError


def newest_version() -> str:
    """The newest version of Kubernetes that there are schemas of, such as `1.37`."""
    return str(kubernetes_validate.utils.major_minor(kubernetes_validate.latest_version()))


def problems(document: Document, version: str) -> Iterator[str]:
    """What the schema of an object's kind says against it; unknown keys count.

    Raises:
        NotRun: when there is no schema of that kind.
        SuiteError: when there are none of that version of Kubernetes.
    """
    try:
        kubernetes_validate.validate(document.content, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = ".".join(str(part) for part in error.absolute_path) or "the object"
        yield f"{document} ({document.source}): {path}: {error.message:.300}"
    except kubernetes_validate.SchemaNotFoundError as error:
        what = f"{document.content['apiVersion']} {document.kind}"
        raise NotRun(f"there is no schema of {what} in Kubernetes {version}; is it a custom resource?") from error
    except kubernetes_validate.utils.VersionNotSupportedError as error:
        known = ", ".join(
            kubernetes_validate.utils.major_minor(known) for known in kubernetes_validate.utils.all_versions()
        )
        raise SuiteError(f"there are no schemas of Kubernetes {version}; there are {known}") from error
