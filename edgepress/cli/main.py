"""The command `edgepress`: reads the command line, runs one command, and turns its outcome into an exit code.

0 done · 1 a gate or a row failed · 2 wrong use or bad input · 3 not comparable · 130 interrupted.
"""

import io
import json
import os
import signal
import sys
from collections.abc import Sequence

from edgepress.cli.arguments import parse
from edgepress.cli.command import Outcome
from edgepress.cli.console import native_noise_hidden, progress_on_stderr
from edgepress.errors import EdgepressError, InputError

_FRAMEWORK_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",  # a user's keras.json may name another one
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_CPP_MAX_VLOG_LEVEL": "-1",
    "GLOG_minloglevel": "3",
    "ABSL_MIN_LOG_LEVEL": "3",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. The only place where an error becomes text."""
    for name, value in _FRAMEWORK_ENVIRONMENT.items():
        os.environ[name] = value
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it too removes what is half-written
    outcome = Outcome(())
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        with native_noise_hidden(), progress_on_stderr(arguments.verbosity) as progress:
            outcome = arguments.command.run(arguments, progress)
        _show(outcome, as_json=arguments.json)
    except EdgepressError as error:
        print(f"edgepress: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edgepress: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has left
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # keeps the interpreter's last flush silent
    except ImportError as error:
        print(f"edgepress: {error}. Run `edgepress doctor`: it says what is wrong here.", file=sys.stderr)
        return InputError.exit_code
    except OSError as error:
        print(f"edgepress: {error}. Check the path, its rights and the disk.", file=sys.stderr)
        return InputError.exit_code
    return outcome.exit_code


def _show(outcome: Outcome, *, as_json: bool) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a name may be in letters that the terminal has not
    if as_json:
        print(json.dumps(outcome.value, indent=2, ensure_ascii=False, allow_nan=False))
        return
    for line in outcome.lines:
        print(line)
