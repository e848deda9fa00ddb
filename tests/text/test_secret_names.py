"""Secrets by their names and beside their names; and what only looks like some, of which nothing may be taken."""

from __future__ import annotations

import hashlib
import shlex
import sysconfig
from pathlib import Path

import pytest

from mlflow_repro.code.worktree.screen import holds_secret
from mlflow_repro.report.json_format import render_plain
from mlflow_repro.report.record_text import render_record
from mlflow_repro.text.filenames import is_secret_file
from mlflow_repro.text.redact import REDACTED, redact_argv, redact_text
from mlflow_repro.text.variables import is_recorded


def secret(kind: str) -> str:
    """What nothing gives away but where it stands."""
    return f"Zq{hashlib.sha512(kind.encode()).hexdigest()[:14]}"


_LINES = r"""
--pass @ | --pass=@ | --pat @ | --pat=@ | --auth @ | --auth=@ | --key @ | --key=@ | --wandb-key @
--wandb_key=@ | --comet-key @ | --neptune_key @ | --hf-key @ | --github-pat @ | --db-pass @ | --smtp_pass=@
-p@ | -p@! | --user alice:@ | --user=alice:@ | --userpwd alice:@ | --proxy-user alice:@ | -u alice:@
-U alice:@ | --login alice@example.org:@ | --cookie session=@ | --cookie @ | --cookies=sid=@
-H 'Cookie: sid=@' | --header 'Set-Cookie: a=1; sid=@' | --header 'X-Api-Key: @' | -H 'PRIVATE-TOKEN: @'
-H 'X-Auth-Token: @' | -H 'Authorization: Token @' | -H 'Authorization: @'
-H 'Proxy-Authorization: Digest @' | --password @ | --password=@ | --passwd @ | --passphrase @ | --passcode @
--pwd @ | --token @ | --hf_token=@ | --api-key @ | --apikey @ | --secret @ | --client-secret @
--access-key @ | --private-key @ | --license-key @ | --encryption_key @ | --creds @ | --cred=@
--connection-string @ | --conn-str @ | --auth-key @ | db.password=@ | +db.pass=@ | trainer.logger.api_key=@
--env API_KEY=@ | --set wandb.key=@ | --url https://a:@@host/x | --store postgresql://a:@@host/db
--data 'https://h/x?token=@' | --conf '{"password": "@"}' | --bearer @ | --credential @ | --account-key @
--refresh-token @ | --session-token @ | --admin_token=@ | --sas-token @
"""
ARGUMENTS = [line.strip() for row in _LINES.strip().splitlines() for line in row.split(" | ")]
FILES = (
    'DB_PASSWORD = "@"', "password = '@'", 'os.environ["API_KEY"] = "@"', 'config = {"password": "@"}',
    "login(token='@')", 'TOKEN: str = "@"', '"api_key": "@",', "password: @", "- secret: @", "export DB_PASSWORD=@",
    "DB_PASSWORD=@", 'client_secret="@"', "    passwd = '@'  # of the database", 'AUTH_TOKEN = b"@"', '"pwd" => "@"',
    '{"source": "DB_PASSWORD = \\"@\\""}', 'aws_creds = "@"', 'SMTP_CREDENTIALS="@"', "+DB_PASSWORD = '@'",
    '-    api_key="@",', 'session_cookie = "@"', 'connection_string = "@"', "db:\n  password: '@'\n",
)  # fmt: skip
VARIABLES = (
    "JAX_CRED", "OMP_CREDS", "MKL_CREDENTIALS", "TORCH_PASS", "KERAS_PASSWORD", "NCCL_AUTH", "JAX_TOKEN", "TRITON_KEY",
    "KMP_COOKIE", "XLA_SECRET", "TORCH_PWD",
)  # fmt: skip
NAMES = ("notes-ghp_@@.txt", "dump/hf_@@.json", "a/glpat-@@/x.csv", "sk-@@@.log")


