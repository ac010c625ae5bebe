"The page that runs in the visitor's browser: the folder, and what a headless browser makes of it over a plain file server."
import base64
import functools
import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from archclf.classifier import MODELS, Classifier, ModelError, read_model, save_model, write_folder
from archclf.gallery import gallery_files, gallery_photo, small_picture
from archclf.image import ImageError, read_image, to_square
from archclf.sample import draw_facade
from archclf.space import CDN, RUNTIME, RUNTIME_VERSION, SpaceError, read_runtime, write_static
from archclf.words import LANGUAGES, Words

NODE = Path(__file__).parent/'node_modules'
ORT = NODE/'onnxruntime-web'
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run',
             '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']
HOSTILE = ['<img src=x onerror="document.title=1">', '${1+1} {{2}} {label}', '</script><b>bold']
CLASSIFY = '''async base64 => {
    const photo = await (await fetch(`data:;base64,${base64}`)).blob()
    return archclf.classify(photo).catch(error => ({reason: error.reason}))
}'''
SQUARE = '''async ([base64, size, crop]) => {
    const {readPhoto, toSquare} = await import('./classifier.js'), photo = await (await fetch(`data:;base64,${base64}`)).blob()
    return Array.from(toSquare(await readPhoto(photo), size, crop))
}'''


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments): pass


def serve(folder, handler=Handler, tls=None):
    "A plain file server; `stop()` ends it."
    server = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(handler, directory=str(folder)))
    server.daemon_threads = True
    if tls: server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    def stop():
        server.shutdown()
        server.server_close()
    address = f'127.0.0.1:{server.server_port}'
    return SimpleNamespace(address=address, url=f'http://{address}/', stop=stop)

def png(image):
    buffer = io.BytesIO()
    image.save(buffer, 'PNG')
    return buffer.getvalue()

def text_of(data): return base64.b64encode(data).decode()


@pytest.fixture(scope='module')
def classifier(): return Classifier.open()

@pytest.fixture(scope='module')
def runtime():
    if not ORT.is_dir(): pytest.fail('tests/node_modules is missing; run: npm ci --prefix tests')
    return ORT

@pytest.fixture(scope='module')
def folder(runtime, tmp_path_factory): return write_static(tmp_path_factory.mktemp('static')/'space', runtime=runtime)

@pytest.fixture(scope='module')
def site(folder):
    site = serve(folder)
    yield site
    site.stop()

@pytest.fixture(scope='module')
def browser():
    if not CHROMIUM: pytest.skip('needs chromium or google-chrome on the PATH')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()

def open_tab(browser, url, **options):
    "A tab in a browser of its own; troubles and requests to others are kept in `errors` and `strangers`."
    context, host = browser.new_context(**options), url.split('?')[0]
    context.set_default_timeout(15_000)
    tab = context.new_page()
    tab.strangers, tab.errors = [], []
    context.on('request', lambda request: request.url.startswith((host, f'blob:{host}', 'data:')) or tab.strangers.append(request.url))
    tab.on('pageerror', lambda error: tab.errors.append(str(error)))
    tab.on('console', lambda message: message.type == 'error' and tab.errors.append(message.text))
    tab.goto(url)
    return tab

@pytest.fixture
def visit(browser):
    "Visit an address for the first time, and wait until the page is ready."
    tabs = []
    def visit(url, ready=True, **options):
        tabs.append(open_tab(browser, url, **options))
        if ready: loaded(tabs[-1])
        return tabs[-1]
    yield visit
    for tab in tabs: tab.context.close()

@pytest.fixture(scope='module')
def shared(browser, site):
    tab = open_tab(browser, site.url)
    loaded(tab)
    yield tab
    tab.context.close()

@pytest.fixture
def tab(shared):
    "One loaded page, which each test gets without a photo, and which is checked afterwards."
    yield shared
    assert shared.errors == [] and shared.strangers == []
    remove = shared.get_by_role('button', name='Remove')
    if remove.is_visible(): remove.click()

@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    draw_facade('byzantine', seed=1).save(folder/'sure.png')
    draw_facade('baroque', seed=2).save(folder/'unsure.png')
    draw_facade('gothic', seed=2).save(folder/'whole.jpg', quality=90)
    (folder/'cut.jpg').write_bytes((folder/'whole.jpg').read_bytes()[:3000])
    (folder/'page.jpg').write_text('<!doctype html><title>404</title>')
    (folder/'empty.jpg').write_bytes(b'')
    Image.new('1', (20000, 20000)).save(folder/'bomb.png')
    draw_facade('gothic', seed=2).save(folder/'whole.tiff')
    return folder


