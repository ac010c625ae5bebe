"The polite and careful GET: clean addresses, the guard, clocks, caps, manners and retries, against real sockets on loopback."
import io
import ipaddress
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from imageweb import TROUBLES, ImageWeb, begin, photo
from PIL import Image

import archclf.web
from archclf.sampleweb import answer
from archclf.web import LONGEST, PASSING, REASONS, Manners, Web, WebError, _Trouble, _unpack, clean_url, is_public, retry_after

some = settings(max_examples=60)


@pytest.fixture(scope='module')
def images():
    with ImageWeb() as images: yield images


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    "Short breaks before further attempts, and no proxy of the user's."
    monkeypatch.setattr(archclf.web, 'BACKOFF', .05)
    for name in 'http', 'https', 'all', 'no':
        monkeypatch.delenv(f'{name}_proxy', raising=False)
        monkeypatch.delenv(f'{name.upper()}_PROXY', raising=False)


def quick(**options):
    "A Web with patience for a busy machine; where a test is about time it sets its own."
    return Web(**{'allow': ['127.0.0.1'], 'connect': 5, 'read': 5, 'total': 20, **options})


def wait_for_a_request(images):
    for _ in range(1000):
        if images.requests: return
        time.sleep(.01)
    raise AssertionError('nobody came')


def fails(web, url, **options):
    "The `WebError` of `url`, with the seconds it took."
    start = time.monotonic()
    with pytest.raises(WebError) as caught: web.get(url, **options)
    caught.value.seconds = time.monotonic() - start
    assert caught.value.reason in REASONS and caught.value.url == url
    return caught.value


# Addresses

letters = st.characters(codec='utf-8', exclude_categories=['Cc'], exclude_characters='#?')
texts = st.text(letters, max_size=12)
hosts = st.sampled_from(['example.org', 'EXAMPLE.org', 'bücher.example', 'faß.de', 'xn--bcher-kva.example', 'a_b.example', '例え.jp', '127.0.0.1',
                         '[::1]', '[2001:DB8::1]', 'example.org.', '2130706433'])
addresses = st.builds('{}://{}{}/{}{}'.format, st.sampled_from(['http', 'https', 'HTTP', 'hTTps']), hosts,
                      st.sampled_from(['', ':', ':80', ':443', ':8080']), st.lists(texts | st.sampled_from(['.', '..', '']), max_size=4).map('/'.join),
                      st.just('') | texts.map('?{}'.format) | texts.map('?a={}#part'.format))
escapes = st.integers(0, 255).map('%{:02x}'.format) | st.integers(0, 255).map('%{:02X}'.format)


def check_clean(url):
    assert url.isascii() and url.isprintable() and ' ' not in url and '#' not in url
    assert re.match(r'https?://[^/?@]+/', url) and len(url) <= LONGEST
    assert clean_url(url) == url == str(httpx.URL(url))
    assert urlsplit(url).hostname and urlsplit(url).path.startswith('/')


@some
@given(addresses)
@example('HTTP://example.org:80')
@example('http://example.org/a/..')
@example('http://example.org/a/.')
@example('http://example.org?a/..')
@example('http://example.org//..//a')
def test_clean_addresses(url): check_clean(clean_url(url))


@some
@given(st.text(max_size=60) | st.builds('http://{}'.format, st.text(max_size=30)), st.sampled_from(['', 'https://example.org/a/b?c']))
@example('http://[::1', '')
@example('http://a:b:c/', '')
@example('http://xn--zzzz/', '')
@example('http://1.2.3.999/', '')
@example('http://\ud800/', '')
@example('//[/', 'https://example.org/')
@example('http://127.0.0.1\\.example.org/', '')
@example('http://a..b/', '')
@example('http://' + 'a' * 64 + '.org/', '')
def test_any_text_is_clean_or_a_bad_address(url, base):
    try: cleaned = clean_url(url, base)
    except WebError as error: assert error.reason == 'bad address' and '\n' not in str(error)
    else: check_clean(cleaned)


@some
@given(st.lists(st.text('abcäß-._~!$&()*+,;=:@', max_size=5) | escapes), st.lists(st.text('abcé/?=&+', max_size=5) | escapes))
def test_escapes_stay_as_they_are(path, query):
    "Every %xx of the original is there, as it was written; all others are added for letters that are not ASCII."
    path, query = ''.join(path), ''.join(query)
    assume(path not in ('.', '..'))
    cleaned = clean_url(f'http://example.org/{path}?{query}')
    expected = re.sub(r'[^\x00-\x7f]', lambda letter: ''.join(f'%{byte:02X}' for byte in letter[0].encode()), f'{path}?{query}')
    assert cleaned == f'http://example.org/{expected}'


paths = st.lists(st.sampled_from(['a', 'b.jpg', '.', '..', '...']), max_size=8).map('/'.join)


