"""Looks at the Python of pages without running it: is it Python 3.10, and do the calls in it fit the installed libraries?

Argument: a JSON file, [{"path", "blocks": [{"language", "code", "line"}]}], a namespace for each. Prints a JSON object:
{"problems": [text], "checked": [called name]}. A name counts as checked when its signature was found.
"""

import ast
import dataclasses
import importlib
import inspect
import json
import pathlib
import re
import sys

UNKNOWN = object()
sys.path.insert(0, "/app/.claude/scripts")


class Instance:
    """A value of a class that is known, without the value."""

    def __init__(self, of):
        self.of = of


class Checker(ast.NodeVisitor):
    def __init__(self):
        self.names = {}
        self.problems = []
        self.checked = []
        self.line = 0

    def check(self, code: str, line: int) -> None:
        self.line = line
        self.visit(ast.parse(code, feature_version=(3, 10)))

    def say(self, node, text: str) -> None:
        problem = f"line {self.line + node.lineno}: {text}"
        if problem not in self.problems:
            self.problems.append(problem)

    def visit_Import(self, node) -> None:
        for alias in node.names:
            module = self.module(node, alias.name)
            top = alias.name.split(".")[0]
            self.names[alias.asname or top] = module if alias.asname or module is UNKNOWN else sys.modules[top]

    def visit_ImportFrom(self, node) -> None:
        module = self.module(node, node.module)
        for alias in node.names:
            self.names[alias.asname or alias.name] = self.attribute(node, module, alias.name)

    def module(self, node, name: str):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            # what only a machine with a GPU has
            if name.split(".")[0] not in ("bitsandbytes", "torchcodec", "flash_attn"):
                self.say(node, f"import {name}: {error}")
            return UNKNOWN

    def attribute(self, node, value, name: str):
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(value, Instance):
            # what __init__ sets is not seen on the class
            return getattr(value.of, name, UNKNOWN)
        try:
            return getattr(value, name)
        except AttributeError:
            if inspect.ismodule(value) or inspect.isclass(value):
                self.say(node, f"{getattr(value, '__name__', value)} has no {name}")
            return UNKNOWN

    def value(self, node):
        if isinstance(node, ast.Name):
            return self.names.get(node.id, UNKNOWN)
        if isinstance(node, ast.Attribute):
            return self.attribute(node, self.value(node.value), node.attr)
        if isinstance(node, ast.Call):
            called = self.value(node.func)
            if inspect.isclass(called):
                return Instance(called)
            made = getattr(called, "__self__", None)
            if getattr(called, "__name__", "") == "from_pretrained" and inspect.isclass(made):
                return Instance(made_by(made))
        return UNKNOWN

    def visit_Assign(self, node) -> None:
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.names[target.id] = self.value(node.value)

    def visit_FunctionDef(self, node) -> None:
        self.names[node.name] = UNKNOWN
        self.generic_visit(node)

    def visit_Attribute(self, node) -> None:
        self.value(node)
        self.generic_visit(node)

    def visit_Call(self, node) -> None:
        self.generic_visit(node)
        called = self.value(node.func)
        if called is UNKNOWN or isinstance(called, Instance) or inspect.ismodule(called):
            return
        try:
            signature = inspect.signature(called)
        except (TypeError, ValueError):
            return
        name = ast.unparse(node.func)
        is_method = isinstance(node.func, ast.Attribute) and isinstance(self.value(node.func.value), Instance)
        self.checked.append(name)
        given = [keyword.arg for keyword in node.keywords if keyword.arg is not None]
        is_open = any(keyword.arg is None for keyword in node.keywords)
        is_open = is_open or any(isinstance(each, ast.Starred) for each in node.args)
        positional = [None] * (len(node.args) + (is_method and not is_bound(called)))
        try:
            bind = signature.bind_partial if is_open else signature.bind
            bind(*positional, **dict.fromkeys(given))
        except TypeError as error:
            self.say(node, f"{name}: {error}")
            return
        loose = [word for word in given if word not in signature.parameters]
        known = words_taken_by(called)
        for word in loose if known else []:
            if word not in known:
                self.say(node, f"{name} takes no {word}")
        for keyword in node.keywords:
            self.check_choice(node, called, keyword)

    def check_choice(self, node, called, keyword) -> None:
        """Words that are compared only where a GPU or the Hub is there."""
        from transformers import TrainingArguments
        from transformers.training_args import OptimizerNames

        if called is TrainingArguments and keyword.arg == "optim" and isinstance(keyword.value, ast.Constant):
            if keyword.value.value not in {each.value for each in OptimizerNames}:
                self.say(node, f"optim has no {keyword.value.value}")


def is_bound(called) -> bool:
    return getattr(called, "__self__", None) is not None


def made_by(factory):
    """AutoModel… make models whose class only the config tells: what all have."""
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    name = factory.__name__
    if name.startswith("AutoModel"):
        from transformers import GenerationMixin

        return type("AnyModel", (PreTrainedModel, GenerationMixin), {})
    return PreTrainedTokenizerBase if name == "AutoTokenizer" else factory


def words_taken_by(called) -> set:
    """Keywords that a function with **kwargs takes, as its source takes them out; empty when all may be right."""
    from transformers import BitsAndBytesConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel
    from transformers.models.auto import auto_factory

    owner = getattr(called, "__self__", None)
    name = getattr(called, "__name__", "")
    if called is BitsAndBytesConfig:
        # it warns of what it does not know, and goes on without
        return set(inspect.signature(called).parameters)
    if called is GenerationConfig:
        return set(GenerationConfig().to_dict())
    if name == "generate":
        return set(GenerationConfig().to_dict()) | {"input_ids", "attention_mask", "max_new_tokens", "stop_strings"}
    if name == "from_pretrained" and inspect.isclass(owner) and owner.__name__.startswith("AutoModel"):
        taken = words_in(PreTrainedModel.from_pretrained) | words_in(auto_factory._BaseAutoModelClass.from_pretrained)
        fields = {field.name for field in dataclasses.fields(PreTrainedConfig)} | {"num_labels"}
        return taken | fields | set(inspect.signature(PreTrainedModel.from_pretrained).parameters)
    return set()


def words_in(function) -> set:
    return set(re.findall(r"""kwargs(?:\.pop|\.get)\(\s*["'](\w+)""", inspect.getsource(function)))


def main() -> None:
    problems, checked = [], []
    for page in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        checker = Checker()
        for block in page["blocks"]:
            if block["language"] == "python":
                try:
                    checker.check(block["code"], block["line"])
                except SyntaxError as error:
                    checker.problems.append(f"line {block['line']}: {error}")
        problems += [f"{page['path']}: {problem}" for problem in checker.problems]
        checked += checker.checked
    print(json.dumps({"problems": problems, "checked": checked}))


main()
