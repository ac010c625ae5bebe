"The sources as they are met: real clients against servers on the loopback address that behave and misbehave."
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from duckduckgoweb import DuckDuckGoWeb
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import archclf.search as search
import archclf.web
from archclf.sampleweb import WIDTHS, Picture, SampleWeb, answer, catalogue, commons_answer, jpeg
from archclf.search import Commons, DuckDuckGo, ImageHit, Openverse, SearchError, URLFile, commons_hits, duckduckgo_hits, openverse_hits, plain
from archclf.styles import STYLES
from archclf.web import Web

RECORDED = Path(__file__).resolve().parents[1]/'nbs'/'recorded'
HITS = {'commons': commons_hits, 'openverse': openverse_hits, 'duckduckgo': duckduckgo_hits}


class OddWeb(SampleWeb):
    "A sample web that gives the answer in `instead` to searches, if there is one."
    instead = None

    def respond(self, handler):
        if self.instead is None or not handler.path.startswith(('/w/', '/v1/')): return super().respond(handler)
        status, body = self.instead(handler) if callable(self.instead) else self.instead
        answer(handler, body if isinstance(body, str) else json.dumps(body), 'application/json; charset=utf-8', status)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch): monkeypatch.setattr(archclf.web, 'BACKOFF', 0)

@pytest.fixture(scope='module')
def samples():
    with OddWeb(per_style=120) as samples: yield samples

@pytest.fixture
def odd(samples):
    del samples.requests[:]
    yield samples
    samples.instead = None

@pytest.fixture(scope='module')
def web():
    with Web(allow=['127.0.0.1']) as web: yield web

def sources(web, samples): return [Commons(web, samples.commons), Openverse(web, samples.openverse)]

def questions(samples): return [{name: values[0] for name, values in parse_qs(urlsplit(target).query).items()} for target in samples.requests]


# --- Wikimedia Commons and Openverse ----------------------------------------------------------------------------------

