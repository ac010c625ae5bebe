"The page as people and programs meet it: a real server, asked by gradio_client and by a headless browser."
import ast
import asyncio
import base64
import csv
import hashlib
import io
import json
import shutil
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from archclf.app import serve
from archclf.classifier import MODELS, Classifier, read_model, save_model
from archclf.sample import draw_facade
from archclf.web import Web
from archclf.words import Words

ODD = 3, 5, 8, 13, 21, 23, 27, 29, 30, 31  # AVIF, alpha, CMYK, two frames, .img, cut off, 16 bits, animated, turned, a bomb
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run',
             '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']
AXE = Path(__file__).parent/'node_modules/axe-core/axe.min.js'
HOSTILE = ['<img src=x onerror="document.title=1">', '${1+1} {{2}}', '</script><b>bold']


@pytest.fixture(scope='module')
def classifier(): return Classifier.open()

@pytest.fixture(scope='module')
def page(classifier):
    page = serve(classifier)
    yield page
    page.close(verbose=False)

@pytest.fixture
def another(classifier):
    "Serve one more page, with settings of its own."
    pages = []
    def another(**settings):
        pages.append(serve(classifier, **settings))
        return pages[-1]
    yield another
    for page in pages: page.close(verbose=False)

@pytest.fixture(scope='module')
def client(page): return Client(page.local_url, verbose=False)

@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "A drawing it is sure about, one it is not, the first stored on its side, and files that are no pictures."
    folder = tmp_path_factory.mktemp('uploads')
    drawing = draw_facade('byzantine', seed=1)
    drawing.save(folder/'sure.png')
    draw_facade('baroque', seed=2).save(folder/'unsure.png')
    exif = Image.Exif()
    exif[274] = 6
    drawing.rotate(90, expand=True).save(folder/'turned.png', exif=exif)
    drawing.save(folder/'whole.jpg', quality=90)
    (folder/'cut.jpg').write_bytes((folder/'whole.jpg').read_bytes()[:3000])
    (folder/'page.jpg').write_text('<!doctype html><title>404</title>')
    (folder/'notes.jpg').write_text('Buy milk.')
    (folder/'empty.jpg').write_bytes(b'')
    Image.new('1', (20000, 20000)).save(folder/'bomb.png')
    return folder


def ask(client, path): return client.predict(handle_file(path), api_name='/classify')

@pytest.mark.parametrize('name', ['sure.png', 'unsure.png', 'turned.png', 'whole.jpg'])
def test_a_program_gets_what_classify_gives(client, classifier, files, name):
    reply, expected = ask(client, files/name), asdict(classifier.classify(files/name))
    assert list(reply) == ['label', 'confidence', 'sure', 'probabilities'] and list(reply['probabilities']) == list(expected['probabilities'])
    assert (reply['label'], reply['sure']) == (expected['label'], expected['sure'])
    assert np.allclose(list(reply['probabilities'].values()), list(expected['probabilities'].values()), rtol=0, atol=1e-6)

def test_a_turned_photo_gets_the_answer_of_the_upright_one(client, files):
    assert ask(client, files/'turned.png') == ask(client, files/'sure.png')

@pytest.mark.parametrize('name, reason', [('page.jpg', 'not a JPEG'), ('notes.jpg', 'not a JPEG'), ('cut.jpg', 'cut off or damaged'),
                                          ('empty.jpg', 'file is empty'), ('bomb.png', 'more pixels than')])
def test_a_bad_upload_gets_one_kind_line_and_the_next_an_answer(client, files, name, reason):
    with pytest.raises(AppError) as caught: ask(client, files/name)
    message = str(caught.value)
    assert message.startswith(f'{name}: ') and reason in message and '\n' not in message and str(files) not in message and 'Traceback' not in message
    assert ask(client, files/'sure.png')['label'] == 'byzantine'

