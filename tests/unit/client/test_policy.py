# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Policy files: read strictly, or not at all; and the schema that is published says the same."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_client.policy import PolicyError, Problem, UserPolicy, load_policy, parse_policy, policy_of, policy_path
from nfsverity_client.policy_form import json_schema
from nfsverity_client.toml_lines import key_lines, line_of
from nfsverity_client.trust_store import CONFIG_VARIABLE, STATE_VARIABLE
from nfsverity_proto.policy import DEFAULT, Action, Gate, Logged, Requirements, SignerName, WithoutRecord

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = re.findall(r"```toml\n(.*?)```", (DOCS / "policy.md").read_text(), re.DOTALL)
PATH = Path("policy.toml")
VOLUME = "0123456789abcdef0123456789abcdef"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())
FULL = f"""\
format = 1

[audit]
log = "log/audit.jsonl"
decisions = "on"
sync = true

[[rule]]  # all that there is
name = "programs"
gate = ["exec", "mmap"]
path = [
  "bin/**",  # ]
  "**/*.so",
]
volume = "{VOLUME}"
place = ["nfsv://host:7447/pub/", "file:///srv/data/"]
action = "enforce"
unsigned = "audit"
log = "required"

[rule.require]
volume = ["{VOLUME.upper()}"]
hash = "sha256"
scheme = ["ed25519", "ml-dsa-65"]
unit_size = {{ min = 4096, max = 65536 }}
signers = {{ any = ["CN=a,O=b"], all = "{"ab" * 32}", count = 2 }}
min_generation = 7
max_age = "30d"
executable = true

[[rule]]
name = "rest"
action = "disable"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(PolicyError) as error:
        parse_policy(text.encode(), PATH)
    return [str(problem) for problem in error.value.problems]


def test_everything_that_a_file_can_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    found = parse_policy(FULL.encode(), PATH)
    assert (found.log, found.sync, found.rules.logged) == (tmp_path / "log/audit.jsonl", True, Logged.ON)
    programs, rest = found.rules.rules
    assert (programs.name, programs.action, programs.line) == ("programs", Action.ENFORCE, 8)
    assert programs.gates == {Gate.EXEC, Gate.MMAP}
    assert [pattern.text for pattern in programs.paths] == ["bin/**", "**/*.so"]
    assert programs.volumes == {bytes.fromhex(VOLUME)}
    assert programs.places == ("nfsv://host:7447/pub", "file:///srv/data")
    assert (programs.unsigned, programs.logged) == (WithoutRecord.AUDIT, Logged.REQUIRED)
    assert programs.requirements == Requirements(
        volumes=frozenset({bytes.fromhex(VOLUME)}),
        hashes=frozenset({1}),
        schemes=frozenset({0x0807, 0x0905}),
        unit_log2_min=12,
        unit_log2_max=16,
        any_of=(SignerName("CN=a,O=b"),),
        all_of=(SignerName("ab" * 32),),
        signers=2,
        generation=7,
        max_age=30 * 86_400,
        executable=True,
    )
    assert (rest.action, rest.line, rest.gates, rest.paths) == (Action.DISABLE, 31, frozenset(Gate), ())


def test_little_is_enough() -> None:
    assert parse_policy(b"format = 1", PATH).rules.rules == ()
    assert parse_policy(b"format = 1\n[audit]\n", PATH).rules.logged is Logged.REQUIRED
    assert parse_policy(b"format = 1", PATH).rules.logged is Logged.OFF


RULE = 'format = 1\n[[rule]]\nname = "a"\naction = "enforce"\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ['"format" is missing']),
        ("format = 2", ["line 1: format: 2 is none of 1"]),
        ("format = true", ["line 1: format: True is none of 1"]),
        ("format = 1\nformat = 1", ["line 2: it is no TOML: Cannot overwrite a value"]),
        (RULE + "x = 1", ['line 5: rule.x: no key "x" is known here']),
        (RULE.replace("rule", "rules"), ['line 2: rules: no key "rules" is known here']),
        ("format = 1\nrule = 1", ["line 2: rule: 1 is not a list of tables"]),
        (RULE + "gate = []", ["line 5: rule.gate: the list is empty"]),
        (RULE + 'gate = ["open", "close"]', ['line 5: rule.gate: "close" is none of open, read, exec, mmap']),
        (RULE + 'gate = ["open", "open"]', ['line 5: rule.gate: "open" is there twice']),
        (RULE + "gate = true", ["line 5: rule.gate: True is none of"]),
        (RULE + 'path = "a//b"', ["line 5: rule.path: 'a//b' is no pattern of a path: it has an empty name"]),
        (RULE + 'volume = "12"', ['line 5: rule.volume: "12" is not a volume ID']),
        (RULE + 'place = "http://x/"', ['line 5: rule.place: "http://x/" is not a URL']),
        (RULE + 'place = "nfsv://a b/"', ['line 5: rule.place: "nfsv://a b/" is not a URL']),
        (RULE + 'place = "nfsv://x:99999/"', ["line 5: rule.place: "]),
        (RULE + "[rule.require]\nmax_age = 5", ["line 6: rule.require.max_age: 5 is not a time"]),
        (RULE + "[rule.require]\nunit_size.min = 5000", ["line 6: rule.require.unit_size.min: 5000 is none of"]),
        (
            RULE + "[rule.require.unit_size]\nmin = 65536\nmax = 4096",
            ["line 5: rule.require.unit_size: no unit has 65536 bytes at least and 4096 at most"],
        ),
        (RULE + '[rule.require]\nsigners.any = "me"', ['line 6: rule.require.signers.any: "me" is not a signer']),
        (RULE + '[rule.require]\nsigners.any = "C=ZZZ"', ["line 6: rule.require.signers.any: 'C=ZZZ' is no subject"]),
        (RULE + "[rule.require]\nmin_generation = -1", ["line 6: rule.require.min_generation: -1 is not a whole"]),
        (RULE.replace("enforce", "audit") + 'unsigned = "allow"', ["line 5: rule.unsigned: a rule whose action is"]),
        (RULE.replace("enforce", "disable") + "[rule.require]", ["line 5: rule.require: a rule whose action is"]),
        (RULE + '[[rule]]\nname = "b"\naction = "audit"', ['line 5: rule "b" can never be reached: all that']),
        (
            RULE + 'gate = "open"\n[[rule]]\nname = "a"\naction = "audit"',
            ['line 6: rule: another one is named "a", on line 2'],
        ),
        (RULE.replace('name = "a"\n', ""), ['line 2: rule: "name" is missing']),
        (RULE + 'x = 1\n[audit]\ny = 1\nlog = ""', ["line 5: rule.x", "line 7: audit.y", "line 8: audit.log"]),
        ("format = \xff", ["line 1: it is no TOML"]),
        (
            # of each kind one, which are all told at once
            """format = 2
