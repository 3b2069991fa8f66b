"""Measures Python sources for the house rules; knows the sources' text and nothing else."""

import ast
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function in `tree`: methods and nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def public_things(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """The module, its public classes, functions and methods: name, and whether documented."""
    yield "module", ast.get_docstring(tree) is not None
    yield from _public_in(tree)


def _public_in(parent: ast.Module | ast.ClassDef) -> Iterator[tuple[str, bool]]:
    for node in parent.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if _repeats_a_documented_one(node):
            continue
        yield node.name, ast.get_docstring(node) is not None
        if isinstance(node, ast.ClassDef):
            yield from _public_in(node)


def _repeats_a_documented_one(node: Function | ast.ClassDef) -> bool:
    """An overload, a property's setter, an override: what it repeats carries the docstring."""
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(names & {"overload", "setter", "deleter", "override"})


def is_annotated(function: Function, *, method: bool) -> bool:
    """Say whether every parameter and the return are annotated; `self` and `cls` need not be."""
    given = function.args
    named = [*given.posonlyargs, *given.args]
    static = any(ast.unparse(d) == "staticmethod" for d in function.decorator_list)
    if method and not static:
        named = named[1:]
    rest = [arg for arg in (given.vararg, given.kwarg) if arg is not None]
    parameters = [*named, *given.kwonlyargs, *rest]
    return function.returns is not None and all(arg.annotation is not None for arg in parameters)


def annotated_functions(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Every function: name, and whether it is fully annotated."""
    methods = {
        id(node)
        for parent in ast.walk(tree)
        if isinstance(parent, ast.ClassDef)
        for node in parent.body
    }
    for function in functions(tree):
        yield function.name, is_annotated(function, method=id(function) in methods)


def function_lengths(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every function: name, and its lines from `def` to the last, docstring included."""
    for function in functions(tree):
        assert function.end_lineno is not None
        yield function.name, function.end_lineno - function.lineno + 1


def imported_packages(tree: ast.Module) -> set[str]:
    """The top-level packages that a module imports by name, wherever in it; relative ones not."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
