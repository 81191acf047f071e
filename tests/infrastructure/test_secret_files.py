"""Secrets in files: `SECRET_KEY_FILE` and its like."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from infrastructure.environment import load_settings, origin
from infrastructure.settings import FILE_NAMES, Settings, SettingsError

HOUSE = Path(__file__).parents[2]
SECRET = "postgresql://ann:hunter2@db.example/forum"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_secret_can_be_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "secret"
    secrets = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert {name.lower() for name in FILE_NAMES.values()} == secrets
    assert all(f"`{name}`" in (HOUSE / "docs" / "settings.md").read_text() for name in FILE_NAMES)
    for file_name, name in FILE_NAMES.items():
        monkeypatch.setenv(file_name, str(file))
        for text in (SECRET, SECRET + "\n", SECRET + "\r\n", "\ufeff" + SECRET):
            file.write_text(text, encoding="utf-8", newline="")
            assert getattr(load_settings(), name.lower()) == SecretStr(SECRET)
        assert origin(name) == "environment"
        assert not [warning for warning in load_settings().warnings() if "_FILE" in warning]


def test_a_secret_is_taken_as_it_stands_in_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "secret").write_text(" a b # c $d 'e' \n")
    monkeypatch.setenv("DB_PASSWORD_FILE", "secret")
    assert load_settings().db_password == SecretStr(" a b # c $d 'e' ")


def test_a_file_has_the_rank_of_the_source_that_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("near", "far"):
        (folder / name).write_text(name)
    (folder / ".env").write_text("SECRET_KEY_FILE=far\nDB_PASSWORD=far\n")
    assert (load_settings().secret_key, origin("secret_key")) == (SecretStr("far"), ".env")
    (folder / ".env.development").write_text("SECRET_KEY=nearer\nDB_PASSWORD_FILE=near\n")
    settings = load_settings()
    assert (settings.secret_key, settings.db_password) == (SecretStr("nearer"), SecretStr("near"))
    monkeypatch.setenv("SECRET_KEY_FILE", "near")
    monkeypatch.setenv("DB_PASSWORD_FILE", "")
    settings = load_settings()
    assert (settings.secret_key, settings.db_password) == (SecretStr("near"), SecretStr("near"))


def test_files_are_found_beside_the_env_files(folder: Path) -> None:
    (folder / "etc").mkdir()
    (folder / "etc" / ".env").write_text("SECRET_KEY_FILE=key\n")
    (folder / "etc" / "key").write_text("the key\n")
    assert load_settings(folder / "etc").secret_key == SecretStr("the key")


@pytest.mark.parametrize("path", ["missing", ".", "empty", "binary", "hunter2", "a\0b", "x" * 5_000])
def test_unreadable_secret_is_refused_without_its_path(folder: Path, path: str) -> None:
    (folder / "empty").write_text("\n")
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    (folder / ".env").write_text(f"DB_PASSWORD_FILE={path}\n")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    words = str(refused.value)
    assert words.startswith("DB_PASSWORD_FILE: the file ")
    assert "hunter2" not in words
    assert str(folder) not in words


def test_a_secret_given_twice_by_one_source_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "key").write_text("the key")
    monkeypatch.setenv("SECRET_KEY_FILE", "key")
    monkeypatch.setenv("SECRET_KEY", "another")
    with pytest.raises(SettingsError, match=r"^SECRET_KEY and SECRET_KEY_FILE are both set: remove one$"):
        load_settings()
