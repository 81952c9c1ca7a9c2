"""What the scripts of this bundle share.

SPDX-License-Identifier: Apache-2.0
"""


class CouldNotRun(Exception):  # noqa: N818  # the name of a verdict
    """The bundle may be sound, but this machine cannot tell."""


class Invalid(Exception):  # noqa: N818  # the name of a verdict
    """The bundle is not what it was."""
