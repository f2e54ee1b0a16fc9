"""Text settings of every command reach the program as they were written."""

import os
import signal
import sys
import time

import pytest
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore

from agents.evaluate import EvaluateConfig
from agents.explore import ExploreConfig
from agents.gallery import GalleryConfig
from agents.ppo_settings import TrainPPOConfig
from configs.command_line import plain_text, quote_text, stops_in_one_line, text_settings
from model.build import BlockedConfig, DistillConfig, OracleConfig, TrainConfig, TrainDepthConfig, TrainVAEConfig
from model.cli.curate import CurateConfig, ImportConfig

SCHEMAS = {
    "out": (TrainConfig, TrainVAEConfig, TrainDepthConfig, OracleConfig, BlockedConfig, CurateConfig, ImportConfig),
    "world": (DistillConfig, ExploreConfig, GalleryConfig, TrainPPOConfig),
    "ppo": (EvaluateConfig,),
}
TEXTS = [
    "paren (1)", "comma, name", "eq=sign", "hash#1", "ümlaut 映画", "quote'1", "'q", "'tis John's", '"dq" x', "{x}",
    "[1,2]", "a: b", "1e3", "true", " lead", "${a}", "${oc.env:HOME}", "\\${a}", "\\\\${a}", "back\\slash", "end\\",
    "a\\\\'b", "it's ${x} \\' y\\\\",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts_reach_the_settings_as_they_stand(text: str) -> None:
    ConfigStore.instance().store(name="text_schema", node=ExploreConfig)
    settings = text_settings(ExploreConfig)
    words = [quote_text(f"{name}={text}", settings) for name in ("prompt", "agent.script")]
    with initialize(version_base=None):
        config = compose("text_schema", words)
    assert (config.prompt, config.agent.script) == (text, text)


@pytest.mark.parametrize("text", [text for text in TEXTS if "," not in text])
def test_lists_of_texts_and_texts_by_name_reach_the_settings_as_they_stand(text: str) -> None:
    ConfigStore.instance().store(name="lists_schema", node=EvaluateConfig)
    settings = text_settings(EvaluateConfig)
    given = [f"worlds=[runs/a b, {text},'c, (d)']", f"agents={text}", f"+scripts.GoalView={text}"]
    with initialize(version_base=None):
        config = compose("lists_schema", [quote_text(word, settings) for word in given])
    assert list(config.worlds) == ["runs/a b", text.strip(), "c, (d)"]
    assert list(config.agents) == [text] and config.scripts.GoalView == text


def test_lists_are_as_long_as_they_were_written() -> None:
    settings = text_settings(GalleryConfig)
    for value, quoted in (("[]", "[]"), ("[forward]", "['forward']"), ("[ a , b ]", "['a','b']"), ("null", "null")):
        assert quote_text(f"moves={value}", settings) == f"moves={quoted}"


def test_numbers_quoted_texts_and_flags_are_left_alone() -> None:
    settings = text_settings(ExploreConfig)
    for word in ("seed=3", "prompt=null", "prompt='quoted'", "--help", "env=fast"):
        assert quote_text(word, settings) == word


@pytest.mark.parametrize(("name", "schema"), [(name, each) for name, all_ in SCHEMAS.items() for each in all_])
def test_paths_of_every_command_are_text(name: str, schema: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["command", f"{name}=a, (b)"])
    assert plain_text(schema)(lambda: sys.argv[1:])() == [f"{name}='a, (b)'"]


def test_a_sweep_keeps_hydras_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "-m", "world=a,b"])
    assert plain_text(ExploreConfig)(lambda: sys.argv[1:])() == ["-m", "world=a,b"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_is_one_line_and_the_code_of_the_shell(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = []

    @stops_in_one_line("stopped; the same command goes on")
    def main() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code and closed
    assert capsys.readouterr().err.strip() == "stopped; the same command goes on"
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_was_saved_is_said_in_place_of_the_general_line(capsys: pytest.CaptureFixture[str]) -> None:
    @stops_in_one_line("stopped")
    def main() -> None:
        raise KeyboardInterrupt("saved at step 410; the same command goes on")

    with pytest.raises(SystemExit, match=r"^130$"):
        main()
    assert capsys.readouterr().err.strip() == "saved at step 410; the same command goes on"
