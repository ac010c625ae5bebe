"What providers state about rights is never read as more than it says, and no title or name gets markup into a credit."
import re
import time
from itertools import product
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from archclf import sampleweb
from archclf.licenses import CODES, GATES, License, admits, credit_line, credits, escape_markdown, read_license

EXAMPLES = settings(max_examples=60)
ORDER = list(CODES)
CC = [code for code in ORDER if code.startswith('by')]
STATED = {  # as Commons, Openverse, SPDX and people write it: code and version
    'CC BY-SA 4.0': 'by-sa 4.0', 'CC BY-SA 3.0 de': 'by-sa 3.0', 'CC BY 2.0': 'by 2.0', 'CC0': 'cc0 1.0', 'Public domain': 'pdm',
    'PD-old-100': 'pdm', 'PD-old-100-expired': 'pdm', 'PD': 'pdm', 'PD-USGov-Military': 'pdm', 'No restrictions': 'pdm', 'GFDL 1.2': 'gfdl 1.2',
    'GFDL': 'gfdl', 'GFDL 1.2+': 'gfdl 1.2', 'FAL': 'fal', 'FAL 1.3': 'fal 1.3', 'Attribution': 'other', 'Copyrighted free use': 'other',
    'CC SA 1.0': 'other', 'CC BY-SA 4.0-3.0-2.5-2.0-1.0': 'by-sa 4.0', 'CC-BY-SA-3.0,2.5': 'by-sa 3.0', 'CC BY-SA 2.5,2.0,1.0': 'by-sa 2.5',
    'cc-by-sa-4.0': 'by-sa 4.0', 'CC BY-SA 2.1 jp': 'by-sa 2.1', 'CC BY 3.0 igo': 'by 3.0', 'CC-PD-Mark': 'pdm', 'CC-Zero': 'cc0 1.0',
    'Creative Commons Zero, Public Domain Dedication': 'cc0 1.0', 'KOGL Type 1': 'other', 'OGL 3': 'other', 'MIT': 'other',
    'by': 'by', 'by-sa 2.0': 'by-sa 2.0', 'by-nc-nd 2.0': 'by-nc-nd 2.0', 'cc0 1.0': 'cc0 1.0', 'pdm': 'pdm', 'pdm 1.0': 'pdm 1.0',
    'sampling+': 'other', 'nc-sampling+': 'other', 'sa 1.0': 'other',
    'CC-BY-3.0-DE': 'by 3.0', 'CC0-1.0': 'cc0 1.0', 'CC-PDM-1.0': 'pdm 1.0', 'GFDL-1.3-or-later': 'gfdl 1.3', 'LAL-1.3': 'fal 1.3',
    'Creative Commons Attribution-ShareAlike 4.0 International': 'by-sa 4.0', 'CC0 1.0 Universal (CC0 1.0) Public Domain Dedication': 'cc0 1.0',
    'Attribution-NonCommercial-NoDerivs 2.0 Generic (CC BY-NC-ND 2.0)': 'by-nc-nd 2.0', 'Attribution 4.0': 'by 4.0', 'CC BY 4': 'by 4.0',
    'Creative Commons Attribution-Share Alike 3.0 Unported': 'by-sa 3.0', 'Creative Commons Attribution Non Commercial 4.0': 'by-nc 4.0',
    'Creative Commons Attribution': 'by', 'GNU Free Documentation License, Version 1.2 or any later version': 'gfdl 1.2',
    'Free Art License 1.3': 'fal 1.3', 'Licence Art Libre': 'fal', 'Public Domain Mark 1.0': 'pdm 1.0', 'No known copyright restrictions': 'pdm',
    'GFDL 1.2, CC BY-SA 3.0': 'gfdl 1.2', 'CC BY 4.0 or CC BY-NC 4.0': 'by-nc 4.0',
    'CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)': 'by 4.0',
    'CC BY 9.0': 'other', 'CC BY-SA-ND 4.0': 'other', 'Creative Commons': 'other', 'all rights reserved': 'other', 'fair use': 'other',
    'Some rights reserved': 'other', '© archclf sample': 'other', 'royalty free': 'other', 'not CC BY': 'other', 'no CC BY': 'other',
    'CC BY?': 'other',
    'CC BY 4.0, not for AI': 'other', 'formerly public domain': 'other', 'CC BY for subscribers only': 'other', 'commercial use not allowed': 'other',
    'unknown': 'unknown', 'Unknown license': 'unknown', '': 'unknown', ' \t\n': 'unknown', '-': 'unknown', '?': 'unknown', 'N/A': 'unknown',
    'nan': 'unknown', 'None': 'unknown', 'no licence': 'unknown', 'not specified': 'unknown'}