def loaded(tab):
    tab.locator('#ac-main').wait_for()
    tab.locator('#ac-loading').wait_for(state='hidden')

def kept(tab): tab.locator('#ac-offline:not(:empty)').wait_for()

def choose(tab, *paths): tab.set_input_files('#ac-photo input', paths)

def heading(tab, name): tab.locator('#ac-answer').get_by_role('heading', name=name).wait_for()

def agree(reply, expected, tolerance=.01):
    assert reply.get('label') == expected.label, reply
    assert reply['sure'] == expected.sure and reply['probabilities'] == pytest.approx(expected.probabilities, abs=tolerance)


# The folder

def test_the_folder_is_complete_small_and_fingerprinted(folder):
    space, size = json.loads((folder/'space.json').read_text()), sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    assert size < 30e6
    for entry in space['files']:
        data = (folder/entry['path']).read_bytes()
        assert (entry['size'], entry['integrity']) == (len(data), f'sha256-{text_of(hashlib.sha256(data).digest())}')
    listed = {entry['path'] for entry in space['files']} | {'README.md', 'space.json', 'service-worker.js'}
    assert listed == {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
    assert f"VERSION = '{space['version']}'" in (folder/'service-worker.js').read_text()
    for name in ('model.json', 'backbone.onnx', 'head.safetensors', 'README.md'):
        assert (folder/'model'/name).read_bytes() == (MODELS/'styles8'/name).read_bytes()

def test_every_picture_says_whose_it_is(folder):
    photos = json.loads((folder/'examples'/'credits.json').read_text())['photos']
    assert {photo['file'] for photo in photos} == {path.name for path in (folder/'examples').glob('*.png')}
    assert all(photo['license'] == 'CC0 1.0' and photo['sha256'] == hashlib.sha256((folder/'examples'/photo['file']).read_bytes()).hexdigest() for photo in photos)

def test_the_pinned_runtime_is_the_npm_package(runtime):
    assert json.loads((runtime/'package.json').read_text())['version'] == RUNTIME_VERSION
    for name, (size, sha256) in RUNTIME.items():
        data = (runtime/'dist'/name).read_bytes()
        assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())

def test_another_runtime_is_refused_by_name(runtime, tmp_path):
    (tmp_path/'dist').mkdir()
    for name in RUNTIME: shutil.copy(runtime/'dist'/name, tmp_path/'dist'/name)
    with open(tmp_path/'dist'/'ort.wasm.min.mjs', 'a') as file: file.write(' ')
    with pytest.raises(SpaceError, match=r'ort\.wasm\.min\.mjs: of another version.*npm install onnxruntime-web@'): read_runtime(tmp_path)

def test_only_an_older_space_is_replaced(folder, runtime, tmp_path):
    out = write_static(tmp_path/'space', runtime=runtime)
    write_static(out)
    assert not (out/'runtime').exists()
    (out/'CNAME').touch()
    with pytest.raises(SpaceError, match='holds CNAME'): write_static(out)
    assert (out/'CNAME').exists() and (out/'index.html').exists()


# The same numbers

@pytest.mark.parametrize('width, height, size, crop', [(333, 217, 224, .875), (224, 224, 224, 1.), (90, 51, 224, .875), (1, 1, 32, 1.), (1501, 700, 224, .9), (40, 1200, 96, .77)])
def test_the_square_is_pillows_byte_for_byte(tab, width, height, size, crop):
    noise = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))
    square = np.array(tab.evaluate(SQUARE, [text_of(png(noise)), size, crop]), np.uint8).reshape(size, size, 3)
    assert np.array_equal(square, to_square(noise, size, crop))

def test_what_is_transparent_becomes_white(tab):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 4), np.uint8)
    data = png(Image.fromarray(pixels))
    square = np.array(tab.evaluate(SQUARE, [text_of(data), 48, 1.])).reshape(48, 48, 3)
    assert np.abs(square - to_square(read_image(data), 48).astype(int)).max() <= 2

def test_fifty_drawings_get_pythons_answers(tab, classifier):
    for number in range(50):
        drawing = png(draw_facade(classifier.head.labels[number % 8], seed=100 + number))
        agree(tab.evaluate(CLASSIFY, text_of(drawing)), classifier.classify(drawing), tolerance=.002)

