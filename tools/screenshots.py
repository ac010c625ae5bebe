"""Take the picture of the app for the blog, with a drawing in it: python tools/screenshots.py [FOLDER]. Needs chromium."""
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from archclf.app import serve
from archclf.classifier import Classifier
from archclf.sample import draw_facade

POSTS = Path(__file__).resolve().parents[1]/'nbs/posts'


def main(folder=POSTS):
    page = serve(Classifier.open())
    with tempfile.TemporaryDirectory() as drawn, sync_playwright() as playwright:
        draw_facade('baroque', seed=2).save(f'{drawn}/palace.png')
        browser = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox', '--disable-gpu', '--disable-background-networking'])
        tab = browser.new_page(viewport={'width': 1120, 'height': 1060})
        tab.goto(page.local_url)
        tab.set_input_files('#ac-photo input[type=file]', f'{drawn}/palace.png')
        tab.locator('.ac-cards').wait_for()
        tab.wait_for_timeout(1000)  # it fades in
        picture = Image.open(io.BytesIO(tab.screenshot()))
        browser.close()
    page.close(verbose=False)
    picture.convert('P', palette=Image.Palette.ADAPTIVE, colors=128).save(Path(folder)/'app.png', optimize=True)


if __name__ == '__main__': main(*sys.argv[1:])
