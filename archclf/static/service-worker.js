// Keeps the files of this folder in the browser, so that the page works without a network, and adds the headers that allow
// several threads. A new version of the folder has a new VERSION, so the browser fetches it by itself at the next visit.

const VERSION = 'development'
const PREFIX = `archclf ${registration.scope} `
const ISOLATED = {
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'cross-origin',
}

async function install() {
    const cache = await caches.open(PREFIX + VERSION), list = await fetch('space.json', {cache: 'no-cache'}), space = await list.clone().json()
    if (space.version !== VERSION) throw new Error('space.json and service-worker.js are of different versions')
    for (const {path, integrity} of space.files) await cache.put(path, await fetch(path, {integrity, cache: 'no-cache'}))
    await cache.put('space.json', list)
    await skipWaiting()
}

async function activate() {
    const old = (await caches.keys()).filter(name => name.startsWith(PREFIX) && name !== PREFIX + VERSION)
    await Promise.all(old.map(name => caches.delete(name)))
}

async function respond(request) {
    const address = new URL(request.url)
    if (address.pathname.endsWith('/')) address.pathname += 'index.html'
    const kept = await (await caches.open(PREFIX + VERSION)).match(address.origin + address.pathname)
    return kept ? new Response(kept.body, {headers: {...Object.fromEntries(kept.headers), ...ISOLATED}}) : fetch(request)
}

addEventListener('install', event => event.waitUntil(install()))
addEventListener('activate', event => event.waitUntil(activate()))
addEventListener('fetch', event => event.request.method === 'GET' && event.respondWith(respond(event.request)))
