"""The page for the person on the device."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.contents import Contents


def readme(contents: "Contents") -> str:
    """README.md of a bundle."""
    model, target, choice = contents.manifest.model, contents.target, contents.choice
    classes = f"{model.class_count} classes" + ("" if model.labels is None else " (labels.txt)")
    ranges = contents.runtime.requirements.items()
    accepted = " ".join(f'"{package}{wanted}"' for package, wanted in ranges if package not in target.brings)
    environment = "python3 -m venv --system-site-packages" if target.brings else "python3 -m venv"
    before = "".join(f"    {step}\n" for step in contents.payload.steps)
    return f"""# {model.name} for {target.name}

An image classifier with {classes}: `{choice.artifact.id}`, {choice.artifact.precision.value.upper()},
{choice.artifact.size_bytes / 1e6:.1f} MB. Chosen because: {choice.reason}.

    {environment} ../venv && . ../venv/bin/activate
    pip install -r requirements.txt
{before}    python verify.py                  # VALID (0), INVALID (1), or could not run here (2)
    python verify.py --latency 50     # and an inference takes at most 50 ms (the median)
    python infer.py picture.jpg       # the five likeliest classes
    python infer.py --benchmark       # how long an inference takes here
    sha256sum -c manifest.sha256      # the same check of the files, without Python

requirements.txt names the versions that this bundle was made and verified with. Where one of them cannot be
installed (another Python, say), others may do, and verify.py tells whether they do:

    pip install {accepted}

`manifest.json` says everything else: inputs and outputs, preprocessing, how it was measured and on what, why
this version and not another. `decoding.py` and `preprocessing.py` are the code that the model was measured
with; use it, or what gives the same bytes. A picture is turned upright by its EXIF orientation first.
"""