ADDRESSES = {
    'https://creativecommons.org/licenses/by-nc/2.0/': 'by-nc 2.0', 'creativecommons.org/licenses/by-nc/2.0/': 'by-nc 2.0',
    'http://www.creativecommons.org/licenses/by/4.0': 'by 4.0', '//creativecommons.org/licenses/by/4.0/deed.en': 'by 4.0',
    'HTTPS://CreativeCommons.org/Licenses/BY-SA/3.0/DE/legalcode': 'by-sa 3.0', 'https://creativecommons.org/licenses/by-nd-nc/1.0/': 'by-nc-nd 1.0',
    'https://creativecommons.org/licenses/by/2.0/?ref=openverse&atype=rich': 'by 2.0',
    'https://creativecommons.org/licenses/by-sa/2.5/scotland/': 'by-sa 2.5',
    'https://creativecommons.org/licenses/by-sa/': 'by-sa', 'https://creativecommons.org/publicdomain/zero/1.0/deed.de': 'cc0 1.0',
    'https://creativecommons.org/publicdomain/mark/1.0/': 'pdm 1.0', 'http://creativecommons.org/licenses/publicdomain/': 'pdm',
    'https://www.flickr.com/commons/usage/': 'pdm', 'http://www.gnu.org/copyleft/fdl.html': 'gfdl',
    'https://www.gnu.org/licenses/fdl-1.3.en.html': 'gfdl 1.3',
    'https://www.gnu.org/licenses/old-licenses/fdl-1.2.html': 'gfdl 1.2', 'http://artlibre.org/licence/lal/en': 'fal',
    'https://creativecommons.org/licenses/sampling+/1.0/': 'other', 'https://creativecommons.org/licenses/sa/1.0/': 'other',
    'https://creativecommons.org/licenses/by/7.0/': 'other', 'https://creativecommons.org/licenses/bye/4.0/': 'other',
    'https://creativecommons.org/licenses/by/4.0/../../by-nc/4.0/': 'other', 'https://creativecommons.org/licenses/by/4.0-not-really/': 'other',
    'https://evil.example/creativecommons.org/licenses/by/4.0/': 'other', 'evil.example/creativecommons.org/licenses/by/4.0/': 'other',
    'https://creativecommons.org.evil.example/licenses/by/4.0/': 'other', 'https://creativecommons.org@evil.example/licenses/by/4.0/': 'other',
    'https://notcreativecommons.org/licenses/by/4.0/': 'other', 'notcreativecommons.org/licenses/by/4.0/': 'other',
    'https://evil.example/?https://creativecommons.org/licenses/by/4.0/': 'other', 'https://www.gnu.org/licenses/gpl-3.0.html': 'other',
    'http://[': 'other', 'javascript:alert(1)': 'other', 'https://example.org/terms': 'other'}


def rank(license): return ORDER.index(license.code)


def name(code): return {'pdm': 'Public domain', 'cc0': 'CC0'}.get(code, f'CC {code.upper()} 4.0')


def address(code, version='4.0'):
    tool = {'pdm': 'publicdomain/mark/1.0', 'cc0': 'publicdomain/zero/1.0'}.get(code, f'licenses/{code}/{version}')
    return f'https://creativecommons.org/{tool}/'


words = st.sampled_from([*STATED, *ADDRESSES, *'by sa nc nd cc 4.0 3.0 de no not pd - pd-old gfdl / // . … license in http https: www. () ,'.split()])
statements = st.one_of(st.text(st.characters()), words,
                       st.lists(words | st.text(max_size=3), max_size=8).map(' '.join), st.lists(words, max_size=4).map(''.join))


# --- reading ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('text,expected', [*STATED.items(), *ADDRESSES.items()])
def test_what_is_stated(text, expected):
    license = read_license(text)
    assert ' '.join(filter(None, (license.code, license.version))) == expected
    if text in ADDRESSES: assert read_license('', text) == license


def test_ports_keep_their_address():
    assert read_license('CC BY-SA 3.0 de') == License('by-sa', '3.0', 'CC BY-SA 3.0 DE', 'https://creativecommons.org/licenses/by-sa/3.0/de/')
    assert read_license('CC BY-SA 3.0', 'https://creativecommons.org/licenses/by-sa/3.0/at/deed.de').name == 'CC BY-SA 3.0 AT'
    assert read_license('CC BY 4.0 de').url == 'https://creativecommons.org/licenses/by/4.0/'


