"""The policy file: every key has a default and a reason, and what is wrong with one is said."""

from pathlib import Path

import pytest

from blocks.role import ROOT
from tasks.capabilities import BEHAVIOURS
from tasks.policy import DEFAULT, Policy, PolicyError, read_policy
from tests.policies import policy, write_policy


def test_the_projects_own_policy_holds_every_key_with_a_comment() -> None:
    lines = (ROOT / DEFAULT).read_text().splitlines()
    for name in Policy.model_fields:
        [place] = [i for i, line in enumerate(lines) if line.startswith((f"{name} = ", f"[{name}]"))]
        assert lines[place - 1].startswith("# "), f"{name} has no comment"


def test_the_projects_own_policy_names_tests_and_capabilities_that_exist() -> None:
    own = read_policy(DEFAULT)
    assert own.ceilings.keys() <= {behaviour.name for behaviour in BEHAVIOURS}
    assert set(own.capabilities) == {behaviour.capability for behaviour in BEHAVIOURS}


def test_a_file_needs_only_what_differs(tmp_path: Path) -> None:
    path = write_policy(tmp_path / "policy.toml", minimum_gain=0.02, ceilings={"typos_inv": 0.5})
    assert read_policy(path) == policy(minimum_gain=0.02, ceilings={"typos_inv": 0.5})
    assert read_policy(write_policy(tmp_path / "empty.toml")) == read_policy(DEFAULT)


def test_a_relative_path_starts_at_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_policy("tasks/policy.toml") == policy()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("minimum_gian = 0.1", "minimum_gian: there is no such key"),
        ("minimum_rows = true", "minimum_rows: Input should be a valid integer"),
        ("minimum_rows = '100'", "minimum_rows: Input should be a valid integer"),
        ("minimum_rows = 1.5", "minimum_rows: Input should be a valid integer"),
        ("minimum_rows = 0", "minimum_rows: Input should be greater than 0"),
        ("minimum_gain = nan", "minimum_gain: "),
        ("minimum_gain = inf", "minimum_gain: "),
        ("minimum_gain = -0.1", "minimum_gain: Input should be greater than or equal to 0"),
        ("minimum_gain = 2026-01-01", "minimum_gain: Input should be a valid number"),
        ("significance = 0.5", "significance: Input should be less than 0.5"),
        ("ceilings = 0.4", "ceilings: "),
        ("[ceilings]\ntypos_inv = 2", "ceilings.typos_inv: Input should be less than or equal to 1"),
        ("capabilities = 'negation'", "capabilities: "),
    ],
)
def test_a_wrong_key_is_named_with_the_file_and_what_is_allowed(
    content: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    with pytest.raises(PolicyError) as error:
        read_policy(str(path))
    said = str(error.value)
    assert str(path) in said and told in said
    assert said.endswith(f"Its keys are {', '.join(Policy.model_fields)}.")


@pytest.mark.parametrize("content", [b"x = [", b"\xff = 1", b"minimum_rows 100"])
def test_a_file_that_is_not_toml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(content)
    with pytest.raises(PolicyError, match=r"wrong\.toml is not TOML"):
        read_policy(str(path))


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.toml cannot be read \(No such file.*--policy"):
        read_policy(str(tmp_path / "none.toml"))
    with pytest.raises(PolicyError, match=r"cannot be read \(Is a directory"):
        read_policy(str(tmp_path))
