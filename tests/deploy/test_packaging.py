"""An installed edgepress has every file that a bundle is copied from."""

from fnmatch import fnmatch
from pathlib import Path

import tomllib

import edgepress
from deploy.contents import sources

ROOT = Path(edgepress.__file__).parents[1]


def test_package_list_and_globs_cover_what_a_bundle_is_made_of() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    find, globs = setup["packages"]["find"], setup["package-data"]["*"]
    assert find["namespaces"] is False
    files = sources()
    assert {path.name for path in files} >= {"infer.py", "verify.py", "preprocessing.py", "interface.py"}
    for path in files:
        folders = path.parent.relative_to(ROOT).parts
        is_package = all(
            (ROOT.joinpath(*folders[: i + 1]) / "__init__.py").is_file() for i in range(len(folders))
        )
        is_named = any(fnmatch(".".join(folders), pattern) for pattern in find["include"])
        assert is_package, f"{path.relative_to(ROOT)} lies in no package, so no wheel has it"
        assert is_named
        assert path.suffix == ".py" or any(fnmatch(path.name, glob) for glob in globs)


def test_profiles_of_targets_are_packed() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    profiles = sorted((ROOT / "deploy" / "targets").iterdir())
    assert len(profiles) == 7
    for path in profiles:
        place = path.relative_to(ROOT / "deploy").as_posix()
        assert any(fnmatch(place, glob) for glob in setup["package-data"]["deploy"]), place
