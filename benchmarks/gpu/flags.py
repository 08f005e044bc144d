"""Which arguments and variables each vLLM takes, read out of its sources without importing them.

A release is a wheel or an installed site-packages folder; the answer goes to tests/data/vllm_flags.json, against which
a test holds every flag that the agent may say and every variable that it may set.

    python benchmarks/gpu/flags.py WHEEL_OR_FOLDER … [--out tests/data/vllm_flags.json]
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WANTED = re.compile(r"vllm/(envs|config/\w+|engine/arg_utils|entrypoints/\w+/cli_args)\.py$")
Sources = Mapping[str, str]


def from_wheel(path: Path) -> tuple[str, str, Sources]:
    """Version, digest of the wheel, and the sources that define arguments and variables."""
    with zipfile.ZipFile(path) as wheel:
        sources = {name: wheel.read(name).decode() for name in wheel.namelist() if WANTED.match(name)}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.name.split("-")[1].partition("+")[0], digest, sources


def from_folder(path: Path) -> tuple[str, str, Sources]:
    """The same of an installed release; the digest is over those sources alone."""
    files = sorted(file for file in path.glob("vllm/**/*.py") if WANTED.match(str(file.relative_to(path))))
    sources = {str(file.relative_to(path)): file.read_text() for file in files}
    digest = hashlib.sha256("".join(sources.values()).encode()).hexdigest()
    info = next(path.glob("vllm*.dist-info")).name
    return info.split("-")[1].removesuffix(".dist").partition("+")[0], digest, sources


def flags(sources: Sources) -> list[str]:
    """Every option of the API server, `--no-…` of the switches included, sorted."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    fields = {klass.name: annotated(klass) for tree in trees.values() for klass in classes(tree)}
    found = set[str]()
    for name, tree in trees.items():
        if name.endswith(("arg_utils.py", "cli_args.py")):
            groups = configs_of(tree)
            for call in added(tree):
                found |= options(call, groups, fields)
    for name in ("BaseFrontendArgs", "FrontendArgs"):
        for field, annotation in fields.get(name, {}).items():
            found |= spelled(f"--{field.replace('_', '-')}", switches(annotation))
    return sorted(found)


def variables(sources: Sources) -> list[str]:
    """Every variable of the environment that is vLLM's own, sorted: the keys of its table of them."""
    return sorted(
        ast.literal_eval(key)
        for node in ast.parse(sources["vllm/envs.py"]).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "environment_variables"
        if isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if key
    )


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def annotated(klass: ast.ClassDef) -> dict[str, str]:
    """Field names and their annotations as text."""
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in klass.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def configs_of(tree: ast.AST) -> dict[str, str]:
    """`model_kwargs = get_kwargs(ModelConfig)` as model_kwargs: ModelConfig."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = ast.unparse(node.value)
            if match := re.match(r"get_kwargs\((\w+)\)", text):
                found[node.targets[0].id] = match[1]
    return found


def added(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_argument"):
            yield node


def options(call: ast.Call, groups: Mapping[str, str], fields: Mapping[str, Mapping[str, str]]) -> set[str]:
    names = [word.value for word in call.args if isinstance(word, ast.Constant)]
    said = " ".join(ast.unparse(keyword.value) for keyword in call.keywords)
    both = "BooleanOptionalAction" in said
    for group, field in re.findall(r"(\w+)\['(\w+)'\]", said):
        both = both or switches(fields.get(groups.get(group, ""), {}).get(field, ""))
    return {option for name in names for option in spelled(str(name), both)}


def switches(annotation: str) -> bool:
    """vLLM gives a field that may be a bool both spellings, unless it may be text too."""
    words = set(re.findall(r"\w+", annotation))
    return "bool" in words and "str" not in words


def spelled(name: str, both: bool) -> set[str]:
    if not name.startswith("--"):
        return set()
    return {name, f"--no-{name[2:]}"} if both else {name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("releases", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data" / "vllm_flags.json")
    told = parser.parse_args()
    table = json.loads(told.out.read_text()) if told.out.exists() else {}
    for path in told.releases:
        version, digest, sources = from_wheel(path) if path.suffix == ".whl" else from_folder(path)
        table[version] = {"sha256": digest, "flags": flags(sources), "variables": variables(sources)}
        print(
            f"{version}: {', '.join(f'{len(table[version][kind])} {kind}' for kind in ('flags', 'variables'))}"
        )
    told.out.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
