"""Build the documentation of archclf from its notebooks.

    python tools/docs.py build     stage the notebooks into _proc/ and build the site into _docs/
    python tools/docs.py check     dead links and anchors, missing images, warnings, leftovers in the built site
    python tools/docs.py serve     build, then serve the site on this machine
    python tools/docs.py readme    write README.md from nbs/index.ipynb (--check: only compare)

A notebook becomes a page in two steps. nbdev's `proc_nbs` takes out hidden cells and links the names in backticks;
`SiteFilter` below gives every exported definition a heading, a parameter table and its source. No cell is run.
Then smalldocs renders the staged folder `_proc/`, a plain Quarto website that Quarto itself can render as well.
"""
import argparse
import ast
import io
import json
import os
import posixpath
import re
import sys
import tempfile
import tokenize
import warnings
from collections import Counter
from configparser import ConfigParser
from functools import partial
from html import escape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copy2
from urllib.parse import unquote, urlsplit

import nbdev.serve
from fastcore.nbio import mk_cell
from nbdev.config import nbpath2html
from nbdev.process import Processor
from nbdev.processors import FilterDefaults
from nbdev.showdoc import showdoc_nm
from smalldocs.check import scan
from smalldocs.config import BuildError, ConfigError, load
from smalldocs.markdown import pandoc_id
from smalldocs.notebook import fence_for
from smalldocs.site import Site

ROOT = Path(__file__).resolve().parents[1]
NBS, STAGE, README = ROOT/'nbs', ROOT/'_proc', ROOT/'README.md'


# --- Markdown ---------------------------------------------------------------------------------------------------------

FENCED = re.compile(r'(^(?:```|~~~).*?^(?:```|~~~)[^\n]*$)', re.M|re.S)
TARGET = re.compile(r'(\]\(|\b(?:src|href)=")([^)"\s]+)')


def map_links(markdown, change):
    "Pass every relative link and image address in `markdown`, code blocks apart, through `change(path)`"
    def address(match):
        url = urlsplit(match[2])
        if url.scheme or url.netloc or not url.path or url.path.startswith('/'): return match[0]
        return match[1] + change(url.path) + match[2][len(url.path):]
    parts = FENCED.split(markdown)
    return ''.join(part if i % 2 else TARGET.sub(address, part) for i, part in enumerate(parts))


def site_name(path):
    "The name a notebook has on the site: `00_styles.ipynb` is `styles.ipynb`, as in nbdev's own links"
    return str(nbpath2html(path).with_suffix('.ipynb')) if str(path).endswith('.ipynb') else str(path)


# --- An entry for every exported definition ---------------------------------------------------------------------------

DEFINITIONS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef


def entry(node, source):
    "Markdown for the definition `node`: a heading to link to, the docstring, and a table of its parameters"
    name, words = str(showdoc_nm(node)), ast.get_docstring(node)
    methods = [f'{name}.{child.name}' for child in node.body if isinstance(child, FUNCTIONS)] if isinstance(node, ast.ClassDef) else []
    anchors = '\n'.join(f'<div id="{anchor.lower()}"></div>' for anchor in methods + ([] if words else [name]))
    if not words: return anchors
    body = '\n\n'.join(filter(None, [anchors, words, table(parameters(node, source))]))
    for own, *_ in rows(node): body = body.replace(f'`{own}`', verbatim(own))
    return f'### {name} {{#{name.lower()} .symbol}}\n\n{body}'


def verbatim(name):
    "The name of a parameter, which nbdev shall not link to a function of the same name, as backticks would have it"
    return '<code>' + name.replace('*', '&#42;').replace('_', '&#95;') + '</code>'


def comments(source):
    "The comment of each line of `source`, as `{line: token}`"
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}


def rows(node):
    "What goes into `node` and what it returns, as rows `(name, annotation, default, line)`"
    if isinstance(node, FUNCTIONS): return arguments(node.args) + returned(node)
    return fields(node) or next((arguments(child.args) for child in node.body if getattr(child, 'name', '') == '__init__'), [])