@pytest.mark.parametrize('label', ['gothic', 'greek-and-roman-classical', 'victorian'])
def test_paging_to_the_end_gives_every_hit_once_and_in_order(web, odd, label):
    for source, size in zip(sources(web, odd), (50, 20)):
        pages = list(source.pages(STYLES[label].phrases[0], label))
        assert [len(page) for page in pages] == [size]*(120//size) + [120 % size]*(120 % size > 0)
        hits, pictures = [hit for page in pages for hit in page], odd.sites[source.name][label]
        assert [hit.url for hit in hits] == [f'{odd.address}/pictures/{picture.name}' for picture in pictures]
        assert [(hit.title, hit.width, hit.height) for hit in hits] == [(picture.title, picture.width, picture.height) for picture in pictures]
        assert {(hit.provider, hit.query, hit.label) for hit in hits} == {(source.name, STYLES[label].phrases[0], label)}
        assert all(hit.page.startswith(f'{odd.address}/about/') and hit.creator in ('archclf sample', '') for hit in hits)

def test_only_what_is_asked_for_is_fetched(web, odd):
    for source in sources(web, odd):
        pages = source.pages('gothic cathedral', 'gothic')
        assert not odd.requests
        next(pages), next(pages)
        assert len(odd.requests) == 2
        del odd.requests[:]

def test_commons_is_asked_for_bitmaps_and_thumbnails_of_standard_widths(web, odd):
    for size in (1, 60, 61, 224, 400, 500, 999, 1280):
        hits = next(Commons(web, odd.commons, size).pages('gothic cathedral', 'gothic'))
        widths = {int(found[1]) for hit in hits if (found := re.search(r'/(\d+)px-', hit.thumbnail))}
        assert len(widths) == 1 and widths <= set(WIDTHS) and min(widths) >= size
    assert all(hit.thumbnail == '' for hit in next(Commons(web, odd.commons, 1281).pages('gothic cathedral', 'gothic')))
    assert all(question['gsrsearch'] == 'gothic cathedral filetype:bitmap' and question['gsrlimit'] == '50' for question in questions(odd))

def test_openverse_is_asked_for_twenty_at_a_time(web, odd):
    list(Openverse(web, odd.openverse).pages('byzantine church', 'byzantine'))
    assert [(question['page_size'], question['page']) for question in questions(odd)] == [('20', str(page)) for page in range(1, 7)]

def test_openverse_ends_where_strangers_have_to_stop(web):
    with SampleWeb(per_style=250, flaws=False) as many:
        assert [len(page) for page in Openverse(web, many.openverse).pages('gothic cathedral', 'gothic')] == [20]*12

def test_thumbnails_and_photos_can_be_fetched(web, odd):
    for source in sources(web, odd):
        hit = next(hit for hit in next(source.pages('gothic cathedral', 'gothic')) if not odd.pictures[urlsplit(hit.url).path.split('/')[-1]].flaw)
        for address in (hit.url, hit.thumbnail):
            with web.get(address) as reply: assert (reply.kind, reply.content()[:3]) == ('image/jpeg', b'\xff\xd8\xff')

def test_phrases_of_any_kind_arrive_as_they_were_typed(web, odd):
    for phrase in ('a&b=c', 'façade ?#%', '"exact phrase" -not', '建筑', ' rose\nwindow '):
        for source in sources(web, odd): list(source.pages(phrase, 'x'))
        assert [question.get('gsrsearch', question.get('q')) for question in questions(odd)[-2:]] == [f'{phrase} filetype:bitmap', phrase]

def test_nothing_found_is_no_error(web, odd):
    for source in sources(web, odd): assert [hit for page in source.pages('baroche', 'baroche') for hit in page] == []

def test_files_whose_facts_come_later_are_found_once(web, odd):
    "Commons may say more about the same files in a second answer, to be had by its `iicontinue`."
    def halves(handler):
        query = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
        whole = commons_answer(odd.sites['commons']['gothic'], query, odd.address)
        for page in whole['query']['pages']:
            if (page['index'] % 2 == 0) != ('iicontinue' in query): del page['imageinfo']
        if 'iicontinue' in query: return 200, whole
        del whole['batchcomplete']
        return 200, {**whole, 'continue': {'iicontinue': 'x|1', 'continue': '||', **({'gsroffset': query['gsroffset']} if 'gsroffset' in query else {})}}
    odd.instead = halves
    hits = [hit for page in Commons(web, odd.commons).pages('gothic cathedral', 'gothic') for hit in page]
    assert sorted(hit.url for hit in hits) == sorted(f'{odd.address}/pictures/{picture.name}' for picture in odd.sites['commons']['gothic'])

def test_an_answer_that_never_ends_is_noticed(web, odd):
    odd.instead = 200, {'continue': {'gsroffset': 50, 'continue': '-||'}, 'query': {'pages': []}}
    with pytest.raises(SearchError) as caught: list(Commons(web, odd.commons).pages('gothic cathedral', 'gothic'))
    assert caught.value.reason == 'changed' and len(odd.requests) == 2

MISHAPS = [
    ((429, {'detail': 'Request was throttled.'}), 'rate limited', 'status 429'),
    ((500, {'detail': 'Oops'}), 'down', 'status 500'),
    ((401, {'detail': 'No'}), 'down', 'status 401'),
    ((404, {}), 'changed', 'status 404'),
    ((400, {}), 'changed', 'status 400'),
    ((200, ['Hello']), 'changed', '["Hello"]'),
    ((200, None), 'changed', 'null'),
    ((200, {'message': 'x'*5000}), 'changed', 'begins {"message": "xxxx'),
    ((200, {'query': {'pages': 7}, 'results': {'url': 1}}), 'changed', 'begins {"query'),
    ((200, '<!doctype html><title>Log in to this network</title>'), 'changed', 'no JSON'),
    ((200, '{"results": [{"url": "https://x'), 'changed', 'no JSON'),
]

@pytest.mark.parametrize('instead, reason, words', MISHAPS)
def test_a_mishap_becomes_one_line_with_a_remedy(web, odd, instead, reason, words):
    odd.instead = instead[0], instead[1] if isinstance(instead[1], str) else json.dumps(instead[1])
    for source in sources(web, odd):
        with pytest.raises(SearchError) as caught: list(source.pages('gothic cathedral', 'gothic'))
        error = caught.value
        assert (error.provider, error.reason) == (source.name, reason) and words in error.detail and 'another source' in str(error)
        assert '\n' not in str(error) and len(str(error)) < 250

def test_a_source_that_is_gone_is_down(web):
    with SampleWeb(per_style=1) as gone: pass
    for source in sources(web, gone):
        with pytest.raises(SearchError, match='cannot be reached') as caught: list(source.pages('gothic cathedral', 'gothic'))
        assert caught.value.reason == 'down'

def test_a_later_page_may_fail_and_the_first_is_kept(web, odd):
    for source in sources(web, odd):
        odd.instead, pages = None, source.pages('gothic cathedral', 'gothic')
        assert next(pages)
        odd.instead = 429, '{}'
        with pytest.raises(SearchError, match='wants no more questions'): next(pages)

@pytest.mark.parametrize('code, reason', [('ratelimited', 'rate limited'), ('maxlag', 'down'), ('cirrussearch-backend-error', 'down')])
def test_commons_own_errors_come_with_status_200(code, reason):
    with pytest.raises(SearchError) as caught: commons_hits({'error': {'code': code, 'info': 'Something about it'}, 'servedby': 'mw1'})
    assert (caught.value.reason, caught.value.detail) == (reason, f'{code}: Something about it')


# --- DuckDuckGo -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def duck(tmp_path_factory):
    with DuckDuckGoWeb(tmp_path_factory.mktemp('duckduckgo')) as duck: yield duck

@pytest.fixture
def ask(duck):
    duck.instead, duck.count = {}, 250
    del duck.requests[:]
    return lambda pause=0: DuckDuckGo(duck.proxy, str(duck.authority), pause).pages('gothic cathedral', 'gothic')

def test_ddgs_turns_all_pages_and_says_nothing_about_rights(duck, ask):
    pages = list(ask())
    assert [len(page) for page in pages] == [100, 100, 50]
    hits = sorted((hit for page in pages for hit in page), key=lambda hit: hit.height)
    assert hits == [ImageHit(f'https://photos.example.org/{i}.jpg', f'https://tse1.example.net/th?id=OIP.{i}&pid=Api', f'https://blog.example.org/{i}',
                             f'Gothic cathedral {i}', '', '', '', 1200, 800 + i, 'duckduckgo', 'gothic cathedral', 'gothic') for i in range(250)]
    asked = [question for question in questions(duck) if 'vqd' in question]
    assert [question.get('s') for question in asked] == [None, '100', '200', '300']
    assert not any('f' in question for question in asked), 'no filters'
    assert set(duck.connections) == {'duckduckgo.com:443'}, 'and no other engine'

def test_ddgs_pages_come_one_by_one_with_a_pause(duck, ask):
    pages = ask(pause=.4)
    next(pages)
    assert len(duck.requests) == 2
    start = time.monotonic()
    next(pages)
    assert .35 < time.monotonic() - start < 12 and len(duck.requests) == 4

@pytest.mark.parametrize('instead, reason, words', [
    ({'/i.js': (403, 'ops@duckduckgo.com')}, 'rate limited', 'status 403'),
    ({'/i.js': (202, '')}, 'rate limited', 'status 202'),
    ({'/i.js': (429, '')}, 'rate limited', 'status 429'),
    ({'/': (403, '')}, 'rate limited', 'status 403'),
    ({'/i.js': (500, 'Oops')}, 'down', 'status 500'),
    ({'/': (200, '<!doctype html><title>A robot?</title>')}, 'changed', 'vqd'),
    ({'/i.js': (200, '<!doctype html>')}, 'changed', 'Expecting value'),
    ({'/i.js': (200, '["results"]')}, 'changed', "'list' object"),
    ({'/i.js': (200, '{"results": [7]}')}, 'changed', "'int' object"),
])
def test_ddgs_mishaps_become_one_line_with_a_remedy(duck, ask, instead, reason, words):
    duck.instead = instead
    with pytest.raises(SearchError) as caught: next(ask())
    assert (caught.value.provider, caught.value.reason) == ('duckduckgo', reason) and words in caught.value.detail and len(caught.value.detail) <= 80

def test_ddgs_refused_in_the_middle_keeps_the_first_page(duck, ask):
    duck.instead = {'/i.js 100': (403, '')}
    pages = ask()
    assert len(next(pages)) == 100
    with pytest.raises(SearchError, match='wants no more questions'): next(pages)

def test_ddgs_without_results_and_an_engine_that_ignores_page_numbers_both_end(duck, ask):
    duck.instead = {'/i.js': (200, '{"results": []}')}
    assert list(ask()) == []
    duck.instead = {'/i.js': (200, json.dumps({'results': [{'image': 'https://x.org/1.jpg', 'title': 'The same again'}]}))}
    assert [len(page) for page in ask()] == [1]

def test_ddgs_too_slow_is_no_empty_answer(duck, ask, monkeypatch):
    monkeypatch.setattr(search, 'TIMEOUT', 1)
    for path in ('/', '/i.js'):
        duck.instead = {path: lambda query: time.sleep(1.5)}
        with pytest.raises(SearchError, match='duckduckgo cannot be reached'): next(ask())

def test_ddgs_with_a_certificate_nobody_vouched_for_is_down(duck):
    with pytest.raises(SearchError) as caught: next(DuckDuckGo(duck.proxy).pages('gothic cathedral', 'gothic'))
    assert caught.value.reason == 'down'

OLD = """
import sys
sys.modules['ddgs'] = None
from archclf.search import DuckDuckGo, SearchError
for phrase in ('gothic cathedral', 'refused'):
    try: print([[hit.title for hit in page] for page in DuckDuckGo(sys.argv[1], pause=0).pages(phrase, 'gothic')])
    except SearchError as error: print(error.reason)
print('duckduckgo_search' in sys.modules)
"""

def test_the_package_under_its_old_name(duck, ask):
    pytest.importorskip('duckduckgo_search', exc_type=ImportError)
    duck.count = 130
    duck.instead = {'/i.js': lambda query: (403, '') if query['q'] == 'refused' else None}
    done = subprocess.run([sys.executable, '-c', OLD, duck.proxy], capture_output=True, text=True, env={**os.environ, 'SSL_CERT_FILE': str(duck.authority)}, timeout=60)
    pages, refused, used = done.stdout.splitlines()
    titles = [f'Gothic cathedral {i}' for i in range(130)]
    assert (pages, refused, used, done.stderr) == (str([titles[:100], titles[100:]]), 'rate limited', 'True', '')

def test_without_any_package_the_remedy_is_named(monkeypatch):
    for name in ('ddgs', 'duckduckgo_search'): monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SearchError, match='pip install ddgs') as caught: next(DuckDuckGo().pages('gothic cathedral', 'gothic'))
    assert caught.value.reason == 'missing'