@pytest.mark.parametrize('piece', ['cc by ', 'by-sa 3.0 de, ', 'pd-a', 'http://a ', '://', 'no known ', 'https://creativecommons.org/licenses/by-'])
def test_a_long_statement_takes_no_time(piece):
    start = time.process_time()
    read_license(piece * 10000)
    assert time.process_time() - start < 5  # some tenths of a second; with a pass over the text for each mention it is minutes


def test_other_licences_keep_what_was_stated():
    assert read_license('KOGL Type 1', 'https://example.org/kogl') == License('other', '', 'KOGL Type 1', 'https://example.org/kogl')
    assert read_license('All rights  reserved', address('by')) == License('other', '', 'All rights reserved', '')
    assert read_license('CC BY 4.0', 'https://example.org/terms').name == 'https://example.org/terms'


@EXAMPLES
@given(statements, statements)
@example('0', '///')
def test_any_text_can_be_read_and_read_again(text, url):
    license = read_license(text, url)
    assert license.code in CODES and license.name
    assert read_license(license.name, license.url) == license
    if license.url: assert re.match('https?://', license.url, re.I)


@EXAMPLES
@given(statements, statements)
def test_the_stricter_of_two_statements_counts(text, url):
    both, alone = read_license(text, url), [license for license in (read_license(text), read_license(url)) if license.code != 'unknown']
    assert rank(both) == max(map(rank, alone), default=ORDER.index('unknown'))


@pytest.mark.parametrize('code,other', list(product(['pdm', 'cc0', *CC], repeat=2)))
def test_the_stricter_of_name_and_address_counts(code, other):
    assert read_license(name(code), address(other)).code == max(code, other, key=ORDER.index)
    assert read_license(f'{name(code)} {address(other)}').code == max(code, other, key=ORDER.index)
    assert read_license(f'{name(code)}, {name(other)}').code == max(code, other, key=ORDER.index)


@pytest.mark.parametrize('code', CC)
def test_the_older_of_two_versions_counts(code):
    assert read_license(f'CC {code} 2.0', address(code)).version == read_license(f'CC {code} 4.0', address(code, '2.0')).version == '2.0'
    assert read_license(f'CC {code}', address(code, '2.0')).version == '2.0'
    assert read_license(f'CC {code} 2.0', f'https://creativecommons.org/licenses/{code}/').version == '2.0'


@EXAMPLES
@given(statements, st.sampled_from([text for text, code in STATED.items() if code == 'unknown']))
def test_nothing_stated_adds_nothing(text, nothing):
    assert read_license(text, nothing) == read_license(text)
    assert read_license(nothing, text) == read_license('', text)


@EXAMPLES
@given(st.sampled_from([*STATED]), st.text('bcdefghijklmopqrstuwxz', min_size=5), st.booleans())
def test_a_word_that_is_not_understood_closes_the_gate(text, word, first):
    assert not admits('free', read_license(f'{word} {text}' if first else f'{text} {word}'))
    assert not admits('free', read_license(text, word))


def test_what_the_sample_web_states():
    for site in sampleweb.LICENSES.values():
        for code, version in site:
            for text in f'{code} {version}', sampleweb.COMMONS_NAMES.get(code, f'CC {code.upper()} {version}'):
                license = read_license(text, sampleweb.deed(code, version))
                assert (license.code, license.version, license.url) == (code, version, sampleweb.deed(code, version))


# --- gates ------------------------------------------------------------------------------------------------------------

@EXAMPLES
@given(statements, statements)
def test_each_gate_admits_less_than_the_one_before(text, url):
    license = read_license(text, url)
    admitted = [admits(gate, license) for gate in GATES]
    assert admitted == sorted(admitted, reverse=True) and admitted[0]


def test_gates():
    passed = {gate: {code for code in CODES if admits(gate, read_license(code))} for gate in GATES}
    assert passed['any'] - passed['known'] == {'unknown'} and passed['known'] - passed['free'] == {'other'}
    assert passed['commercial'] == {'pdm', 'cc0', 'by', 'by-sa', 'gfdl', 'fal'}
    assert passed['commercial'] == {code for code in passed['free'] if not {'nc', 'nd'} & set(code.split('-'))}
    for gate in 'gratis', '', None, 'Free':
        with pytest.raises(ValueError, match='any, known, free, commercial'): admits(gate, read_license('CC0'))


# --- credits ----------------------------------------------------------------------------------------------------------