def test_nothing_sent_is_a_kind_line_too(client):
    with pytest.raises(AppError, match='There is no photo; send one'): client.predict(None, api_name='/classify')

def test_odd_photos_agree_with_classify(client, classifier, photos):
    odd = [path for number in ODD for path in (photos/'odd').glob(f'{number:02}_*')]
    assert len(odd) == len(ODD)
    for path in odd:
        try: expected = asdict(classifier.classify(path))
        except ValueError as error:
            with pytest.raises(AppError) as caught: ask(client, path)
            assert str(caught.value).removeprefix(path.name) == str(error).removeprefix(str(path))
        else: assert ask(client, path)['probabilities'] == pytest.approx(expected['probabilities'], abs=1e-6), path.name

def test_only_the_two_functions_are_public(client):
    assert list(client.view_api(return_format='dict')['named_endpoints']) == ['/classify', '/classify_many']
    assert not client.view_api(return_format='dict')['unnamed_endpoints']

def test_files_of_the_server_stay_out_of_reach(page, files):
    secret = {'path': str(files/'sure.png'), 'orig_name': 'sure.png', 'meta': {'_type': 'gradio.FileData'}}
    calls = f'{page.local_url}gradio_api/call/classify'
    event = httpx.post(calls, json={'data': [secret]}).json()['event_id']
    reply = httpx.get(f'{calls}/{event}', timeout=20).text
    assert reply.startswith('event: error') and 'byzantine' not in reply

def test_an_upload_of_more_than_30_mb_is_refused(page):
    reply = httpx.post(f'{page.local_url}gradio_api/upload', files={'files': ('big.jpg', bytes(32_000_000))}, timeout=20)
    assert reply.status_code == 413

def test_many_photos_are_answered_in_their_order_the_bad_ones_too(client, classifier, files):
    names = ['sure.png', 'page.jpg', 'unsure.png', 'bomb.png', 'sure.png', 'cut.jpg', 'turned.png']
    replies = client.predict([handle_file(files/name) for name in names], api_name='/classify_many')
    for name, reply in zip(names, replies, strict=True):
        if name in ('page.jpg', 'bomb.png', 'cut.jpg'): assert list(reply) == ['error'] and reply['error'].startswith(f'{name}: ')
        else: assert reply['probabilities'] == pytest.approx(classifier.classify(files/name).probabilities, abs=1e-6)
    assert client.predict([], api_name='/classify_many') == []


def post(page, name, photo, paths):
    "What a program without gradio_client does: upload, ask, read."
    base = f'{page.local_url}gradio_api'
    with httpx.Client(timeout=60) as http:
        path = http.post(f'{base}/upload', files={'files': (name, photo)}).json()[0]
        paths.append(path)
        event = http.post(f'{base}/call/classify', json={'data': [{'path': path, 'orig_name': name, 'meta': {'_type': 'gradio.FileData'}}]}).json()['event_id']
        return http.get(f'{base}/call/classify/{event}').text

def test_sixteen_at_a_time_each_get_their_own_answer(page, classifier):
    drawings = [(style, seed) for style in ('gothic', 'modern', 'baroque', 'victorian') for seed in range(8)]
    def ask_about(drawing):
        buffer = io.BytesIO()
        draw_facade(drawing[0], seed=drawing[1]).save(buffer, 'PNG')
        reply = json.loads(post(page, 'same name.png', buffer.getvalue(), []).split('data: ')[1])[0]
        return reply['probabilities'] == pytest.approx(classifier.classify(buffer.getvalue()).probabilities, abs=1e-6)
    with ThreadPoolExecutor(16) as pool: assert all(pool.map(ask_about, drawings))

def test_fifty_bombs_at_once_are_fifty_kind_lines(page, client, files):
    bomb = (files/'bomb.png').read_bytes()
    with ThreadPoolExecutor(50) as pool: replies = list(pool.map(lambda _: post(page, 'bomb.png', bomb, []), range(50)))
    assert all('event: error' in reply and 'more pixels than can be decoded' in reply for reply in replies), replies[0]
    assert ask(client, files/'sure.png')['label'] == 'byzantine'