# --- Whatever they answer ---------------------------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(['https://x.org/1.jpg', '<b', '<![x[', '\ud800', ''])
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
    ['query', 'pages', 'results', 'continue', 'imageinfo', 'url', 'extmetadata', 'Artist', 'value', 'error', 'code', 'title', 'license']) | st.text(max_size=5), inner, max_size=4), max_leaves=20)

@st.composite
def mangled(draw, value):
    "The recorded answer `value` with something else somewhere in it."
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 9)) == 0: return draw(JSON)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    inner = draw(mangled(value[key]))
    return {**value, key: inner} if isinstance(value, dict) else [*value[:key], inner, *value[key + 1:]]

def check_hits(hits, name):
    assert all(isinstance(hit, ImageHit) and hit.url for hit in hits)
    for hit in hits:
        for field, value in vars(hit).items():
            assert type(value) is (int if field in ('width', 'height') else str), (field, value)
            if isinstance(value, str): assert value.encode('utf-8') == value.encode('utf-8', 'replace') and value == ' '.join(value.split())
            else: assert 0 <= value < 10**6
    assert {hit.provider for hit in hits} <= {name}

@pytest.mark.parametrize('name', HITS)
def test_reading_raises_search_errors_only(name):
    recorded = json.loads((RECORDED/f'{name}.json').read_text(encoding='utf-8'))
    @settings(max_examples=120)
    @given(mangled(recorded) | JSON)
    def reading(value):
        try: check_hits(HITS[name](value, 'query', 'label'), name)
        except SearchError as error: assert error.provider == name and '\n' not in str(error)
    reading()

