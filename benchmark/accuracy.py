"""Logits against labels and against the reference's logits."""

import math

import numpy as np
from numpy.typing import NDArray

from benchmark.quantities import Accuracy
from edgepress.dataset import Dataset
from edgepress.manifest import ModelCard
from edgepress.metrics import (
    agreement,
    logit_snr_db,
    mcnemar_p,
    mean_kl_nats,
    resolvable_share,
    top_k_accuracy,
    wilson_ci95,
)

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def labels_for(model: ModelCard, pictures: Dataset) -> tuple[Labels | None, str | None]:
    """(N,) class indices in the order of the model's logits, or None and the reason.

    Classes are matched by name where model and data both name them, so a folder with some of the model's
    classes, in any order, counts. Without names on either side the numbers must agree.
    """
    labels, classes = pictures.labels(), pictures.classes
    if labels is None:
        return None, "no top-1: the pictures have no labels"
    if classes is not None and model.labels is not None:
        places = {name: i for i, name in enumerate(model.labels)}
        if all(name in places for name in classes):
            return np.asarray([places[name] for name in classes], np.int64)[labels], None
        stranger = next(name for name in classes if name not in places)
        return None, f"no top-1: the data's class {stranger!r} is none of the model's {len(places)} classes"
    count = len(classes) if classes is not None else int(labels.max()) + 1
    if count > model.class_count or (classes is not None and count != model.class_count):
        return None, f"no top-1: the data has {count} classes, the model {model.class_count}"
    return labels, None


def accuracy_of(logits: Logits, reference: Logits, labels: Labels | None, note: str | None) -> Accuracy:
    """Compare (N, classes) logits with the reference's, and with labels where there are any."""
    identical = bool(np.array_equal(logits, reference))
    snr_db = logit_snr_db(reference, logits)
    finite = bool(np.isfinite(logits).all())
    comparable = finite and bool(np.isfinite(reference).all())
    top1 = top5 = p = resolvable = None
    if labels is not None:
        top1, top5 = top_k_accuracy(logits, labels, 1), top_k_accuracy(logits, labels, 5)
        right, reference_right = logits.argmax(axis=1) == labels, reference.argmax(axis=1) == labels
        p = mcnemar_p(reference_right, right)
        resolvable = resolvable_share(len(logits), int(np.sum(right != reference_right)))
    return Accuracy(
        images=len(logits),
        top1=top1,
        top5=top5,
        top1_ci95=None if top1 is None else wilson_ci95(top1, len(logits)),
        top5_ci95=None if top5 is None else wilson_ci95(top5, len(logits)),
        agreement=agreement(reference, logits),
        logit_snr_db=snr_db if math.isfinite(snr_db) else None,
        logits_identical=identical,
        kl_nats=mean_kl_nats(reference, logits) if comparable else None,
        mcnemar_p=p,
        resolvable=resolvable,
        note=note if finite else "some logits are not finite",
    )
