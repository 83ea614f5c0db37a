"""Pages that are made from the package: one for each rule, each modifier and each public module.

They are written before Sphinx looks for pages, into folders that git ignores. The build fails where a public name has
no docstring or no page, or where a page would load something from the network.
"""
import importlib
import inspect
import os
import re
from functools import cache
from pathlib import Path
from textwrap import dedent
from types import ModuleType

from sphinx.errors import ExtensionError

import fastopt
from fastopt import optimizers, presets, rules, storage
from fastopt._rule.documentation import ARGUMENTS
from fastopt._rule.hyperparameters import EVERY
from fastopt._rule.modifiers import FACTS
from fastopt._rule.pieces import PIECES, asker

MODULES = [name for name in dir(fastopt) if isinstance(getattr(fastopt, name), ModuleType)]
CLASSES = {cls.__name__: cls for cls in optimizers.NAMED.values()}
MIXES = {"float32": ("f32", "f32", None), "state in 16 bits": ("f32", "f32", "bf16"),
         "state in 8 bits": ("f32", "f32", "q8")}
ELSEWHERE = re.compile(r'<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//|<link[^>]*stylesheet[^>]*"(?:https?:)?//')


# What is public

def public(module: ModuleType) -> list[str]:
    """What users may take from a public module, without the modules in it."""
    return [name for name in module.__all__ if not isinstance(getattr(module, name), ModuleType)]


def modules() -> list[ModuleType]:
    return [fastopt, *(importlib.import_module(f"fastopt.{name}") for name in MODULES)]


def undocumented() -> list[str]:
    """The public names, and the public methods and properties of classes, that have no docstring."""
    found = []
    for module in modules():
        for name in public(module):
            thing, full = getattr(module, name), f"{module.__name__}.{name}"
            if callable(thing) and not inspect.getdoc(thing):
                found.append(full)
            members = vars(thing).items() if inspect.isclass(thing) else ()
            attributes = (inspect.getdoc(thing) or "").partition("Attributes\n---")[2]
            found += [f"{full}.{k}" for k, of in members if not k.startswith("_") and not inspect.getdoc(of)
                      and (inspect.isfunction(of) or (isinstance(of, property) and of.fget))
                      and not re.search(rf"^(\w+, )*{k}\b", attributes, re.MULTILINE)]
    return found


# Markdown

def block(text: str) -> str:
    return f"```none\n{text}\n```"


def lines(formula: str) -> str:
    """A formula in a cell of a table."""
    return "<br>".join(f"`{line}`" for line in formula.splitlines())


