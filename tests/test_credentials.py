"""What is written down holds no password."""

import pytest

from xlatrain.credentials import masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.root=https://me:word@host/a/b", "data.root=https://***@host/a/b"),
        ("https://me:w@rd@host:80/a@b", "https://***@host:80/a@b"),
        ("s3://token@bucket/x", "s3://***@bucket/x"),
        ("data.train='{https://h/a?sig=1,https://h/b?sig=2}'", "data.train='{https://h/a?***'"),
        ("gs://bucket/shards/{0..3}", "gs://bucket/shards/{0..3}"),
        ("what? me@home", "what? me@home"),
    ],
)
def test_credentials_in_urls_are_masked(text, expected):
    assert masked({"a": [text, 1]}) == {"a": [expected, 1]}
