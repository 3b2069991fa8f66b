"""The build hook beside the panel's sources: when it builds, reuses, and leaves the panel out."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hatchling.bridge.app import Application

from labextension import hatch_build
from labextension.hatch_build import ASSETS, PanelBuildHook, PanelLeftOut, provide_panel

# What the builder leaves behind: the entry point, and its name written last.
FINISH = """
mkdir -p "../{assets}/static"
echo "//" > "../{assets}/static/remoteEntry.js"
echo '{package}' > "../{assets}/package.json"
""".format(
    assets=ASSETS,
    package=json.dumps({"jupyterlab": {"_build": {"load": "static/remoteEntry.js"}}}),
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH but the shell's own tools, for `node` and `jlpm`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "mkdir", "sleep"):
        source = next(p for d in os.defpath.split(":") if d and (p := Path(d, name)).exists())
        (folder / name).symlink_to(source)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("SKIP_JUPYTER_BUILDER", raising=False)
    monkeypatch.delenv("CCAPI_REQUIRE_PANEL", raising=False)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with one source of the panel and no built files."""
    sources = tmp_path / "checkout" / "labextension"
    (sources / "src").mkdir(parents=True)
    (sources / "src" / "index.ts").write_text("export default {};\n")
    return sources.parent


def put(folder: Path, name: str, script: str) -> None:
    """Write an executable shell script."""
    path = folder / name
    path.write_text(f"#!{folder}/sh\n{script}\n")
    path.chmod(0o755)


def put_node(folder: Path, version: str = "v20.19.0") -> None:
    """Write a `node` that knows its version."""
    put(folder, "node", f"echo {version}")


def put_jlpm(folder: Path, log: Path, script: str = FINISH) -> None:
    """Write a `jlpm` that keeps a log of its calls, and builds by `script`."""
    put(folder, "jlpm", f'echo "$1" >> "{log}"\n[ "$1" = build:prod ] || exit 0\n{script}')


def test_without_node_the_panel_is_left_out(tools: Path, root: Path) -> None:
    """The reason says what to install."""
    with pytest.raises(PanelLeftOut, match=r"Node\.js is not installed"):
        provide_panel(root)


@pytest.mark.parametrize(
    ("version", "reason"), [("v18.20.4", "too old"), ("v20.18.3", "too old"), ("?", "no version")]
)
def test_an_unfit_node_leaves_the_panel_out(
    tools: Path, root: Path, version: str, reason: str
) -> None:
    """The builder needs 20.19."""
    put_node(tools, version)
    with pytest.raises(PanelLeftOut, match=reason):
        provide_panel(root)


def test_with_node_the_panel_is_built_once(tools: Path, root: Path, tmp_path: Path) -> None:
    """The second time finds it built."""
    log = tmp_path / "log"
    put_node(tools)
    put_jlpm(tools, log)
    provide_panel(root)
    provide_panel(root)
    assert log.read_text().split() == ["install", "build:prod"]


def test_a_newer_source_is_built_again(tools: Path, root: Path, tmp_path: Path) -> None:
    """Built files are never reused silently when they are older than what they were built from."""
    log = tmp_path / "log"
    put_node(tools)
    put_jlpm(tools, log)
    provide_panel(root)
    age(root / ASSETS / "package.json")
    provide_panel(root)
    assert log.read_text().split() == ["install", "build:prod"] * 2


def test_built_files_need_no_node(tools: Path, root: Path, tmp_path: Path) -> None:
    """As long as no source is newer."""
    put_node(tools)
    put_jlpm(tools, tmp_path / "log")
    provide_panel(root)
    (tools / "node").unlink()
    provide_panel(root)
    age(root / ASSETS / "package.json")
    with pytest.raises(PanelLeftOut):
        provide_panel(root)


def test_an_unpacked_sdist_needs_no_node(tools: Path, root: Path, tmp_path: Path) -> None:
    """Unpacking gives files new times; what is in an sdist belongs together."""
    put_node(tools)
    put_jlpm(tools, tmp_path / "log")
    provide_panel(root)
    (tools / "node").unlink()
    age(root / ASSETS / "package.json")
    (root / "PKG-INFO").write_text("Name: jupyter_ccapi\n")
    provide_panel(root)