@pytest.mark.parametrize('name', ['../../../../etc/cron.d/x.png', '/etc/passwd', '..\\..\\x.png', 'a\x00b.png', '%2e%2e%2fx.png', 'x' * 300 + '.png', '<img src=x>.png', '...', '~/.bashrc'])
def test_a_tricky_name_stays_a_name(page, files, name):
    paths = []
    reply = post(page, name, (files/'sure.png').read_bytes(), paths)
    assert 'byzantine' in reply.split('data: ')[1][:60]
    assert Path(paths[0]).resolve().is_relative_to(Path(tempfile.gettempdir())/'gradio') and '..' not in Path(paths[0]).parts

@pytest.mark.parametrize('path', ['/etc/passwd', '/proc/self/environ', str(MODELS/'styles8/model.json'), '../../../../../../etc/passwd', '/tmp/gradio/../../etc/passwd'])
def test_no_file_of_the_server_is_handed_out(page, path):
    reply = httpx.get(f'{page.local_url}gradio_api/file={path}', timeout=20)
    assert reply.status_code in (403, 404) and 'root:' not in reply.text

@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost', '[::1]', '169.254.169.254', '10.0.0.1', '0.0.0.0', '2130706433'])
def test_private_addresses_are_not_asked(page, neighbour, host):
    url = f'http://{host}:{neighbour.port}/secret.png'
    assert httpx.get(f'{page.local_url}gradio_api/file={url}', timeout=20).status_code >= 400
    event = httpx.post(f'{page.local_url}gradio_api/call/classify', json={'data': [{'path': url, 'url': url, 'meta': {'_type': 'gradio.FileData'}}]}).json()['event_id']
    assert 'event: error' in httpx.get(f'{page.local_url}gradio_api/call/classify/{event}', timeout=20).text
    assert neighbour.asked == []

@pytest.fixture(scope='module')
def neighbour(files):
    "A server on this machine that must not be reached."
    class Secret(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write((files/'sure.png').read_bytes())
        def log_message(self, *_): pass
    with ThreadingHTTPServer(('127.0.0.1', 0), Secret) as server:
        server.asked, server.port = [], server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()

def test_a_password_is_asked_for(another, files):
    page = another(auth=[('anna', 'secret')])
    assert httpx.get(f'{page.local_url}config').status_code == 401
    with pytest.raises(Exception, match='[Aa]uth|401|credentials'): Client(page.local_url, verbose=False)
    assert ask(Client(page.local_url, verbose=False, auth=('anna', 'secret')), files/'sure.png')['label'] == 'byzantine'

def test_a_public_address_is_asked_for_only_when_it_is_meant(another, monkeypatch):
    from gradio import networking
    asked = []
    def tunnel(**settings):
        asked.append((settings['local_host'], settings['local_port']))
        return 'https://0123.gradio.live'
    monkeypatch.setattr(networking, 'setup_tunnel', tunnel)
    assert another().share_url is None and not asked
    page = another(share=True)
    assert page.share_url == 'https://0123.gradio.live' and asked == [('127.0.0.1', page.server_port)]

def test_assistants_find_the_two_tools(another, files):
    page = another(mcp_server=True)
    photo = 'data:image/png;base64,' + base64.b64encode((files/'sure.png').read_bytes()).decode()
    async def talk():
        async with streamable_http_client(f'{page.local_url}gradio_api/mcp/') as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = {tool.name: tool.description for tool in (await session.list_tools()).tools}
            return tools, await session.call_tool('classify', {'photo': photo}), await session.call_tool('classify', {'photo': 'data:image/png;base64,AAAA'})
    tools, reply, refused = asyncio.run(talk())
    assert list(tools) == ['classify', 'classify_many'] and tools['classify'].startswith('Classify one photo')
    assert ast.literal_eval(reply.content[0].text)['label'] == 'byzantine'
    assert refused.isError and 'not a JPEG' in refused.content[0].text

def test_a_port_in_use_is_one_line_with_the_remedy(classifier):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        with pytest.raises(OSError, match='choose another port') as caught: serve(classifier, port=taken.getsockname()[1])
    assert '\n' not in str(caught.value)


@pytest.fixture(scope='module')
def browser():
    if not CHROMIUM: pytest.skip('needs chromium or google-chrome on the PATH')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()

@pytest.fixture
def tab(browser, page):
    "A tab with the page in it; what it asks other hosts for is in `tab.strangers`."
    tab = browser.new_page()
    tab.strangers = []
    tab.on('request', lambda request: request.url.startswith((page.local_url, 'data:', 'blob:')) or tab.strangers.append(request.url))
    tab.goto(page.local_url)
    yield tab
    tab.close()

def violations(tab):
    "What axe-core finds serious or worse, a line each."
    tab.evaluate(AXE.read_text(encoding='utf-8'))
    found = tab.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})")['violations']
    return [f"{item['id']}: {item['nodes'][0]['html'][:200]}" for item in found if item['impact'] in ('serious', 'critical')]

