"""The calibration pictures, checked while they are read: what they must not be is found out and said."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Dataset
from edgepress.errors import InputError
from edgepress.interface import Interface
from edgepress.preprocessing import Preprocessing

_LOGGER = logging.getLogger(__name__)


class CalibrationPictures:
    """Pictures that can be read several times, one at a time.

    Attributes:
        names: Of the pictures, in order.
    """

    def __init__(self, drawn: Dataset, preprocessing: Preprocessing) -> None:
        self.names = tuple(picture.name for picture in drawn.pictures)
        self._drawn = drawn
        self._preprocessing = preprocessing
        self._warned = False

    def inputs(self, interface: Interface) -> Iterator[NDArray[Any]]:
        """An artifact's input for each picture, as many times as its batch is large.

        Raises:
            InputError: A picture cannot be decoded; or, behind the last one, all are of a single colour, or
                no value of any picture exceeds 1.
        """
        single_coloured: list[str] = []
        brightest = 0
        for picture in self._drawn.pictures:
            values = picture.read(self._preprocessing)
            brightest = max(brightest, int(values.max()))
            if _is_single_coloured(values):
                single_coloured.append(picture.name)
            yield interface.filled(interface.feed(values[np.newaxis], self._preprocessing))
        self._judge(single_coloured, brightest)

    def proof(self, *interfaces: Interface) -> list[NDArray[Any]]:
        """The first picture that has more than one colour, as each artifact's input."""
        read = (picture.read(self._preprocessing) for picture in self._drawn.pictures)
        values = next(v for v in read if not _is_single_coloured(v))
        return [i.filled(i.feed(values[np.newaxis], self._preprocessing)) for i in interfaces]

    def _judge(self, single_coloured: list[str], brightest: int) -> None:
        count = len(self.names)
        if len(single_coloured) == count:
            raise InputError(
                f"All {count} calibration pictures of {self._drawn.source} are of a single colour: wanted "
                "pictures like those that the model will see. Give others with --data."
            )
        if brightest <= 1:
            raise InputError(
                f"All values of the {count} calibration pictures of {self._drawn.source} are 0 or 1: wanted "
                "RGB from 0 to 255. Multiply them by 255 before they are rounded to uint8."
            )
        if single_coloured and not self._warned:
            self._warned = True
            _LOGGER.warning(
                "%d of %d calibration pictures are of a single colour, such as %r. They say nothing about "
                "the ranges of activations. Take them out of %s, or give more with --samples.",
                len(single_coloured),
                count,
                single_coloured[0],
                self._drawn.source,
            )


def _is_single_coloured(values: NDArray[np.uint8]) -> bool:
    return bool(np.all(values == values[:1, :1]))