def parameters(node, source):
    "The rows of `node` as `(name, annotation, default, comment)`"
    found = comments(source)
    owner = {line: name for name, _, _, line in rows(node)}  # of several on one line, the comment speaks of the last
    return [(name, kind, default, found[line].string.lstrip('# ') if line in found and owner[line] == name else '')
            for name, kind, default, line in rows(node)]


def bare(nodes, source):
    "The lines of `source` without what the entries of `nodes` say already: docstrings (None) and comments on parameters"
    lines, found = source.splitlines(), comments(source)
    for node in nodes:
        for line in {line for *_, line in rows(node)} & found.keys(): lines[line - 1] = lines[line - 1][:found[line].start[1]].rstrip()
        words = node.body[0]
        own_lines = not lines[words.lineno - 1][:words.col_offset].strip()
        if len(node.body) > 1 and own_lines: lines[words.lineno - 1:words.end_lineno] = [None]*(words.end_lineno - words.lineno + 1)
    return lines


def pieces(source):
    "Cut the source of a cell before every documented definition: pairs of an entry, empty for the first, and bare source"
    nodes = [node for node in ast.parse(source).body if isinstance(node, DEFINITIONS)]
    documented = [node for node in nodes if ast.get_docstring(node)]
    starts = [min(part.lineno for part in [node, *node.decorator_list]) - 1 for node in documented]
    texts = [''.join(entry(node, source) + '\n' for node in nodes if node not in documented)] + [entry(node, source) for node in documented]
    lines = bare(documented, source)
    for words, start, stop in zip(texts, [0, *starts], [*starts, len(lines)]):
        yield words, '\n'.join(line for line in lines[start:stop] if line is not None).strip('\n')


def row(name, annotation, default, line):
    "One parameter with the line its comment would be on"
    kind = annotation.value if isinstance(annotation, ast.Constant) and annotation.value else annotation and ast.unparse(annotation)
    return name, str(kind or ''), ast.unparse(default) if default else '', max([line] + [part.end_lineno for part in (annotation, default) if part])


def arguments(args):
    "The arguments of a function as rows, without `self` and `cls`"
    plain = args.posonlyargs + args.args
    defaults = [None]*(len(plain) - len(args.defaults)) + args.defaults
    pairs = list(zip(plain, defaults)) + [(args.vararg, None)] + list(zip(args.kwonlyargs, args.kw_defaults)) + [(args.kwarg, None)]
    stars = {args.vararg: '*', args.kwarg: '**'}
    return [row(stars.get(arg, '') + arg.arg, arg.annotation, default, arg.end_lineno) for arg, default in pairs
            if arg and arg.arg not in ('self', 'cls')]


def returned(node):
    "The return value of a function as one row, or none"
    return [row('returns', node.returns, None, node.returns.end_lineno)] if node.returns else []


def fields(node):
    "The annotated fields of a class as rows"
    return [row(child.target.id, child.annotation, child.value, child.end_lineno) for child in node.body if isinstance(child, ast.AnnAssign)]


def table(rows):
    "A Markdown table of parameters, or nothing when none has a comment"
    if not any(comment for *_, comment in rows): return ''
    return '\n'.join(['| Parameter | Details |', '|---|---|', *(table_row(*cells) for cells in rows)])


def table_row(name, annotation, default, comment):
    "Name above type and default, so that two columns are enough on a phone"
    label = '*returns*' if name == 'returns' else f'`{name}`'
    kind = ' '.join([f'`{re.sub(r" *[|] *", " or ", annotation)}`']*bool(annotation) + [f'= `{default}`']*bool(default))
    label += f'<br><span class="type">{kind}</span>' if kind else ''
    return '| ' + ' | '.join(cell.replace('|', r'\|') for cell in (label, comment)) + ' |'


# --- Staging ----------------------------------------------------------------------------------------------------------

