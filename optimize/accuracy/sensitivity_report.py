"""sensitivity.json and sensitivity.md: the layers of a model, the most sensitive first."""

from dataclasses import dataclass
from pathlib import Path

from edgepress.files import write_bytes, write_json
from edgepress.record import read_record, to_json
from optimize.accuracy.cost import noise_of

SENSITIVITY = "sensitivity.json"
SENSITIVITY_PAGE = "sensitivity.md"
SENSITIVITY_PLOT = "sensitivity.svg"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class LayerSensitivity:
    """What the model loses if one layer alone is quantized.

    Attributes:
        name: As the graph has it.
        kind: Its operator.
        parameters: Number of its weights, without bias.
        macs: Multiply-accumulates for one picture.
        weight_bytes: Of weights and bias in FP32.
        logit_snr_db: Of the logits against FP32's, in dB; None where they are identical.
        agreement: Share in [0, 1] of pictures with the same top class as FP32.
        drop_points: Loss of top-1 in percentage points; without labels the share of changed decisions.
    """

    name: str
    kind: str
    parameters: int
    macs: int
    weight_bytes: int
    logit_snr_db: float | None
    agreement: float
    drop_points: float

    @property
    def noise(self) -> float:
        """Noise power over signal power in the logits; 0 where they are identical."""
        return noise_of(self.logit_snr_db)


@dataclass(frozen=True)
class SensitivityReport:
    """What sensitivity.json says.

    Attributes:
        schema_version: Of this file.
        key: Hash of everything that the layers depend on.
        model: Name of the model.
        artifact: Id of the FP32 artifact.
        scheme: How weights and activations were rounded, in words.
        data: DATA of the pictures.
        images: Number of pictures; none of them calibrated.
        labelled: Whether they have labels.
        calibration: Fingerprint of the calibration table.
        layers: The most sensitive first.
    """

    schema_version: int
    key: str
    model: str
    artifact: str
    scheme: str
    data: str
    images: int
    labelled: bool
    calibration: str
    layers: tuple[LayerSensitivity, ...]

    def save(self, folder: Path) -> None:
        """Write sensitivity.json and sensitivity.md, each atomically."""
        write_json(folder / SENSITIVITY, to_json(self))
        write_bytes(folder / SENSITIVITY_PAGE, ("\n".join(sensitivity_page(self)) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "SensitivityReport":
        """Read `folder`/sensitivity.json.

        Raises:
            InputError: There is none, or it is of another schema version or damaged.
        """
        remedy = f"Make it anew: edgepress sensitivity {folder}"
        return read_record(folder / SENSITIVITY, cls, "sensitivity report", SCHEMA_VERSION, remedy)


def ranked(layers: tuple[LayerSensitivity, ...]) -> tuple[LayerSensitivity, ...]:
    """Layers by logit SNR and then agreement, the most sensitive first."""
    return tuple(sorted(layers, key=lambda layer: (-layer.noise, layer.agreement)))


def sensitivity_rows(report: SensitivityReport) -> list[tuple[str, ...]]:
    """A head, and a row of words for each layer."""
    drop = "top-1 drop" if report.labelled else "changed"
    head = ("layer", "kind", "logit SNR", "agreement", drop, "parameters", "MACs", "bytes")
    parameters = sum(layer.parameters for layer in report.layers) or 1
    macs = sum(layer.macs for layer in report.layers) or 1
    return [head, *(_row(layer, parameters, macs) for layer in report.layers)]


def _row(layer: LayerSensitivity, parameters: int, macs: int) -> tuple[str, ...]:
    return (
        layer.name,
        layer.kind,
        "identical" if layer.logit_snr_db is None else f"{layer.logit_snr_db:.1f} dB",
        f"{layer.agreement:.1%}",
        f"{layer.drop_points:+.1f}",
        f"{layer.parameters / 1e6:.2f} M ({layer.parameters / parameters:.1%})",
        f"{layer.macs / 1e6:.1f} M ({layer.macs / macs:.1%})",
        f"{layer.weight_bytes / 1e6:.2f} MB",
    )


def sensitivity_page(report: SensitivityReport) -> list[str]:
    """sensitivity.md, line by line."""
    head, *rows = sensitivity_rows(report)
    told = (
        "Top-1 drop is in points."
        if report.labelled
        else "The pictures have no labels: “changed” is the share of changed decisions in percent."
    )
    return [
        f"# Sensitivity of {report.model}",
        "",
        f"Each layer of {report.artifact} quantized alone, all others in FP32: {report.scheme}. "
        f"{report.images} pictures of {report.data}, none of which calibrated. {told} The most sensitive "
        "layer is first. Noise adds up: a low SNR of one layer is paid by every mix that holds it.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
