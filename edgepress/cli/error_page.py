"""reference/errors.md: every message that edgepress can end with, read out of the sources.

A message is made where an exception of ours is constructed, so all constructions are looked at, whether they are
raised on the spot, returned by a function, or raised by another one.
"""

import ast
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgepress.cli.error_groups import GROUPS, Group, group_of

ERROR_PAGE = "reference/errors.md"
ROOT = Path(__file__).resolve().parents[2]


# Exit codes of exceptions that are no EdgepressError: those of the scripts on the device, and of a row that failed.
_OTHER_CODES = {"Refusal": 2, "Invalid": 1, "CouldNotRun": 2, "Failed": 1, "Failure": 1}
_INPUT_CODE, _INTERRUPTED_CODE = 2, 130
# Where an exception repeats the message of another one, which has its own line; and why.
REPEATED = {
    ("edgepress/cli/job.py", "InputError"): "puts the job file, or its section, before what is wrong with it",
    ("benchmark/worker_process.py", "WorkerError"): "carries a Failure, which has the text",
    ("benchmark/worker.py", "Failure"): "carries an error of the measuring process to its parent",
    ("edgepress/cli/gpu_check/worker.py", "Failure"): "carries an error of the working process to its parent",
    ("benchmark/agent.py", "Failure"): "carries an error of the device to the host",
    ("benchmark/remote_station.py", "Failure"): "carries an error of sending to the row that needed it",
    (
        "deploy/runtime/tensorrt_backend.py",
        "CouldNotRun",
    ): "passes on what the toolkit's modules in the bundle say",
    ("deploy/runtime/tensorrt_backend.py", "Refusal"): "passes on what they say, with what to do on a device",
    ("deploy/runtime/build.py", "Failed"): "passes on what the builder says",
}
# Functions and attributes that say nothing about what is filled in.
_SILENT = frozenset(
    {
        *(
            "join",
            "sorted",
            "str",
            "repr",
            "map",
            "set",
            "tuple",
            "list",
            "min",
            "max",
            "type",
            "float",
            "int",
        ),
        *(
            "abs",
            "round",
            "next",
            "iter",
            "sum",
            "zip",
            "value",
            "name",
            "strip",
            "self",
            "format",
            "get",
            "keys",
        ),
        *(
            "_short",
            "__name__",
            "removesuffix",
            "absolute",
            "as_posix",
            "relative_to",
            "strerror",
            "args",
            "split",
        ),
    }
)


@dataclass(frozen=True)
class Message:
    """One error that the tool can end with.

    Attributes:
        file: Where it is made, relative to the checkout.
        kind: Class of the error.
        exit_code: Of the process.
        text: Its message; what is filled in stands between ‹ and ›.
    """

    file: str
    kind: str
    exit_code: int
    text: str

    @property
    def group(self) -> Group:
        """Where a user meets it."""
        return group_of(self.file)


def sources() -> list[Path]:
    """All source files of edgepress."""
    rooms = ("edgepress", "train", "export", "optimize", "benchmark", "deploy")
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def exit_codes(trees: dict[str, ast.Module]) -> dict[str, int]:
    """Name of each of our exceptions → exit code: its own, or that of what it is derived from."""
    classes = {n.name: n for tree in trees.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}
    found = dict(_OTHER_CODES)
    for name, node in classes.items():
        code = _exit_code(node, classes)
        if code is not None:
            found[name] = code
    return found


def _exit_code(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> int | None:
    """None if it is no exception of ours."""
    own = next(
        (
            statement.value.value
            for statement in node.body
            if isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Constant)
            and [t.id for t in statement.targets if isinstance(t, ast.Name)] == ["exit_code"]
        ),
        None,
    )
    if isinstance(own, int):
        return own
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    inherited = (
        _exit_code(classes[base], classes) for base in bases if base in classes and base != node.name
    )
    return next((code for code in inherited if code is not None), None)


