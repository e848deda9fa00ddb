"""Secrets are taken out, and what is none stays."""

from __future__ import annotations

import time

import pytest
import strategies  # noqa: F401 - its settings for hypothesis
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.text.redact import REDACTED, redact_argv, redact_named, redact_text, redact_value
from mlflow_repro.text.secret_names import is_secret_name

CANARY = "hunter2hunter2"  # known by its name only

# Made up, of the published shape; split so that no scanner of this repository takes them for real.
TOKENS = {
    "github": "ghp_" + "a1B2" * 9,
    "github-fine": "github_pat_" + "a1B2" * 10,
    "gitlab": "glpat-" + "a1B2" * 5,
    "openai": "sk-proj-" + "a1B2" * 8,
    "openai-old": "sk-" + "a1B2" * 10,
    "huggingface": "hf_" + "a1B2" * 8,
    "slack": "xoxb-" + "1234-" * 4,
    "aws": "AKIA" + "A1B2" * 4,
    "google": "AIza" + "a1B2_" * 7,
    "google-oauth": "ya29." + "a1B2" * 8,
    "databricks": "dapi" + "a1b2" * 8,
    "npm": "npm_" + "a1B2" * 9,
    "pypi": "pypi-" + "a1B2" * 9,
    "stripe": "sk_live_" + "a1B2" * 6,
    "sendgrid": "SG." + "a1B2" * 5 + "." + "a1B2" * 8,
    "jwt": "eyJ" + "a1B2" * 4 + ".eyJ" + "a1B2" * 4 + "." + "a1B2" * 4,
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\na1B2\n-----END RSA PRIVATE KEY-----",
    "cut-private-key": "-----BEGIN PRIVATE KEY-----\na1B2",
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_token_is_known_by_its_shape(token: str):
    """Wherever it stands and whatever it is called; what surrounds it stays."""
    for clean in (redact_value(f"before {token} after"), redact_text(f"x={token};")):
        assert token not in clean
        assert REDACTED in clean
    assert redact_argv(["--note", token]) == ["--note", REDACTED]
    assert redact_value(f"before {token}").startswith("before ")


@pytest.mark.parametrize(
    "name",
    ["api_key", "api-key", "--api-key", "APIKEY", "openaiApiKey", "AWS_SECRET_ACCESS_KEY", "password", "db.password",
     "passwd", "token", "hf_token", "access_token", "client_secret", "private-key", "credentials", "connection_string",
     "AccountKey", "pwd"],
)  # fmt: skip
def test_name_that_announces_a_secret(name: str):
    assert is_secret_name(name)
    assert redact_named(name, CANARY) == REDACTED


@pytest.mark.parametrize(
    "name",
    ["tokenizer", "max_tokens", "max_token", "pad_token", "num-token", "keyboard", "monkey", "key", "passes", "alpha",
     "secretary", "tokens_per_second", "n_tokens", "password_length", ""],
)  # fmt: skip
def test_name_that_announces_none(name: str):
    assert not is_secret_name(name)
    assert redact_named(name, "3") == "3"


def test_empty_value_of_a_secret_stays_empty():
    """It says that none was given, and hides nothing."""
    assert redact_named("password", "") == ""


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"https://user:{CANARY}@host/r.git", f"https://{REDACTED}@host/r.git"),
        (f"https://{CANARY}@host/r.git", f"https://{REDACTED}@host/r.git"),
        (f"https://user:p@{CANARY}@host/r.git", f"https://{REDACTED}@host/r.git"),
        (f"postgresql+psycopg2://u:{CANARY}@db:5432/x", f"postgresql+psycopg2://{REDACTED}@db:5432/x"),
        (f"https://host/r?private_token={CANARY}&a=1", f"https://host/r?private_token={REDACTED}&a=1"),
        (f"https://b.blob/x?se=1&sig={CANARY}", f"https://b.blob/x?se=1&sig={REDACTED}"),
        (f"fatal: unable to access 'https://u:{CANARY}@h/r/'", f"fatal: unable to access 'https://{REDACTED}@h/r/'"),
    ],
)  # fmt: skip
def test_credentials_inside_a_uri(text: str, clean: str):
    """URI-12, TRK-05, CAP-17."""
    assert redact_value(text) == clean
    assert redact_text(text) == clean


