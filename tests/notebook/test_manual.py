"""The manual's notebooks run from top to bottom, on the offline model."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from jupyter_ccapi.demo import OfflineModel
from tests.notebook.kernels import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_the_manual_opens_with_first_steps() -> None:
    """So that the tests below have something to run."""
    assert NOTEBOOKS[0].name == "01_first_steps.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_of_the_manual_runs(
    path: Path, model: OfflineModel, env: dict[str, str], home: Path
) -> None:
    """Every `%%claude` cell has an answer and a footer afterwards, and nothing is on stderr."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=60).execute(env=env, cwd=str(home))

    asking = [cell for cell in notebook.cells if cell.source.startswith("%%claude")]
    assert asking
    for cell in asking:
        answer, footer = cell.outputs
        assert answer.data["text/markdown"]
        assert "tokens in" in footer.data["text/plain"]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert {output.output_type for output in outputs} == {"display_data"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_of_the_manual_is_saved_clean(path: Path) -> None:
    """Without outputs, without execution counts, in the current format."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[] for _ in code]
    assert [cell.execution_count for cell in code] == [None for _ in code]
