"""Whether every version still computes what Keras does: one set of pictures through the whole chain."""

from edgepress.parity.logit_proof import FP32_SNR_FLOOR_DB, Parity, floor_db, require_parity

__all__ = ["FP32_SNR_FLOOR_DB", "Parity", "floor_db", "require_parity"]
