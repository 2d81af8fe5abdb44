"""Manifests: what a chart renders to, and the pods that are in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from minimill_tests.errors import SuiteError

MAXIMUM_MANIFEST_CHARACTERS = 8 << 20
MAXIMUM_DOCUMENTS = 2000

#: Where each kind keeps the pod that it makes.
POD_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True)
class Document:
    """One object of a manifest."""

    #: The template that it came from.
    source: str
    content: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Its kind, such as `Deployment`."""
        return str(self.content["kind"])

    def __str__(self) -> str:
        return f"{self.kind}/{self.content['metadata']['name']}"

    def pod(self) -> tuple[str, Mapping[str, Any]] | None:
        """The pod that it is or makes, with the path to it; none for other kinds."""
        path = POD_TEMPLATES.get(self.kind)
        if path is None:
            return None
        found: Any = self.content
        for key in path:
            found = mapping(found).get(key)
        return "".join(f"{key}." for key in path), mapping(found)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value when it is a mapping, else an empty one; the schemas tell what else it is."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; the schemas tell what else there is."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


class ManifestLoader(yaml.SafeLoader):
    """YAML as an API server reads it: dates are text, keys are unique; aliases, which can grow, are refused."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not taken; write it out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    told = f"key `{key.value}` stands twice"
                    raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


ManifestLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(source: str, text: str) -> list[Document]:
    """The objects of a manifest; those of lists one by one.

    Raises:
        SuiteError: when the text is no manifest; it names the template, and the line where there is one.
    """
    if len(text) > MAXIMUM_MANIFEST_CHARACTERS:
        raise SuiteError(f"{source}: more than {MAXIMUM_MANIFEST_CHARACTERS} characters")
    documents: list[Document] = []
    try:
        for content in yaml.load_all(text, ManifestLoader):
            if content is not None:
                documents += objects(source, content)
    except yaml.YAMLError as error:
        raise SuiteError(f"{source}: {error}") from error
    if len(documents) > MAXIMUM_DOCUMENTS:
        raise SuiteError(f"{source}: more than {MAXIMUM_DOCUMENTS} objects")
    return documents


def objects(source: str, content: Any) -> Iterator[Document]:
    """The objects of one YAML document."""
    if not isinstance(content, Mapping) or not isinstance(content.get("kind"), str):
        raise SuiteError(
            f"{source}: expected an object with `apiVersion`, `kind` and `metadata`, found `{content!s:.80}`"
        )
    if content["kind"].endswith("List") and isinstance(content.get("items"), list):
        for item in content["items"]:
            yield from objects(source, item)
        return
    for key, found in {
        "apiVersion": content.get("apiVersion"),
        "metadata.name": mapping(content.get("metadata")).get("name"),
    }.items():
        if not isinstance(found, str) or not found:
            raise SuiteError(f"{source}: a {content['kind']} without `{key}`")
    yield Document(source, content)