def upload(tab, path):
    tab.set_input_files('#ac-photo input[type=file]', path)
    return tab.locator('#ac-answer')

def test_a_person_sees_the_answer_then_the_reason_then_an_answer(tab, files):
    answer = upload(tab, files/'sure.png')
    answer.get_by_role('heading', name='byzantine', exact=False).first.wait_for()
    assert answer.locator('.ac-bars li').count() == 8
    assert answer.get_by_role('img', name='warm where it speaks for byzantine').evaluate('image => image.naturalWidth') == 448
    assert 'clustered low domes' in answer.inner_text() and 'What tells' not in answer.inner_text()
    tab.get_by_label('Remove Image').click()
    answer.get_by_text('How people tell them apart').wait_for()
    upload(tab, files/'page.jpg').get_by_role('alert').wait_for()
    assert 'page.jpg: this is not a JPEG' in answer.inner_text() and 'Error' not in answer.inner_text()
    tab.get_by_label('Remove Image').click()
    upload(tab, files/'unsure.png').get_by_role('heading', name='Not sure').wait_for()
    assert 'It may be baroque' in answer.inner_text() and 'What tells baroque from byzantine' in answer.inner_text()
    assert answer.locator('.ac-cards figure').count() >= 2
    assert tab.strangers == []

def test_on_a_phone_a_drawing_is_one_click_away_and_nothing_is_too_wide(tab, classifier):
    tab.set_viewport_size({'width': 360, 'height': 740})
    honesty = tab.locator('#ac-honesty')
    honesty.get_by_text('where it is weak').click()
    assert f"{classifier.info['metrics']['accuracy']:.1%}" in honesty.inner_text()
    assert classifier.info['data']['notes'][0] in honesty.inner_text()
    tab.get_by_role('button', name='Drawing of baroque').click()
    tab.locator('#ac-answer .ac-cards').wait_for()
    assert tab.evaluate('document.documentElement.scrollWidth') <= 360

def test_any_labels_even_hostile_ones(browser, files, tmp_path):
    info, contents = read_model(MODELS/'styles8')
    head = Classifier.open().head
    save_model(tmp_path/'model', contents['backbone.onnx'], head.weight[:3], head.bias[:3], info | {'labels': HOSTILE, 'name': HOSTILE[2]})
    page, tab = serve(Classifier.open(tmp_path/'model')), browser.new_page()
    try:
        tab.goto(page.local_url)
        answer = upload(tab, files/'sure.png')
        answer.locator('.ac-bars').wait_for()
        shown = answer.locator('.ac-bars span').all_inner_texts()
        assert sorted(shown) == sorted(label.replace('-', ' ') for label in HOSTILE)
        assert tab.locator('#ac-head h1').inner_text() == HOSTILE[2] and tab.title() == HOSTILE[2]
        assert not tab.locator('#ac-examples').count()
    finally: page.close(verbose=False)

