"What a reader of the site and of README.md relies on, built from a small project of its own."
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SIDEBAR = re.findall(r'([\w/]+)\.ipynb', (ROOT/'_quarto.yml').read_text(encoding='utf-8'))
MODULES = [name for name in SIDEBAR if name != 'index']

INDEX = [
    '# archclf\n\n> A subtitle.\n\nBegin with [the styles](00_styles.ipynb#paint) or [a journey](posts/2026-11-22-journey.ipynb).',
    '```python\n[not a link](elsewhere.ipynb)\n```',
    ('#| hide\nsecret = 1', []),
    ('print("gothic 0.93")', [dict(output_type='stream', name='stdout', text=['gothic 0.93\n'])]),
    ('facade', [dict(output_type='execute_result', execution_count=None, metadata={'image/png': dict(width=40, height=30)},
                     data={'image/png': 'iVBORw0KGgo=', 'text/plain': ['<Figure size 40x30>']})]),
]
STYLES = [
    '# styles\n\n> The classes.\n\nAn opening paragraph in the title cell.',
    ('#| default_exp styles', []),
    ('#| export\nimport numpy as np', []),
    '## Paint',
    ('''#| export
PIGMENTS = ['ochre']

def paint(
    wall:'np.ndarray|None',  # What to paint | or leave
    *layers:str,
    coats:int=2,  # Between 1 and 3
    **options,  # For the brush
) -> 'np.ndarray':  # The same wall
    "Paint a wall with `coats` of paint."
    return _dry(wall)

class Brush:
    "A brush."
    width:int = 3  # In pixels
    def dip(self, colour):
        "Dip it."
        return colour

def _dry(wall): return wall

def coats(wall):
    "How many it has."
    return 2''', []),
    'A wall is `_dry` before `Brush.dip` is called again, see [the next page](01_sample.ipynb).',
]
JOURNEY = [
    '# A journey\n\n> Of one afternoon.\n\n- date: 2026-11-22\n- categories: [journey, walls]\n\n'
    'We use `paint` from [styles](../00_styles.ipynb#paint).',
]
EARLIER = ['# Earlier\n\n> Some weeks before.\n\n- date: 2026-11-01\n- categories: [walls]\n\nNothing yet.']
NAMES = 'paint', 'Brush', 'Brush.dip', '_dry', 'coats'


def cell(content):
    "A Markdown cell from a string, a code cell from `(source, outputs)`"
    if isinstance(content, str): return dict(cell_type='markdown', metadata={}, source=content)
    return dict(cell_type='code', metadata={}, execution_count=None, source=content[0], outputs=content[1])