TITLE = re.compile(r'# [^\n]+\n*(?:> [^\n]+\n*)?(?:- [\w-]+: [^\n]+(?:\n|$))*')
HEADING = re.compile(r'^(#{2,6}) (.*[^}\s])$', re.M)  # without an anchor of its own


class SplitTitle(Processor):
    "Leave the title, subtitle and `- key: value` lines alone in their cell: nbdev takes that whole cell for the front matter"
    def begin(self):
        first = next((cell for cell in self.nb.cells if cell.cell_type == 'markdown'), None)
        match = TITLE.match(first.source) if first else None
        if not match or not first.source[match.end():].strip(): return
        self.nb.cells.insert(self.nb.cells.index(first) + 1, mk_cell(first.source[match.end():], 'markdown'))
        first.source = match[0]


class Entries(Processor):
    "Show the source of exported cells, under an entry for each definition; cells of imports alone stay out"
    def begin(self):
        self.taken = set()
        self.nb.cells = [new for cell in self.nb.cells for new in self.expand(cell)]
        for cell in self.nb.cells: cell.source = HEADING.sub(self.make_way, cell.source) if cell.cell_type == 'markdown' else cell.source

    def expand(self, cell):
        directives = getattr(cell, 'directives_', {})
        if cell.cell_type != 'code' or 'hide' in directives or not directives.keys() & {'export', 'exports'}: return [cell]
        source = re.sub(r'\A(#\|.*\n)+', '', cell.source)
        body = ast.parse(source).body
        if all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body): return [cell]
        self.taken |= {str(showdoc_nm(node)).lower() for node in body if isinstance(node, DEFINITIONS)}
        cells = [mk_cell(part, kind) for pair in pieces(source) for part, kind in zip(pair, ('markdown', 'code'))]
        for new in cells: new.directives_ = {}
        return [new for new in cells if new.source.strip()]

    def make_way(self, heading):
        "Of the heading `## Probe` and the class `Probe`, the class has the anchor #probe: nbdev links there"
        name = pandoc_id(heading[2])
        return f'{heading[0]} {{#{name}-section}}' if name in self.taken else heading[0]


class SiteFilter(FilterDefaults):
    "nbdev's processors with our entries in place of `show_doc`, which runs the notebooks' imports to find the signatures"
    left_out = 'insert_warning', 'clean_show_doc', 'exec_show_docs', 'add_fold', 'mv_exports'

    def base_procs(self):
        procs = [Entries if proc.__name__ == 'add_show_docs' else proc for proc in super().base_procs()]
        return [SplitTitle] + [proc for proc in procs if proc.__name__ not in self.left_out]


def stage():
    "Process the notebooks into `_proc/` under the names of the site; return the warnings"
    os.chdir(ROOT)  # nbdev finds its settings from the working directory,
    sys.path.insert(0, str(ROOT))  # and the names in backticks in archclf/_modidx.py: this one, whatever is installed
    nbdev.serve.FilterDefaults = SiteFilter  # proc_nbs has no argument for it
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('default')
        nbdev.serve.proc_nbs(force=True, n_workers=0)
    for path in sorted(STAGE.rglob('*.ipynb')): finish(path)
    for path in sorted(STAGE.rglob('*.qmd')): path.write_text(rename_links(path.read_text(encoding='utf-8')), encoding='utf-8')
    copy2(ROOT/'_quarto.yml', STAGE/'_quarto.yml')
    for path in STAGE.rglob('*'): os.utime(path, (0, 0))  # smalldocs writes the time of staging into the pages
    return [f'{Path(warning.filename).name}: {warning.message}' for warning in caught]


def rename_links(markdown):
    "Point links between notebooks at the names of the site"
    return map_links(markdown, site_name)