SPECIAL = ['](', '[', ']', '(', ')', '](http://evil.example)', '[x](http://evil.example)', '![x](http://evil.example/x.png)',
           '<script>', '</a>', '<b', '>', '<http://evil.example>', 'http://evil.example', 'www.evil.example', 'a@evil.example',
           'mailto:a@evil.example', '`', '``', '\\', '\\\\', '|', '*', '**', '_', '__', '~~', '$', '$x$', '^', '==', '{', '{.x}', '{{< x >}}',
           '&', '&lt;', '&#91;', '&copy;', '"', "'", '#', '-', '+', '1.', '.', ':', '//', '\n', '\n\n', '\r\n', '\t', '\x00', '\x1b[31m',
           '\u2028', '\x85', '\u202e', '\ud800', '‐', 'é', '東京', 'St. Mary', '%', '%20', '%zz', '?', '!', ' ']
hostile = st.lists(st.sampled_from(SPECIAL) | st.text(st.characters(), max_size=4), max_size=8).map(''.join)
pages = st.one_of(hostile, hostile.map('https://example.org/{}'.format),
                  st.sampled_from(['javascript:alert(1)', 'data:text/html,x', ' HTTP://EXAMPLE.ORG/a b ', 'https://', '//x.y']))
records = st.fixed_dictionaries(dict(
    title=hostile, creator=hostile, page=pages, url=pages, license=statements | hostile, license_url=statements | pages,
    provider=st.sampled_from(['commons', 'openverse', 'duckduckgo', '']) | hostile, path=hostile, status=st.just('saved')))
PARSER = MarkdownIt('commonmark').enable(['table', 'strikethrough'])
PARSER.validateLink, PARSER.normalizeLink = (lambda url: True), (lambda url: url)  # no help from the parser


def render(line):
    "The visible text of a line of Markdown, and the addresses that it links to."
    blocks = PARSER.parse(line)
    assert [block.type for block in blocks] == ['paragraph_open', 'inline', 'paragraph_close'], blocks
    tokens = blocks[1].children
    assert {token.type for token in tokens} <= {'text', 'text_special', 'link_open', 'link_close'}, tokens
    return ''.join(token.content for token in tokens), [token.attrs['href'] for token in tokens if token.type == 'link_open']


def encodable(text): return text.encode('utf-8', 'replace').decode()


def visible(text): return ' '.join(re.sub('[\x00-\x08\x0e-\x1b\x7f\u202e\ud800]', '', text).split())


@EXAMPLES
@given(records)
def test_a_credit_links_to_what_it_should_and_nowhere_else(record):
    line = credit_line(record)
    text, links = render(line)
    assert len(line.splitlines()) == 1 and '<' not in line
    assert not re.search(r'[\s<>"\\`|\[\]]', ''.join(links))
    page = next((url.strip() for url in (record['page'], record['url']) if re.match(r'\s*https?://[^/?#]', url, re.I)), '')
    if path := encodable(record['path'].lstrip('/')): assert unquote(links.pop(0)) == path
    expected = [url for url in (page, read_license(record['license'], record['license_url']).url) if url]
    assert list(map(unquote, links)) == [unquote(encodable(url)) for url in expected]
    assert all(re.match('https?://', link, re.I) for link in links)


@pytest.mark.parametrize('page,link', [
    ('https://example.org/?a=1&copy;=2&lt;', 'https://example.org/?a=1&copy;=2&lt;'),
    ('https://example.org/100%/a%20b', 'https://example.org/100%25/a%20b'),
    ('https://example.org/%zz', 'https://example.org/%25zz'), ('https://example.org/a b\n(c)', 'https://example.org/a%20b%0A%28c%29')])
def test_addresses_survive_markdown(page, link):
    assert render(credit_line(dict(title='Nave', page=page, license='PD')))[1] == [link]


@pytest.mark.parametrize('path,link', [('//evil.example/x.jpg', 'evil.example/x.jpg'), ('javascript:alert(1)', 'javascript%3Aalert%281%29'),
                                       ('gothic/100% a&lt;b.jpg', 'gothic/100%25%20a%26lt%3Bb.jpg'), ('a\\b', 'a%5Cb')])
def test_a_path_never_leaves_the_folder_for_another_host(path, link):
    assert render(credit_line(dict(path=path)))[1] == [link]


@EXAMPLES
@given(st.lists(st.sampled_from(SPECIAL), max_size=6).map(''.join), st.booleans())
@example('\\.com', True)
def test_text_is_shown_as_it_is(value, linked):
    shown = visible(value)
    assume(shown)
    line = escape_markdown(value, linked)
    text, links = render(f'[“{line}”](x)' if linked else f'“{line}”')
    assert (text, links) == (f'“{shown}”', ['x'] if linked else [])


