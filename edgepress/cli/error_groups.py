"""Where a user meets an error, what it is about there, and what helps: the headings of reference/errors.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Messages that a user meets in one place.

    Attributes:
        title: Heading of the page.
        places: Files and folders of the sources, relative to the checkout; the longest that fits counts.
        meaning: What it is about and what helps, in Markdown.
    """

    title: str
    places: tuple[str, ...]
    meaning: str


GROUPS = (
    Group(
        "Command line and job files",
        ("edgepress/cli", "edgepress/errors.py", "edgepress/api.py"),
        "A word, a key or a value that is not known, or of another kind than its option wants. Nothing was started. "
        "`edgepress COMMAND --help` shows all options, `edgepress init` writes a job file with every key.",
    ),
    Group(
        "Files and folders",
        (
            "edgepress/files.py",
            "edgepress/record.py",
            "edgepress/manifest.py",
            "edgepress/lock.py",
            "edgepress/digests.py",
        ),
        "The disk is full, a folder cannot be written to, or a file is not what the manifest says: it was changed or "
        "removed by hand. What was there stays as it was. Running the same command again makes what is missing.",
    ),
    Group(
        "Pictures and labels",
        (
            "edgepress/dataset.py",
            "edgepress/labels.py",
            "edgepress/preprocessing.py",
            "edgepress/evaluation_data.py",
        ),
        "DATA is `digits`, an image folder (`class/*.jpg`) or an `.npz` with `images`. A picture that cannot be decoded "
        "is named; remove it or replace it. Pictures that trained or calibrated are never evaluated.",
    ),
    Group(
        "Models and weights",
        ("edgepress/models",),
        "MODEL is `vgg16`, `vgg16-digits` or a `.keras` file of a classifier with one picture as its input. Weights that "
        "do not fit, custom code in a file, or preprocessing that nobody declared end here.",
    ),
    Group(
        "Runtimes and devices",
        (
            "edgepress/runners",
            "edgepress/cuda",
            "edgepress/environments.py",
            "edgepress/machine.py",
            "edgepress/target.py",
            "edgepress/local_gpu.py",
            "edgepress/tensorrt_flavour.py",
            "edgepress/engine_card.py",
        ),
        "A package is not installed, or its build or this machine does not give it the device. `edgepress doctor` says "
        "what is missing and how to install it. Nothing falls back to the CPU silently.",
    ),
    Group(
        "train and features",
        ("train",),
        "Wrong data or settings for a training. An interrupted training is kept: the same command goes on where it was.",
    ),
    Group(
        "export",
        ("export", "edgepress/parity/logit_proof.py"),
        "A model that a format cannot express, or a written file that does not give Keras' logits (exit code 1): it is "
        "not delivered. `--format` leaves a format out.",
    ),
    Group(
        "optimize",
        ("optimize",),
        "A recipe that does not suit the model or the target, calibration that does not belong to it, or a produced file "
        "that is not what its name promises (exit code 1). What was made before stays.",
    ),
    Group(
        "parity",
        ("edgepress/parity",),
        "The golden set or a report is missing, was changed, or is of another version. A version that is out of its budget "
        "is no error message: its row says so, the layer is named, and the exit code is 1. [Parity](../parity.md) says more.",
    ),
    Group(
        "benchmark, report and compare",
        ("benchmark",),
        "Wrong requests end with exit code 2. A row that fails (its process crashed, hung, or was killed) is in the "
        "report with its reason, the others go on, and the exit code is 1. Two runs that must not be compared: 3.",
    ),
    Group(
        "inspect",
        ("edgepress/inspection",),
        "The file is missing, damaged, or of a kind that does not tell what it consists of.",
    ),
    Group(
        "doctor",
        ("edgepress/doctor",),
        "What is wrong here is told as a finding with its remedy, and the exit code is 1 if something that is installed "
        "does not work.",
    ),
    Group(
        "bundle",
        ("deploy",),
        "Nothing to choose by, nothing for the target, something in the bundle's place that edgepress did not write, or "
        "a bundle that does not verify itself (exit code 1): it is not delivered.",
    ),
    Group(
        "Archives and signatures of bundles",
        ("deploy/integrity",),
        "An archive that holds what no bundle has, that is damaged, or whose files or signature are not what they should "
        "be (exit code 1): nothing of it is left on the disk. Or a key that cannot be used.",
    ),
    Group(
        "gpu-check",
        ("edgepress/cli/gpu_check",),
        "A variant that ran and is outside of its tolerance, or that cannot be built, has its findings in gpu-check.json, and "
        "the exit code is 1. Without a GPU each says why it did not run, and the exit code is 0. [On a GPU](../gpu.md) says more.",
    ),
    Group(
        "On the device: verify.py and infer.py",
        ("deploy/runtime",),
        "The scripts of a bundle. `verify.py`: 0 VALID, 1 INVALID, 2 could not run here. `infer.py`: 2 for wrong use or "
        "input. Unpack the bundle again if a file is damaged; `pip install -r requirements.txt` brings what is missing.",
    ),
)


def group_of(file: str) -> Group:
    """The group of a source file: that of the longest of all places that hold it.

    Raises:
        LookupError: No group has it.
    """
    fitting = [
        (len(place), group)
        for group in GROUPS
        for place in group.places
        if file == place or file.startswith(f"{place}/")
    ]
    if not fitting:
        raise LookupError(f"{file} is in no group of errors")
    return max(fitting, key=lambda pair: pair[0])[1]