def messages() -> tuple[Message, ...]:
    """Every message, in the order of the sources; `silent_places` has those that could not be read."""
    found, _ = _looked_through()
    return found


def silent_places() -> tuple[tuple[str, int, str], ...]:
    """File, line and class where an exception of ours is made and its text cannot be read out."""
    _, silent = _looked_through()
    return silent


@cache
def _looked_through() -> tuple[tuple[Message, ...], tuple[tuple[str, int, str], ...]]:
    trees = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sources()
    }
    codes = exit_codes(trees)
    constants = _constants(trees)
    speaking = {kind for kind in codes if _is_described_by_its_class(kind, trees)}
    found: dict[Message, None] = {}
    silent = []
    for file, tree in trees.items():
        for function, call, kind in _constructions(tree, codes):
            if kind in speaking and isinstance(call.func, ast.Name):
                continue  # its arguments are no text: the class makes one of them
            raw = [text for node in _text_nodes(call, kind) for text in _texts(node, function)]
            texts = [_with_constants(text, constants) for text in raw]
            found.update(dict.fromkeys(Message(file, kind, codes[kind], text) for text in texts))
            if not texts:
                silent.append((file, call.lineno, kind))
        for text in _printed(tree):
            code = _INTERRUPTED_CODE if text.startswith("interrupted") else _INPUT_CODE
            found[Message(file, "printed", code, text)] = None
    return tuple(found), tuple(silent)


def _constants(trees: dict[str, ast.Module]) -> dict[str, str]:
    """Texts that stand at the top of a module under a name in capitals, by that name, if it is the only one."""
    found: dict[str, set[str]] = {}
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                for text in _texts(node.value, tree):
                    found.setdefault(node.targets[0].id.strip("_"), set()).add(text)
    return {name: texts.pop() for name, texts in found.items() if name.isupper() and len(texts) == 1}


def _with_constants(text: str, constants: dict[str, str]) -> str:
    """A text in which the names of constants have given way to what they stand for."""
    return re.sub(
        r"‹([A-Z0-9_]+)›",
        lambda name: constants.get(name[1], f"‹{name[1].replace('_', ' ').lower()}›"),
        text,
    )


def _constructions(tree: ast.Module, codes: dict[str, int]) -> Iterator[tuple[ast.AST, ast.Call, str]]:
    """(innermost function or class around it, call, class) wherever an exception of ours is made.

    Where such a class writes its own text, that is its call of `super().__init__`.
    """
    for scope, node in _calls(tree, ()):
        name = ast.unparse(node.func)
        owner = next((part.name for part in reversed(scope) if isinstance(part, ast.ClassDef)), "")
        around = next((part for part in reversed(scope) if isinstance(part, ast.FunctionDef)), tree)
        if name in codes:
            yield around, node, name
        elif name == "super().__init__" and owner in codes:
            yield around, node, owner


def _calls(node: ast.AST, scope: tuple[ast.AST, ...]) -> Iterator[tuple[tuple[ast.AST, ...], ast.Call]]:
    """Every call below a node, with the classes and functions around it, outermost first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield scope, child
        inner = (*scope, child) if isinstance(child, (ast.ClassDef, ast.FunctionDef)) else scope
        yield from _calls(child, inner)


def _text_nodes(call: ast.Call, kind: str) -> list[ast.expr]:
    """The argument that holds the text."""
    if kind == "Failure":
        return call.args[1:2]
    return call.args[:1]


def _is_described_by_its_class(kind: str, trees: dict[str, ast.Module]) -> bool:
    """Whether the class writes its message itself, from what it is given."""
    return any(
        isinstance(node, ast.ClassDef)
        and node.name == kind
        and any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body)
        for tree in trees.values()
        for node in ast.walk(tree)
    )


def _printed(tree: ast.Module) -> Iterator[str]:
    """Texts that the front door prints itself, and the clauses of the check before `make`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = ast.unparse(node.func)
        if called not in {"print", "clauses.append"}:
            continue
        text = next(iter(_texts(node.args[0], tree)), "")
        if called == "print" and text.startswith("edgepress: ") and text != "edgepress: ‹error›":
            yield text.removeprefix("edgepress: ")
        elif called == "clauses.append":
            yield f"cannot start: {text}"


