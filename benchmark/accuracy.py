"""Logits against labels and against the reference's logits."""

import math

import numpy as np
from numpy.typing import NDArray

from benchmark.quantities import Accuracy
from edgepress.evaluation_data import Labels
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
