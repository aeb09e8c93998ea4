"""Passwords and tokens of addresses are not in what is shown, whatever surrounds them."""

from __future__ import annotations

import logging

import pytest

from vi_dist.errors import ModelError, SpecError
from vi_dist.redaction import RedactingFormatter, redacted
from vi_dist.sweep.spec import make_spec
from vi_dist.sweep.values import show

SECRET = "s3cr3t-w0rd"


@pytest.mark.parametrize(
    "address",
    [
        f"https://ada:{SECRET}@head:5000/x",
        f"https://{SECRET}@head/x",
        f"postgresql+psycopg2://ada:{SECRET}@head/mlflow?sslmode=require",
        f"postgresql://ada:{SECRET}/with/slashes@head/mlflow",
        f"mysql://ada:p@{SECRET}@head/mlflow",
        f"mysql://ada:12/{SECRET}@[::1]:3306/mlflow",
        f"redis://:{SECRET}@head",
        f"s3://AKIA123:{SECRET}@bucket/folder",
        f"s3://bucket/folder?access_key=a&secret_key={SECRET}",
        f"https://account.blob.core.windows.net/c/rows.csv?sv=2024&sig={SECRET}",
        f"https://bucket.s3.amazonaws.com/rows.csv?X-Amz-Security-Token={SECRET}&part=1",
        f"postgresql:///mlflow?host=head&password={SECRET}",
        f"http://head/rows.csv#access_token={SECRET}",
    ],
)
def test_no_address_shows_its_secret(address: str) -> None:
    for text in (address, f"cannot reach {address}: away", f"{{'uri': '{address}'}}", f'"{address}"'):
        assert SECRET not in redacted(text) and "***" in redacted(text)
        assert redacted(redacted(text)) == redacted(text)
    assert SECRET not in show(address)
    error = ModelError(f"at {address}", path=address, key="data", allowed=(address,))
    assert SECRET not in str(error) + repr(error) + str(error.args)


@pytest.mark.parametrize(
    "text",
    [
        "http://head:5000/a@b",
        "sqlite:////data/mlflow.db",
        "s3://bucket/folder?region=eu-north-1",
        "abfs://container@account.dfs.core.windows.net/rows.csv",
        "hdfs://ada@namenode:8020/rows",
        "no address: a@b, c:d@e, key=value",
    ],
)
def test_what_holds_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "text", ["x" * 10**6, "x://" * 10**5, "a@" * 10**5, "x://" + "?a" * 10**5, "?" * 10**6]
)
def test_a_long_text_is_looked_at_once(text: str) -> None:
    assert redacted(f"{text} http://ada:{SECRET}@head").endswith(" http://ada:***@head")


def test_a_message_that_is_cut_has_no_half_password() -> None:
    assert SECRET[:3] not in show("https://" + "a" * 40 + f":{SECRET * 5}@head")
    assert SECRET[:3] not in show(["x" * 30, f"https://ada:{SECRET * 5}@head"])


def test_a_traceback_in_a_log_has_none() -> None:
    try:
        raise OSError(f"https://ada:{SECRET}@head is away")
    except OSError as error:
        kind = (type(error), error, error.__traceback__)
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "failed", (), kind)
    text = RedactingFormatter().format(record)
    assert "ada:***@head" in text and SECRET not in text


def test_a_spec_is_stored_without_and_needs_it_again() -> None:
    uri = f"https://ada:{SECRET}@head:5000"
    spec = make_spec({"name": "a", "space": {"seed": [0]}, "tracking_uri": uri})
    assert spec.tracking_uri == uri
    assert SECRET not in spec.to_yaml() and "https://ada:***@head:5000" in spec.to_yaml()
    with pytest.raises(SpecError, match="give the address in full") as caught:
        make_spec({"name": "a", "space": {"seed": [0]}, "tracking_uri": redacted(uri)})
    assert caught.value.key == "tracking_uri"