def _texts(node: ast.expr, function: ast.AST) -> Iterator[str]:
    """What an expression may read, with ‹names› for what is filled in; nothing if it holds no text of its own."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(
            str(part.value) if isinstance(part, ast.Constant) else f"‹{_filled(part)}›"
            for part in node.values
        )
        if re.search(r"\w\w", re.sub(r"‹.*?›", "", text)):
            yield text
    elif isinstance(node, ast.BinOp):
        yield from _both(node, function)
    else:
        for value in _instead(node, function):
            yield from _texts(value, function)


def _instead(node: ast.expr, function: ast.AST) -> Iterator[ast.expr]:
    """What an expression stands for: the branches of a condition, or what a name was given."""
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Name):
        for value in _assigned(node.id, function):
            if node.id not in {
                n.id for n in ast.walk(value) if isinstance(n, ast.Name)
            }:  # else it goes round
                yield value


def _both(node: ast.BinOp, function: ast.AST) -> Iterator[str]:
    """The texts of `a + b` and of `"… %s …" % b`."""
    if isinstance(node.op, ast.Mod):
        for text in _texts(node.left, function):
            yield re.sub(r"%[.\d]*[a-z]", "‹value›", text)
        return
    for left in _texts(node.left, function):
        for right in _texts(node.right, function):
            yield left + right


def _assigned(name: str, function: ast.AST) -> Iterator[ast.expr]:
    """Everything that a function assigns to a name."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            yield node.value


def _filled(part: ast.expr) -> str:
    """A short name for a filled-in expression: its last word that says something; a constant keeps its capitals."""
    expression = part.value if isinstance(part, ast.FormattedValue) else part
    if isinstance(expression, ast.Call) and ast.unparse(expression.func) == "len":
        return f"number of {_filled(expression.args[0])}"
    words = [
        (node.end_col_offset or 0, node.attr if isinstance(node, ast.Attribute) else node.id)
        for node in ast.walk(expression)
        if isinstance(node, (ast.Attribute, ast.Name))
    ]
    telling = [word.strip("_") for _, word in sorted(words) if word not in _SILENT and word.strip("_")]
    if not telling:
        return "value"
    return telling[-1] if telling[-1].isupper() else telling[-1].replace("_", " ").lower()


def error_page() -> str:
    """Every message with its exit code, place by place, with what it is about and what helps."""
    found = messages()
    parts = [
        "# Errors",
        "An error is one line on stderr that begins with `edgepress:` and says what was wanted, what was got and what "
        "to do next. Here is every one of them, by the place where you meet it. What is filled in is set in *italics*: "
        "search for the words around it.",
        "| exit code | meaning |\n|---:|---|\n"
        "| 0 | done |\n"
        "| 1 | a gate or a row failed, a produced file did not prove what its name promises, or a bundle is INVALID |\n"
        "| 2 | wrong use or bad input; nothing is left half-written |\n"
        "| 3 | two results that must not be compared |\n"
        "| 130 | interrupted; what was finished is kept |",
    ]
    for group in GROUPS:
        lines = dict.fromkeys(_line(message) for message in found if message.group is group)
        parts += [f"## {group.title}", group.meaning, "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _line(message: Message) -> str:
    shown = re.sub(r"‹(.*?)›", r"*\1*", _escaped(" ".join(message.text.split())))
    return f"- {shown} ({message.exit_code})"


def _escaped(text: str) -> str:
    """Text as Markdown that shows it as it is; what stands in backticks is code already."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*_\[\]|])", r"\\\1", html.escape(parts[i], quote=False))
    return "`".join(parts)
