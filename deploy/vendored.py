"""The toolkit's own modules that a script needs on a device: what its imports lead to, and nothing else."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import edgepress

PACKAGES = ("edgepress", "optimize")
"""What a bundle carries modules of, as folders of these names."""

_ROOT = Path(edgepress.__file__).parents[1]
_PACKAGE_FILE = "__init__.py"


def modules_for(roots: Iterable[str]) -> dict[str, Path]:
    """Every module of `PACKAGES` that is read when the roots are imported and used, and the roots themselves.

    Import statements are followed wherever they stand, in functions too, but for those under TYPE_CHECKING.
    What is imported by `importlib` is not seen: the file of a framework, or of another command.

    Args:
        roots: Names of modules, of any of the toolkit's packages, e.g. "edgepress.runners.tensorrt_runner".

    Returns:
        The files, by their POSIX paths beside each other in a bundle, e.g. "edgepress/engine_card.py".

    Raises:
        ValueError: A root is no module of the toolkit.
    """
    waiting = list(roots)
    if unknown := [name for name in waiting if _file_of(name) is None]:
        raise ValueError(f"{unknown[0]} is no module of the toolkit")
    seen: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or name in seen:
            continue
        seen[name] = path
        found = _with_packages({*_imports_of(path), name})
        waiting.extend(each for each in found if _is_carried(each))
    carried = {path for name, path in seen.items() if _is_carried(name)}
    return {path.relative_to(_ROOT).as_posix(): path for path in sorted(carried)}


def _is_carried(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


def _with_packages(names: Iterable[str]) -> set[str]:
    """The names, and the packages that they are in: Python runs each one's `__init__.py`."""
    parts = [name.split(".") for name in names]
    return {".".join(each[:length]) for each in parts for length in range(1, len(each) + 1)}


def _file_of(name: str) -> Path | None:
    """The file of a module or package; None for an attribute of one, and for what is not the toolkit's."""
    path = _ROOT.joinpath(*name.split("."))
    return next((file for file in (path / _PACKAGE_FILE, path.with_suffix(".py")) if file.is_file()), None)


@cache
def _imports_of(path: Path) -> frozenset[str]:
    """Names in the import statements of a file; `from a import b` may mean the module a.b."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        waiting.extend(_read_by_python(node))
    return frozenset(found)


def _read_by_python(node: ast.AST) -> Iterable[ast.AST]:
    """What is inside of a node; of `if TYPE_CHECKING:` only the other branch."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return node.orelse
    return ast.iter_child_nodes(node)