def test_names_and_titles_can_be_written_to_a_file():
    [hit] = openverse_hits({'results': [{'url': ' https://x.org/1.jpg\n', 'title': 'half a \ud83d smile', 'creator': 'one\u2028two\x85three', 'license': 'BY', 'width': 640.}]})
    assert (hit.url, hit.title, hit.creator, hit.license, hit.width) == ('https://x.org/1.jpg', 'half a ? smile', 'one two three', 'CC BY', 0)
    assert plain('<div class="fn">\nUnknown author<span style="display: none;">Unknown author</span></div>') == 'Unknown author'

@settings(max_examples=100)
@given(st.text() | st.lists(st.sampled_from(['<', '>', '"', "'", '<a href="x">', '</a>', '<br>', '<span style="display:none">', '&amp;', '&#0;', '<![x[', '<!--', 'name'])).map(''.join))
def test_any_scrap_of_html_becomes_one_line(html):
    assert plain(html) == ' '.join(plain(html).split())

def test_hostile_html_is_read_quickly():
    for scrap in ('<' * 10**6, '<a "' * 10**5, "<'\"" * 10**5, '<b style="display:none">' * 10**5, '<div' * 10**5, '&' * 10**6, '<a display:' * 10**5):
        start = time.monotonic()
        plain(scrap)
        assert time.monotonic() - start < 12