def finish(path):
    "Write the staged notebook `path` under its name on the site, with its links to match"
    notebook = json.loads(path.read_text(encoding='utf-8'))
    for cell in notebook['cells']:
        if cell['cell_type'] != 'code': cell['source'] = rename_links(re.sub(r'^output-file: .*\n', '', text(cell['source']), flags=re.M))
        for output in cell.get('outputs', []): finish_output(output, text(cell['source']))
    add_open_links(notebook['cells'], path)
    path.unlink()
    target = Path(site_name(path))
    if target.exists(): raise BuildError(f'Two notebooks would become the page {target.relative_to(STAGE)}: rename one, such as {path.name}')
    target.write_text(json.dumps(notebook), encoding='utf-8')


def add_open_links(cells, path):
    "Let a tutorial with code be opened where it can be run, once the repository has a public address on GitHub"
    if path.parent.name != 'tutorials' or not git_url().startswith('https://github.com/') or not any(cell['cell_type'] == 'code' for cell in cells): return
    there = f'{git_url().removeprefix("https://github.com/")}/blob/main/nbs/tutorials/{path.name}'
    links = (f'[Open in Kaggle](https://kaggle.com/kernels/welcome?src=https://github.com/{there}) · '
             f'[Open in Colab](https://colab.research.google.com/github/{there})')
    cells.insert(1, {'cell_type': 'markdown', 'metadata': {}, 'source': links})


def finish_output(output, source):
    "Mend the links of a Markdown output, and show a picture at the size the notebook shows it"
    data, size = output.get('data', {}), output.get('metadata', {}).get('image/png', {})
    if 'text/markdown' in data: data['text/markdown'] = rename_links(text(data['text/markdown']))
    if 'image/png' not in data or 'width' not in size: return
    alt = re.search(r'^#\|\s*fig-alt:\s*(.*)', source, re.M)
    picture = text(data.pop('image/png')).replace('\n', '')
    data['text/html'] = (f'<img src="data:image/png;base64,{picture}" width="{size["width"]}" height="{size["height"]}" '
                         f'alt="{escape(alt[1].strip(chr(34))) if alt else ""}">')


def text(source):
    "A notebook stores text as a string or as a list of lines"
    return source if isinstance(source, str) else ''.join(source)


# --- The site ---------------------------------------------------------------------------------------------------------

NO_ADDRESS = 'https://no-address.invalid/'


def git_url():
    "The public address of the repository from settings.ini, or an empty string"
    settings = ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    return settings['DEFAULT'].get('git_url', '').rstrip('/')


def site_url():
    "Where the pages of a repository on GitHub or GitLab are served, or an empty string"
    match = re.fullmatch(r'https://git(hub|lab)\.com/([^/]+)/([^/]+)', git_url())
    return f'https://{match[2]}.git{match[1]}.io/{match[3]}/' if match else ''


def render(out):
    "Render the staged folder into `out`; return the warnings"
    project = load(STAGE)
    project.website['site-url'] = site_url() or NO_ADDRESS
    if git_url(): project.website['navbar']['tools'] = [dict(icon='git', href=git_url(), text='Source code')]
    site = Site(project, quiet=True)
    site.out = out
    site.build()
    (out/'sitemap.xml').unlink()  # its dates are those of the staged files
    if not site_url(): relative_feeds(out)
    return site.warnings + [f'{page.src}: {message}' for page in site.pages.values() for _, message in scan(page.body)]


def relative_feeds(out):
    "Without a public address, link the entries of a feed relative to the feed"
    for feed in out.rglob('*.xml'):
        up = '../'*len(feed.relative_to(out).parts[:-1])
        feed.write_text(feed.read_text(encoding='utf-8').replace(NO_ADDRESS, up or './'), encoding='utf-8')


def missing_pages():
    "The pages that _quarto.yml lists and no notebook becomes"
    listed = re.findall(r'[\w/.-]+\.(?:ipynb|qmd)\b', re.sub(r'#.*', '', (STAGE/'_quarto.yml').read_text(encoding='utf-8')))
    return [f'_quarto.yml lists {page}, but no notebook in nbs/ becomes that page' for page in listed if not (STAGE/page).exists()]