@some
@given(paths, st.sampled_from(['', '/']), st.sampled_from(['', '?x=/../', '?']))
def test_addresses_are_joined_as_a_browser_does(path, slash, query):
    "The oracle is urljoin, for paths without // in the middle."
    assume(path or not slash)
    for reference in path + slash, f'/{path}{slash}':
        expected = urljoin('http://example.org/c/d?e', reference) + query if reference else f'http://example.org/c/d{query or "?e"}'
        assert clean_url(reference + query, 'http://example.org/c/d?e') == expected
        if reference: assert clean_url(f'http://example.org/{reference.lstrip("/")}{query}') == urljoin('http://example.org/', reference) + query


def test_empty_parts_of_a_path_stay():
    assert clean_url('/web/http://example.org//a', 'http://archive.example/x') == 'http://archive.example/web/http://example.org//a'
    assert clean_url('b//c', 'http://example.org/a//x') == 'http://example.org/a//b//c'


@some
@given(st.integers(0, 4096))
def test_long_addresses(size):
    url = f'https://example.org/?q={"x" * size}'
    assert clean_url(url) == url


@pytest.mark.parametrize('url', ['http://example.org/' + 'x' * 9000, 'http://example.org/' + 'ä' * 4000])
def test_addresses_over_8_kb(url):
    with pytest.raises(WebError, match='longer than 8192') as caught: clean_url(url)
    assert caught.value.reason == 'bad address' and len(str(caught.value)) < 400


@pytest.mark.parametrize('url', ['', 'photo.jpg', '//example.org/', 'ftp://example.org/', 'file:///etc/passwd', 'javascript:alert(1)', 'http://', 'http:///a',
                                 'data:image/png;base64,AA', 'http://me@example.org/', 'http://me:secret@example.org/', 'http://example.org\\@evil.example/',
                                 'http://example.org:0/', 'http://example.org:65536/', 'http://example.org:x/', 'http://exam ple.org/', 'http://a%6c.org/',
                                 'http://example.org/\n', 'http://example.org/\r\nHost: evil.example'])
def test_bad_addresses(url):
    if url.strip() != url: url += 'x'
    with pytest.raises(WebError) as caught: clean_url(url)
    assert caught.value.reason == 'bad address' and caught.value.url == url
    assert 'secret' not in caught.value.detail


def test_unicode_queries_and_bases():
    assert clean_url(' https://de.wikipedia.org/wiki/Kölner Dom?a=ü b#x ') == 'https://de.wikipedia.org/wiki/K%C3%B6lner%20Dom?a=%C3%BC%20b'
    assert clean_url('?page=2', 'http://example.org/a/b?page=1#top') == 'http://example.org/a/b?page=2'
    assert clean_url('//cdn.example.org/x', 'https://example.org/a') == 'https://cdn.example.org/x'
    assert clean_url('http://bücher.example:80') == 'http://xn--bcher-kva.example/'


# The guard

PRIVATE = ['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.2.0/24', '192.168.0.0/16', '198.18.0.0/15',
           '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4', '255.255.255.255/32', '168.63.129.16/32']
PRIVATE6 = ['::/128', '::1/128', '::/96', 'fe80::/10', 'fc00::/7', 'fec0::/10', 'ff00::/8', '100::/64', '2001:db8::/32', '64:ff9b:1::/48', '5f00::/16']
private4 = st.sampled_from(PRIVATE).flatmap(lambda network: st.ip_addresses(v=4, network=network))
private6 = st.sampled_from(PRIVATE6).flatmap(lambda network: st.ip_addresses(v=6, network=network))


def wrapped(inner):
    "All the ways to write an IPv4 address as an IPv6 one."
    number = int(inner)
    yield ipaddress.IPv6Address(0xffff << 32 | number)  # IPv4-mapped
    yield ipaddress.IPv6Address(number)  # IPv4-compatible
    yield ipaddress.IPv6Address(0x64ff9b << 96 | number)  # NAT64
    yield ipaddress.IPv6Address(0x2002 << 112 | number << 80 | 1)  # 6to4
    yield ipaddress.IPv6Address(0x20010000 << 96 | 0x5bc6aec0 << 64 | (number ^ 0xffffffff))  # Teredo, the client
    yield ipaddress.IPv6Address(0x20010000 << 96 | number << 64 | 0xffffffff ^ 0x5bc6aec0)  # Teredo, the server


@some
@given(private4 | private6)
def test_private_addresses_are_refused(address): assert not is_public(str(address))


@some
@given(private4)
@example(ipaddress.ip_address('127.0.0.1'))
@example(ipaddress.ip_address('169.254.169.254'))
def test_wrapped_private_addresses_are_refused(address):
    for each in wrapped(address): assert not is_public(str(each)), each


@some
@given(st.ip_addresses())
def test_whatever_is_public_is_global(address):
    if is_public(str(address)): assert address.is_global and not address.is_multicast and not address.is_private