# --- Files ------------------------------------------------------------------------------------------------------------

def read(tmp_path, data, name='list.txt'):
    (tmp_path/name).write_bytes(data.encode() if isinstance(data, str) else data)
    return URLFile(tmp_path/name)

def test_a_plain_list_serves_every_class(tmp_path):
    file = read(tmp_path, '\ufeff# Gothic\r\nhttps://x.org/1.jpg\r\n\r\n  https://x.org/2.jpg#part  \r\n')
    assert (file.labels, file.name) == ([], 'list.txt')
    for label in ('gothic', 'modern'):
        assert [[(hit.url, hit.label, hit.provider) for hit in page] for page in file.pages('any phrase', label)] == [
            [('https://x.org/1.jpg', label, 'list.txt'), ('https://x.org/2.jpg#part', label, 'list.txt')]]

def test_a_table_as_spreadsheets_save_it(tmp_path):
    expected = [ImageHit('https://x.org/a,b;c.jpg', title='Wells, "west" front\tat noon; façade'.replace('\t', ' '), license='CC BY 4.0', width=640,
                         provider='table.csv', label='gothic'), ImageHit('https://x.org/2.jpg', provider='commons', label='modern')]
    for mark in ',;\t':
        rows = [['URL', 'Label ', 'title', 'license', 'width', 'provider', 'remark'],
                ['https://x.org/a,b;c.jpg', 'gothic', 'Wells, ""west"" front\tat noon; façade', 'CC BY 4.0', '640', '', 'mine'],
                ['https://x.org/2.jpg', 'modern', '', '', 'wide', 'commons', '']]
        text = '\r\n'.join(mark.join(f'"{value}"' for value in row) for row in rows) + f'\r\n{mark*6}\r\n'
        file = read(tmp_path, '\ufeff' + text, 'table.csv')
        assert file.labels == ['gothic', 'modern']
        assert [hit for label in ('gothic', 'modern') for page in file.pages('', label) for hit in page] == expected
        assert list(file.pages('gothic', 'baroque')) == []

def test_the_manifest_of_another_folder(tmp_path):
    lines = [{'url': 'https://x.org/1.jpg', 'label': 'gothic', 'status': 'saved', 'width': 400, 'height': 300, 'license': 'CC0', 'provider': 'commons',
              'thumbnail': 'https://x.org/t1.jpg', 'page': 'https://x.org/1', 'sha256': 'ab', 'retrieved': '2026-11-01'},
             {'url': 'https://x.org/2.jpg', 'label': 'gothic', 'status': 'failed', 'reason': 'not found'},
             {'url': 'https://x.org/3.jpg', 'label': 'modern', 'width': 1000, 'height': None, 'title': 'one\u2028two'}]
    text = '\n'.join(json.dumps(line, ensure_ascii=False) for line in lines) + '\n{"url": "https://x.or'
    assert read(tmp_path, text, 'manifest.jsonl').hits == [
        ImageHit('https://x.org/1.jpg', 'https://x.org/t1.jpg', 'https://x.org/1', license='CC0', provider='commons', label='gothic'),
        ImageHit('https://x.org/3.jpg', title='one two', width=1000, provider='manifest.jsonl', label='modern')]