def test_odd_photos_get_pythons_answers_or_reasons(tab, classifier, photos):
    odd = sorted((photos/'odd').glob('[0-9]*'))
    assert len(odd) == 31
    for path in odd:
        reply = tab.evaluate(CLASSIFY, text_of(path.read_bytes()))
        try: expected = classifier.classify(path)
        except ImageError as error: assert reply == {'reason': error.reason}, path.name
        else: agree(reply, expected)

@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'AVIF'])
def test_a_turned_photo_gets_the_answer_of_the_upright_one(tab, classifier, kind):
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[274] = 6
    draw_facade('byzantine', seed=1).rotate(90, expand=True).save(buffer, kind, exif=exif, quality=95)
    agree(tab.evaluate(CLASSIFY, text_of(buffer.getvalue())), classifier.classify(buffer.getvalue()))

def test_photos_that_come_together_get_their_own_answers(tab, files):
    data = [text_of((files/name).read_bytes()) for name in ('sure.png', 'cut.jpg', 'unsure.png')]
    both = tab.evaluate(f'async photos => Promise.all(photos.map({CLASSIFY}))', data)
    assert [reply.get('label') for reply in both] == ['byzantine', None, 'baroque'] and both[1] == {'reason': 'damaged'}


# What people see

def test_a_person_sees_the_answer(tab, files):
    assert tab.locator('.ac-guide dt').count() == 8 and tab.get_by_text('Pointed arches, rose windows').is_visible()
    choose(tab, files/'sure.png')
    heading(tab, 'byzantine')
    answer = tab.locator('#ac-answer')
    assert tab.get_by_role('status').inner_text().split() == ['Byzantine', '94%']
    assert answer.locator('.ac-bars li').count() == 8 and 'Look for clustered low domes' in answer.inner_text()
    assert answer.get_by_role('img', name='warm where it speaks for byzantine').evaluate('image => image.naturalWidth') == 224
    assert not answer.locator('.ac-apart').count()
    tab.get_by_role('button', name='Remove').click()
    tab.get_by_text('How people tell them apart').wait_for()
    assert not tab.locator('.ac-shown').is_visible()

def test_not_sure_says_between_what_and_what_tells_them_apart(tab, files):
    choose(tab, files/'unsure.png')
    heading(tab, 'Not sure')
    answer = tab.locator('#ac-answer')
    assert 'It may be baroque (50%), byzantine (25%) or victorian (15%).' in answer.inner_text() and answer.locator('.ac-cards figure').count() == 3
    assert answer.locator('.ac-apart').inner_text().startswith('What tells baroque from byzantine') and Words.open().apart('baroque', 'byzantine') in answer.inner_text()

