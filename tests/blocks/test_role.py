import pytest

from blocks.lake import Lake, LocalLake
from blocks.role import ROOT, RoleError, local_path


class OtherLake(LocalLake):
    _block_type_name = "Other Lake"
    _block_type_slug = "other-lake"


@pytest.fixture
def two_kinds(prefect_api: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Lake, "kinds", {"local-lake": "blocks.lake", "other-lake": __name__})
    monkeypatch.setattr(Lake, "kind", {"local-lake": LocalLake, "other-lake": OtherLake}.__getitem__)
    for block in Lake.saved():
        type(block).delete(Lake.slot)


def test_the_default_kind_is_saved_on_first_use(two_kinds):
    assert Lake.saved() == []
    assert type(Lake.current()) is LocalLake
    assert [type(block) for block in Lake.saved()] == [LocalLake]


def test_what_is_saved_decides(two_kinds):
    OtherLake(folder="elsewhere").appoint()
    current = Lake.current()
    assert (type(current), current.folder) == (OtherLake, "elsewhere")


def test_appointing_one_kind_dismisses_the_other(two_kinds):
    LocalLake(folder="a").appoint()
    OtherLake(folder="b").appoint()
    LocalLake(folder="c").appoint()
    assert [block.folder for block in Lake.saved()] == ["c"]


def test_where_a_default_would_be_lost_a_missing_block_is_an_error(two_kinds, monkeypatch):
    monkeypatch.setenv("SENTIMENT_DEFAULTS", "off")
    with pytest.raises(RoleError, match="blocks.register aws"):
        Lake.current()
    assert Lake.saved() == []


def test_two_kinds_under_one_name_are_an_error_that_names_the_remedy(two_kinds):
    LocalLake().save(Lake.slot, overwrite=True)
    OtherLake().save(Lake.slot, overwrite=True)
    with pytest.raises(RoleError, match="prefect block delete local-lake/sentiment-lake"):
        Lake.current()


def test_relative_paths_start_at_the_checkout(tmp_path):
    assert local_path(".local/lake") == ROOT / ".local" / "lake"
    assert local_path(tmp_path) == tmp_path
