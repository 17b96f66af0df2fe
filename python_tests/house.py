"""Measures the house: its files, how long they and their functions are, what they import, what they leave unsaid."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("csrc", "kernels", "svm_ext", "python_tests", "benchmarks", ".ci")
TOP_LEVEL = {"setup.py", "CMakeLists.txt", "README.md", "pyproject.toml", "constraints.txt", "LICENSE"}
CPP = (".cpp", ".h", ".cu", ".cuh")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*suffixes: str, under: str = "") -> list[Path]:
    """The repository's own files of these kinds, without what a build leaves behind."""
    tops = [under] if under else FOLDERS
    found = [file for top in tops for file in (ROOT / top).rglob("*") if file.is_file()]
    found += [] if under else [ROOT / name for name in TOP_LEVEL if (ROOT / name).exists()]
    return sorted(file for file in found if file.suffix in suffixes and "__pycache__" not in file.parts)


def name(file: Path) -> str:
    """A file's name as people say it."""
    return str(file.relative_to(ROOT))


@dataclass(frozen=True)
class Described:
    """One function or class, where it stands, and whether its name or a name around it hides it."""

    node: Function | ast.ClassDef
    where: str
    public: bool
    in_class: ast.ClassDef | None

    @property
    def lines(self) -> int:
        """How long it is, docstring included."""
        return (self.node.end_lineno or 0) - self.node.lineno + 1


def described(file: Path) -> list[Described]:
    """The functions and classes of a file, methods too, functions inside functions not."""

    def walk(body: list[ast.stmt], public: bool, owner: ast.ClassDef | None) -> Iterator[Described]:
        for node in body:
            if isinstance(node, Function | ast.ClassDef):
                open_name = not node.name.startswith("_") or node.name == "__init__"
                yield Described(node, f"{name(file)}:{node.lineno} {node.name}", public and open_name, owner)
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, public and not node.name.startswith("_"), node)

    module_is_public = not file.stem.startswith("_") or file.stem == "__init__"
    return list(walk(ast.parse(file.read_text()).body, module_is_public, None))


def docstring(item: Described) -> str | None:
    """What a function or class says of itself."""
    return ast.get_docstring(item.node)


def functions(file: Path) -> list[Described]:
    """The functions and methods of a file."""
    return [item for item in described(file) if isinstance(item.node, Function)]


def unannotated(item: Described) -> list[str]:
    """The arguments of a function, and its result, whose type is not said."""
    arguments = item.node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [it for it in (arguments.vararg, arguments.kwarg) if it]
    silent = [it.arg for it in named if it.annotation is None and it.arg not in ("self", "cls")]
    return silent if item.node.returns else [*silent, "return"]


def imports(file: Path, everywhere: bool) -> set[str]:
    """The packages that a file imports: anywhere in it, or only when it is itself imported."""
    body = ast.parse(file.read_text()).body
    nodes = [inner for node in body for inner in ast.walk(node)] if everywhere else list(_at_import(body))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level and node.module}
    return {module.partition(".")[0] for module in found}


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for block in ("body", "orelse", "finalbody"):
            if not isinstance(node, Function) and isinstance(inner := getattr(node, block, None), list):
                yield from _at_import(inner)


def code_lines(file: Path) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for line in file.read_text().splitlines())


def blocks(markdown: str, language: str) -> list[str]:
    """The code blocks of this language in a text."""
    parts = markdown.split(f"```{language}\n")[1:]
    return [part.partition("```")[0] for part in parts]
