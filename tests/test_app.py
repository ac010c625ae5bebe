"The page as people and programs meet it: a real server, asked by gradio_client and by a headless browser."
import shutil
import socket
from dataclasses import asdict

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from archclf.app import serve
from archclf.classifier import MODELS, Classifier, read_model, save_model
from archclf.sample import draw_facade

ODD = 3, 5, 8, 13, 21, 23, 27, 29, 30, 31  # AVIF, alpha, CMYK, two frames, .img, cut off, 16 bits, animated, turned, a bomb
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run']
HOSTILE = ['<img src=x onerror="document.title=1">', '${1+1} {{2}}', '</script><b>bold']


@pytest.fixture(scope='module')
def classifier(): return Classifier.open()

@pytest.fixture(scope='module')
def page(classifier):
    page = serve(classifier)
    yield page
    page.close(verbose=False)

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

def test_only_classify_is_public(client):
    assert list(client.view_api(return_format='dict')['named_endpoints']) == ['/classify']
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

def upload(tab, path):
    tab.set_input_files('#ac-photo input[type=file]', path)
    return tab.locator('#ac-answer')

def test_a_person_sees_the_answer_then_the_reason_then_an_answer(tab, files):
    answer = upload(tab, files/'sure.png')
    answer.get_by_role('heading', name='byzantine').wait_for()
    assert answer.locator('.ac-bars li').count() == 8
    assert answer.get_by_role('img', name='warm where it speaks for byzantine').evaluate('image => image.naturalWidth') == 448
    assert 'Look for clustered low domes' in answer.inner_text()
    tab.get_by_label('Remove Image').click()
    answer.get_by_text('How people tell them apart').wait_for()
    upload(tab, files/'page.jpg').get_by_role('alert').wait_for()
    assert 'page.jpg: this is not a JPEG' in answer.inner_text() and 'Error' not in answer.inner_text()
    tab.get_by_label('Remove Image').click()
    upload(tab, files/'unsure.png').get_by_role('heading', name='Not sure').wait_for()
    assert 'It may be baroque' in answer.inner_text() and 'good light' in answer.inner_text()
    assert tab.strangers == []

def test_on_a_phone_a_drawing_is_one_click_away_and_nothing_is_too_wide(tab, classifier):
    tab.set_viewport_size({'width': 360, 'height': 740})
    honesty = tab.locator('#ac-honesty')
    honesty.get_by_text('where it is weak').click()
    assert f"{classifier.info['metrics']['accuracy']:.1%}" in honesty.inner_text()
    assert classifier.info['data']['notes'][0] in honesty.inner_text()
    tab.get_by_role('button', name='drawing of baroque').click()
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
