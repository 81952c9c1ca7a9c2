"""One file per command. The order here is that of `edgepress --help`: the first hour, from top to bottom."""

from edgepress.cli.command import Command
from edgepress.cli.commands import (
    benchmark,
    bundle,
    compare,
    completion,
    doctor,
    export,
    features,
    gpu_check,
    init,
    inspect,
    optimize,
    parity,
    report,
    run,
    sensitivity,
    train,
    unpack,
)

COMMANDS: tuple[Command, ...] = (
    doctor.COMMAND,
    init.COMMAND,
    run.COMMAND,
    train.COMMAND,
    export.COMMAND,
    optimize.COMMAND,
    sensitivity.COMMAND,
    parity.COMMAND,
    benchmark.COMMAND,
    report.COMMAND,
    compare.COMMAND,
    inspect.COMMAND,
    bundle.COMMAND,
    unpack.COMMAND,
    gpu_check.COMMAND,
    features.COMMAND,
    completion.COMMAND,
)
