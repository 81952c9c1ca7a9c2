"""Which plans of a manifest go into a bundle: one for each of the target's GPUs, built from one file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bundle_target import BundleTarget
from deploy.runtime.version_range import accepts
from deploy.runtime_choice import RuntimeChoice
from edgepress.artifact import Artifact, Format
from edgepress.engine_card import EngineCard, card_path, read_card, require_whole
from edgepress.errors import InputError
from edgepress.manifest import Manifest
from edgepress.target import HOST, target_names, target_of
from edgepress.tensorrt_flavour import facts_for

_LOGGER = logging.getLogger(__name__)
PLANS_FOLDER = "plans"
_ENDING = ".engine"


@dataclass(frozen=True)
class BundledPlan:
    """One plan.

    Attributes:
        artifact: In the manifest.
        path: Of its file; its card lies beside it.
        card: It.
    """

    artifact: Artifact
    path: Path
    card: EngineCard

    @property
    def file(self) -> str:
        """In the bundle; its card's name follows from it (`card_path`)."""
        capabilities = self.card.capabilities
        name = f"sm{capabilities[0].replace('.', '')}" if len(capabilities) == 1 else "all"
        return f"{PLANS_FOLDER}/{name}{_ENDING}"


@dataclass(frozen=True)
class Plans:
    """Those that go into a bundle.

    Attributes:
        plans: At least one.
        missing: Compute capabilities of the target that none of them is for.
    """

    plans: tuple[BundledPlan, ...]
    missing: tuple[str, ...]

    @property
    def version(self) -> str:
        """Of the TensorRT that built them all, to the last digit."""
        return self.plans[0].card.version

    @property
    def files(self) -> Mapping[str, Path]:
        """Plans and cards, by their paths in the bundle."""
        cards = {card_path(Path(plan.file)).as_posix(): card_path(plan.path) for plan in self.plans}
        return {**{plan.file: plan.path for plan in self.plans}, **cards}

    @property
    def entries(self) -> Sequence[Mapping[str, Any]]:
        """As the bundle's manifest lists them."""
        return [
            {
                "file": plan.file,
                "capabilities": list(plan.card.capabilities),
                "sha256": plan.card.plan_sha256,
            }
            for plan in self.plans
        ]

    def file_of(self, artifact: Artifact) -> str:
        """The path in the bundle of the plan that is an artifact."""
        return next(plan.file for plan in self.plans if plan.artifact.id == artifact.id)


def plans_for(manifest: Manifest, target: BundleTarget, choice: RuntimeChoice, artifact: Artifact) -> Plans:
    """The plan that was chosen, and those of the same recipe for the target's other GPUs.

    A plan that was built for many GPUs goes alone if it was chosen. Else it serves those that have no plan of
    their own.

    Args:
        manifest: Of the artifacts.
        target: Has the compute capabilities.
        choice: Of the runtime.
        artifact: One of the plans.

    Raises:
        InputError: It is for none of the target's GPUs, a plan or card is missing, changed, of an older
            source or of a TensorRT that the target does not take, or two plans are of different versions.
    """
    own = _opened(manifest, artifact)
    if set(own.card.capabilities).isdisjoint(target.capabilities):
        raise InputError(
            f"{artifact.id} is for compute capability {', '.join(own.card.capabilities)}, and {target.name} "
            f"has {', '.join(target.capabilities)}. {_remedy(manifest, target.capabilities)}"
        )
    is_for_one = len(own.card.capabilities) == 1
    found = _family(manifest, own, target.capabilities) if is_for_one else [own]
    _require_alike(manifest, found, choice)
    covered = {each for plan in found for each in plan.card.capabilities}
    missing = tuple(each for each in target.capabilities if each not in covered)
    if missing:
        _LOGGER.warning(
            "%s: no plan for compute capability %s. %s",
            target.name,
            ", ".join(missing),
            _remedy(manifest, missing),
        )
    return Plans(tuple(found), missing)


def _family(manifest: Manifest, own: BundledPlan, capabilities: Sequence[str]) -> list[BundledPlan]:
    """The plans of one recipe and parent: for one GPU each, in the target's order, then one for the rest."""
    kind = (Format.ENGINE, own.artifact.recipe, own.artifact.parent)
    others = [
        other
        for other in manifest.artifacts
        if (other.format, other.recipe, other.parent) == kind and other.id != own.artifact.id
    ]
    family = [own, *(_opened(manifest, other) for other in others)]
    single = {plan.card.capabilities[0]: plan for plan in family if len(plan.card.capabilities) == 1}
    found = [single[each] for each in capabilities if each in single]
    left = {each for each in capabilities if each not in single}
    for_many = (plan for plan in family if len(plan.card.capabilities) > 1)
    rest = next((plan for plan in for_many if not left.isdisjoint(plan.card.capabilities)), None)
    return found if rest is None else [*found, rest]


def _opened(manifest: Manifest, artifact: Artifact) -> BundledPlan:
    """A plan that is what the manifest and its card say."""
    path = manifest.verify(artifact)
    card = read_card(path)
    require_whole(card, path)
    return BundledPlan(artifact, path, card)


def _require_alike(manifest: Manifest, plans: Sequence[BundledPlan], choice: RuntimeChoice) -> None:
    """Refuse plans of an older source, of another TensorRT than the target's, or of two."""
    again = f"Build them anew: edgepress optimize {manifest.folder}"
    source = manifest.get(str(plans[0].artifact.parent))
    package = facts_for(choice.runtime).distribution
    wanted = choice.requirements.get(package, "")
    for plan in plans:
        if plan.card.source_sha256 != source.sha256:
            raise InputError(f"{plan.artifact.id} was built from another {source.id} than there is. {again}")
        if plan.card.version != plans[0].card.version:
            raise InputError(
                f"{plan.artifact.id} was built with {plan.card.title}, and {plans[0].artifact.id} with "
                f"{plans[0].card.title}: one bundle takes one. {again}"
            )
        if not accepts(wanted, plan.card.version):
            raise InputError(
                f"{plan.artifact.id} was built with {plan.card.title}, and {package}{wanted} is wanted. "
                f"{again}"
            )


def _remedy(manifest: Manifest, capabilities: Sequence[str]) -> str:
    """The command that makes plans for as many of these as can be."""
    made = {
        name: {each for one in target_of(name).capabilities for each in one.capabilities} & set(capabilities)
        for name in target_names()
        if name != HOST
    }
    best = max(made, key=lambda name: len(made[name]))
    if not made[best]:
        return "No --target of edgepress optimize makes one."
    return f"Make one: edgepress optimize {manifest.folder} --target {best}"