def test_the_slider_fades_the_colours(tab, files):
    choose(tab, files/'sure.png')
    slider, heat = tab.get_by_role('slider', name='Strength'), tab.locator('.ac-heat')
    assert heat.evaluate('image => getComputedStyle(image).opacity') == '1'
    slider.fill('25')
    assert heat.evaluate('image => getComputedStyle(image).opacity') == '0.25'
    assert heat.bounding_box() == tab.locator('.ac-plain').bounding_box()
    choose(tab, files/'unsure.png')
    heading(tab, 'Not sure')
    heat = heat.first
    assert heat.evaluate('image => getComputedStyle(image).opacity') == str(int(slider.input_value()) // 100) == '1'

@pytest.mark.parametrize('name, reason', [('page.jpg', 'not an image'), ('cut.jpg', 'damaged'), ('empty.jpg', 'empty'), ('bomb.png', 'too large'), ('whole.tiff', 'unsupported')])
def test_a_bad_file_gets_its_reason_and_the_next_an_answer(tab, files, name, reason):
    choose(tab, files/name)
    tab.get_by_role('alert').wait_for()
    assert f'{name}: {Words.open().reason(reason)}' in tab.get_by_role('alert').inner_text()
    choose(tab, files/'sure.png')
    heading(tab, 'byzantine')

def test_several_photos_are_listed_and_each_can_be_looked_at(tab, files):
    choose(tab, files/'sure.png', files/'page.jpg', files/'unsure.png')
    cards = tab.locator('#ac-many button')
    cards.nth(2).wait_for()
    assert cards.all_inner_texts() == ['byzantine', 'page.jpg: This cannot be read', 'Not sure: baroque or byzantine']
    heading(tab, 'byzantine')
    cards.nth(2).click()
    heading(tab, 'Not sure')
    cards.nth(1).click()
    tab.get_by_role('alert').wait_for()
    assert [card.get_attribute('aria-pressed') for card in cards.all()] == ['false', 'true', 'false']

def test_a_drawing_is_one_key_away(tab):
    tab.get_by_role('button', name='Drawing of gothic').focus()
    tab.keyboard.press('Enter')
    heading(tab, 'gothic')

def test_the_keyboard_reaches_everything_in_order(visit, site):
    tab = visit(site.url)
    reached = []
    for _ in range(11):
        tab.keyboard.press('Tab')
        reached.append(tab.evaluate('document.activeElement.type || document.activeElement.tagName'))
    assert reached == ['file', *['button'] * 9, 'SUMMARY']
    assert tab.evaluate('getComputedStyle(document.activeElement).outlineStyle') == 'solid'

DROP = '''async ([base64, kind]) => {
    const data = new DataTransfer(), photo = await (await fetch(`data:image/png;base64,${base64}`)).blob()
    data.items.add(new File([photo], 'photo.png', {type: 'image/png'}))
    const target = document.querySelector('.ac-drop span'), init = {bubbles: true, cancelable: true}
    target.dispatchEvent(kind === 'paste' ? new ClipboardEvent(kind, {...init, clipboardData: data}) : new DragEvent(kind, {...init, dataTransfer: data}))
}'''

@pytest.mark.parametrize('kind', ['paste', 'drop'])
def test_a_photo_can_be_pasted_and_dropped(tab, files, kind):
    tab.evaluate(DROP, [text_of((files/'sure.png').read_bytes()), kind])
    heading(tab, 'byzantine')

def test_a_photo_chosen_while_the_model_loads_is_answered(visit, site, files):
    tab, held = visit('about:blank', ready=False), []
    tab.context.route('**/backbone.onnx', lambda route: held.append(route))
    tab.goto(site.url)
    tab.get_by_role('progressbar', name='The model is being loaded').wait_for()
    choose(tab, files/'sure.png')
    held[0].continue_()
    heading(tab, 'byzantine')

def test_the_camera_takes_a_photo(tab):
    tab.get_by_role('button', name='Take a photo').click()
    tab.locator('dialog video').evaluate('video => video.videoWidth || new Promise(done => video.onloadeddata = done)')
    tab.get_by_role('button', name='Take it').click()
    tab.locator('.ac-bars').wait_for()
    assert tab.locator('.ac-shown').evaluate('image => image.naturalWidth') > 100
    assert tab.locator('dialog video').evaluate('video => video.srcObject.getTracks().every(track => track.readyState === "ended")')

def test_no_camera_is_a_kind_line(visit, site):
    tab = visit(site.url)
    tab.evaluate('() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("Requested device not found", "NotFoundError") } }')
    tab.get_by_role('button', name='Take a photo').click()
    assert 'no camera to be used here (Requested device not found)' in tab.get_by_role('alert').inner_text()

def test_on_a_phone_nothing_is_too_wide_and_the_answer_follows_the_photo(visit, site, files):
    tab = visit(site.url, viewport={'width': 360, 'height': 740})
    assert tab.evaluate('document.documentElement.scrollWidth') <= 360
    choose(tab, files/'unsure.png')
    heading(tab, 'Not sure')
    tab.locator('summary').click()
    assert tab.evaluate('document.documentElement.scrollWidth') <= 360
    top = lambda selector: tab.locator(selector).bounding_box()['y']
    assert top('#ac-photo') < top('#ac-answer') < top('#ac-examples')

@pytest.mark.parametrize('language', LANGUAGES)
def test_it_speaks_the_visitors_language(visit, site, files, language):
    words = Words.open(language)
    tab = visit(site.url, locale={'en': 'en-GB', 'de': 'de-AT', 'fr': 'fr-CA', 'es': 'es-MX', 'zh': 'zh-TW'}[language])
    assert tab.evaluate('document.documentElement.lang') == language
    choose(tab, files/'unsure.png')
    heading(tab, words.say('not sure'))
    shown = tab.locator('body').inner_text()
    for sentence in (words.say('may settle', count=8), words.apart('baroque', 'byzantine'), words.look_for('baroque'), words.say('private here'), words.say('honest'), words.percent(.8901, 1)):
        assert sentence in shown.replace('\n', ' ')
    assert words.say('question', classes=words.listed([words.name(label) for label in read_model()[0]['labels']], 'or')) == tab.locator('#ac-head p').inner_text()
    assert '{' not in shown and 'undefined' not in shown and tab.errors == []

def test_the_address_can_ask_for_a_language(visit, site):
    assert visit(f'{site.url}?lang=fr').evaluate('document.documentElement.lang') == 'fr'
    assert visit(f'{site.url}?lang=tlh', locale='xx-XX').evaluate('document.documentElement.lang') == 'en'

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_nothing_serious_for_the_accessibility_checker(tab, files, scheme):
    tab.emulate_media(color_scheme=scheme)
    axe = (NODE/'axe-core'/'axe.min.js').read_text()
    for name, selector in ((None, '.ac-guide'), ('sure.png', '.ac-cards'), ('unsure.png', '.ac-apart'), ('page.jpg', '.ac-trouble')):
        if name: choose(tab, files/name)
        tab.locator(selector).wait_for()
        found = tab.evaluate(f'{axe}; axe.run()')
        assert found['passes'] and not [(rule['id'], rule['nodes'][0]['html']) for rule in found['violations'] if rule['impact'] in ('serious', 'critical')], name


# Whatever the model

@pytest.fixture
def another(runtime, tmp_path):
    "Serve a Space over the shipped network with other labels."
    info, contents = read_model()
    head, sites = Classifier.open().head, []
    def another(labels, name='Another', change=lambda model: None, **more):
        model = save_model(tmp_path/'model', contents['backbone.onnx'], head.weight[:len(labels)], head.bias[:len(labels)], info | {'labels': labels, 'name': name} | more)
        change(model)
        sites.append(serve(write_static(tmp_path/'space', model, runtime)))
        return sites[-1]
    yield another
    for site in sites: site.stop()

def test_any_labels_even_hostile_ones(visit, another, files):
    tab = visit(another(HOSTILE, name=HOSTILE[2]).url)
    choose(tab, files/'sure.png')
    tab.locator('.ac-cards').wait_for()
    assert sorted(tab.locator('.ac-bars span').all_inner_texts()) == sorted(label.replace('-', ' ') for label in HOSTILE)
    assert tab.locator('h1').inner_text() == HOSTILE[2] and tab.title() == HOSTILE[2] and not tab.locator('#ac-examples').is_visible()
    assert tab.errors == [] and tab.strangers == []

def test_labels_that_objects_know_or_sort(visit, another, files):
    tab = visit(another(['10', 'constructor', '2']).url)
    assert tab.locator('#ac-head p').inner_text().startswith('Is it 10, constructor or 2?') and tab.get_by_text('The answer appears here.').is_visible()
    choose(tab, files/'sure.png')
    tab.locator('.ac-cards').wait_for()
    shares = [int(share.strip('<>%')) for share in tab.locator('.ac-bars b').all_inner_texts()]
    assert shares == sorted(shares, reverse=True) and tab.errors == []

def add_gallery(model):
    "Six drawings as a gallery: the first is the photo that the test shows."
    classifier = Classifier.open(model)
    drawings = [draw_facade('byzantine', seed=number) for number in range(1, 7)]
    records = [dict(title=f'Drawing {number}', creator='A. Mason' if number == 1 else '', license='CC BY 4.0', license_url='https://creativecommons.org/licenses/by/4.0/',
                    page=f'https://example.org/{number}', url='') for number in range(1, 7)]
    embeddings = classifier.backbone.run(np.stack([classifier.backbone.square(drawing) for drawing in drawings]))
    photos = [gallery_photo(number, record, 'byzantine', small_picture(png(drawing))) for number, (record, drawing) in enumerate(zip(records, drawings), 1)]
    write_folder(model/'gallery', gallery_files(photos, embeddings, classifier))

def test_the_most_similar_photos_of_a_gallery_with_their_credits(visit, another, files):
    tab = visit(another(read_model()[0]['labels'], change=add_gallery).url)
    choose(tab, files/'sure.png')
    similar = tab.locator('.ac-similar figure')
    similar.nth(3).wait_for()
    assert similar.count() == 4 and 'Drawing 1 by A. Mason, CC BY 4.0' in similar.first.inner_text()
    assert similar.first.get_by_role('link').first.get_attribute('href') == 'https://example.org/1'
    assert 'smaller than the originals' in tab.locator('.ac-more').inner_text() and similar.first.locator('img').evaluate('image => image.naturalWidth') == 240 and tab.errors == []

def test_an_address_in_the_gallery_cannot_run_anything(visit, another, files, tmp_path):
    site = another(read_model()[0]['labels'], change=add_gallery)
    gallery = tmp_path/'space'/'model'/'gallery'/'gallery.json'
    gallery.write_text(gallery.read_text().replace('https://example.org/1', 'javascript:document.title=1'))
    tab = visit(site.url)
    choose(tab, files/'sure.png')
    tab.locator('.ac-similar').wait_for()
    assert 'Drawing 1' in tab.locator('.ac-similar').inner_text() and not tab.locator('a[href^=javascript]').count()

def test_a_gallery_of_another_model_is_refused(tmp_path):
    model = tmp_path/'model'
    shutil.copytree(MODELS/'styles8', model)
    add_gallery(model)
    info = (model/'gallery'/'gallery.json').read_text()
    (model/'gallery'/'gallery.json').write_text(info.replace(Classifier.open().backbone.sha256, '0' * 64))
    with pytest.raises(ModelError, match='another backbone'): write_static(tmp_path/'space', model)
    assert not (tmp_path/'space').exists()


# Anywhere, and without a network

def test_the_second_visit_needs_no_server_and_has_threads(visit, folder, files):
    site = serve(folder)
    tab = visit(site.url)
    assert not tab.evaluate('crossOriginIsolated')
    choose(tab, files/'unsure.png')
    heading(tab, 'Not sure')
    first = tab.locator('.ac-bars').inner_text()
    kept(tab)
    site.stop()
    tab.reload()
    loaded(tab)
    assert tab.evaluate('crossOriginIsolated')
    choose(tab, files/'unsure.png')
    heading(tab, 'Not sure')
    assert tab.locator('.ac-bars').inner_text() == first
    tab.get_by_role('button', name='Drawing of gothic').click()
    heading(tab, 'gothic')
    assert tab.goto(f'{site.url}index.html?lang=de').ok and tab.strangers == []
    loaded(tab)
    assert tab.evaluate('document.documentElement.lang') == 'de' and tab.errors == []

def test_a_new_version_is_there_at_the_visit_after_the_next(visit, runtime, tmp_path):
    out = write_static(tmp_path/'space', runtime=runtime)
    site = serve(out)
    tab = visit(site.url)
    kept(tab)
    info, contents = read_model()
    head = Classifier.open().head
    write_static(out, save_model(tmp_path/'model', contents['backbone.onnx'], head.weight, head.bias, info | {'name': 'Newer'}), runtime)
    tab.reload()
    assert tab.locator('h1').inner_text() == 'Eight styles of architecture'
    tab.evaluate(f"""async newer => {{ for (let i = 0; i < 200 && (await caches.keys()).join() !== `archclf ${{location.href}} ${{newer}}`; i++) await new Promise(done => setTimeout(done, 50)) }}""",
                 json.loads((out/'space.json').read_text())['version'])
    tab.reload()
    loaded(tab)
    assert tab.locator('h1').inner_text() == 'Newer'
    site.stop()

def test_it_works_inside_another_page(visit, site, files, tmp_path):
    (tmp_path/'index.html').write_text(f'<!doctype html><title>Docs</title><iframe src="{site.url}" width=800 height=900></iframe>')
    outer = serve(tmp_path)
    tab = visit(outer.url, ready=False)
    frame = tab.frame_locator('iframe')
    frame.locator('#ac-main').wait_for()
    frame.locator('#ac-photo input').set_input_files(files/'sure.png')
    frame.get_by_role('heading', name='byzantine').wait_for()
    outer.stop()

@pytest.fixture(scope='module')
def from_cdn(tmp_path_factory):
    site = serve(write_static(tmp_path_factory.mktemp('cdn')/'space'))
    yield site
    site.stop()

def answer_for(tab, tampered=None):
    def reply(route):
        name = route.request.url.removeprefix(f'{CDN}/npm/onnxruntime-web@{RUNTIME_VERSION}/dist/')
        data = (ORT/'dist'/name).read_bytes() + (b'\nglobalThis.tampered = 1' if name == tampered else b'')
        route.fulfill(body=data, headers={'access-control-allow-origin': '*', 'content-type': 'text/javascript'})
    tab.context.route(f'{CDN}/**', reply)

def test_without_a_runtime_it_is_loaded_from_the_cdn_and_from_nowhere_else(visit, from_cdn, runtime, files):
    tab = visit('about:blank', ready=False, service_workers='block')
    answer_for(tab)
    tab.strangers.clear()
    tab.goto(from_cdn.url)
    loaded(tab)
    choose(tab, files/'sure.png')
    heading(tab, 'byzantine')
    assert {url for url in tab.strangers if not url.startswith((from_cdn.url, 'blob:'))} == {f'{CDN}/npm/onnxruntime-web@{RUNTIME_VERSION}/dist/{name}' for name in RUNTIME}

def test_with_the_cdn_too_the_second_visit_needs_no_network_and_has_threads(browser, from_cdn, runtime, files, tmp_path):
    import ssl

    import trustme
    class Cdn(Handler):
        def end_headers(self):
            self.send_header('Access-Control-Allow-Origin', '*')
            super().end_headers()
    host, package = CDN.removeprefix('https://'), tmp_path/'npm'/f'onnxruntime-web@{RUNTIME_VERSION}'
    package.mkdir(parents=True)
    (package/'dist').symlink_to(runtime/'dist')
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(host).configure_cert(tls)
    cdn = serve(tmp_path, Cdn, tls)
    here = browser.browser_type.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, '--ignore-certificate-errors', f'--host-resolver-rules=MAP {host} {cdn.address}'])
    tab = open_tab(here, from_cdn.url)
    kept(tab)
    cdn.stop()
    tab.reload()
    loaded(tab)
    assert tab.evaluate('crossOriginIsolated')
    choose(tab, files/'sure.png')
    heading(tab, 'byzantine')
    here.close()