def test_the_slider_fades_the_colours(tab, files):
    answer = upload(tab, files/'sure.png')
    answer.locator('.ac-slider input').fill('25')
    assert answer.locator('.ac-heat').first.evaluate('image => getComputedStyle(image).opacity') == '0.25'

def test_a_photo_is_pasted_over_another_one(browser, page, files):
    context = browser.new_context(permissions=['clipboard-read', 'clipboard-write'])
    tab = context.new_page()
    tab.goto(page.local_url)
    upload(tab, files/'unsure.png').get_by_role('heading', name='Not sure').wait_for()
    picture = base64.b64encode((files/'sure.png').read_bytes()).decode()
    tab.evaluate("""async picture => {
        const blob = await (await fetch('data:image/png;base64,' + picture)).blob()
        await navigator.clipboard.write([new ClipboardItem({'image/png': blob})])
    }""", picture)
    tab.keyboard.press('Control+v')
    tab.locator('#ac-answer').get_by_role('heading', name='byzantine').first.wait_for()
    context.close()

def test_a_photo_is_dropped(tab, files):
    picture = base64.b64encode((files/'sure.png').read_bytes()).decode()
    transfer = tab.evaluate_handle("""async picture => {
        const data = new DataTransfer()
        data.items.add(new File([await (await fetch('data:image/png;base64,' + picture)).blob()], 'dropped.png', {type: 'image/png'}))
        return data
    }""", picture)
    tab.locator('#ac-photo button[aria-dropeffect]').dispatch_event('drop', {'dataTransfer': transfer})
    tab.locator('#ac-answer').get_by_role('heading', name='byzantine').first.wait_for()

def test_a_photo_is_taken(browser, page):
    context = browser.new_context(permissions=['camera'])
    tab = context.new_page()
    tab.goto(page.local_url)
    tab.get_by_label('Capture from camera').click()
    tab.locator('#ac-photo').get_by_text('Webcam').first.click()
    tab.wait_for_timeout(1500)  # until the camera delivers
    tab.get_by_label('capture photo').click()
    tab.locator('#ac-answer .ac-bars').wait_for()
    context.close()

def test_many_photos_get_a_line_each_and_a_table(tab, classifier, files):
    tab.get_by_role('tab', name='Many photos').click()
    tab.set_input_files('#ac-photos input[type=file]', [files/'sure.png', files/'unsure.png', files/'page.jpg'])
    rows = tab.locator('.ac-many li')
    rows.first.wait_for()
    assert [row.split('\n')[0].split(' ')[0] for row in rows.all_inner_texts()] == ['byzantine', 'Not', 'page.jpg:']
    with tab.expect_download() as download: tab.get_by_role('link', name='table').click()
    table = list(csv.DictReader(download.value.path().read_text('utf-8').splitlines()))
    assert [row['answer'] for row in table] == ['byzantine', 'baroque', ''] and table[2]['error'] == 'not an image'
    assert float(table[0]['byzantine']) == pytest.approx(classifier.classify(files/'sure.png').confidence, abs=1e-4)

def test_an_address_is_fetched_with_the_guards_of_collect(browser, page, neighbour, monkeypatch, another):
    tab = browser.new_page()
    url = f'http://127.0.0.1:{neighbour.port}/photos/west%20front.png'
    def look(address):
        tab.get_by_label('Address of a photo').fill(url)
        tab.get_by_role('button', name='Look at it').click()
    tab.goto(page.local_url)
    look(url)
    alert = tab.locator('#ac-answer').get_by_role('alert')
    alert.wait_for()
    assert f'{url}: no photo could be fetched' in alert.inner_text() and '(forbidden address)' in alert.inner_text() and neighbour.asked == []
    monkeypatch.setattr('archclf.app.Web', lambda: Web(allow=['127.0.0.1']))
    tab.goto(another().local_url)
    look(url)
    tab.locator('#ac-answer').get_by_role('heading', name='byzantine').first.wait_for()
    assert tab.locator('#ac-photo img').evaluate('image => image.naturalWidth') > 100
    neighbour.asked.clear()
    tab.close()