@pytest.mark.parametrize('address', ['91.198.174.192', '1.1.1.1', '2620:0:862:ed1a::1', '2606:4700:4700::1111', '64:ff9b::5bc6:aec0', '::ffff:1.1.1.1'])
def test_public_addresses(address): assert is_public(address)


@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost', '2130706433', '0x7f.1', '0x7f000001', '017700000001', '127.1', '0', '[::1]', '[::]',
                                  '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[64:ff9b::7f00:1]', '169.254.169.254', '[fe80::1]', '10.0.0.1', 'LOCALHOST'])
def test_odd_spellings_of_this_machine(images, host):
    port = images.address.rsplit(':', 1)[1]
    asked = len(images.requests)
    with quick(allow=['example.org', f'127.0.0.1:{int(port) + 1}', f'localhost:{int(port) + 1}']) as web:
        error = fails(web, f'http://{host}:{port}/')
    assert error.reason == 'forbidden address' and len(images.requests) == asked


def test_allow_names_a_host_or_a_host_with_its_port(images):
    port = images.address.rsplit(':', 1)[1]
    for allow in '127.0.0.1', f'127.0.0.1:{port}':
        with quick(allow=[allow]) as web: web.get(images.trouble('good'))
    with pytest.raises(ValueError, match=r"pass a list such as \['localhost'\]"): Web(allow='localhost')


@pytest.mark.parametrize('kind, reason, detail', [('redirect-private', 'forbidden address', '169.254.169.254'), ('redirect-private6', 'forbidden address', '::1'),
                                                  ('redirect-file', 'bad address', 'file://'), ('redirect-ftp', 'bad address', 'ftp://'),
                                                  ('redirect-loop', 'too many redirects', 'more than 5')])
def test_the_guard_holds_after_a_redirect(images, kind, reason, detail):
    with quick() as web: error = fails(web, images.trouble(kind))
    assert error.reason == reason and detail in error.detail and 'redirected to' in error.detail or kind == 'redirect-loop'


@contextmanager
def names(monkeypatch, **table):
    "A name server: `table[name with _ for .]` gives the addresses; yields the list of names that were looked up."
    real, asked = socket.getaddrinfo, []
    def getaddrinfo(host, port, *args, **kwargs):
        found = table.get(host.replace('.', '_'))
        if found is None: return real(host, port, *args, **kwargs)
        asked.append(host)
        return [entry for address in (found() if callable(found) else found) for entry in real(address, port, *args, **kwargs)]
    with monkeypatch.context() as patch:
        patch.setattr(socket, 'getaddrinfo', getaddrinfo)
        yield asked


def test_one_private_address_among_public_ones(monkeypatch):
    with names(monkeypatch, mixed_example=['1.1.1.1', '10.0.0.1']) as asked, quick() as web:
        error = fails(web, 'http://mixed.example/')
    assert error.reason == 'forbidden address' and '10.0.0.1' in error.detail and asked == ['mixed.example']


def test_a_name_that_changes_its_address(images, monkeypatch):
    "DNS rebinding: only the first answer was checked, and only it is used. (Here 127.0.0.1 plays a public address, 127.0.0.2 the private one.)"
    port, later = images.address.rsplit(':', 1)[1], iter([['127.0.0.1']])
    monkeypatch.setattr(archclf.web, 'is_public', lambda address: address == '127.0.0.1')
    with names(monkeypatch, rebind_example=lambda: next(later, ['127.0.0.2'])) as asked:
        with quick(allow=[]) as web: web.get(f'http://rebind.example:{port}/trouble/good/1')
        assert asked == ['rebind.example']
        with quick(allow=[]) as web: assert fails(web, f'http://rebind.example:{port}/').reason == 'forbidden address'


def test_a_dead_address_does_not_use_up_the_time(images, monkeypatch):
    port = images.address.rsplit(':', 1)[1]
    with names(monkeypatch, two_example=['127.0.0.9', '127.0.0.1']), quick(connect=2, allow=['two.example']) as web:
        assert web.get(f'http://two.example:{port}/trouble/good/1').kind == 'image/jpeg'


def test_a_sleeping_name_server(monkeypatch):
    with names(monkeypatch, sleepy_example=lambda: time.sleep(3) or ['1.1.1.1']), quick(connect=.3) as web:
        error = fails(web, 'http://sleepy.example/')
    assert error.reason == 'time-out' and 'no connection within 0.3 s' in error.detail and error.seconds < 10


def test_unknown_hosts():
    with quick() as web: error = fails(web, 'http://nowhere.invalid/')
    assert (error.reason, error.detail) == ('unreachable', 'no such host; is this machine online?')


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    if not shutil.which('openssl'): pytest.skip('needs openssl')
    folder = tmp_path_factory.mktemp('tls')
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', folder/'key.pem', '-out', folder/'cert.pem',
                    '-subj', '/CN=good.example', '-addext', 'subjectAltName=DNS:good.example'], check=True, capture_output=True)
    return folder