def write_notebook(path, cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    cells = [dict(cell(content), id=f'cell{i}') for i, content in enumerate(cells)]
    path.write_text(json.dumps(dict(cells=cells, metadata=metadata, nbformat=4, nbformat_minor=5)))


def docs(project, *args):
    "Run tools/docs.py in `project`"
    return subprocess.run([sys.executable, project/'tools/docs.py', *args], capture_output=True, text=True, cwd=project.parent)


def problems(run):
    "The lines of a run that failed"
    assert run.returncode == 1, run.stderr
    return run.stderr.splitlines()


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    "A small project with a notebook for every page in the sidebar, and its built site"
    project = tmp_path_factory.mktemp('docs')/'project'
    for name in ('tools/docs.py', 'pyproject.toml', '_quarto.yml', 'settings.ini', 'nbs/posts/index.qmd', 'nbs/site.css', 'nbs/facade.svg'):
        (project/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/name, project/name)
    for i, name in enumerate(MODULES, start=-1):  # `try`, which has no number, comes before the first of them
        write_notebook(project/f"nbs/{name if '/' in name or name == 'try' else f'{i:02d}_{name}'}.ipynb", [f'# {name}\n\n> A page.', 'Words.', ('1 + 1', [])])
    for name, cells in {'index': INDEX, '00_styles': STYLES, 'posts/2026-11-22-journey': JOURNEY, 'posts/2026-11-01-earlier': EARLIER}.items():
        write_notebook(project/f'nbs/{name}.ipynb', cells)
    settings = dict(doc_host='', doc_baseurl='/', git_url='', branch='main', lib_path='archclf')
    (project/'archclf').mkdir()
    (project/'archclf/__init__.py').write_text('__version__ = "0"\n')
    symbols = {'archclf.styles': {f'archclf.styles.{name}': (f'styles.html#{name.lower()}', 'archclf/styles.py') for name in NAMES}}
    (project/'archclf/_modidx.py').write_text(f'd = {dict(settings=settings, syms=symbols)!r}\n')
    run = docs(project, 'build')
    assert run.returncode == 0, run.stderr
    return project


@pytest.fixture
def copy(project, tmp_path): return Path(shutil.copytree(project, tmp_path/'copy'))


@pytest.fixture(scope='module')
def module(project):
    "tools/docs.py of the small project, imported"
    spec = importlib.util.spec_from_file_location('docs_of_project', project/'tools/docs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(project, name): return (project/'_docs'/name).read_text(encoding='utf-8')


def contents(folder): return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def plain(html):
    "The words of a page"
    words = []
    parser = HTMLParser()
    parser.handle_data = words.append
    parser.feed(html)
    return ''.join(words)


def test_sidebar_leads_to_every_page_in_order(project):
    sidebar = re.search(r'<nav[^>]*id="quarto-sidebar".*?</nav>', page(project, 'styles.html'), re.S)[0]
    links = [link for link in re.findall(r'href="([^"]+)"', sidebar) if link.endswith('.html')]
    assert links == ['index.html', *(f'{name}.html' for name in MODULES), 'posts/index.html']
    assert all((project/'_docs'/link).is_file() for link in links)


def test_built_site_has_no_problems(project):
    run = docs(project, 'check')
    assert (run.returncode, run.stderr) == (0, '')


def test_names_in_backticks_lead_to_their_entries(project):
    assert '<a href="../styles.html#paint"><code>paint</code></a>' in page(project, 'posts/2026-11-22-journey.html')
    styles = page(project, 'styles.html')
    for name in NAMES:
        assert styles.count(f' id="{name.lower()}"') == 1
    assert '#brush.dip"><code>Brush.dip</code>' in styles and '#_dry"><code>_dry</code>' in styles


def test_links_between_notebooks_follow_their_names(project):
    assert '<a href="../styles.html#paint">styles</a>' in page(project, 'posts/2026-11-22-journey.html')
    assert '<a href="sample.html">the next page</a>' in page(project, 'styles.html')


def test_page_keeps_the_words_of_the_title_cell(project):
    assert 'An opening paragraph in the title cell.' in plain(page(project, 'styles.html'))


def test_entry_has_parameters_and_source(project):
    words = plain(page(project, 'styles.html'))
    for part in ('np.ndarray or None', 'What to paint | or leave', '*layers', '= 2', 'Between 1 and 3', '**options', 'For the brush', 'The same wall',
                 'In pixels', "PIGMENTS = ['ochre']", "wall:'np.ndarray|None',", 'return _dry(wall)', 'class Brush:', 'def _dry(wall): return wall'):
        assert part in words
    assert words.count('Between 1 and 3') == words.count('Paint a wall with') == 1  # the entry says it, the source need not
    assert 'import numpy' not in words


def test_parameter_is_no_link_to_a_function_of_its_name(project):
    entry = re.search('<section id="paint".*?</section>', page(project, 'styles.html'), re.S)[0]
    assert '<code>coats</code>' in entry and 'href="styles.html#coats"' not in entry and 'href="#coats"' not in entry


def test_picture_has_the_size_of_the_notebook(project):
    assert 'width="40" height="30"' in page(project, 'index.html')


def test_blog_lists_posts_newest_first(project):
    blog, feed = page(project, 'posts/index.html'), page(project, 'posts/index.xml')
    assert 0 < blog.index('A journey') < blog.index('Earlier') and 'data-category="walls"' in blog
    assert 'href="index.xml"' in blog
    assert re.findall('<item>.*?<link>(.*?)</link>', feed) == ['../posts/2026-11-22-journey.html', '../posts/2026-11-01-earlier.html']


def test_public_address_of_the_repository_is_used(copy):
    settings = (copy/'settings.ini').read_text(encoding='utf-8')
    (copy/'settings.ini').write_text(re.sub('git_url =.*', 'git_url = https://github.com/someone/archclf', settings), encoding='utf-8')
    assert docs(copy, 'build').returncode == 0
    assert '<link>https://someone.github.io/archclf/posts/2026-11-22-journey.html</link>' in page(copy, 'posts/index.xml')
    assert 'href="https://github.com/someone/archclf"' in page(copy, 'index.html')
    there = 'github.com/someone/archclf/blob/main/nbs/tutorials/kaggle_gpu.ipynb'
    assert f'href="https://kaggle.com/kernels/welcome?src=https://{there}"' in page(copy, 'tutorials/kaggle_gpu.html')
    assert f'href="https://colab.research.google.com/{there.replace("github.com", "github")}"' in page(copy, 'tutorials/kaggle_gpu.html')
    assert 'colab.research' not in page(copy, 'styles.html')


def test_search_finds_an_entry(project):
    entries = {entry['href']: entry['text'] for entry in json.loads(page(project, 'search.json'))}
    assert 'Paint a wall with' in entries['styles.html#paint']


def test_build_is_the_same_twice(project, tmp_path):
    assert docs(project, 'build', '--out', str(tmp_path/'again')).returncode == 0
    assert contents(tmp_path/'again') == contents(project/'_docs')


FAULTS = {
    '<a href="nowhere.html">x</a>': 'dead link nowhere.html',
    '<a href="styles.html#nowhere">x</a>': 'dead link styles.html#nowhere',
    '<a href="/styles.html">x</a>': 'dead link /styles.html',
    '<img src="nowhere.png">': 'dead link nowhere.png',
    '<p>[x](styles.ipynb)</p>': 'leftover link ](styles.ipynb): a name in backticks is a link already',
    '<p>{{< include x >}}</p>': 'leftover shortcode {{< include x >}}',
    '<pre>\n#| hide\n</pre>': 'leftover directive #| hide',
    '<p id="twice"></p><p id="twice"></p>': 'two places have the anchor #twice: rename the heading',
}


@pytest.mark.parametrize('fault', FAULTS)
def test_check_finds_a_planted_fault(copy, module, fault):
    target = copy/'_docs/sample.html'
    target.write_text(target.read_text(encoding='utf-8').replace('</main>', f'{fault}</main>'), encoding='utf-8')
    assert module.inspect(copy/'_docs') == [f'sample.html: {FAULTS[fault]}']


def test_check_finds_a_page_without_title_or_visitors(copy, module):
    (copy/'_docs/alone.html').write_text('<p>No heading.</p>')
    assert module.inspect(copy/'_docs') == ['alone.html: no title: begin the notebook with a cell "# title"',
                                            'alone.html: no other page links to it: list it in _quarto.yml']


def test_check_fails_on_a_dead_link(copy):
    (copy/'_docs/sample.html').unlink()
    assert 'index.html: dead link sample.html' in problems(docs(copy, 'check'))


def test_check_needs_a_site(copy):
    shutil.rmtree(copy/'_docs')
    assert problems(docs(copy, 'check')) == [f"There is no site in {copy/'_docs'} to check: run python tools/docs.py build"]


def test_build_fails_without_a_listed_page(copy):
    next(copy.glob('nbs/*_probe.ipynb')).unlink()
    assert problems(docs(copy, 'build')) == ['_quarto.yml lists probe.ipynb, but no notebook in nbs/ becomes that page']


def test_build_fails_on_a_link_to_no_page(copy):
    write_notebook(copy/'nbs/posts/2026-11-01-earlier.ipynb', [*EARLIER, 'See [that](../99_nothing.ipynb).'])
    assert problems(docs(copy, 'build')) == ['posts/2026-11-01-earlier.ipynb: broken link ../nothing.ipynb']


def test_build_fails_on_front_matter_that_cannot_be_read(copy):
    write_notebook(copy/'nbs/posts/2026-11-01-earlier.ipynb', ['# Earlier\n\n> Before.\n\n- categories: [walls'])
    assert 'Failed to create YAML dict' in '\n'.join(problems(docs(copy, 'build')))


def test_readme_is_the_index(copy):
    assert docs(copy, 'readme').returncode == 0
    assert (copy/'README.md').read_text(encoding='utf-8') == '''# archclf

> A subtitle.

Begin with [the styles](nbs/00_styles.ipynb#paint) or [a journey](nbs/posts/2026-11-22-journey.ipynb).

```python
[not a link](elsewhere.ipynb)
```

```python
print("gothic 0.93")
```

```
gothic 0.93
```

```python
facade
```
'''


def test_readme_check_detects_drift(copy):
    assert problems(docs(copy, 'readme', '--check')) == ['README.md differs from nbs/index.ipynb: run python tools/docs.py readme']
    assert docs(copy, 'readme').returncode == 0
    assert docs(copy, 'readme', '--check').returncode == 0
    write_notebook(copy/'nbs/index.ipynb', [*INDEX, 'One more line.'])
    assert problems(docs(copy, 'readme', '--check')) == ['README.md differs from nbs/index.ipynb: run python tools/docs.py readme']
    assert 'One more line.' not in (copy/'README.md').read_text(encoding='utf-8')


def test_readme_links_to_files_that_are_there(copy):
    write_notebook(copy/'nbs/index.ipynb', [*INDEX, 'See [styles](styles.html).'])
    assert 'links to styles.html, which is no file there' in problems(docs(copy, 'readme'))[0]
