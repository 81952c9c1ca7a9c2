"""reference/job-file.md: every key of a job file, from the parsers that read it."""

import html

from edgepress.cli.commands import COMMANDS
from edgepress.cli.job import ONLY_IF_PRESENT, STAGES, Key, keys_of

JOB_PAGE = "reference/job-file.md"

_TOML_KINDS = {bool: "boolean", int: "integer", float: "float", str: "string", list: "array of strings"}
_TOP = """\
| key | kind | meaning |
|---|---|---|
| `model` | string | `vgg16`, `vgg16-digits`, or a `.keras` file; wanted. `[train]` writes it |
| `data` | string | `digits`, an image folder (`class/*.jpg`), or an `.npz`; wanted unless `model` is \
`vgg16-digits`. Holds for each section that does not name its own |
| `out` | string | folder of manifest.json and the artifacts (default: out/NAME) |"""


def job_page() -> str:
    """The keys above all sections, then those of each section in the order in which the sections run."""
    parts = [
        "# Job file",
        "A section is named after a command and its keys after that command's options; [Jobs](../jobs.md) "
        "shows whole files. A key or a value that is not known is refused before anything starts.",
        "## Above all sections",
        _TOP,
    ]
    for stage in STAGES:
        command = next(command for command in COMMANDS if command.name == stage)
        when = "Runs only if the section is there." if stage in ONLY_IF_PRESENT else "Always runs."
        rows = "\n".join(_row(stage, key) for key in keys_of(command))
        purpose = command.purpose[0].upper() + command.purpose[1:]
        parts += [f"## [{stage}]", f"{purpose}. {when}", f"| key | kind | meaning |\n|---|---|---|\n{rows}"]
    return "\n\n".join(parts) + "\n"


def _row(stage: str, key: Key) -> str:
    """A key with an anchor of its own, such as `job-file.html#optimize.samples`."""
    meaning = html.escape(key.action.help or "", quote=False).replace("|", "\\|").replace("*", "\\*")
    choices = key.action.metavar if isinstance(key.action.metavar, str) and "|" in key.action.metavar else ""
    kind = _TOML_KINDS[key.kind] + (f": {choices}".replace("|", " \\| ") if choices else "")
    return f'| <span id="{stage}.{key.name}"></span>`{key.name}` | {kind} | {meaning} |'