def split(line: str) -> list[str]:
    """As a shell does."""
    return shlex.split(line)


@pytest.mark.parametrize("line", ARGUMENTS)
def test_arguments(line: str):
    """In what is recorded, in lines of a log, and in records that hold it all the same, as text and as JSON."""
    word = secret(line)
    argv = split(line.replace("@@host", f"{word}@host").replace("example.org:@", f"example.org:{word}")
                 if "@@host" in line or "example.org" in line else line.replace("@", word))  # fmt: skip
    clean = redact_argv(["python", "train.py", *argv, "--alpha", "3"])
    assert len(clean) == len(argv) + 4
    assert word not in " ".join(clean)
    assert REDACTED in " ".join(clean)
    assert clean[-2:] == ["--alpha", "3"]
    assert redact_argv(clean) == clean
    record = {"run_id": "a", "launch": {"argv": argv, "parent": ["bash", *argv]}}
    assert word not in render_record(record)
    assert word not in render_plain(record)
    if not line.startswith(("-p", "-u", "-U")):  # in a text these are anything
        assert word not in redact_text(f"+ python train.py {' '.join(argv)}")


@pytest.mark.parametrize("line", FILES)
def test_files(line: str):
    """A literal that stands beside such a name, in a program, a notebook, a configuration, a patch."""
    text = line.replace("@", secret(line))
    for content in (text, f"import os\n{text}\nprint(1)\n", "x = 1\n" * 20_000 + text):
        assert holds_secret(content.encode()), content[-100:]
    assert not holds_secret(line.replace("@", "your-password").encode())
    assert not holds_secret(line.replace("@", "").encode())


@pytest.mark.parametrize("name", VARIABLES)
def test_variables(name: str):
    assert is_recorded("OMP_NUM_THREADS")
    assert not is_recorded(name)
    assert not is_recorded(f"OMP_{name}")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files(name: str):
    assert is_secret_file(name.replace("@", secret(name)))


def test_how_many_and_of_how_many_kinds():
    """With those of `test_secrets.py`, which plants a hundred more in one real run."""
    assert len({*ARGUMENTS, *FILES, *VARIABLES, *NAMES}) >= 100