def build(out):
    "Stage and render the site into `out`; return the problems"
    problems = stage() + (missing_pages() or render(out))
    if not problems and any('src="live/index.html"' in page.read_text(encoding='utf-8') for page in out.glob('*.html')): add_live(out/'live')
    return problems


def add_live(folder):
    "The classifier that runs in the reader's browser, for the page that shows it"
    from archclf.space import write_static
    runtime = ROOT/'tests/node_modules/onnxruntime-web'
    write_static(folder, runtime=runtime if runtime.is_dir() else None)


# --- Checking the built site ------------------------------------------------------------------------------------------

class Page(HTMLParser):
    "What the check needs of one built page: ids, links, headings and visible text"
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.headings, self.words, self.prose, self.silent, self.code = [], [], 0, [], [], 0, 0
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found['id']] if found.get('id') else []
        self.links += [found[name] for name in ('href', 'src') if found.get(name)]
        self.headings += tag == 'h1'
        self.silent += tag in ('script', 'style')
        self.code += tag in ('pre', 'code')

    def handle_endtag(self, tag):
        self.silent -= tag in ('script', 'style')
        self.code -= tag in ('pre', 'code')

    def handle_data(self, data):
        if not self.silent: self.words.append(data)
        if not self.silent and not self.code: self.prose.append(data)


def inspect(out):
    "The problems of the built site in `out`"
    pages = {path: Page(path) for path in sorted(out.rglob('*.html'))}
    problems, linked = [], {out/'index.html'}
    for path, page in pages.items():
        found = [(link, resolve(out, path, link)) for link in page.links]
        linked |= {target for _, target in found if target not in (None, path)}
        problems += [f'{path.relative_to(out)}: {problem}' for problem in page_problems(page)]
        problems += [f'{path.relative_to(out)}: dead link {link}' for link, target in found if target and dead(link, target, pages)]
    return problems + [f'{path.relative_to(out)}: no other page links to it: list it in _quarto.yml' for path in pages if path not in linked]


def resolve(out, path, link):
    "The file a link on the page `path` points at, or None when it leaves the site"
    url = urlsplit(link)
    if url.scheme or url.netloc: return None
    if url.path.startswith('/'): return Path(link)  # no such file: the site works under any address, so its links are relative
    target = Path(posixpath.normpath(path.parent/unquote(url.path))) if url.path else path
    return target/'index.html' if target.is_dir() else target


def dead(link, target, pages):
    "Whether the file is missing, or the page has no such anchor"
    anchor = unquote(urlsplit(link).fragment)
    if target not in pages: return not target.is_file()
    return bool(anchor) and not anchor.startswith('category=') and anchor not in pages[target].ids  # the blog's script reads #category=


def page_problems(page):
    "What is wrong with a page by itself"
    words = ''.join(page.words)
    if not page.headings: yield 'no title: begin the notebook with a cell "# title"'
    yield from (f'two places have the anchor #{name}: rename the heading' for name, times in Counter(page.ids).items() if times > 1)
    yield from (f'leftover shortcode {match[0]}' for match in re.finditer(r'\{\{<.*?(>\}\}|$)', words, re.M))
    yield from (f'leftover link {match[0]}: a name in backticks is a link already' for match in re.finditer(r'\]\([^)\s]*\.(ipynb|html)[^)\s]*\)', ''.join(page.prose)))
    yield from (f'leftover directive {match[0].strip()}' for match in re.finditer(r'^[ \t]*#\|.*', words, re.M))


def check(out):
    "The problems of the site in `out`, and the warnings of rendering it"
    if not (STAGE/'_quarto.yml').exists() or not (out/'index.html').exists():
        return [f'There is no site in {out} to check: run python tools/docs.py build']
    with tempfile.TemporaryDirectory() as scratch: found = render(Path(scratch)/'site')
    return found + inspect(out)


# --- README -----------------------------------------------------------------------------------------------------------