@contextmanager
def secure_web(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate/'cert.pem', certificate/'key.pem')
    with ImageWeb() as images:
        # each visitor's own thread shakes hands, so that one who walks away in the middle holds up nobody
        images.server.socket = context.wrap_socket(images.server.socket, server_side=True, do_handshake_on_connect=False)
        images.server.handle_error = lambda *_: None  # a visitor who does not trust us hangs up
        yield images


def test_tls_checks_the_name(certificate, monkeypatch):
    trusting = ssl.create_default_context(cafile=certificate/'cert.pem')
    with secure_web(certificate) as images, names(monkeypatch, good_example=['127.0.0.1'], bad_example=['127.0.0.1']):
        port, allow = images.server.server_address[1], ['good.example', 'bad.example']
        with quick(allow=allow) as web: assert fails(web, f'https://good.example:{port}/').reason == 'unreachable'  # nobody vouches for it
        monkeypatch.setattr(archclf.web, '_certificates', lambda: trusting)
        with quick(allow=allow) as web:
            assert web.get(f'https://good.example:{port}/trouble/good/1').content() == photo('/trouble/good/1')
            error = fails(web, f'https://bad.example:{port}/trouble/good/1')
            assert error.reason == 'unreachable' and 'Hostname mismatch' in error.detail


# Every trouble has one outcome

OUTCOMES = {'redirect-loop': 'too many redirects', 'redirect-private': 'forbidden address', 'redirect-private6': 'forbidden address',
            'redirect-file': 'bad address', 'redirect-ftp': 'bad address', 'truncated': 'broken', 'endless': 'too large', 'drip': 'time-out',
            'drip-headers': 'time-out', 'stuck': 'time-out', 'reset': 'broken', 'hang-up': 'broken', 'malformed': 'broken', 'gzip-bomb': 'too large',
            'huge': 'too large', '400': 'bad answer', '401': 'forbidden', '402': 'forbidden', '403': 'forbidden', '404': 'not found', '410': 'not found',
            '418': 'bad answer', '429': 'rate limited', '451': 'forbidden', '500': 'server error', '501': 'server error', '503': 'server error',
            '204': 'bad answer', '304': 'bad answer'}
TRIES = {'broken': 3, 'rate limited': 3, 'server error': 3, 'too many redirects': 6}


@pytest.mark.parametrize('kind', [*TROUBLES, *(kind for kind in OUTCOMES if kind.isdigit())])
def test_every_trouble_has_one_outcome(images, kind):
    url = images.trouble(kind, 'outcome')
    photo(urlsplit(url).path)  # drawn before the clock runs
    with quick(**(dict(read=.5, total=1) if OUTCOMES.get(kind) == 'time-out' else {})) as web:
        if kind not in OUTCOMES:
            assert web.get(url).url.startswith(url)
            return
        error = fails(web, url)
    assert error.reason == OUTCOMES[kind], error
    assert images.requests.count(url.removeprefix(images.address)) == (1 if kind == '501' else TRIES.get(error.reason, 1))
    assert error.seconds < 15


@pytest.mark.parametrize('kind', ['good', 'latency', 'wrong-type', 'gzip', 'redirect'])
def test_good_answers(images, kind):
    url = images.trouble(kind, 'good')
    with quick() as web, web.get(url) as answer:
        assert answer.content() == photo(urlsplit(url).path) == answer.body.read()
        assert answer.kind == ('text/plain' if kind == 'wrong-type' else 'image/jpeg')
        assert answer.url == url + ('?hops=0' if kind == 'redirect' else '')
        assert Image.open(io.BytesIO(answer.content())).format == 'JPEG'


def test_errors_name_address_reason_and_remedy(images):
    with quick() as web: error = fails(web, images.trouble('404', 'x' * 300))
    assert str(error).startswith(images.address) and 'the host has nothing at this address; leave it out (status 404)' in str(error)
    assert len(str(error)) < 300 and '\n' not in str(error)
    assert '\n' not in str(WebError('http://a/\n\x1b[2J', 'broken')) and '\x1b' not in str(WebError('http://a/\n\x1b[2J', 'broken'))


def test_redirects(images):
    with quick() as web:
        assert web.get(images.trouble('redirect', 'five', hops=5)).content() == photo('/trouble/redirect/five')
        assert fails(web, images.trouble('redirect', 'six', hops=6)).reason == 'too many redirects'


def test_redirects_in_odd_letters(images):
    class Odd(ImageWeb):
        def misbehave(self, handler):
            if handler.path == '/odd': return begin_redirect(handler, '/trouble/good/façade 1'.encode())
            super().misbehave(handler)
    def begin_redirect(handler, location):
        handler.wfile.write(b'HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ' + location + b'\r\n\r\n')
    with Odd() as odd, quick() as web: assert web.get(f'{odd.address}/odd').url == f'{odd.address}/trouble/good/fa%C3%A7ade%201'


# Clocks

