"""The manual's notebooks run to their end on the offline model, and keep what they promise."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from jupyter_ccapi.demo import OfflineModel
from tests.notebook.kernels import ROOT, environment

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@dataclass
class Played:
    """A notebook of the manual after *Run All*, and the folder that it ran in."""

    notebook: NotebookNode
    folder: Path

    def cell(self, id: str) -> NotebookNode:
        """The cell of this id."""
        found: NotebookNode
        (found,) = (cell for cell in self.notebook.cells if cell.id == id)
        return found

    def text(self, id: str) -> str:
        """All that a cell has put out, as text; a stream may come in any number of pieces."""
        text = ""
        for output in self.cell(id).outputs:
            if output.output_type == "stream":
                text += output.text
            else:
                text += f"\n{output.data['text/plain']}\n"
        return text.strip("\n")

    def rows(self, name: str) -> dict[str, list[str]]:
        """A CSV file: the values behind the first one of each line."""
        with (self.folder / name).open() as file:
            return {first: rest for first, *rest in csv.reader(file)}


Play = Callable[[str], Played]


@pytest.fixture
def play(model: OfflineModel, tmp_path: Path) -> Play:
    """Runs a notebook in a folder of its own, which is nobody's home: these have checkpoints."""

    def played(name: str) -> Played:
        home, folder = tmp_path / "home", tmp_path / "work"
        home.mkdir()
        folder.mkdir()
        notebook = nbformat.read(FOLDER / name, as_version=4)  # type: ignore[no-untyped-call]
        NotebookClient(notebook, timeout=60).execute(env=environment(model, home), cwd=str(folder))
        said = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert not [output for output in said if output.get("name") == "stderr"]
        return Played(notebook, folder)

    return played


def _asking(played: Played) -> list[NotebookNode]:
    return [cell for cell in played.notebook.cells if cell.source.startswith("%%claude")]


def _is_answered(cell: NotebookNode) -> bool:
    *_, answer, footer = cell.outputs
    return bool(answer.data["text/markdown"]) and "tokens in" in footer.data["text/plain"]


def test_first_steps(play: Play, model: OfflineModel) -> None:
    """Every cell is answered; the third one is told the variable, the last ones know of nothing."""
    played = play("01_first_steps.ipynb")

    assert all(map(_is_answered, _asking(played)))
    assert len(_asking(played)) == 6
    assert "(3, 4)" in played.text("here")
    assert "haiku" in played.text("model").splitlines()[-1]
    assert [request.user_text for request in model.main_requests][-1].startswith("Tell me a long")
    assert "What is the difference" not in str(model.main_requests[-1].messages)
    assert not model.main_requests[-1].tools


def test_pictures_and_data(play: Play, model: OfflineModel) -> None:
    """The model is sent figure, variables and values; an object and a text come back."""
    played = play("02_pictures_and_data.ipynb")

    loud = [cell for cell in _asking(played) if " -q " not in cell.source]
    assert all(map(_is_answered, loud))
    assert len(loud) == 4
    asked = {request.user_text.splitlines()[-1]: request for request in model.main_requests}
    assert asked["What does this chart show, and does anything in it look odd?"].images == 1
    told = asked["Do the cups go with the degrees? Leave out the odd day."].user_text
    assert "degrees: numpy.ndarray" in told
    assert "cups: numpy.ndarray" in told
    sure = asked["How sure can one be of that? Two sentences, no formulas."].user_text
    assert sure.startswith("Without Friday, degrees and cups correlate with r = 1.00 over 6 days.")
    assert played.text("mend") == "array([41, 55, 63, 78, 81, 92, 74])"
    assert not played.cell("caption").outputs
    assert "A week of iced coffee" in played.text("mended")


def test_tools_and_approvals(play: Play) -> None:
    """What nobody could be asked about is denied, and said; what was allowed beforehand is done."""
    played = play("03_tools_and_approvals.ipynb")

    assert all(map(_is_answered, _asking(played)))
    assert "Read  coffee.csv  ok" in played.text("read")
    assert "Nobody can be asked here" in played.text("ask")
    assert "-p acceptEdits" in played.text("ask")
    assert "Denied" in played.text("ask")
    assert len((played.folder / "notes.md").read_text().splitlines()) == 3
    assert played.rows("coffee.orig.csv") == played.rows("coffee.csv")
    assert played.text("kernel-after") == "67.16666666666667"
    assert "add_cell" in played.text("cell")


def test_checkpoints_and_rewind(play: Play) -> None:
    """The rewound change is gone and the one before it is not; the undone rewind did nothing."""
    played = play("04_checkpoints_and_rewind.ipynb")

    assert all(map(_is_answered, _asking(played)))
    assert "Mon,66,41" in played.text("look")
    assert "+Mon,19,41" in played.text("dry")
    assert "Mon,19,41" in played.text("rewound")
    assert "Fri,29,81\n" in played.text("rewound")
    assert "deleted   fahrenheit.csv" in played.text("back")
    assert "was taken back" in played.text("undo")
    assert "fahrenheit.csv" in played.text("conflict")
    assert "refused" in played.text("conflict")
    widget = "application/vnd.jupyter.widget-view+json"
    assert widget in played.cell("timeline").outputs[-1].data
    # As it is left.
    assert played.rows("coffee.csv")["Fri"] == ["29", "81"]
    assert played.rows("coffee.csv")["Mon"] == ["19", "41"]
    assert played.rows("fahrenheit.csv")["Mon"] == ["77", "70"]


def test_the_python_api(play: Play) -> None:
    """Answers, values, events and rewinds come to the program; the prices are undone."""
    played = play("05_python_api.ipynb")

    assert "menu.md" in played.text("query")
    assert played.text("answer").startswith("(1, ")
    assert played.text("ask") == "{'happy': True, 'about': 'coffee'}"
    assert played.text("batch").count("<Answer ") == 3
    assert "[Write] Each sort has its price" in played.text("stream").replace("\n\n", "\n")
    assert "(completed)" in played.text("stream")
    assert "88 cups" in played.text("tool")
    assert "(2, 'Add the price of each sort to menu.md.'" in played.text("checkpoints")
    assert "Rewound to before prompt 2" in played.text("rewind")
    assert played.text("fork") == "(True, 1)"
    assert (played.folder / "menu.md").read_text().endswith("- With ice cream\n")


def test_the_manual_has_no_other_notebook() -> None:
    """One that is new gets a test of its own above."""
    assert [path.name for path in NOTEBOOKS] == [
        "01_first_steps.ipynb",
        "02_pictures_and_data.ipynb",
        "03_tools_and_approvals.ipynb",
        "04_checkpoints_and_rewind.ipynb",
        "05_python_api.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_of_the_manual_is_saved_clean(path: Path) -> None:
    """No outputs, no execution counts, the current format, and links that lead somewhere."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[] for _ in code]
    assert [cell.execution_count for cell in code] == [None for _ in code]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    links = re.findall(r"\]\((\S+\.ipynb)\)", "\n".join(cell.source for cell in notebook.cells))
    assert links or path == NOTEBOOKS[-1]
    assert all((FOLDER / link).is_file() for link in links)
