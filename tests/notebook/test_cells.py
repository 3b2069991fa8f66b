"""What `%%claude` cells do in a real kernel: stream, go on, change the model, begin anew."""

import threading

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.notebook.kernels import Kernel, roles_and_texts


def test_an_answer_is_shown_while_the_model_still_speaks(
    kernel: Kernel, model: OfflineModel
) -> None:
    """The model is held after its first word: what is shown then was streamed."""
    gate = threading.Event()
    model.script(Reply("Streaming is **nice**.", hold=gate))
    cell = kernel.start("%%claude\nTell me about streaming.")

    cell.wait_until(lambda shown: shown.answer)
    assert cell.answer == "Streaming "
    assert not cell.reply
    gate.set()
    cell.finish()

    assert cell.status == "ok"
    assert cell.answer == "Streaming is **nice**."
    assert cell.drawn[0] == "Waiting for Claude…"


def test_a_slow_answer_is_drawn_many_times_and_ends_exact(
    kernel: Kernel, model: OfflineModel
) -> None:
    """The drawings grow towards the whole text; there are fewer of them than words."""
    text = " ".join(f"word{number}" for number in range(60))
    model.script(Reply(text, word_delay=0.02))
    cell = kernel.run("%%claude\nSixty words, please.")

    answers = [drawn for drawn in cell.drawn if drawn.startswith("word0")]
    assert 3 <= len(answers) < 60
    assert all(text.startswith(drawn) for drawn in answers)
    assert cell.answer == text


def test_the_next_cell_goes_on_with_the_conversation(kernel: Kernel, model: OfflineModel) -> None:
    """The model is sent the first question and its own answer with the second question."""
    model.script(Reply("Hello Ann."), Reply("Ann."))
    kernel.run("%%claude\nI am Ann.")
    kernel.run("%%claude\nWho am I?")

    assert roles_and_texts(model.main_requests[-1].messages) == [
        ("user", "I am Ann."),
        ("assistant", "Hello Ann."),
        ("user", "Who am I?"),
    ]


def test_new_starts_a_new_conversation(kernel: Kernel, model: OfflineModel) -> None:
    """Of the conversation before it the model is told nothing."""
    kernel.run("%%claude\nI am Ann.")
    kernel.run("%%claude --new\nWho am I?")

    assert roles_and_texts(model.main_requests[-1].messages) == [("user", "Who am I?")]


def test_a_model_stays_until_another_is_named(kernel: Kernel, model: OfflineModel) -> None:
    """`-m` is of the conversation: the next cell keeps it, a new conversation does not."""
    for line in ("", "-m haiku", "", "--model sonnet", "--new"):
        assert kernel.run(f"%%claude {line}\nHello.").status == "ok"

    asked = [str(request.body["model"]) for request in model.main_requests]
    assert "haiku" in asked[1]
    assert "haiku" in asked[2]
    assert "sonnet" in asked[3]
    assert asked[4] == asked[0]


def test_the_configured_model_answers_cells_that_name_none(
    kernel: Kernel, model: OfflineModel
) -> None:
    """`ClaudeMagics.model` is where a conversation begins."""
    kernel.run("%config ClaudeMagics.model = 'haiku'")
    kernel.run("%%claude\nHello.")

    assert "haiku" in model.main_requests[0].body["model"]


def test_thoughts_are_folded_above_the_answer(kernel: Kernel, model: OfflineModel) -> None:
    """One line while the model thinks; then all of it behind a fold, apart from the answer."""
    gate = threading.Event()
    model.script(Reply("Four.", thinking="Two and <b>two</b>\nmake four.", hold=gate))
    cell = kernel.start("%%claude\nTwo and two?")
    cell.wait_until(lambda shown: shown.lines[-1:] == ["Thinking… Two"])
    gate.set()
    cell.finish()

    thought, answer, _ = cell.displays.values()
    assert thought["text/html"].startswith("<details")
    assert "Two and &lt;b&gt;two&lt;/b&gt;<br>make four." in thought["text/html"]
    assert answer == {"text/markdown": "Four.", "text/plain": "Four."}


def test_the_footer_tells_model_tokens_and_time(kernel: Kernel, model: OfflineModel) -> None:
    """Tokens from the cache stand apart; nothing is estimated."""
    model.script(
        Reply(
            "Four.",
            input_tokens=1200,
            cache_read_input_tokens=34000,
            cache_creation_input_tokens=0,
            output_tokens=56,
        )
    )
    footer = kernel.run("%%claude -m claude-sonnet-4-5\nTwo and two?").lines[-1]

    parts = footer.split(" · ")
    assert parts[0] == "claude-sonnet-4-5"
    assert parts[1] == "35,200 tokens in (34,000 cached), 56 out"
    assert parts[2].startswith("$0.")
    assert parts[3].endswith(" s")


def test_the_prompt_is_the_text_as_it_was_typed(kernel: Kernel, model: OfflineModel) -> None:
    """Neither variables nor braces nor quotes mean anything to the magic."""
    prompt = 'x = {name!r}; $HOME and """quotes""" \\n \'here\'\n\n    indented é'
    kernel.run("name = 'Ann'")
    kernel.run(f"%%claude\n{prompt}\n")

    assert model.main_requests[0].user_text == prompt


def test_loading_twice_and_reloading_leave_one_magic(kernel: Kernel, model: OfflineModel) -> None:
    """A transformer that stood there twice would make the cell a syntax error."""
    kernel.run("import jupyter_ccapi; jupyter_ccapi.load_ipython_extension(get_ipython())")
    assert kernel.run("%%claude\n[[say Once.]]").answer == "Once."
    assert kernel.run("%reload_ext jupyter_ccapi").status == "ok"
    assert kernel.run("%%claude\n[[say Again.]]").answer == "Again."
    count = kernel.run("print(len(get_ipython().input_transformers_post))")
    assert count.stdout == "1\n"


def test_help_shows_the_options_and_an_example(kernel: Kernel) -> None:
    """`%%claude?` is where a person looks first."""
    text = str(kernel.run("%%claude?").reply["payload"][0]["data"]["text/plain"])

    assert "%%claude [options]" in text
    assert "-m, --model NAME" in text
    assert "stop button" in text