def test_the_total_covers_headers_body_and_attempts(images):
    photo('/trouble/drip/total')
    with quick(total=.8) as web:
        for kind in 'drip', 'drip-headers':
            error = fails(web, images.trouble(kind, 'total'))
            assert error.reason == 'time-out' and .79 < error.seconds < 10 and 'not done after 0.8 s' in error.detail


def test_a_stuck_host_costs_two_time_outs():
    with ImageWeb() as images, quick(read=.4) as web:
        for _ in range(2):
            error = fails(web, images.trouble('stuck'))
            assert error.reason == 'time-out' and .39 < error.seconds < 10 and 'silent for 0.4 s' in error.detail
        for kind in 'stuck', 'good':
            error = fails(web, images.trouble(kind))
            assert error.reason == 'time-out' and 'not asked again' in error.detail
        assert len(images.requests) == 2
        with ImageWeb() as other: fails(web, other.trouble('404'))  # another port is another host
        assert len(other.requests) == 1


def test_the_queue_before_a_stuck_host_fails_as_well():
    with ImageWeb() as images, quick(read=1, per_host=2) as web, ThreadPoolExecutor(12) as pool:
        start = time.monotonic()
        errors = list(pool.map(lambda i: pytest.raises(WebError, web.get, images.trouble('stuck', i)).value, range(12)))
        assert time.monotonic() - start < 15 and len(images.requests) <= 4
        assert {error.reason for error in errors} == {'time-out'}


def test_success_forgives(images):
    photo('/trouble/good/forgive')
    with quick(read=.5) as web:
        for kind in 'stuck', 'good', 'stuck', '404', 'stuck':
            try: web.get(images.trouble(kind, 'forgive'))
            except WebError as error: assert 'not asked again' not in error.detail
        assert 'silent' in fails(web, images.trouble('stuck', 'forgive')).detail
        assert 'not asked again' in fails(web, images.trouble('good', 'forgive')).detail


def test_a_dripping_host_is_stuck_too():
    with ImageWeb() as images, quick(total=.5) as web:
        for _ in range(2): assert 'not done' in fails(web, images.trouble('drip')).detail
        assert 'not asked again' in fails(web, images.trouble('good')).detail


def test_a_refused_connection():
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{unused.getsockname()[1]}/'
        with quick() as web:
            for _ in range(2): assert fails(web, url).reason == 'unreachable'
            error = fails(web, url)
            assert error.reason == 'unreachable' and 'not asked again' in error.detail


# Caps

def test_sizes(images):
    url = images.trouble('good', 'size')
    size = len(photo(urlsplit(url).path))
    with quick(largest=size) as web:
        web.get(url)
        for kind in 'good', 'gzip':
            path = images.trouble(kind, 'size')
            assert fails(web, path, largest=len(photo(urlsplit(path).path)) - 1).reason == 'too large'
        assert fails(web, images.trouble('huge')).seconds < 3  # nothing of the body was waited for


def test_unasked_for_encodings(images):
    with quick() as web:
        for encoding in 'br', 'zstd', 'gzip, gzip': assert fails(web, images.trouble('gzip', 'e', encoding=encoding)).reason == 'bad answer'
        assert fails(web, images.trouble('gzip', 'e', encoding='x') ).detail == 'compressed with x'


@some
@given(st.lists(st.binary(max_size=300_000), max_size=3), st.sampled_from([31, 15]), st.integers(1, 5000))
def test_unpacking(members, wbits, size):
    "gzip and zlib, in one or several members, whatever the pieces they arrive in."
    packed = b''.join(packer.compress(member) + packer.flush() for member in members or [b''] for packer in [zlib.compressobj(wbits=wbits)])
    pieces = list(_unpack([packed[i:i + size] for i in range(0, len(packed), size)]))
    assert b''.join(pieces) == b''.join(members) and max(map(len, pieces)) <= archclf.web.PIECE
    with pytest.raises((_Trouble, zlib.error)): list(_unpack([packed[:-1]]))


MEMORY = '''
import sys
from concurrent.futures import ThreadPoolExecutor
from archclf.web import Web, WebError
def reason(url):
    try: web.get(url)
    except WebError as error: return error.reason
with Web(allow=['127.0.0.1'], per_host=16) as web, ThreadPoolExecutor(16) as pool: print(sorted(set(pool.map(reason, sys.argv[1:]))))
print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])
'''


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
def test_memory_stays_flat(images):
    "Sixteen endless downloads and gzip bombs at once, each up to the cap of 20 MB."
    urls = [images.trouble(kind, i) for i in range(8) for kind in ('endless', 'gzip-bomb')]
    done = subprocess.run([sys.executable, '-c', MEMORY, *urls], capture_output=True, text=True, timeout=60)
    reasons, memory = done.stdout.splitlines() or [done.stderr, '0']
    assert reasons == "['too large']"
    assert 0 < int(memory) < 150_000, f'{int(memory) / 1000:.0f} MB'


