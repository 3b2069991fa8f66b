"""Model names: which are accepted, and what the CLI is given for each."""

import pytest

from jupyter_ccapi.claude import ALIASES, resolve_model
from jupyter_ccapi.claude.errors import UnknownModel

REPORTED = ("default", "sonnet", "opus", "haiku", "claude-opus-5-5")


def resolved(name: str | None) -> str | None:
    """What a name becomes where the CLI has reported its models, and one is mapped."""
    return resolve_model(
        name, model_map={"gpt-4o": "sonnet", "claude-3-opus": "opus"}, reported=REPORTED
    )


@pytest.mark.parametrize(
    "name",
    [
        *ALIASES,
        *REPORTED,
        "opus[1m]",
        "sonnet[1m]",
        "claude-sonnet-4-5",
        "claude-sonnet-4-5[1m]",
        "claude-sonnet-4-20250514",
        "claude-3-5-sonnet-20241022",
        "claude-3-5-sonnet-latest",
        "anthropic.claude-3-haiku-20240307-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "us-gov.anthropic.claude-3-5-sonnet-20240620-v1:0",
        "global.anthropic.claude-opus-4-5-20251101-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4",
        "arn:aws-us-gov:bedrock:us-gov-west-1:1:application-inference-profile/abc",
        "claude-opus-4@20250514",
        "publishers/anthropic/models/claude-opus-4-1",
    ],
)
def test_a_name_of_the_cli_or_a_provider_is_passed_on_as_it_is(name: str) -> None:
    assert resolved(name) == name


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("sonnet-4", "sonnet"),
        ("sonnet-4.5", "sonnet"),
        ("opus-4.1", "opus"),
        ("opus-4-1", "opus"),
        ("haiku-3", "haiku"),
        ("claude-3.5-sonnet", "sonnet"),
        ("claude-3-5-sonnet", "sonnet"),
        ("claude-3-haiku", "haiku"),
        ("claude-4-opus", "opus"),
    ],
)
def test_a_short_name_means_the_newest_of_its_family(name: str, family: str) -> None:
    assert resolved(name) == family


def test_the_configuration_has_the_first_word() -> None:
    assert resolved("gpt-4o") == "sonnet"
    assert resolved("claude-3-opus") == "opus"
    assert resolve_model("opus", model_map={"opus": "claude-opus-4-1"}) == "claude-opus-4-1"


def test_no_name_is_the_clis_own_choice() -> None:
    assert resolved(None) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "gpt-4",
        "o3",
        "claude",
        "claude-",
        "Sonnet",
        "sonnet[2m]",
        "sonnet; rm -rf",
        "sonnet\n",
        "claude-sonnet-4-5\n",
        "claude-sonnet 4",
        "claude-$(id)",
        "--help",
        "-p",
        "--model=claude-x",
        " claude-x",
        "arn:aws:s3:::claude",
        "arn:aws:bedrock:us-east-1:1:a b",
        "evil.example/anthropic.claude-x",
        "../claude-x",
    ],
)
def test_any_other_name_is_unknown(name: str) -> None:
    with pytest.raises(UnknownModel) as failure:
        resolved(name)
    assert failure.value.model == name
    assert "gpt-4o" in str(failure.value)


def test_what_the_cli_reports_is_known_only_once_it_was_asked() -> None:
    assert resolve_model("default", model_map={}, reported=["default"]) == "default"
    with pytest.raises(UnknownModel):
        resolve_model("default", model_map={})
