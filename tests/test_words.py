"The five languages say the same things, in their own words and their own typography, whatever a browser asks for."
import json
import re
import shutil
import subprocess
import sys
import zipfile
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archclf.image import REASONS
from archclf.styles import STYLES
from archclf.words import FOLDER, GAP, LANGUAGES, Words, choose_language

ROOT = Path(__file__).resolve().parents[1]
OTHERS = LANGUAGES[1:]
SAME = {  # what a language says as English does
    'de': {'say/separator', 'say/trouble line', 'say/credit alone'},
    'fr': {'say/separator', 'say/credit alone', 'names/baroque'},
    'es': {'say/separator', 'say/trouble line', 'say/credit alone'},
    'zh': {'say/decimal', 'say/percent'}}
PAIRS = {' '.join(pair) for pair in combinations(sorted(STYLES), 2)}


def twice_is_wrong(pairs):
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), 'a key stands there twice'
    return dict(pairs)


def texts(language):
    "`{path of the text: text}` of a whole file."
    def walk(value, path): return {path: value} if isinstance(value, str) else {k: v for key in value for k, v in walk(value[key], f'{path}/{key}').items()}
    found = json.loads((FOLDER/f'{language}.json').read_text('utf-8'), object_pairs_hook=twice_is_wrong)
    return {path[1:]: text for path, text in walk(found, '').items()}


def test_languages_are_the_files():
    assert {path.name for path in FOLDER.iterdir()} == {f'{language}.json' for language in LANGUAGES}


@pytest.mark.parametrize('language', OTHERS)
def test_same_keys_and_gaps_as_english(language):
    english, found = texts('en'), texts(language)
    own = {f'{part}/{label}' for part in ('names', 'look for') for label in STYLES}
    assert set(found) == set(english) | own
    for path, text in found.items():
        assert text.strip() or path == 'say/separator', path
        assert sorted(GAP.findall(text)) == sorted(GAP.findall(english.get(path, ''))), path
        assert re.sub(GAP, '', text).count('{') == 0, path
        assert text.count('\n') == english.get(path, '').count('\n'), path


@pytest.mark.parametrize('language', OTHERS)
def test_nothing_was_left_in_english(language):
    words, english, found = Words.open(), texts('en'), texts(language)
    english |= {f'names/{label}': words.name(label) for label in STYLES} | {f'look for/{label}': STYLES[label].look_for for label in STYLES}
    assert {path for path, text in found.items() if text.casefold() == english[path].casefold()} == SAME[language]


@pytest.mark.parametrize('language', LANGUAGES)
def test_every_pair_name_and_reason(language):
    words = Words.open(language)
    assert set(words.texts['apart']) == PAIRS and len(PAIRS) == 28
    assert set(words.texts['say']['reasons']) == set(REASONS)
    assert len({words.name(label) for label in STYLES}) == len(STYLES)
    assert all(words.look_for(label) for label in STYLES)
    for first, second in combinations(STYLES, 2): assert len(words.apart(first, second)) > 40 and words.apart(first, second) == words.apart(second, first)
    assert words.apart('gothic', 'poodle') == words.apart('gothic', 'gothic') == words.look_for('poodle') == ''
    assert words.say('others', count=3) and words.reason('damaged') == words.texts['say']['reasons']['damaged']


WRONG = {  # typography that a reader of the language would stumble over
    'en': r"[“”„«»‘’]|[^\x00-\x7f…é]",
    'de': r'["\']|[^-\N{NO-BREAK SPACE}]%|[ ][;:!?]|“[^„]*“|\bdaß',
    'fr': r'["\']|[^\N{NARROW NO-BREAK SPACE}][;!?]|[^\N{NO-BREAK SPACE}]:|«[^\N{NO-BREAK SPACE}]|[^\N{NO-BREAK SPACE}]»|[^\N{NO-BREAK SPACE}]%',
    'es': r'["\'“”]|[^\N{NO-BREAK SPACE}]%|^[^¿]*\?|^[^¡]*!|[ ][;:!?]',
    'zh': r'["\',;:!?()]|[\u4e00-\u9fff]\.|\. |[ ]'}


@pytest.mark.parametrize('language', LANGUAGES)
def test_typography(language):
    known = {'say/decimal', 'say/separator', 'say/and', 'say/or', 'language'}
    for path, text in texts(language).items():
        assert path in known or not (found := re.search(WRONG[language], text)), (path, found)


@pytest.mark.parametrize('language', LANGUAGES)
def test_shares(language):
    words, blank = Words.open(language), '' if language in ('en', 'zh') else '\N{NO-BREAK SPACE}'
    comma = '.' if language in ('en', 'zh') else ','
    assert [words.percent(share) for share in (0, .5, 1)] == [f'<1{blank}%', f'50{blank}%', f'>99{blank}%']
    assert [words.percent(share, 1) for share in (0, .8901, 1)] == [f'0{comma}0{blank}%', f'89{comma}0{blank}%', f'100{comma}0{blank}%']
    assert words.number(1.94) == f'1{comma}9'


