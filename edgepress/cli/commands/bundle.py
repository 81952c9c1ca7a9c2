"""`edgepress bundle`."""

import argparse
from pathlib import Path

from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import number
from edgepress.progress import Progress


def _known_bundle_target(text: str) -> str:
    """The name of a bundle target that exists, or the path of a profile."""
    from deploy.bundle_target import bundle_target_of

    bundle_target_of(text)
    return text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder with a manifest.json and a results.json")
    add(
        "--target",
        type=_known_bundle_target,
        default="linux-x64-cpu",
        metavar="NAME",
        help="device to pack for: jetson-orin, linux-arm64-cpu, linux-x64-cpu (default), mobile, "
        "nvidia-server, rtx-desktop, triton; or a profile of your own, FILE.toml",
    )
    add(
        "--out",
        type=Path,
        metavar="PATH",
        help="folder of the bundle (default: DIR/bundle-NAME), and beside it PATH.tar.gz; an unchanged "
        "bundle there is replaced, and nothing else",
    )
    add("--variant", metavar="ID", help="this artifact (default: chosen by results.json)")
    add(
        "--max-drop",
        type=number,
        default=1.0,
        metavar="POINTS",
        help="largest loss of top-1, or of agreement without labels, in percentage points (default: 1)",
    )
    add(
        "--max-latency-ms",
        type=number,
        metavar="N",
        help="longest median of one inference, as in results.json; verify.py --latency tests it there",
    )
    add("--max-mb", type=number, metavar="N", help="size of the largest model file, in megabytes")
    add(
        "--sign",
        type=Path,
        metavar="FILE",
        help="sign the bundle with this private key (Ed25519, PEM: openssl genpkey -algorithm ed25519)",
    )
    add("--data", metavar="DATA", help="pictures for the golden inputs (default: those of results.json)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from deploy.selection import Limits
    from deploy.stage import BundleRequest, bundle_folder

    request = BundleRequest(
        folder=arguments.folder,
        target=arguments.target,
        out=arguments.out,
        variant=arguments.variant,
        limits=Limits(
            arguments.max_drop,
            arguments.max_latency_ms,
            None if arguments.max_mb is None else round(arguments.max_mb * 1e6),
        ),
        data=arguments.data,
        signing_key=arguments.sign,
    )
    bundle = bundle_folder(request, progress)
    return Outcome(
        (
            f"{bundle.folder}: {bundle.artifact}, {bundle.reason}",
            f"{bundle.archive.path}: {bundle.archive.size_bytes / 1e6:.1f} MB, "
            f"SHA-256 {bundle.archive.sha256}",
            f"verify.py here: {bundle.proof}",
            *(f"  not {name}: it {reason}" for name, reason in bundle.rejected.items()),
        ),
        {
            "bundle": str(bundle.folder),
            "target": bundle.target,
            "artifact": bundle.artifact,
            "reason": bundle.reason,
            "rejected": bundle.rejected,
            "archive": str(bundle.archive.path),
            "archive_sha256": bundle.archive.sha256,
            "archive_bytes": bundle.archive.size_bytes,
            "proof": bundle.proof,
        },
    )


COMMAND = Command(
    name="bundle",
    purpose="pack the best version for a device, with scripts that run and verify it there",
    examples=(
        "edgepress bundle out/vgg16-digits --target linux-x64-cpu",
        "edgepress bundle out/vgg16 --target linux-x64-cpu --max-drop 0.5 --max-latency-ms 80 --out x64",
        "edgepress bundle out/vgg16 --target jetson-orin --variant tensorrt-static_wi8_ai8",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