@EXAMPLES
@given(st.lists(st.sampled_from(SPECIAL), max_size=6).map(''.join))
def test_nothing_is_left_that_some_renderer_makes_a_link_of(value):
    assert not re.search(r'(?<!\\)://|(?<!\\)@|\w\.[a-z]|(?<!\\)(?:\\\\)*[\[\]`*_|$]', escape_markdown(value))


def test_long_texts_are_cut():
    record = dict(title='a' * 10**5, creator='[' * 10**5, path='x/y.jpg', license='z' * 10**5)
    text, _ = render(credit_line(record))
    assert len(text) < 800 and text.count('…') == 3


FORMS = {'CC BY 2.0': '[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/)',
         'CC0': '[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/), no credit needed',
         'PD-old-100': 'Public domain, no credit needed', 'GFDL': '[GFDL](https://www.gnu.org/licenses/fdl.html), whose text has to go along',
         'FAL 1.3': '[Free Art License 1.3](https://artlibre.org/licence/lal/en/)', 'CC BY': 'CC BY',
         'All rights reserved': 'licence as stated: All rights reserved, ask before you republish', '': 'licence unknown: do not republish'}


@pytest.mark.parametrize('license,form', list(FORMS.items()))
def test_forms(license, form):
    record = dict(title='Nave', creator='archclf sample', page='https://example.org/a(b) c', url='https://example.org/n.jpg',
                  license=license, license_url='', provider='openverse', path='gothic/a nave.jpg')
    photo, title = '[gothic/a nave.jpg](gothic/a%20nave.jpg)', '[Nave](https://example.org/a%28b%29%20c)'
    assert credit_line(record) == f'{photo}: “{title}” by archclf sample, {form}, via Openverse'


def test_what_is_missing_is_said_or_left_out():
    assert credit_line({}) == '“Untitled”, author not stated, licence unknown: do not republish'
    assert credit_line(dict(license='CC0', creator=None, provider='list.csv')).endswith('no credit needed, via list\\.csv')
    line = credit_line(dict(license='CC BY 2.0', url='https://example.org/n.jpg'))
    assert line.startswith('“[Untitled](https://example.org/n.jpg)”, author not stated, ')


@EXAMPLES
@given(st.lists(records | st.builds(dict, status=st.sampled_from(['failed', 'duplicate', 'rejected'])), max_size=5),
       st.randoms(use_true_random=False))
def test_credits_are_the_same_in_any_order(records, random):
    text = credits(iter(records))
    random.shuffle(records)
    assert credits(records) == text and text.startswith('# Credits\n\n') and text.endswith('\n')
    saved = [record for record in records if record['status'] == 'saved']
    bullets = [line[2:] for line in text.split('\n') if line.startswith('- ')]
    assert sorted(bullets) == sorted(map(credit_line, saved))
    assert sum(int(row.split(' | ')[2].rstrip(' |')) for row in text.split('\n') if re.fullmatch(r'\| .+ \| .+ \| \d+ \|', row)) == len(saved)


def test_credits_file():
    def record(path, license, **more): return dict(title='T', creator='A', path=path, license=license, status='saved', **more)
    text = credits([record('gothic/b.jpg', 'CC BY 2.0'), record('baroque/a.jpg', 'PD-old-100'), record('gothic/a.jpg', 'CC BY 2.0'),
                    record('gothic-revival/a.jpg', 'fair use'), {**record('', 'CC0'), 'status': 'rejected'}])
    assert re.findall('^## (.*)', text, re.M) == ['baroque', 'gothic', 'gothic-revival']
    assert re.findall(r'^- \[(.*?)\]', text, re.M) == ['baroque/a.jpg', 'gothic/a.jpg', 'gothic/b.jpg', 'gothic-revival/a.jpg']
    assert re.findall(r'^\| (.*) \|$', text, re.M)[2:] == ['Public domain | nothing | 1', 'CC BY 2.0 | credit | 2',
                                                           'other, as stated with each photo | read what is stated, and ask | 1']
    assert 'made smaller' in text and 'metadata was removed' in text and 'share alike' not in text
    assert 'share alike' in credits([record('a/b.jpg', 'CC BY-NC-SA 2.0')]).split('## ')[0]
    assert credits([]) == credits([dict(status='failed')]) == '# Credits\n\nNo photos yet.\n'