# Manners

def test_limits_on_connections():
    with ImageWeb() as images, quick(per_host=3) as web, ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda i: web.get(images.trouble('latency', i, seconds=.05)), range(24)))
        assert images.busiest == 3
    with ImageWeb() as images, quick(per_host=9, connections=2) as web, ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda i: web.get(images.trouble('latency', i, seconds=.05)), range(12)))
        assert images.busiest == 2


def test_waiting_for_a_turn_does_not_count(images):
    url = images.trouble('latency', 'turn', seconds=.2)
    photo(urlsplit(url).path)
    with quick(per_host=1, total=1.5) as web, ThreadPoolExecutor(9) as pool: list(pool.map(web.get, [url] * 9))  # almost two seconds in all


def test_pauses_between_starts():
    with ImageWeb() as images, quick(manners={'127.0.0.1': Manners(3, pause=.15)}) as web, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: web.get(images.trouble('redirect', i)), range(3)))
        assert len(images.times) == 6 and images.times[-1] - images.times[0] > .6


def test_megabits():
    with ImageWeb() as images, quick(manners={'127.0.0.1': Manners(2, megabits=16)}) as web, ThreadPoolExecutor(4) as pool:
        images.misbehave = lambda handler: answer(handler, bytes(100_000), 'image/jpeg')
        start = time.monotonic()
        list(pool.map(lambda i: web.get(f'{images.address}/{i}'), range(12)))
        assert .49 < time.monotonic() - start < 12  # 9.6 megabits at 16 a second, of which the last two pictures are not waited for


def test_hosts_of_a_domain_share_its_manners(monkeypatch):
    hosts = [f'{name}.friends.example' for name in 'abc']
    with names(monkeypatch, **{host.replace('.', '_'): ['127.0.0.1'] for host in hosts}), ImageWeb() as images:
        port = images.server.server_address[1]
        with quick(allow=hosts, manners={'friends.example': Manners(2)}) as web, ThreadPoolExecutor(9) as pool:
            list(pool.map(lambda i: web.get(f'http://{hosts[i % 3]}:{port}/trouble/latency/1?seconds=.05'), range(9)))
        assert images.busiest == 2


def test_a_slow_domain_does_not_hold_up_the_others(images):
    with quick(connections=2, allow=['127.0.0.1', 'localhost'], manners={'localhost': Manners(2, pause=100)}) as web, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(fails, web, images.trouble('404', i).replace('127.0.0.1', 'localhost')) for i in range(4)]
        for i in range(4): assert fails(web, images.trouble('404', f'other/{i}')).reason == 'not found'
        web.close()
        assert sorted(each.exception() is None for each in waiting) == [False, False, False, True]


# Trying again

def test_the_breaks_before_further_attempts(monkeypatch):
    monkeypatch.setattr(archclf.web, 'BACKOFF', .3)
    with ImageWeb() as images, quick(total=5) as web:
        for i in range(2): web.get(images.trouble('500', i, after=2))
        first, second, _, third, fourth = [later - earlier for earlier, later in pairwise(images.times)]
        assert .14 < first < 9 and .14 < third < 9 and .29 < second < 9 and .29 < fourth < 9
        monkeypatch.setattr(archclf.web, 'BACKOFF', 100)  # no time left for it
        assert fails(web, images.trouble('500')).reason == 'server error' and len(images.requests) == 7
    rolls = [Web().random.random() for _ in range(2)]
    assert rolls[0] == rolls[1]  # the same every time


def test_trying_again(images):
    with quick() as web:
        for kind, after in [('500', 1), ('502', 1), ('503', 2), ('504', 1), ('429', 2)]:
            url = images.trouble(kind, 'again', after=after)
            assert web.get(url).content() == photo(urlsplit(url).path)
            assert images.requests.count(url.removeprefix(images.address)) == after + 1
        assert fails(web, images.trouble('503', 'again', after=3)).reason == 'server error'


def test_a_break_is_waited_for_by_everybody():
    with ImageWeb() as images, quick(per_host=1) as web, ThreadPoolExecutor(6) as pool:
        first = pool.submit(web.get, images.trouble('429', 'first', seconds=1, after=1))
        wait_for_a_request(images)
        others = [pool.submit(web.get, images.trouble('good', i)) for i in range(5)]
        for each in first, *others: each.result()
        assert len(images.requests) == 7 and images.times[1] - images.times[0] > .9


def test_a_break_until_a_date():
    with ImageWeb() as images, quick() as web:
        web.get(images.trouble('503', 'date', seconds=2, after=1, **{'as': 'date'}))
        assert .9 < images.times[1] - images.times[0] < 5  # dates have no fractions of a second


def test_a_break_of_no_length_is_still_a_break(monkeypatch):
    monkeypatch.setattr(archclf.web, 'BACKOFF', .2)
    with ImageWeb() as images, quick() as web:
        assert fails(web, images.trouble('429', seconds=0)).reason == 'rate limited'
        assert images.times[2] - images.times[0] > .28


