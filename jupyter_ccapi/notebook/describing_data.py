"""Describe tables, arrays, models and figures of packages that may or may not be installed.

They are known by the names of their classes, so none of the packages is imported. What they tell
costs little: of large data only a part is looked at, and it is said so.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .sheet import Sheet, bytes_text, shorten

#: Packages known by their name alone: where in them a class lives says nothing.
PACKAGES = {"matplotlib", "numpy", "pandas", "PIL", "plotly", "polars", "torch", "xarray"}

_MOST_CELLS = 10_000_000
_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Known:
    """How a kind of object is described: whole, in a line, and its size in bytes."""

    fill: Callable[[Any, Sheet], None]
    line: Callable[[Any], str]
    size: Callable[[Any], float] | None = None


def known(value: object) -> Known | None:
    """How an object is described by its class or a base of it; None for others."""
    for kind in type(value).__mro__:
        found = _KNOWN.get(f"{str(kind.__module__).partition('.')[0]}.{kind.__name__}")
        if found is not None:
            return found
    return None


def _frame_line(frame: Any) -> str:
    rows, columns = frame.shape
    names = ", ".join(str(name) for name in list(frame.columns[:8]))
    return f"{rows:,} rows x {columns:,} columns: {names}{', …' if columns > 8 else ''}"


def _frame_size(frame: Any) -> float:
    return float(frame.memory_usage(deep=False).sum())


def _frame(frame: Any, sheet: Sheet) -> None:
    """A pandas DataFrame."""
    rows, columns = frame.shape
    sheet.add(f"{rows:,} rows x {columns:,} columns")
    deep = frame.size <= _MOST_CELLS // 10
    sheet.tell(
        "memory",
        lambda: (
            bytes_text(frame.memory_usage(deep=deep).sum())
            + ("" if deep else ", without what its objects refer to")
        ),
    )
    sheet.tell("index", lambda: _index_line(frame.index))
    sheet.tell("columns", lambda: _columns(frame, 2 * sheet.items))
    sheet.tell("first rows", lambda: _head(frame, sheet))


def _columns(frame: Any, most: int) -> str:
    some = frame.iloc[:, :most]
    counted = some.size <= _MOST_CELLS
    nulls = some.isna().sum().tolist() if counted else [0] * some.shape[1]
    lines = [
        f"  {shorten(str(name), _WIDTH)}: {kind}{f', {count:,} null' if count else ''}"
        for name, kind, count in zip(some.columns, some.dtypes.tolist(), nulls, strict=True)
    ]
    if frame.shape[1] > most:
        lines.append(f"  … and {frame.shape[1] - most:,} more")
    title = "" if counted else "nulls were not counted"
    return "\n".join((title, *lines))


def _head(frame: Any, sheet: Sheet) -> str:
    some = frame.iloc[: sheet.items // 4, : sheet.items]
    left = frame.shape[1] - some.shape[1]
    text = some.to_string(max_colwidth=_WIDTH) if len(some) else "none"
    return "\n" + text + (f"\n(… {left:,} more columns)" if left else "")


def _series(series: Any, sheet: Sheet) -> None:
    """A pandas Series."""
    sheet.add(f"{_series_line(series)}, {bytes_text(_frame_size(series.to_frame()))}")
    sheet.tell("index", lambda: _index_line(series.index))
    if len(series) <= _MOST_CELLS:
        sheet.tell("nulls", lambda: f"{int(series.isna().sum()):,}")
        for name in ("min", "max", "mean"):
            with sheet.quietly():
                sheet.add(f"{name}: {shorten(str(getattr(series, name)()), _WIDTH)}")
    sheet.tell(
        "values", lambda: "\n" + series.iloc[: sheet.items // 2].map(str).str[:_WIDTH].to_string()
    )


def _series_line(series: Any) -> str:
    return f"{len(series):,} values of {series.dtype}, named {series.name!r}"


def _index(index: Any, sheet: Sheet) -> None:
    """A pandas Index."""
    sheet.add(_index_line(index))
    sheet.tell("unique", lambda: index.is_unique)
    sheet.tell("first", lambda: [shorten(str(one), _WIDTH) for one in index[: sheet.items // 2]])


def _index_line(index: Any) -> str:
    ends = f", {index[0]!r} … {index[-1]!r}" if len(index) else ""
    names = [name for name in index.names if name is not None]
    named = f", named {', '.join(map(str, names))}" if names else ""
    return f"{type(index).__name__} of {len(index):,} {index.dtype}{ends}{named}"


def _groups(groups: Any, sheet: Sheet) -> None:
    """A pandas GroupBy."""
    sheet.tell("by", lambda: groups.keys)
    sheet.tell("groups", lambda: f"{groups.ngroups:,}")
    sheet.tell("of", lambda: _frame_line(groups.obj))


def _polars_line(frame: Any) -> str:
    rows, columns = frame.shape
    return f"{rows:,} rows x {columns:,} columns: {', '.join(frame.columns[:8])}"


def _polars(frame: Any, sheet: Sheet) -> None:
    """A polars DataFrame."""
    sheet.add(f"{_polars_line(frame)}; {bytes_text(frame.estimated_size())}")
    nulls = frame.null_count().row(0) if frame.shape[1] else ()
    for (name, kind), count in list(zip(frame.schema.items(), nulls, strict=True))[
        : 4 * sheet.items
    ]:
        sheet.add(f"  {name}: {kind}{f', {count:,} null' if count else ''}")
    sheet.tell("first rows", lambda: f"\n{frame.head(sheet.items // 4)}")


def _array_line(array: Any) -> str:
    return f"{' x '.join(f'{length:,}' for length in array.shape) or 'scalar'}, {array.dtype}"


def _array(array: Any, sheet: Sheet) -> None:
    """A numpy array; masked ones and matrices too."""
    sheet.add(f"shape {array.shape}, dtype {array.dtype}, {bytes_text(array.nbytes)}")
    if array.dtype == object or not array.size:
        kinds = sorted({type(item).__name__ for item in array.flat[:100]})
        sheet.add(f"of {', '.join(kinds)}" if kinds else "empty")
        return
    some = array if array.size <= _MOST_CELLS else array.flat[:_MOST_CELLS]
    of = "" if array.size <= _MOST_CELLS else f", of the first {_MOST_CELLS:,}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if array.dtype.kind in "fc" and (missing := int((some != some).sum())):
            sheet.add(f"{missing:,} NaN{of}")
            some = some[some == some]
        if array.dtype.kind in "biufmM" and some.size:
            sheet.add(f"min {some.min()}, max {some.max()}{_mean(some)}{of}")
    first = [_number(item) for item in array.flat[: sheet.items].tolist()]
    more = ", …" if array.size > len(first) else ""
    sheet.add(f"first values: {', '.join(first)}{more}")


def _mean(array: Any) -> str:
    return f", mean {array.mean():.6g}" if array.dtype.kind in "biuf" else ""


def _number(item: object) -> str:
    return f"{item:.6g}" if isinstance(item, float) else shorten(str(item), _WIDTH)


def _tensor_line(tensor: Any) -> str:
    return f"{_array_line(tensor)}, on {tensor.device}"


def _tensor(tensor: Any, sheet: Sheet) -> None:
    """A torch tensor. One on another device is not copied from there."""
    gradient = ", requires gradient" if tensor.requires_grad else ""
    sheet.add(f"shape {tuple(tensor.shape)}, {tensor.dtype}, on {tensor.device}{gradient}")
    if str(tensor.device) == "cpu" and tensor.numel():
        first = tensor.detach().flatten()[: sheet.items].tolist()
        sheet.add(f"first values: {', '.join(map(_number, first))}")


def _network_line(network: Any) -> str:
    return f"{sum(one.numel() for one in network.parameters()):,} parameters"


def _network(network: Any, sheet: Sheet) -> None:
    """A torch module."""
    sheet.add(f"{_network_line(network)}, {'training' if network.training else 'evaluating'}")
    for name, child in list(network.named_children())[: 2 * sheet.items]:
        sheet.add(f"  {name}: {type(child).__name__}, {_network_line(child)}")


def _estimator(model: Any, sheet: Sheet) -> None:
    """A scikit-learn estimator: what it was given, and what it has learnt."""
    sheet.tell("parameters", lambda: shorten(str(model.get_params(deep=False)), sheet.most // 2))
    learnt = [name for name in vars(model) if name.endswith("_") and not name.startswith("_")]
    sheet.add("fitted" if learnt else "not fitted")
    for name in learnt[: 2 * sheet.items]:
        value = vars(model)[name]
        like = _array_line(value) if hasattr(value, "dtype") and hasattr(value, "shape") else ""
        sheet.tell(f"  .{name}", lambda like=like, value=value: like or shorten(repr(value), 80))  # type: ignore[misc]


def _figure_line(figure: Any) -> str:
    width, height = figure.get_size_inches()
    return f"{width:g} x {height:g} inches, {len(figure.axes)} axes"


def _figure(figure: Any, sheet: Sheet) -> None:
    """A matplotlib figure."""
    sheet.add(_figure_line(figure))
    for axes in figure.axes[: sheet.items]:
        sheet.add(f"  {_axes_line(axes)}")


def _axes_line(axes: Any) -> str:
    kinds = ("lines", "patches", "collections", "images")
    drawn = [f"{len(found)} {kind}" for kind in kinds if (found := getattr(axes, kind, ()))]
    said = {"title": axes.get_title(), "x": axes.get_xlabel(), "y": axes.get_ylabel()}
    labels = [f"{name} {shorten(text, 80)!r}" for name, text in said.items() if text]
    return ", ".join((*labels, *drawn)) or "nothing drawn"


def _image_line(image: Any) -> str:
    return f"{image.width:,} x {image.height:,} pixels, mode {image.mode}"


def _pydantic(model: Any, sheet: Sheet) -> None:
    """A pydantic model."""
    from .describing_plain import short  # it needs this module for what stands inside

    for name in list(type(model).model_fields)[: 4 * sheet.items]:
        sheet.tell(f"  {name}", lambda name=name: short(vars(model).get(name)))  # type: ignore[misc]


def _lazy(value: object, sheet: Sheet) -> None:
    """A query that was not run: it stays so."""
    sheet.add("stands for work that is not done yet; nothing of it was computed")


def _dataset(value: Any, sheet: Sheet) -> None:
    """An xarray object; its own text loads no data."""
    sheet.tell("sizes", lambda: dict(value.sizes))
    sheet.tell("", lambda: shorten(str(value), sheet.most // 2))


def _lines(line: Callable[[Any], str]) -> Callable[[Any, Sheet], None]:
    return lambda value, sheet: sheet.add(line(value))


def _nothing(value: object) -> str:
    return ""


#: By a class's package and name.
_KNOWN = {
    "pandas.DataFrame": Known(_frame, _frame_line, _frame_size),
    "pandas.Series": Known(_series, _series_line, lambda series: float(series.nbytes)),
    "pandas.Index": Known(_index, _index_line, lambda index: float(index.nbytes)),
    "pandas.GroupBy": Known(_groups, _nothing),
    "polars.DataFrame": Known(_polars, _polars_line, lambda frame: float(frame.estimated_size())),
    "polars.LazyFrame": Known(_lazy, _nothing),
    "numpy.ndarray": Known(_array, _array_line, lambda array: float(array.nbytes)),
    "numpy.generic": Known(_lines(str), str),
    "pandas.Timestamp": Known(_lines(str), str),
    "pandas.Timedelta": Known(_lines(str), str),
    "torch.Tensor": Known(
        _tensor, _tensor_line, lambda tensor: float(tensor.numel() * tensor.element_size())
    ),
    "torch.Module": Known(_network, _network_line),
    "sklearn.BaseEstimator": Known(_estimator, _nothing),
    "matplotlib.Figure": Known(_figure, _figure_line),
    "matplotlib.Axes": Known(_lines(_axes_line), _axes_line),
    "PIL.Image": Known(_lines(_image_line), _image_line),
    "pydantic.BaseModel": Known(_pydantic, _nothing),
    "xarray.Dataset": Known(_dataset, lambda value: str(dict(value.sizes))),
    "xarray.DataArray": Known(_dataset, lambda value: str(dict(value.sizes))),
}