def table(*rows: list[str]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---"*len(rows[0]) + "|", *body])


def rst(*text: str) -> str:
    """reStructuredText on a page of Markdown."""
    return "\n".join(["````{eval-rst}", *text, "````"])


def parts(doc: str) -> tuple[str, str, list[str]]:
    """The first line of a rule's docstring, its formula (the first indented block), and the paragraphs after that."""
    first, formula, *more = inspect.cleandoc(doc).split("\n\n")
    return first, dedent(formula), more


def markdown(paragraph: str) -> str:
    """A paragraph of a docstring. Outside of code, stars, underscores and angles are no markup; addresses are links."""
    if paragraph.startswith("    "):
        return block(dedent(paragraph))
    code = re.split(r"(`+[^`]*`+|https?://\S+\w)", paragraph)
    code[::2] = [re.sub(r"([*<_])", r"\\\1", text) for text in code[::2]]
    return "".join(f"<{part}>" if part.startswith("http") else part for part in code)


def toctree(*pages: str, caption: str = "") -> str:
    return "\n".join(["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), "", *pages, "```"])


# A page for each rule

def rule_page(cls: type) -> str:
    rule = cls.rule
    first, formula, more = parts(rule.__doc__)
    name, title = rule.name, cls.__name__
    facts = [["fact", "value"], ["default `lr`", f"{rule.defaults['lr']:g}"],
             ["state", " ".join(f"`{s}`" for s in rule.state) or "none"],
             *([f"bytes of an element, {mix}", f"{kept:.3g} kept, {moved:.3g} moved in a step"]
               for mix, (kept, moved) in storage.table(rule, MIXES).items() if rule.state or mix == "float32"),
             ["rule", f"{{py:obj}}`fastopt.rules.{name}`"]]
    if name in rules.ALL:
        facts.append(["steps in compiled code", f"{{py:obj}}`fastopt.kernels.{name}`"])
    elsewhere = [["system", "name there", "what differs from the defaults here", "`like=` changes"]]
    for system, twins in presets.TWINS.items():
        if name in twins:
            there, differs = twins[name]
            changes = ", ".join(f"{k}={v!r}" for k, v in presets.PRESETS[system][name].items())
            elsewhere.append([f'`"{system}"`', f"`{there}`", differs, f"`{changes}`" if changes else "nothing"])
    notes = [note for note in re.findall(r"^- (.*?)(?=^- |\Z)", presets.__doc__, re.MULTILINE | re.DOTALL)
             if re.search(rf"\b{title}\b(?!=)", note, re.IGNORECASE)]
    about = [table(*elsewhere) if len(elsewhere) > 1 else "No other system with a preset has it.",
             *(f"- {markdown(' '.join(note.split()))}" for note in notes)]
    return "\n\n".join([
        f"# {title}", markdown(first), block(formula), *map(markdown, more), table(*facts),
        "## In other systems", *about,
        "## Arguments", rst(f".. autoclass:: fastopt.{title}", "   :no-members:"),
        "## In compiled code",
        rst(f".. py:function:: fastopt.rules.{name}(c, {', '.join(('g', 'p', *rule.state))})", "",
            "   The new parameter and states, of one element or of arrays. ``c`` is what "
            f"``fastopt.rules.{name}.at(t, dtype, **hyperparameters)`` gives."),
        *([rst(f".. py:function:: fastopt.kernels.{name}(c, {', '.join(('g', 'p', *rule.state))})", "",
               "   One step of whole arrays, in place. ``c`` is a row of :py:func:`fastopt.kernels.table`.")]
          if name in rules.ALL else [])]) + "\n"


def rule_table() -> str:
    rows = [["name", "formula of step t = 1, 2, ...", "default lr", "state", "bytes"]]
    for cls in CLASSES.values():
        rule = cls.rule
        moved = storage.table(rule, {"": MIXES["float32"]})[""][1]
        rows.append([f"[{cls.__name__}](rules/{rule.name}.md)", lines(parts(rule.__doc__)[1]),
                     f"{rule.defaults['lr']:g}", " ".join(rule.state) or "none", f"{moved:g}"])
    return table(*rows) + "\n\n" + toctree(*(f"rules/{cls.rule.name}" for cls in CLASSES.values()), caption="Rules")


# A page for each modifier

def modifier(name: str) -> dict[str, str]:
    """What the package says of a modifier."""
    piece, facts, argument = PIECES[name], FACTS[name], asker(name)
    return {"title": facts.title, "use": facts.use, "formula": facts.formula,
            "acts on": {"gradient": "the gradient", "update": "the update", "decay": "the decay",
                        "apply": "how the update is taken from p", "after": "the new parameter"}[piece.stage],
            "state": f"`{name}`" if piece.slot == "state" else "none",
            "bytes": "8 more" if piece.slot == "state" else "no more",
            "reads": "all that the step reads, once before it" if piece.terms else "nothing before the step",
            "needs": ", ".join(f"`{k}`" for k in piece.needs if k != "lr") or "nothing",
            "doc": EVERY.docs.get(argument) or ARGUMENTS[argument].doc,
            "source": facts.source or "none", "twin": f"`{facts.twin}`" if facts.twin else "none", "argument": argument}


def modifier_page(name: str) -> str:
    of = modifier(name)
    facts = table(["fact", "value"], ["argument", f"`{of['argument']}`, off by default"], ["acts on", of["acts on"]],
                  ["state", of["state"]], ["bytes moved for each element, state in float32", of["bytes"]],
                  ["reads", of["reads"]], ["needs of the rule", of["needs"]], ["elsewhere", of["twin"]],
                  ["source", markdown(of["source"])])
    return "\n\n".join([f"# {of['title']}", f"`fastopt.AdamW(params, {of['use']})`", block(of["formula"]),
                        markdown(of["doc"]), facts]) + "\n"


def modifier_table() -> str:
    rows = [["name, argument", "formula", "state", "bytes more", "reads twice", "source", "elsewhere"]]
    for name in PIECES:
        if name in FACTS:
            of = modifier(name)
            rows.append([f"[{of['title']}](modifiers/{name}.md)<br>`{of['use']}`", lines(of["formula"]), of["state"],
                         "8" if PIECES[name].slot == "state" else "0", "yes" if PIECES[name].terms else "no",
                         markdown(of["source"].partition(",")[0]), of["twin"]])
    return table(*rows) + "\n\n" + toctree(*(f"modifiers/{name}" for name in FACTS), caption="Modifiers")


# A page for each module

def directive(module: ModuleType, name: str) -> str:
    """The documentation of a name. What a class of torch has, its documentation says."""
    thing = getattr(module, name)
    full = f"{module.__name__}.{name}"
    if inspect.isclass(thing):
        members = [":no-members:"] if module.__name__ == "fastopt.torch" else [":members:", ":inherited-members:"]
        return rst(f".. autoclass:: {full}", *(f"   {option}" for option in members))
    if callable(thing):
        return rst(f".. autofunction:: {full}")
    return rst(f".. autodata:: {full}", "   :no-value:")


def module_page(module: ModuleType) -> str:
    """What a module is for, and all that is in it; rules and their classes have pages of their own."""
    own = [name for name in public(module) if not made_of_a_rule(module, name)]
    made = [name for name in public(module) if made_of_a_rule(module, name)]
    text = [f"# {module.__name__}", rst(f".. automodule:: {module.__name__}", "   :no-members:")]
    if made:
        text.append("## One for each rule")
        text.append(", ".join(f"{{py:obj}}`{name} <{module.__name__}.{name}>`" for name in made))
    for name in own:
        text += [f"## {name}", directive(module, name)]
    return "\n\n".join(text) + "\n"


def made_of_a_rule(module: ModuleType, name: str) -> bool:
    if module is fastopt:
        return name in CLASSES
    return module.__name__ in ("fastopt.rules", "fastopt.kernels") and name in {**rules.ALL, **rules.MODIFIED}


def module_table() -> str:
    return table(["module", "what it is"], *(
        [f"[{module.__name__}](modules/{module.__name__}.md)", markdown(inspect.getdoc(module).partition("\n\n")[0])]
        for module in modules())) + "\n\n" + toctree(*(f"modules/{module.__name__}" for module in modules()))


# Sphinx

def write(docs: Path) -> None:
    """All pages, where they differ from what is there: Sphinx reads again what is newer."""
    pages = {f"methods/rules/{cls.rule.name}.md": rule_page(cls) for cls in CLASSES.values()}
    pages |= {f"methods/modifiers/{name}.md": modifier_page(name) for name in PIECES if name in FACTS}
    pages |= {f"reference/modules/{module.__name__}.md": module_page(module) for module in modules()}
    pages |= {"methods/rules/table.txt": rule_table(), "methods/modifiers/table.txt": modifier_table(),
              "reference/modules/table.txt": module_table()}
    for folder in ("methods/rules", "methods/modifiers", "reference/modules"):
        (docs/folder).mkdir(exist_ok=True)
        for path in {*(docs/folder).iterdir()} - {docs/page for page in pages}:
            path.unlink()
    for page, text in pages.items():
        if not (docs/page).exists() or (docs/page).read_text(encoding="utf-8") != text:
            (docs/page).write_text(text, encoding="utf-8")


SECTION = re.compile(r"(?P<list>Parameters|Attributes|Returns|Raises)|Notes|Examples")


def of_a_rule(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, fastopt.Optimizer) and hasattr(thing, "rule")


def plain(line: str) -> str:
    """A line of a docstring for reStructuredText: bars, stars and underscores outside of code are no markup."""
    code = re.split(r"(`+[^`]*`+)", line)
    code[::2] = [re.sub(r"(\||(?<=\w)_(?!\w)|(?<![*\w`)])\*(?=\w))", r"\\\1", text) for text in code[::2]]
    return "".join(code)


def docstring(app, what, name, thing, options, doc) -> None:
    """Indented blocks outside of lists are formulas, and shown as they are written. A rule's class: its arguments."""
    if what == "class" and of_a_rule(thing):
        del doc[:doc.index("Parameters")]
    new, in_list, formula = [], False, False
    for line, after in zip(doc, [*doc[1:], ""], strict=True):
        if found := SECTION.fullmatch(line) if after.startswith("---") else None:
            in_list = found["list"] is not None
        indented = line.startswith("    ") and not in_list
        if indented and not formula and new and not new[-1]:
            new += ["::", ""]
        formula = (indented and new[-1:] == [""]) or (formula and (indented or not line))
        new.append(line if formula else plain(line))
    doc[:] = new


def signature(app, what, name, thing, options, args, returns):
    """Of a rule's class: its arguments have the list."""
    return (f"(params, lr={thing.rule.defaults['lr']:g}, **arguments)", None) if of_a_rule(thing) else None


def rewritten(text: str, folder: Path, docs: Path, docname: str) -> str:
    """The links of a text in `folder`, for the page `docname`: to the page that shows a file, else to the file."""
    def link(found: re.Match) -> str:
        path = (folder/found[1]).resolve()
        if path in (shown := shown_by(docs)):
            path = shown[path]
        to = os.path.relpath(path, (docs/docname).parent)
        outside = path.suffix == ".md" and not path.is_relative_to(docs)
        return f"]({'path:' if outside else ''}{to}{found[2] or ''})"
    text = re.sub(r"(?<=\d) (?=(?:ms|us|ns|%) \|)", "\u00a0", text)  # a number and its unit stay on one line of a cell
    return re.sub(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", link, text)


@cache
def shown_by(docs: Path) -> dict[Path, Path]:
    """{file of the repository: the page that includes it}, and the README, which the front page stands for."""
    pages = [page for page in docs.rglob("*.md") if "_build" not in page.parts]
    found = {(page.parent/file).resolve(): page for page in pages
             for file in re.findall(r"^```{include} (.*\.md)$", page.read_text(encoding="utf-8"), re.MULTILINE)}
    return {**found, docs.parent/"README.md": docs/"index.md"}


def page_links(app, docname, text) -> None:
    text[:] = [rewritten(text[0], (app.srcdir/f"{docname}.md").parent, app.srcdir, docname)]


def included_links(app, path, parent, text) -> None:
    if path.suffix == ".md":
        text[:] = [rewritten(text[0], (app.srcdir/path).resolve().parent, app.srcdir, app.env.docname)]


def of_ours(app, what, name, thing, skip, options):
    """Members of a class that are written here, of whichever class above it."""
    function = getattr(thing, "fget", thing)
    return None if str(getattr(function, "__module__", "")).startswith("fastopt") else True


def check_names(app, env) -> None:
    """Every public name has a page."""
    known = {name for name, *_ in env.get_domain("py").get_objects()}
    missing = [full for module in modules() for name in public(module)
               if (full := f"{module.__name__}.{name}") not in known]
    if missing:
        raise ExtensionError(f"pages: {', '.join(missing)}: no page, but each public name needs one.")


def check_network(app, error) -> None:
    """No page loads a script, a style sheet or a picture from elsewhere."""
    if error is None:
        found = [path.name for path in Path(app.outdir).rglob("*.html") if ELSEWHERE.search(path.read_text())]
        if found:
            raise ExtensionError(f"pages: {', '.join(found[:5])}: something is loaded from the network.")


def setup(app):
    if missing := undocumented():
        raise ExtensionError(f"pages: {', '.join(missing)}: no docstring, but each public name needs one.")
    write(Path(app.srcdir))
    app.connect("autodoc-process-docstring", docstring, priority=400)  # before numpydoc
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", of_ours)
    app.connect("source-read", page_links)
    app.connect("include-read", included_links)
    app.connect("env-check-consistency", check_names)
    app.connect("build-finished", check_network)
    return {"parallel_read_safe": True}