@pytest.mark.parametrize('name', RUNTIME)
def test_a_tampered_runtime_does_not_run(visit, from_cdn, runtime, name):
    tab = visit('about:blank', ready=False, service_workers='block')
    answer_for(tab, tampered=name)
    tab.goto(from_cdn.url)
    tab.get_by_role('alert').wait_for()
    assert f'{name}: changed' in tab.get_by_role('alert').inner_text() and not tab.evaluate('"tampered" in globalThis')

def test_a_changed_model_is_not_used(visit, runtime, tmp_path):
    out = write_static(tmp_path/'space', runtime=runtime)
    data = bytearray((out/'model'/'head.safetensors').read_bytes())
    data[-1] ^= 1
    (out/'model'/'head.safetensors').write_bytes(data)
    site = serve(out)
    tab = visit(site.url, ready=False)
    tab.get_by_role('alert').wait_for()
    assert 'model/head.safetensors: changed' in tab.get_by_role('alert').inner_text()
    site.stop()


def test_the_documentation_holds_a_classifier_that_works(runtime, browser, tmp_path):
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, root/'tools/docs.py', 'build', '--out', tmp_path/'docs'], check=True)
    docs, tab = serve(tmp_path/'docs'), browser.new_page(locale='en-US')
    try:
        tab.goto(f'{docs.url}try.html')
        live = tab.frame_locator('iframe')
        live.get_by_role('button', name='Drawing of gothic').click()
        live.get_by_role('heading', name='gothic').first.wait_for()
        assert live.locator('.ac-bars li').count() == 8
    finally:
        tab.close()
        docs.stop()


def test_the_shares_are_rounded_as_in_python(visit, another):
    tab = visit(another(['gothic', 'modern'], metrics=read_model()[0]['metrics'] | {'accuracy': .8625, 'interval': [.8125, .9035]}).url)
    english = Words.open()
    assert f'{english.percent(.8625, 1)} of photos (95% interval {english.percent(.8125, 1)} to {english.percent(.9035, 1)})' in tab.locator('#ac-honesty').inner_text()

def test_a_runtime_out_of_reach_is_named(visit, from_cdn):
    tab = visit('about:blank', ready=False, service_workers='block')
    tab.context.route(f'{CDN}/**', lambda route: route.abort())
    tab.goto(f'{from_cdn.url}?lang=de')
    tab.get_by_role('alert').wait_for()
    assert tab.get_by_role('alert').inner_text() == Words.open('de').say('cannot load', address='cdn.jsdelivr.net')