@pytest.mark.parametrize('kind', ['429', '503'])
def test_a_long_break_is_not_waited_for(kind):
    with ImageWeb() as images, quick() as web:
        error = fails(web, images.trouble(kind, seconds=100))
        assert error.reason == 'rate limited' and '100 s' in error.detail and error.seconds < 20
        error = fails(web, images.trouble('good'))
        assert error.reason == 'rate limited' and re.search(r'another (9\d|100) s', error.detail) and len(images.requests) == 1


@some
@given(st.integers(0, 10**12), st.sampled_from(['{}', ' {} ', '00{}']))
def test_retry_after_in_seconds(seconds, form): assert retry_after(form.format(seconds)) == seconds


@some
@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-10**6, 10**6))
def test_retry_after_as_a_date(moment, seconds):
    moment = moment.replace(microsecond=0, tzinfo=timezone.utc)
    later = moment + timedelta(seconds=seconds)
    for text in format_datetime(later, usegmt=True), format_datetime(later): assert retry_after(text, moment.timestamp()) == max(0, seconds)


@some
@given(st.text() | st.builds('{}, {} {} {} {}:00:00 {}'.format, *[st.text(max_size=4) | st.integers(-99, 99999).map(str)] * 6))
@example('9' * 5000)
@example('Sat, 01 Jan 0001 00:00:00 +2359')
@example('Fri, 31 Dec 9999 23:59:59 -2359')
@example('-5')
@example('²')
def test_any_retry_after(text):
    seconds = retry_after(text)
    assert seconds is None or seconds >= 0


# JSON, names, threads

def test_json(images):
    class Jason(ImageWeb):
        def misbehave(self, handler):
            kind = handler.path.removeprefix('/')
            answer(handler, {'good': b'{"a": "\xc3\xbc"}', 'utf-16': '[1]'.encode('utf-16'), 'html': b'<html>', 'deep': b'[' * 10**5, 'none': b'',
                             'long': b'[' + b'1,' * 3 * 10**6 + b'1]'}[kind], 'text/html')
    with Jason() as jason, quick() as web:
        assert web.get_json(f'{jason.address}/good') == {'a': 'ü'} and web.get_json(f'{jason.address}/utf-16') == [1]
        for kind, reason in {'html': 'bad answer', 'deep': 'bad answer', 'none': 'bad answer', 'long': 'too large'}.items():
            with pytest.raises(WebError) as caught: web.get_json(f'{jason.address}/{kind}')
            assert caught.value.reason == reason
    with quick() as web: assert web.get_json(f'{images.commons}?gsrsearch=gothic')['query']['pages']


def test_who_we_are(monkeypatch):
    seen = []
    class Watching(ImageWeb):
        def misbehave(self, handler):
            seen.append(dict(handler.headers))
            answer(handler, 'ok', 'text/plain', **{'Set-Cookie': 'a=b'})
    agent = f'archclf/{archclf.__version__} %shttpcore/{httpcore.__version__}'
    with Watching() as watching:
        port = watching.address.rsplit(':', 1)[1]
        with quick(contact='me@example.org') as web: web.get(watching.address), web.get(watching.address)
        assert seen == [{'Host': f'127.0.0.1:{port}', 'User-Agent': agent % '(me@example.org) ', 'Accept': '*/*', 'Accept-Encoding': 'identity'}] * 2
        with quick() as web: web.get(watching.address)
        assert seen[-1]['User-Agent'] == agent % ''
        monkeypatch.setenv('ARCHCLF_CONTACT', 'https://example.org/me')
        with quick() as web: web.get(watching.address)
        assert seen[-1]['User-Agent'] == agent % '(https://example.org/me) '
    for contact in 'me', 'me@example.org\r\nX: y', 'mé@example.org', '(me@example.org)':
        with pytest.raises(ValueError, match='mail address or a URL'): Web(contact=contact)


def test_connections_are_used_again():
    with ImageWeb() as images, quick() as web:
        clients = []
        images.misbehave = lambda handler: (clients.append(handler.client_address), answer(handler, 'ok'))
        for _ in range(5): web.get(images.address)
        assert len(set(clients)) == 1


def test_no_threads_and_connections_are_left(images):
    before = threading.active_count()
    with ImageWeb() as images:
        with quick(read=.3) as web:
            for kind in 'endless', 'truncated', 'stuck', '404': fails(web, images.trouble(kind))
        for _ in range(100):  # the server's threads see their visitor leave
            if threading.active_count() <= before + 1: break
            time.sleep(.02)
        assert threading.active_count() <= before + 1  # images itself
        with pytest.raises(RuntimeError, match='closed'): web.get(images.trouble('good'))