def readme():
    "The text of README.md: the Markdown, code and text outputs of nbs/index.ipynb"
    notebook = json.loads((NBS/'index.ipynb').read_text(encoding='utf-8'))
    parts = [block for cell in notebook['cells'] for block in blocks(cell)]
    return '\n\n'.join(part.strip('\n') for part in parts if part.strip()) + '\n'


def blocks(cell):
    "The Markdown of one cell of index.ipynb"
    source = text(cell['source'])
    if cell['cell_type'] == 'markdown': yield map_links(source, readme_path)
    if cell['cell_type'] != 'code': return  # a raw cell holds front matter
    options, code = re.match(r'((?:#\|.*\n?)*)(.*)', source, re.S).groups()
    if re.search(r'#\|\s*(hide|default_exp|export|include:\s*false)\b', options): return
    if not re.search(r'#\|\s*echo:\s*false', options): yield fenced(code, 'python')
    if not re.search(r'#\|\s*output:\s*false', options): yield from map(output_text, cell['outputs'])


def fenced(code, language=''):
    "A code block"
    fence = fence_for(code)
    return f'{fence}{language}\n{code.rstrip()}\n{fence}' if code.strip() else ''


def output_text(output):
    "An output as Markdown; pictures have no text and are left out"
    if output['output_type'] == 'error': raise BuildError(f"nbs/index.ipynb: a cell ends in {output['ename']}: mend it and save the notebook")
    if 'text' in output: return fenced(text(output['text']))
    data = output['data']
    if 'text/markdown' in data: return map_links(text(data['text/markdown']), readme_path)
    return '' if any(kind.startswith('image/') for kind in data) else fenced(text(data.get('text/plain', '')))


def readme_path(path):
    "A path beside index.ipynb as seen from README.md"
    target = posixpath.normpath(posixpath.join('nbs', path))
    if not (ROOT/target).exists():
        raise BuildError(f'nbs/index.ipynb links to {path}, which is no file there: link to a notebook by its file name, such as 00_styles.ipynb')
    return target


def write_readme(only_check):
    "Write README.md, or with `only_check` compare it; return the problems"
    new = readme()
    if not new.startswith('# '): return ['nbs/index.ipynb has no title: its first Markdown cell begins with "# archclf"']
    old = README.read_text(encoding='utf-8') if README.exists() else ''
    if only_check: return ['README.md differs from nbs/index.ipynb: run python tools/docs.py readme'] if old != new else []
    temporary = README.with_name('README.md.new')
    temporary.write_text(new, encoding='utf-8')
    temporary.replace(README)
    return []


# --- The command ------------------------------------------------------------------------------------------------------

def serve(out, port):
    "Serve the built site on this machine until Ctrl-C"
    server = ThreadingHTTPServer(('127.0.0.1', port), partial(SimpleHTTPRequestHandler, directory=out))
    print(f'http://127.0.0.1:{server.server_port}/ (Ctrl-C to stop)', flush=True)
    try: server.serve_forever()
    except KeyboardInterrupt: server.server_close()


def parse_args():
    "The command line"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    for name in ('build', 'check', 'serve'):
        command = commands.add_parser(name)
        command.add_argument('--out', type=Path, default=ROOT/'_docs', help='folder of the built site (default: _docs)')
        if name == 'serve': command.add_argument('--port', type=int, default=8000, help='default: 8000; 0 takes a free one')
    command = commands.add_parser('readme')
    command.add_argument('--check', action='store_true', help='exit 1 if README.md differs from what would be written')
    return parser.parse_args()


def main():
    "Run one command: 0 when all is well, else 1 and one line a problem"
    args = parse_args()
    try:
        if args.command == 'readme': problems = write_readme(args.check)
        elif args.command == 'check': problems = check(args.out.resolve())
        else: problems = build(args.out.resolve())
        if args.command == 'serve' and not problems: serve(args.out.resolve(), args.port)
    except (BuildError, ConfigError, OSError) as error: problems = [str(error)]
    for problem in dict.fromkeys(problems): print(problem, file=sys.stderr)
    return bool(problems)


if __name__ == '__main__': sys.exit(main())
