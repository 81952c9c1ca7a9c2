"""The stage: pictures in, a `.keras` classifier that states its preprocessing and its classes out."""

import logging
import zipfile
from pathlib import Path

from edgepress.errors import InputError, ProofError
from edgepress.files import make_folder
from edgepress.lock import exclusive
from edgepress.models.training_record import TrainingRecord, read_record
from edgepress.progress import Progress, silent
from train.checkpoint import Unfinished, read_checkpoint
from train.curves import require_matplotlib
from train.delivery import deliver
from train.feature_store import FeatureStore
from train.history import History
from train.network import build_networks
from train.phases import feature_file, fit_phases
from train.plan import Plan, TrainRequest, plan_of

logger = logging.getLogger(__name__)


def train_model(request: TrainRequest, progress: Progress = silent) -> TrainingRecord:
    """Train a classifier by transfer learning, and write it with its history and learning curves.

    Every view of a picture goes through the frozen convolutions once; its feature vector is kept in the
    cache, also for the next training. The head learns from these; only then are the last blocks trained, if
    any. The state after each epoch is kept beside the file until the training is done: the same request goes
    on where it was interrupted. If the file is there and was trained from the same things, nothing is done,
    and no framework is imported.

    Args:
        request: What to do.
        progress: Told "pictures" per picture, "features" per view, "train" and "fine-tune" per step.

    Returns:
        The record that is also in the file.

    Raises:
        InputError: Bad data or settings, or weights that do not fit. An existing file stays as it is.
        ProofError: The written file does not give the trained network's answers. Likewise.
    """
    plan = plan_of(request)
    make_folder(request.out.parent)
    with exclusive(request.out.parent):
        known = _known(request.out)
        if known is not None and known.key == plan.key:
            logger.info("%s is up to date", request.out)
            return known
        return _train(plan, progress)


def _known(path: Path) -> TrainingRecord | None:
    """The record of a file that is already there; None if there is none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return read_record(archive, path)
    except (OSError, zipfile.BadZipFile, InputError):
        return None


def _train(plan: Plan, progress: Progress) -> TrainingRecord:
    request = plan.request
    require_matplotlib()
    _require_decodable(plan, progress)
    networks = build_networks(
        plan.architecture, plan.weights, request.head, len(plan.classes), request.seed, request.cache
    )
    path = request.out.with_name(f".{request.out.stem}.unfinished.npz")
    unfinished = Unfinished(path, plan.key, read_checkpoint(path, plan.key))
    width = int(networks.head.inputs[0].shape[1])
    with FeatureStore(feature_file(plan, networks.convolutions), width) as store:
        history = fit_phases(plan, networks, store, unfinished, progress)
        record = _record(plan, history)
        try:
            deliver(plan, networks, store, record, history)
        except ProofError:
            unfinished.remove()  # going on from there would come to the same end
            raise
    unfinished.remove()
    return record


def _require_decodable(plan: Plan, progress: Progress) -> None:
    """Read every picture once: a broken one shall not end the training in the middle."""
    pictures = (*plan.parts.training.pictures, *plan.parts.validation.pictures)
    progress("pictures", 0, len(pictures))
    for done, picture in enumerate(pictures, start=1):
        picture.read(plan.preprocessing)
        progress("pictures", done, len(pictures))


def _record(plan: Plan, history: History) -> TrainingRecord:
    best = history.epochs[history.best - 1]
    return TrainingRecord(
        plan.key,
        plan.preprocessing,
        plan.classes,
        tuple(dict.fromkeys(picture.sha256 for picture in plan.parts.training.pictures)),
        plan.settings,
        history.best,
        len(plan.parts.validation),
        best.validation_accuracy,
    )
