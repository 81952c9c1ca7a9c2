"""`edgepress bundle`."""

import argparse
from pathlib import Path

from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import number
from edgepress.progress import Progress


def _known_bundle_target(text: str) -> str:
    """The name of a bundle target that exists."""
    from deploy.bundle_target import bundle_target_of

    return bundle_target_of(text).name


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder with a manifest.json and a results.json")
    add(
        "--target",
        type=_known_bundle_target,
        default="linux-x64-cpu",
        metavar="NAME",
        help="device to pack for (default, and the only one yet: linux-x64-cpu)",
    )
    add(
        "--out",
        type=Path,
        metavar="PATH",
        help="folder of the bundle (default: DIR/bundle-NAME); an unchanged bundle there is replaced, and "
        "nothing else",
    )
    add("--variant", metavar="ID", help="this artifact (default: chosen by results.json)")
    add(
        "--max-drop",
        type=number,
        default=1.0,
        metavar="POINTS",
        help="largest loss of top-1, or of agreement without labels, in percentage points (default: 1)",
    )
    add("--data", metavar="DATA", help="pictures for the golden inputs (default: those of results.json)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from deploy.stage import BundleRequest, bundle_folder

    request = BundleRequest(
        folder=arguments.folder,
        target=arguments.target,
        out=arguments.out,
        variant=arguments.variant,
        max_drop=arguments.max_drop,
        data=arguments.data,
    )
    bundle = bundle_folder(request, progress)
    return Outcome(
        (
            f"{bundle.folder}: {bundle.artifact}, {bundle.reason}",
            *(f"  not {name}: it {reason}" for name, reason in bundle.rejected.items()),
        ),
        {
            "bundle": str(bundle.folder),
            "target": bundle.target,
            "artifact": bundle.artifact,
            "reason": bundle.reason,
            "rejected": bundle.rejected,
        },
    )


COMMAND = Command(
    name="bundle",
    purpose="pack the best version for a device, with scripts that run and verify it there",
    examples=(
        "edgepress bundle out/vgg16-digits --target linux-x64-cpu",
        "edgepress bundle out/vgg16 --target linux-x64-cpu --max-drop 0.5 --out vgg16-x64",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