def test_a_build_that_stopped_half_way_does_not_count(
    tools: Path, root: Path, tmp_path: Path
) -> None:
    """The builder writes package.json early and its entry point's name last."""
    half = root / ASSETS / "package.json"
    half.parent.mkdir(parents=True)
    half.write_text('{"jupyterlab": {"extension": true}}')
    put_node(tools)
    put_jlpm(tools, tmp_path / "log", script="exit 0")
    with pytest.raises(PanelLeftOut, match="no complete"):
        provide_panel(root)


def test_without_jlpm_the_panel_is_left_out(tools: Path, root: Path) -> None:
    """As in a build without isolation, from an environment that lacks jupyter-builder."""
    put_node(tools)
    with pytest.raises(PanelLeftOut, match="does not run"):
        provide_panel(root)


@pytest.mark.parametrize("step", ["install", "build:prod"])
def test_a_failing_step_leaves_the_panel_out(tools: Path, root: Path, step: str) -> None:
    """As where the npm registry cannot be reached."""
    put_node(tools)
    put(tools, "jlpm", f'[ "$1" != {step} ]')
    with pytest.raises(PanelLeftOut, match=f"`jlpm {step}` ended with exit code 1"):
        provide_panel(root)


def test_a_step_that_never_ends_leaves_the_panel_out(
    tools: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the npm registry takes connections and does not answer."""
    monkeypatch.setattr(hatch_build, "STEP_SECONDS", 0.2)
    put_node(tools)
    put(tools, "jlpm", "exec sleep 60")
    with pytest.raises(PanelLeftOut, match=r"`jlpm install` took over"):
        provide_panel(root)


def hook(root: Path, target: str) -> PanelBuildHook:
    """The hook as hatchling makes it."""
    config: Any = None
    return PanelBuildHook(str(root), {}, config, config, str(root), target, Application())


def build_data() -> dict[str, Any]:
    """What hatchling gives a hook to fill."""
    return {"artifacts": [], "shared_data": {}}


def test_the_hook_says_in_one_line_that_the_panel_is_left_out(
    tools: Path, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the build goes on, without naming files that are not there."""
    data = build_data()
    hook(root, "wheel").initialize("standard", data)
    said = "".join(capfd.readouterr())
    assert said.startswith("jupyter_ccapi: the JupyterLab panel is left out: Node.js is not")
    assert said.count("\n") == 1
    assert data == build_data()


def test_the_hook_fails_where_the_panel_is_required(
    tools: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in continuous integration, where a missing panel must not pass unseen."""
    monkeypatch.setenv("CCAPI_REQUIRE_PANEL", "1")
    with pytest.raises(PanelLeftOut):
        hook(root, "wheel").initialize("standard", build_data())


def test_the_panel_can_be_left_out_by_choice(
    tools: Path, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the variable that other Jupyter packages know too."""
    monkeypatch.setenv("SKIP_JUPYTER_BUILDER", "1")
    put_node(tools)
    put_jlpm(tools, tmp_path / "log")
    with pytest.raises(PanelLeftOut, match="SKIP_JUPYTER_BUILDER"):
        provide_panel(root)
    assert not (tmp_path / "log").exists()


def test_a_wheel_gets_the_panel_as_shared_data_and_an_sdist_as_files(
    tools: Path, root: Path, tmp_path: Path
) -> None:
    """So that JupyterLab finds it, and a wheel can be made from the sdist without Node."""
    put_node(tools)
    put_jlpm(tools, tmp_path / "log")
    wheel, sdist = build_data(), build_data()
    hook(root, "wheel").initialize("standard", wheel)
    hook(root, "sdist").initialize("standard", sdist)
    share = "share/jupyter/labextensions/jupyter-ccapi"
    assert wheel["shared_data"] == {
        "jupyter_ccapi/labextension": share,
        "labextension/install.json": f"{share}/install.json",
    }
    assert sdist["artifacts"] == ["/jupyter_ccapi/labextension/"]


def age(path: Path) -> None:
    """Make a file look an hour old."""
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))