def test_closing_wakes_up_those_who_wait():
    with ImageWeb() as images, ThreadPoolExecutor(2) as pool:
        web = quick(total=30, per_host=1)
        waiting = [pool.submit(web.get, images.trouble('429', i, seconds=20)) for i in range(2)]
        wait_for_a_request(images)
        time.sleep(.1)
        web.close()
        for each in waiting:
            with pytest.raises(RuntimeError, match='closed'): each.result(timeout=2)


def test_everything_at_once(images):
    "Sixteen threads, all troubles: every address gets an answer or a reason, and the good ones are right."
    kinds = [kind for kind in [*TROUBLES, '404', '429', '500'] if OUTCOMES.get(kind) not in ('time-out',)]
    def visit(i):
        url = images.trouble(kinds[i % len(kinds)], f'at-once/{i % 60}')
        try:
            with web.get(url) as answer: return kinds[i % len(kinds)] not in ('good', 'latency', 'gzip') or answer.content() == photo(urlsplit(url).path)
        except WebError as error: return error.reason == OUTCOMES[kinds[i % len(kinds)]]
    with quick(per_host=16) as web, ThreadPoolExecutor(16) as pool: assert all(pool.map(visit, range(120)))
    assert PASSING < set(REASONS)


# Proxies

class Proxy(ImageWeb):
    "Answers plain requests itself, and leads every CONNECT to `target` on this machine."
    def __init__(self, target=0):
        super().__init__()
        self.target, self.tunnels, self.server.RequestHandlerClass = target, [], type('Handler', (self.server.RequestHandlerClass,), {'do_CONNECT': tunnel})

    def misbehave(self, handler): answer(handler, f'{handler.path} for {handler.headers["Host"]}', 'text/plain')


def tunnel(handler):
    handler.server.web.tunnels.append((handler.path, handler.headers.get('Proxy-Authorization')))
    handler.close_connection = True
    if not handler.server.web.target: return answer(handler, 'Not through me.', 'text/plain', 403)
    handler.wfile.write(b'HTTP/1.1 200 Go ahead\r\n\r\n')
    with socket.create_connection(('127.0.0.1', handler.server.web.target)) as there:
        back = threading.Thread(target=pump, args=(there, handler.connection))
        back.start()
        pump(handler.connection, there)
        back.join()


def pump(here, there):
    with suppress(OSError):
        while data := here.recv(1 << 16): there.sendall(data)
    with suppress(OSError): there.shutdown(socket.SHUT_WR)  # whoever hung up, the other one hears of it


def test_plain_requests_through_a_proxy(images, monkeypatch):
    with Proxy() as proxy, names(monkeypatch, inside_example=['10.0.0.1']), monkeypatch.context() as patch:
        patch.setenv('http_proxy', proxy.address.removeprefix('http://'))
        patch.setenv('no_proxy', 'direct.invalid')
        with quick() as web:
            heard = web.get('http://only-the-proxy-knows.invalid/a?b=1').content().decode()
            assert re.fullmatch(r'http://only-the-proxy-knows.invalid(:80)?/a\?b=1 for only-the-proxy-knows.invalid', heard)
            for host in '10.0.0.1', '2130706433', '[::1]:99', 'inside.example', '169.254.169.254':
                assert fails(web, f'http://{host}/').reason == 'forbidden address'
            assert fails(web, 'http://direct.invalid/').reason == 'unreachable'
            assert web.get(images.trouble('good')).kind == 'image/jpeg'  # this machine is not reached through a proxy
        assert len(proxy.requests) == 1


def test_tls_through_a_proxy(certificate, monkeypatch):
    trusting = ssl.create_default_context(cafile=certificate/'cert.pem')
    monkeypatch.setattr(archclf.web, '_certificates', lambda: trusting)
    with secure_web(certificate) as images, Proxy(target=images.server.server_address[1]) as proxy:
        monkeypatch.setenv('https_proxy', proxy.address.replace('//', '//me:secret@'))
        with quick() as web:
            assert web.get('https://good.example/trouble/good/1').content() == photo('/trouble/good/1')
            assert proxy.tunnels == [('good.example:443', 'Basic bWU6c2VjcmV0')]
            assert 'Hostname mismatch' in fails(web, 'https://bad.example/').detail
            assert fails(web, 'https://192.168.1.1/').reason == 'forbidden address'
            error = fails(quick(total=1), 'https://good.example/trouble/drip/1')
            assert error.reason == 'time-out' and error.seconds < 15


def test_proxies_that_do_not_help(monkeypatch):
    with Proxy() as proxy:
        monkeypatch.setenv('all_proxy', proxy.address)
        with quick() as web:
            error = fails(web, 'https://only-the-proxy-knows.invalid/')
            assert error.reason == 'unreachable' and '403' in error.detail
    monkeypatch.setenv('http_proxy', 'socks5://me:secret@127.0.0.1:1')
    with quick() as web, pytest.raises(ValueError, match='socks5://127.0.0.1 in the environment: expected http:// or https://'): web.get('http://example.org/')