_WORDS = """
--epochs 10 --batch-size 64 --lr 1e-3 --learning-rate=0.01 --optimizer adam --momentum 0.9 --weight-decay 1e-4 --seed
42 --hidden-dim 256 --num-layers 4 --dropout 0.1 --max-tokens 100 --max_token 5 --pad-token <pad> --eos_token </s>
--tokenizer bert-base-uncased --token-type-ids 2 --tokens-per-second 30 --key id --key user_id --key=image_1
--sort-key name --primary-key order_id --group-key user.id --partition_key date --label-key label --index-key=col_12
--s3-key data/train_2024.csv --key path/to/file.csv --query-key query --key x0 --map-key a --pass 2 --n-pass 3
--num_pass 10 --passes 3 --bypass true --low-pass 0.5 --low-pass filter --high_pass=30 --forward-pass full --pass true
--pat *.csv --pat=img_*.png --pattern a.*b --patience 5 --patch-size 16 --path /data/x --auth none --auth basic
--auth=oauth2 --auth kerberos --author me --authors alice,bob --auth-type bearer-only --auth-method token-exchange
--user alice --user 1000:1000 --user-id 5 --username alice --users 10 --login false --proxy-user 0:0 --user=0:0 -p
8080 -p0.5 -p5 -patience -port -prefix -print -path -p 0.3 -P alpha=0.5 -u train.py -U 3 -b 32 -H 8 -k 5
--cookiecutter x --n-cookies 3 --credit 5 --credibility 0.5 --secretary x --n_secrets 3 --password-length 12
--passwordless --key-size 2048 --keys a,b --keyboard us --monkey 3 --hotkey 1 --keyword train --tokenize --detokenize
--url https://host/path --url http://localhost:5000 --data s3://bucket/key/x.csv --image registry/x:1.2 --ratio 3:4
--range 1:10 --time 12:30 --columns a:b --device cuda:0 --model openai/clip-vit-base --run
d1b4b10969174863a2bad1342f6746ce --name sk-learn --experiment risk-assessment --note desk-lamp --tag v1.2.3 --digest
sha256:abc --host 127.0.0.1 --config configs/base.yaml --output-dir out --workers 8 --resume last.ckpt --precision
bf16 --strategy ddp --nodes 2 --metric val/loss --mode min --threshold 0.5 --alpha 0.1 --beta 0.9 --gamma 0.99 --eps
1e-8 --warmup 100 --steps 1000 --gpus 0,1 --amp --no-shuffle --verbose --debug --quiet --fold 3 --folds 5 --test-size
0.2 --stratify --n-jobs -1 --criterion gini --max-depth 5 --min-samples 2 --kernel rbf --C 1.0 --solver lbfgs
--penalty l2 --tol 1e-4 --max-iter 200 --basic-block 2 --bearer-count 3 --signature default --sig-digits 3
--session-length 30 --csrf off --pin-memory true model.hidden=256 data.batch_size=64 +trainer.epochs=3 ~callbacks
seed=1 key=id sort.key=name model.key=encoder pass=1 optimizer.lr=1e-3 hydra.run.dir=out db.host=localhost db.user=me
tokenizer.max_tokens=5 lr_key=step reduce_pass=2
"""
ORDINARY = _WORDS.split()
ORDINARY_FILES = {
    "variable": 'password = os.environ["DB_PASSWORD"]',
    "argument": 'parser.add_argument("--password", help="the password")',
    "stand-in": 'password = "<password>"',
    "f-string": 'token = f"{prefix}-{name}"',
    "empty": 'api_key = ""',
    "none": "password = None",
    "name": 'TOKEN_VARIABLE = "HF_TOKEN"\ntoken = "HF_TOKEN"',
    "special": 'pad_token = "[PAD]"',
    "special-2": 'tokenizer.eos_token = "</s>"',
    "call": "password = getpass.getpass()",
    "type": "token: str\nsecret: bytes",
    "word": 'secret_name = "x"\ntoken = "word"',
    "yaml": "password: ${DB_PASSWORD}\ntoken: null\nkey: abc",
    "ini": "token=",
    "help": 'password = "the password of the user"',
    "default": 'password = "postgres"',
    "keyword": "connect(token=token)",
    "test": 'password = "changeme"',
    "typed": "cookie: Cookie = make()",
    "dict": '{"token": 5, "secret": true}',
    "vocabulary": "\n".join(f'{{"token": "word{number}", "id": {number}}}' for number in range(0, 200_000, 977)),
    "equal": 'if token == "x1y2z3a4b5": pass',
    "sentence": "The password: see the wiki1234. Token = what it is.",
}


def test_ordinary_arguments_stay():
    """A run whose arguments were withheld cannot be launched again."""
    assert len(ORDINARY) > 300
    assert redact_argv(ORDINARY) == ORDINARY
    assert [word for word in ORDINARY if redact_argv([word]) != [word]] == []
    assert redact_text(" ".join(ORDINARY)) == " ".join(ORDINARY)


@pytest.mark.parametrize("name", ORDINARY_FILES)
def test_ordinary_lines_stay(name: str):
    assert not holds_secret(ORDINARY_FILES[name].encode())


def test_ordinary_files_stay():
    """Hundreds of other people's modules, by name and by content."""
    site = Path(sysconfig.get_path("purelib"))
    files = [path for folder in ("sklearn", "keras/src", "numpy") for path in sorted((site / folder).rglob("*.py"))][
        ::4
    ]
    assert len(files) > 300
    names = [str(path.relative_to(site)) for path in files]
    assert [name for name in names if is_secret_file(name)] == []
    assert [name for name, path in zip(names, files, strict=True) if holds_secret(path.read_bytes())] == []
