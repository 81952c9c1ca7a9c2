"""Ranges of versions as a device reads them, against the library that defines them."""

import pytest
from packaging.specifiers import SpecifierSet

from deploy.runtime.version_range import accepts

VERSIONS = ("1.0", "1.25.9", "1.26", "1.26.0", "2.4.1", "3", "3.0.0", "10.3.0.26", "10.13.2", "11.1.0")


@pytest.mark.parametrize(
    "wanted",
    [">=1.26,<3", "", "==10.3.*", "!=10.3.*", ">1.26", "<=3", "==3", "!=3.0", ">=10.3,<11", "==1.26"],
)
def test_ranges_mean_what_pip_takes_them_for(wanted: str) -> None:
    assert [accepts(wanted, one) for one in VERSIONS] == [
        SpecifierSet(wanted).contains(one) for one in VERSIONS
    ]


@pytest.mark.parametrize(
    ("wanted", "version"), [("~=1.0", "1.0"), (">=1", "unknown"), ("1.0", "1.0"), (">=", "1")]
)
def test_what_is_no_range_or_version_is_refused(wanted: str, version: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        accepts(wanted, version)


def test_a_local_part_does_not_matter() -> None:
    assert accepts("==2.1.0", "2.1.0+cpu")