def test_feedback_is_noted_without_the_photo(browser, another, files, tmp_path):
    page, tab = another(feedback=tmp_path/'feedback.jsonl'), browser.new_page()
    tab.goto(page.local_url)
    asked = tab.locator('#ac-feedback')
    assert not asked.is_visible()
    upload(tab, files/'sure.png').get_by_role('heading', name='byzantine').first.wait_for()
    assert 'noted in feedback.jsonl,' in asked.inner_text() and str(tmp_path) not in tab.content()
    asked.get_by_role('button', name='Yes').click()
    asked.get_by_text('Thank you').wait_for()
    for answer in 'gothic', 'something else':
        asked.locator('input').click()
        tab.get_by_role('option', name=answer).click()
        asked.get_by_text('Thank you').wait_for()
    tab.wait_for_timeout(300)
    lines = [json.loads(line) for line in (tmp_path/'feedback.jsonl').read_text().splitlines()]
    assert [line['label'] for line in lines] == ['byzantine', 'gothic', None] and {line['predicted'] for line in lines} == {'byzantine'}
    tab.get_by_label('Remove Image').click()
    upload(tab, files/'page.jpg').get_by_role('alert').wait_for()
    tab.wait_for_timeout(300)
    assert not asked.is_visible(), 'nothing was answered'
    assert {line['sha256'] for line in lines} == {hashlib.sha256((files/'sure.png').read_bytes()).hexdigest()}
    tab.close()

def test_without_a_file_nobody_is_asked_for_feedback(tab, files):
    upload(tab, files/'sure.png').locator('.ac-bars').wait_for()
    assert not tab.locator('#ac-feedback').count()

@pytest.mark.parametrize('locale', ['de-AT', 'fr-FR', 'es-MX', 'zh-CN'])
def test_the_page_speaks_the_language_of_its_reader(browser, page, files, locale):
    context, words = browser.new_context(locale=locale), Words.open(locale[:2])
    tab = context.new_page()
    tab.goto(page.local_url)
    assert tab.locator('#ac-head p').inner_text().startswith(words.say('question', classes='*').split('*')[0])
    assert tab.evaluate('document.documentElement.lang')[:2] == locale[:2]
    tab.get_by_role('button', name=words.say('example', label=words.name('baroque'))).click()
    answer = tab.locator('#ac-answer')
    answer.get_by_role('heading', name=words.say('not sure')).wait_for()
    assert words.name('baroque') in answer.inner_text() and words.apart('baroque', 'byzantine') in answer.inner_text()
    context.close()

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_nothing_serious_stands_in_the_way_of_anybody(browser, another, files, tmp_path, scheme):
    page, context = another(feedback=tmp_path/'feedback.jsonl'), browser.new_context(color_scheme=scheme)
    tab = context.new_page()
    tab.goto(page.local_url)
    tab.get_by_role('button', name='Drawing of victorian').wait_for()
    assert violations(tab) == []
    upload(tab, files/'unsure.png').locator('.ac-cards').wait_for()
    tab.wait_for_timeout(500)  # the answer fades in
    assert violations(tab) == []
    tab.get_by_role('tab', name='Many photos').click()
    tab.set_input_files('#ac-photos input[type=file]', [files/'sure.png', files/'page.jpg'])
    tab.locator('.ac-many').wait_for()
    tab.wait_for_timeout(500)
    assert violations(tab) == []
    context.close()