@pytest.mark.parametrize('data, line, words', [
    ('', 1, 'found no address'),
    ('# nothing but a comment\n', 1, 'found no address'),
    ('url,label\n', 1, 'found no address'),
    ('https://x.org/1.jpg\nwww.x.org/2.jpg\n', 2, "'www.x.org/2.jpg'"),
    ('https://x.org/1.jpg\nfile:///etc/passwd\n', 2, 'http:// or https://'),
    ('link,label\nhttps://x.org/1.jpg,gothic\n', 1, "got 'link,label'"),
    ('url,label\n\nhttps://x.org/1.jpg,gothic\n,gothic\n', 4, "got ''"),
    ('url,label\nhttps://x.org/1,2.jpg,gothic\n', 2, "3 values in 2 columns; quote those with a ','"),
    ('url,title\nhttps://x.org/1.jpg,"Wells\n', 2, 'unexpected end of data'),
    ('{"url": "https://x.org/1.jpg"}\n{"url": }\n', 2, 'expected a JSON object'),
    ('{"url": "https://x.org/1.jpg"}\n["https://x.org/2.jpg"]\n', 2, 'expected a JSON object'),
    ('{"url": "https://x.org/1.jpg"}\n' + '['*10**5 + '\n', 2, 'expected a JSON object'),
    ('{"url": 7}\n', 1, "got ''"),
    ('{"url": "https://x.org/1.jpg", "label": 3}\n', 1, 'expected a label in quotes, got 3'),
    ('{"url": "https://x.org/1.jpg", "label": "gothic"}\n{"url": "https://x.org/2.jpg"}\n', 2, 'has no label, and others have one'),
    ('https://x.org/1.jpg\nhttps://x.org/façade.jpg\n'.encode('latin-1'), 2, 'save the file as UTF-8'),
    ('https://x.org/1.jpg\n'.encode('utf-16'), 1, 'save the file as UTF-8'),
])
def test_a_mistake_in_a_file_is_named_with_its_line(tmp_path, data, line, words):
    with pytest.raises(ValueError) as caught: read(tmp_path, data)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path/'list.txt'}, line {line}: ") and words in message and '\n' not in message and len(message) < len(str(tmp_path)) + 200

PIECES = ['url', 'URL', 'label', 'title', ',', ';', '\t', '\n', '\r', '\r\n', '"', '{', '}', '[', ':', '"url"', '"label"', 'https://x.org/1.jpg', 'http://', '\ufeff', '\0', '\u2028', '#', '\\', ' ', '3', 'null']

@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=30).map(lambda pieces: ''.join(pieces).encode()))
@example(b'url,"title\nhttps://x.org/1.jpg')
@example(b'"url\n')
@example(b'url\n"')
def test_any_bytes_give_hits_or_one_line_that_says_where(tmp_path, data):
    try: check_hits(read(tmp_path, data).hits, 'list.txt')
    except ValueError as error: assert re.match(re.escape(str(tmp_path/'list.txt')) + r', line [1-9]\d*: .+', str(error)) and '\n' not in str(error)


# --- The sample web ---------------------------------------------------------------------------------------------------

def test_the_sample_web_is_the_same_for_the_same_seed():
    assert catalogue('commons', range(1, 41), seed=5) == catalogue('commons', range(1, 41), seed=5) != catalogue('commons', range(1, 41), seed=6)
    picture = Picture('Gothic façade 1', 'gothic', '0/1', 1200, 900, ('cc0', '1.0'))
    drawn = jpeg(picture, 250)
    jpeg.cache_clear()
    assert jpeg(picture, 250) == drawn

def test_the_sample_web_has_the_flaws_it_says_it_has(web, samples):
    shown = {}
    for picture in samples.pictures.values(): shown.setdefault(picture.flaw, picture)
    assert set(shown) == {'', 'dead link', 'web page', 'copy', 'mirrored copy', 'too small', 'no licence'}
    for flaw, picture in shown.items():
        address = f'{samples.address}/pictures/{picture.name}'
        if flaw == 'dead link':
            with pytest.raises(archclf.web.WebError, match='nothing at this address'): web.get(address)
            continue
        with web.get(address) as reply: assert reply.kind.startswith('text/html' if flaw == 'web page' else 'image/jpeg')
        assert (max(picture.width, picture.height) < 110) == (flaw == 'too small')

def test_the_sample_web_refuses_what_the_real_ones_refuse(web, samples):
    name = next(picture.name for picture in samples.pictures.values() if not picture.flaw)
    for path, reason in ((f'/pictures/123px-{name}', 'rate limited'), ('/v1/images/?q=gothic&page_size=21', 'forbidden'), ('/v1/images/?q=gothic&page=99', 'not found')):
        with pytest.raises(archclf.web.WebError) as caught: web.get(samples.address + path)
        assert caught.value.reason == reason
