"""Hooks of MkDocs: every page of the repository at its own path, and one page of docstrings for each package.

A page keeps its path, so that links between pages mean the same on the site as in the repository.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["cc2env", "agents", "model"]
# pages, their pictures, and the source files that pages link to
PUBLISHED = ["README.md", "LICENSE", ".github/*.md", ".github/assets/**/*"]
PUBLISHED += [f"{package}/**/*{kind}" for package in PACKAGES for kind in (".md", ".py")] + ["configs/**/*.yaml"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the repository's pages, and for each package a page of its docstrings, `reference/<package>.md`."""
    for pattern in PUBLISHED:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    reference = []
    for package, modules in sorted(public_modules().items()):
        text = f"# {package}\n\n" + "\n".join(f"::: {module}\n" for module in modules)
        files.append(File.generated(config, f"reference/{package}.md", content=text))
        reference.append({package: f"reference/{package}.md"})
    config.nav = [*(config.nav or []), {"Reference": reference}]
    return files


def public_modules() -> dict[str, list[str]]:
    """Returns the public modules of every package, by the package's dotted name."""
    packages: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
            if not any(part.startswith("_") for part in name.split(".")):
                packages.setdefault(path.parent.relative_to(ROOT).as_posix().replace("/", "."), []).append(name)
    return packages