[[rule]]
name = "a"
action = "enforce"
path = ["a//b", 5, "x/**"]
[rule.require]
hash = "md5"
signers.any = ["C=ZZZ", "me"]
unit_size = { min = 65536, max = 4096 }
[[rule]]
name = "a"
action = "audit"
unsigned = "allow"
[[rule]]
name = "all"
action = "enforce"
[[rule]]
name = "hidden"
action = "disable"
[[rule]]
action = "never"
""",
            [
                "line 1: format: 2 is none of 1",
                "line 5: rule.path: 5 is not a pattern",
                "line 5: rule.path: 'a//b' is no pattern",
                'line 7: rule.require.hash: "md5" is none of',
                'line 8: rule.require.signers.any: "me" is not a signer',
                "line 8: rule.require.signers.any: 'C=ZZZ' is no subject",
                "line 9: rule.require.unit_size: no unit has",
                'line 10: rule: another one is named "a", on line 2',
                "line 13: rule.unsigned: a rule whose action is",
                'line 17: rule "hidden" can never be reached',
                'line 20: rule: "name" is missing',
                "line 21: rule.action: ",
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, found: list[str]) -> None:
    said = problems(text)
    assert len(said) == len(found)
    for one, begin in zip(said, found, strict=True):
        assert one.startswith(begin), one


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(PolicyError):
        parse_policy(b"format = 1 # \xff", PATH)
    with pytest.raises(PolicyError, match="longer"):
        parse_policy(b"#" * (2**24 + 1), PATH)


@pytest.mark.spec("fim-policy-11", "fim-policy-4")
def test_only_the_user_s_own_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path))
    assert load_policy() == UserPolicy()
    assert load_policy().rules.select is not None
    with pytest.raises(FileNotFoundError):
        load_policy(tmp_path / "policy.toml")
    policy_path().symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        load_policy()
    policy_path().unlink()
    policy_path().write_text(RULE)
    assert load_policy().rules.rules[0].name == "a"
    assert load_policy(policy_path()) == load_policy()
    policy_path().write_text(RULE + "x = 1\ny = 2")
    with pytest.raises(PolicyError, match=r"policy.toml: line 5: .*\(and 1 more\)"):
        load_policy()
    policy_path().unlink()
    policy_path().mkdir()
    with pytest.raises(IsADirectoryError):
        load_policy()


# the schema


def test_the_schema_that_is_published_is_this_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json.loads((DOCS / "policy.schema.json").read_text()) == json_schema()


@pytest.mark.parametrize("text", [FULL, *EXAMPLES])
def test_examples_fit_the_schema_and_the_reader(text: str) -> None:
    VALIDATOR.validate(tomllib.loads(text))
    assert parse_policy(text.encode(), PATH).rules.rules


def test_the_docs_have_examples() -> None:
    assert len(EXAMPLES) >= 4


def agrees(value: Any) -> None:
    """Schema and reader: what one takes for wrong in form, the other does."""
    try:
        policy_of(value, PATH, {})
        found: tuple[Problem, ...] = ()
    except PolicyError as error:
        found = error.problems
    assert VALIDATOR.is_valid(value) == (not any(problem.of_form for problem in found)), (value, found)


LEAVES = (
    st.sampled_from([
        "open", "exec", "enforce", "audit", "refuse", "on", "required", "sha256", "ed25519", "a/**", VOLUME, "30d",
        "nfsv://h:1/", "file:///a", "CN=a", "ab" * 32, "a\n", "30d\n", "", 1, 0, 4096, 65536, 2**64 - 2, 2**64 - 1, -1,
        9, True, False, 0.5,
    ])
    | st.text(max_size=3)
    | st.integers(-2, 10)
)  # fmt: skip
KEYS = st.sampled_from([
    "format", "audit", "rule", "log", "decisions", "sync", "name", "gate", "path", "volume", "place", "action",
    "unsigned", "require", "hash", "scheme", "unit_size", "signers", "min_generation", "max_age", "executable",
    "min", "max", "any", "all", "count", "x",
])  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(VALUES | st.dictionaries(KEYS, VALUES).map(lambda value: {"format": 1, **value}))
def test_schema_and_reader_agree_about_anything(value: Any) -> None:
    agrees(value)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in places(item, (*at, key)))]


@given(st.data())
def test_schema_and_reader_agree_about_a_policy_of_which_one_thing_was_changed(data: st.DataObject) -> None:
    value = tomllib.loads(FULL)
    place = data.draw(st.sampled_from(places(value)[1:]))
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    if isinstance(inner, dict) and data.draw(st.booleans()):
        if data.draw(st.booleans()):
            inner[data.draw(KEYS)] = data.draw(VALUES)
        else:
            del inner[place[-1]]
    else:
        inner[place[-1]] = data.draw(VALUES)
    agrees(value)


# lines


@given(st.lists(st.sampled_from([
    "a = 1", "b = [\n1,\n[2] # ]\n]", 'c = """x\n[no]\ny = 1"""', "d = '''\n'''", 'e = "# [x]"', "f.g = {h = 1}",
    '"i j" = 1', "# k = 1", "", "l = ''", 'm = "\\""', "'n' . o = 1.5",
]), unique=True))  # fmt: skip
def test_lines_of_keys(statements: list[str]) -> None:
    text = "\n".join(["[[t]]", *statements, "[[t]]", "z = 1", "[t.u]", "v = 2"])
    value, lines = tomllib.loads(text), key_lines(text)
    line = 2
    for statement in statements:
        key = {"f": "f", '"': "i j", "'": "n"}.get(statement[:1], statement[:1])
        if key not in ("", "#"):
            assert lines["t", 0, key] == line
            assert key in value["t"][0]
        line += statement.count("\n") + 1
    assert (lines["t",], lines["t", 0], lines["t", 1], lines["t", 1, "z"]) == (1, 1, line, line + 1)
    assert (lines["t", 1, "u"], lines["t", 1, "u", "v"]) == (line + 2, line + 3)
    assert line_of(lines, ("t", 1, "nothing", 5)) == line
    assert line_of(lines, ("nothing",)) is None


def test_lines_that_end_as_on_other_systems() -> None:
    assert key_lines("a = 1\r\nb = [\r\n]\r\nc = 2")["c",] == 4


def test_the_default_is_no_rule_of_a_file() -> None:
    assert DEFAULT.line is None