@given(st.floats(0, 1))
def test_a_probability_is_never_none_or_all(share):
    said = Words('en', {'say': {'percent': '{number}', 'decimal': '.'}}).percent(share)
    assert said in ('<1', '>99') or 1 <= int(said) <= 99 and abs(int(said) - 100 * share) <= .5 + 1e-9


@pytest.mark.parametrize('items, said', [(['a'], 'a'), (['a', 'b'], 'a or b'), (['a', 'b', '{or}'], 'a, b or {or}')])
def test_lists(items, said):
    assert Words.open().listed(items, 'or') == said
    assert Words.open('zh').listed(['甲', '乙', '丙'], 'or') == '甲、乙或丙'


@given(st.text())
def test_any_label_has_a_name(label):
    name = Words.open('fr').name(label)
    assert name or not label
    assert Words.open('fr').say('no', label=name).endswith(name)


def test_what_is_wrong_is_named():
    words = Words.open('es')
    with pytest.raises(ValueError, match="'../es' is not known; choose from en, de"): Words.open('../es')
    with pytest.raises(KeyError, match="'hello' in es.json"): words.say('hello')
    with pytest.raises(KeyError, match="'reasons' in es.json"): words.say('reasons')
    with pytest.raises(ValueError, match='has the gaps label, got none'): words.say('no')
    with pytest.raises(ValueError, match='has the gaps none, got label'): words.say('yes', label='x')


ACCEPTED = {
    'de': 'de', 'de-AT': 'de', 'DE-de': 'de', 'zh-TW,en;q=.9': 'zh', 'zh-Hans-CN, zh;q=0.9': 'zh', 'fr;q=0.3,es;q=0.31': 'es', 'es;q=1.0, fr': 'es',
    'pt, it;q=0.9': 'en', 'pt,de;q=0.001': 'de', 'de;q=0,fr;q=0.0': 'en', 'en;q=0,de;q=0.1': 'de', '*': 'en', '*,de;q=0.5': 'de', 'de ; q=0.5, fr;q = 0.4': 'de',
    'dex': 'en', 'de_AT': 'en', 'de;q=2,fr;q=0.1': 'fr', 'de;q=nan,es;q=0.1': 'es', 'de;q=-1': 'en', 'de;q=': 'en', ',': 'en', '\0de': 'en', '': 'en', None: 'en'}


@pytest.mark.parametrize('header', ACCEPTED)
def test_accept_language(header):
    assert choose_language(header) == ACCEPTED[header]


parts = st.builds('{}{}{}{}'.format, st.sampled_from(['de', 'FR', 'zh', 'en', 'xx', '*', '']), st.sampled_from(['', '-AT', '-Hans-CN', '-']),
                  st.sampled_from(['', ';q=', ' ; q=', ';']), st.sampled_from(['', '0', '1', '0.5', '٣', 'nan', 'inf', '1e9', '0.' + '9' * 500]))


@given(st.none() | st.text() | st.lists(parts).map(','.join))
@example('de' + '-' * 100_000 + ';')
@example('de;q=0.' + '0' * 100_000 + 'x')
@example(' ' * 100_000 + 'de' + ' ' * 100_000 + ';')
@example(',' * 1_000_000)
def test_no_header_does_harm(header):
    assert choose_language(header) in LANGUAGES


def test_the_wheel_holds_the_languages_and_the_static_page(tmp_path):
    source = tmp_path/'source'
    source.mkdir()
    for name in 'setup.py', 'settings.ini', 'pyproject.toml', 'README.md', 'LICENSE': shutil.copy(ROOT/name, source)
    shutil.copytree(ROOT/'archclf', source/'archclf', ignore=shutil.ignore_patterns('__pycache__'))
    build = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '--no-index', '--disable-pip-version-check', '-w', str(tmp_path), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob('*.whl'))) as wheel:
        for language in LANGUAGES: assert wheel.read(f'archclf/languages/{language}.json') == (FOLDER/f'{language}.json').read_bytes()
        for path in (FOLDER.parent/'static').iterdir(): assert wheel.read(f'archclf/static/{path.name}') == path.read_bytes()


def test_the_module_can_be_copied_into_a_space(tmp_path):
    "words.py, styles.py and the languages are enough, with nothing but Python installed."
    package = tmp_path/'archclf'
    shutil.copytree(FOLDER, package/'languages')
    for name in 'words.py', 'styles.py': shutil.copy(FOLDER.parent/name, package)
    code = "from archclf.words import Words; print(Words.open('de').name('gothic'))"
    done = subprocess.run([sys.executable, '-S', '-c', code], cwd=tmp_path, env={'PYTHONUTF8': '1'}, capture_output=True, text=True, timeout=60)
    assert done.stdout == 'Gotik\n', done.stderr

def test_every_sentence_is_said_somewhere():
    package = FOLDER.parent
    pages = ''.join((package/name).read_text('utf-8') for name in ('app.py', 'static/app.js', 'static/index.html'))
    quiet = {'reasons', 'and', 'separator', 'percent', 'decimal'}  # `Words` itself says these
    assert [key for key in Words.open('en').texts['say'] if key not in quiet and not re.search(f'''['"]{re.escape(key)}['"]''', pages)] == []
