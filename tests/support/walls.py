"""Contract types for import-linter that its own types cannot express; pyproject.toml registers them."""

import ast
import re
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class _ListingContract(Contract):
    """A contract whose violations are lines of text."""

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["violations"]:
            output.print_error(line, bold=False)


class StandardLibraryContract(_ListingContract):
    """Packages that import each other and the standard library only, whatever third party is installed."""

    packages = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 -- import-linter calls it
        packages: list[str] = self.packages  # type: ignore[assignment]
        allowed = {*packages, *sys.stdlib_module_names}
        violations = [
            f"{importer} -> {imported}"
            for importer in sorted(graph.modules)
            if importer.partition(".")[0] in packages
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported.partition(".")[0] not in allowed
        ]
        return ContractCheck(kept=not violations, metadata={"violations": violations})


class PartOfPackageContract(_ListingContract):
    """A package that imports one part of an external package only.

    The graph knows external packages as wholes, so this reads the importing lines.
    """

    source_module = fields.StringField()
    external_package = fields.StringField()
    allowed_part = fields.StringField()

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 -- import-linter calls it
        source, package = str(self.source_module), str(self.external_package)
        allowed = re.compile(rf"(from|import) {re.escape(package)}\.{re.escape(str(self.allowed_part))}\b")
        violations = [
            f"{importer}: {detail['line_contents']}"
            for importer in sorted(graph.find_modules_that_directly_import(package) if package in graph.modules else ())
            if f"{importer}.".startswith(f"{source}.")
            for detail in graph.get_import_details(importer=importer, imported=package)
            if not allowed.match(detail["line_contents"])
        ]
        return ContractCheck(kept=not violations, metadata={"violations": violations})


class FeaturesContract(_ListingContract):
    """Modules of a package that do not import each other, even indirectly, except those that all may import.

    The folder decides which modules are features, so that a new one is held to the contract at once.
    """

    package = fields.StringField()
    shared = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 -- import-linter calls it
        package, shared = str(self.package), set(self.shared)  # type: ignore[call-overload]
        features = sorted(graph.find_children(package) - {f"{package}.{name}" for name in shared})
        chains = (graph.find_shortest_chain(*pair) for pair in permutations(features, 2))
        violations = [" -> ".join(chain) for chain in chains if chain]
        return ContractCheck(kept=not violations, metadata={"violations": violations})


class InterfacesContract(_ListingContract):
    """Packages below one that import each other as listed only, whatever packages the folder has."""

    package = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 -- import-linter calls it
        package, allowed = str(self.package), set(self.allowed)  # type: ignore[call-overload]
        members = {
            name: {name, *graph.find_descendants(name)}
            for name in graph.find_children(package)
            if graph.find_children(name)
        }
        violations = [
            f"{importer} -> {imported}"
            for name, other in permutations(sorted(members), 2)
            if f"{name.removeprefix(package + '.')} -> {other.removeprefix(package + '.')}" not in allowed
            for importer in sorted(members[name])
            for imported in sorted(graph.find_modules_directly_imported_by(importer) & members[other])
        ]
        return ContractCheck(kept=not violations, metadata={"violations": violations})


class ImportByStringContract(_ListingContract):
    """No string names a module: the graph would not know it as an import."""

    packages = fields.ListField(subfield=fields.StringField())
    ignore_modules = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 -- import-linter calls it
        packages: list[str] = self.packages  # type: ignore[assignment]
        ignored: list[str] = self.ignore_modules  # type: ignore[assignment]
        violations = list(module_strings(Path.cwd(), packages, ignored))
        return ContractCheck(kept=not violations, metadata={"violations": violations})


def module_strings(root: Path, packages: list[str], ignored: list[str]) -> Iterator[str]:
    """Find string literals such as "interfaces.http.api:serve" in packages under a folder."""
    names_a_module = re.compile(rf"(?:{'|'.join(packages)})(?:\.\w+)+(?::[\w.]+)?")
    for file in sorted(path for package in packages for path in (root / package).rglob("*.py")):
        module = ".".join(file.relative_to(root).with_suffix("").parts)
        if module in ignored:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and names_a_module.fullmatch(node.value):
                yield f'{module}:{node.lineno}: "{node.value}"'