@pytest.mark.parametrize(
    "text",
    ["https://host/r.git", "git@host:r.git", "(give it with -P api_key=VALUE)", "mail me@host", "https://host/a@b",
     "a=b", "max_tokens=100 lr=0.1",
     "--tokenizer bert --alpha 3", "sk-learn", "x" * 64, "d1b4b10969174863a2bad1342f6746ce", "loss: 0.5\nacc: 1"],
)  # fmt: skip
def test_text_without_secrets_stays(text: str):
    assert redact_text(text) == redact_value(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"python t.py --api-key {CANARY} --alpha 3", f"python t.py --api-key {REDACTED} --alpha 3"),
        (f"python t.py --api_key={CANARY}", f"python t.py --api_key={REDACTED}"),
        (f"python t.py --password '{CANARY} more'", f"python t.py --password '{REDACTED}'"),
        (f'export HF_TOKEN="{CANARY}"', f'export HF_TOKEN="{REDACTED}"'),
        (f"password={CANARY} user=me", f"password={REDACTED} user=me"),
        (f"curl -H 'Authorization: Bearer {CANARY}more'", f"curl -H 'Authorization: {REDACTED}'"),
        (f'{{"password": "{CANARY}", "a": 1}}', f'{{"password": "{REDACTED}", "a": 1}}'),
        (f'{{"password": "x\\"{CANARY}"}}', f'{{"password": "{REDACTED}"}}'),
        (f"token: {CANARY}", f"token: {REDACTED}"),
    ],
)
def test_secrets_in_a_line_of_a_log(text: str, clean: str):
    """LCH-18: MLflow prints the whole command line, programs print their settings."""
    assert redact_text(text) == clean


@pytest.mark.parametrize(
    ("argv", "clean"),
    [
        (["--api-key", CANARY, "--alpha", "3"], ["--api-key", REDACTED, "--alpha", "3"]),
        ([f"--api-key={CANARY}"], [f"--api-key={REDACTED}"]),
        (["--password", f"-{CANARY}"], ["--password", REDACTED]),
        (["--token", "--alpha", "3"], ["--token", "--alpha", "3"]),
        ([f"password={CANARY}"], [f"password={REDACTED}"]),
        (["-P", f"password={CANARY}"], ["-P", f"password={REDACTED}"]),
        (["--url", f"https://u:{CANARY}@h"], ["--url", f"https://{REDACTED}@h"]),
        (["--max-tokens", "100"], ["--max-tokens", "100"]),
        (["--token"], ["--token"]),
    ],
)
def test_secrets_in_an_argument_vector(argv: list[str], clean: list[str]):
    """CAP-34."""
    assert redact_argv(["python", "t.py", *argv]) == ["python", "t.py", *clean]


@given(st.lists(st.text(max_size=8) | st.sampled_from(["--token", "--api-key=x", "password=x", "-p"])))
def test_number_of_arguments_stays(argv: list[str]):
    assert len(redact_argv(argv)) == len(argv)


@given(st.text() | st.sampled_from(list(TOKENS.values())))
def test_redacted_text_is_not_redacted_again(text: str):
    """What was stored redacted is shown as it is, so that a reader can search for it."""
    for redact in (redact_value, redact_text):
        assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("unit", ["-", "a", "a-", "a.", "eyJ", "http://", "token=", "?a-", '"', "{x} "])
def test_time_grows_with_the_length_and_not_with_its_square(unit: str):
    """What a training prints is not ours to choose: a line of 100,000 dashes must not hold the tool up."""
    line = (unit * 100_000)[:100_000]
    start = time.process_time()
    assert redact_text(line)
    assert time.process_time() - start < 5
