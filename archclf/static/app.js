// The page around classifier.js: it takes photos, and says in the visitor's language what the classifier makes of them.

import {openClassifier, PhotoError, readTensors, weightsOf} from './classifier.js'

const $ = selector => document.querySelector(selector)
const json = path => fetch(path).then(response => response.json())

// Texts are always set as text, never as HTML: labels and names of files are anybody's.
function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties)
    node.append(...children.flat(Infinity))
    return node
}

// ---- Words

let words  // what languages/….json says

function languageOf({languages}) {
    const wanted = [new URLSearchParams(location.search).get('lang'), ...navigator.languages].map(code => (code ?? '').toLowerCase().split('-')[0])
    return wanted.find(code => languages.includes(code)) ?? languages[0]
}

// A template as texts, with values, which may be elements, in the place of its {placeholders}.
function say(key, values = {}) {
    const filled = (gap, i) => i % 2 ? values[gap] ?? fail(`${key}: no value for {${gap}}`) : gap
    return words.say[key].split(/\{(\w+)\}/).map(filled)
}

function fail(message) { throw new Error(message) }

const text = (key, values) => say(key, values).flat(Infinity).join('')
const lookUp = (table, key) => Object.hasOwn(table, key) ? table[key] : ''
const nameOf = label => lookUp(words.names, label) || label.replace(/[-_]/g, ' ').split(/\s+/).filter(Boolean).join(' ') || label
const listed = (items, last) => items.map((item, i) => [i ? text(i < items.length - 1 ? 'separator' : last) : '', item])

// An exact half goes to the even digit, as in Python; toFixed would take the larger.
function number(value, digits) {
    const rounded = value.toFixed(digits), half = /^50*$/.test(value.toFixed(60).split('.')[1].slice(digits))
    return (half && rounded.at(-1) % 2 ? (rounded - 10 ** -digits).toFixed(digits) : rounded).replace('.', text('decimal'))
}

// A probability is never 0% and never 100%; a measured share has so many digits.
function percent(share, digits) {
    const shown = share < .005 ? '<1' : share >= .995 ? '>99' : number(Math.max(100 * share, 1), 0)
    return text('percent', {number: digits === undefined ? shown : number(100 * share, digits)})
}

// ---- The answer

function candidates({ranked, sure}) {  // the class, or the two or three that it lies between
    let count = 0, total = 0
    for (const [, probability] of ranked.slice(0, 3)) {
        if (total >= .9 && count >= (sure ? 1 : 2)) break
        count++, total += probability
    }
    return ranked.slice(0, count)
}

function verdict(answer) {
    if (answer.sure) return element('div', {className: 'ac-verdict'}, element('h2', {}, nameOf(answer.label), ' ', element('span', {}, percent(answer.confidence))))
    const named = candidates(answer).map(([label, share]) => [element('strong', {}, nameOf(label)), ` (${percent(share)})`])
    return element('div', {className: 'ac-verdict'}, element('h2', {}, say('not sure')), element('p', {}, say('may be', {classes: listed(named, 'or')})),
        element('p', {}, say('may settle', {count: answer.ranked.length})))
}

function bars({ranked}, threshold, most = 8) {
    if (ranked.length === most + 1) most++
    const rows = ranked.slice(0, most).map(([label, share], i) => {
        const bar = element('i')
        bar.style.setProperty('--share', `${100 * share}%`)
        bar.style.setProperty('--sure', `${100 * threshold}%`)
        return element('li', {className: i ? '' : 'ac-first'}, element('span', {}, nameOf(label)), bar, element('b', {}, percent(share)))
    })
    const rest = ranked.slice(most), shared = rest.reduce((sum, [, share]) => sum + share, 0)
    const more = rest.length ? [' ', say('rest', {count: rest.length, percent: percent(shared)})] : []
    return [element('ol', {className: 'ac-bars'}, rows), element('p', {className: 'ac-note'}, say('threshold', {percent: percent(threshold)}), more)]
}

const HEAT = [255, 112, 32]

function picture(pixels, side) {  // RGB as the address of a picture
    const canvas = element('canvas', {width: side, height: side}), context = canvas.getContext('2d'), image = context.createImageData(side, side)
    for (let i = 0; i < side * side; i++) image.data.set([pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255], 4 * i)
    context.putImageData(image, 0, 0)
    return canvas.toDataURL('image/jpeg', .85)
}

const clamped = value => Math.min(1, Math.max(0, value))
const weighted = (weights, value) => weights.reduce((sum, weight, i) => sum + weight * value(i), 0)

// The square, warm where `evidence` speaks for a class and grey where it does not. `strongest` gets the full colour.
function heated(square, side, evidence, width, strongest) {
    const heat = evidence.map(value => clamped(value / strongest)), places = weightsOf(width, 0, width, side)
    const wide = Array.from({length: width}, (_, y) => places.map(({first, weights}) => weighted(weights, i => heat[y * width + first + i])))
    const warmth = places.map(({first, weights}) => wide[0].map((_, x) => clamped(weighted(weights, i => wide[first + i][x]))))
    const grey = at => .75 * (.299 * square[at] + .587 * square[at + 1] + .114 * square[at + 2]) + 40
    return square.map((colour, i) => {
        const pixel = Math.floor(i / 3), warm = warmth[Math.floor(pixel / side)][pixel % side]
        return (1 - warm) * grey(3 * pixel) + warm * (.55 * colour + .45 * HEAT[i % 3])
    })
}

function cards(answer) {
    if (!answer.features) return []
    const side = info.preprocessing.size, plain = picture(answer.square, side)
    const labels = candidates(answer).map(([label]) => label), maps = labels.map(label => classifier.activationMap(answer, label))
    const strongest = Math.max(1e-6, ...maps.map(map => Math.max(...map)))
    const figures = labels.map((label, i) => {
        const look = lookUp(words['look for'], label)
        return element('figure', {}, element('div', {className: 'ac-map'}, element('img', {className: 'ac-plain', alt: '', src: plain}),
            element('img', {className: 'ac-heat', alt: text('map', {label: nameOf(label)}), src: picture(heated(answer.square, side, maps[i], answer.width, strongest), side)})),
        element('figcaption', {}, element('strong', {}, say('speaks', {label: nameOf(label)})), look && element('span', {}, say('look for', {what: look}))))
    })
    return [element('div', {className: 'ac-cards'}, figures), slider(), element('p', {className: 'ac-note'}, say('warm'))]
}

function slider() {
    const input = element('input', {type: 'range', min: 0, max: 100, value: 100})
    const fade = () => $('#ac-answer .ac-rest').style.setProperty('--heat', input.value / 100)
    input.addEventListener('input', fade)
    fade()
    return element('label', {className: 'ac-slider'}, say('strength'), ' ', input)
}

function apart(answer) {
    const [first, second] = candidates(answer).map(([label]) => label)
    const sentence = !answer.sure && second && lookUp(words.apart, [first, second].sort().join(' '))
    return sentence ? element('p', {className: 'ac-apart'}, element('strong', {}, say('apart', {first: nameOf(first), second: nameOf(second)})), sentence) : []
}

const link = (address, shown) => /^https?:/.test(address ?? '') ? element('a', {href: address, target: '_blank', rel: 'noopener'}, shown) : shown

function similar({embedding}, most = 4) {  // the photos of the gallery that are most like this one
    if (!gallery) return []
    const {photos, vectors} = gallery  // of length 1, so that the product tells how much alike two of them are
    const alike = photos.map((photo, i) => ({...photo, likeness: weighted(embedding, d => vectors[i * embedding.length + d])}))
    const figures = alike.sort((a, b) => b.likeness - a.likeness).slice(0, most).map(photo => element('figure', {},
        element('img', {src: `model/gallery/${encodeURIComponent(photo.file)}`, alt: photo.title}),
        element('figcaption', {}, element('strong', {}, nameOf(photo.label)),
            say(photo.creator ? 'credit' : 'credit alone', {title: link(photo.page, photo.title), creator: photo.creator, license: link(photo.license_url, photo.license)}))))
    return element('section', {className: 'ac-more'}, element('h3', {}, say('similar')), element('div', {className: 'ac-similar'}, figures),
        element('p', {className: 'ac-note'}, say('smaller')))
}

function trouble(line, title) {
    return element('div', {className: 'ac-trouble', role: 'alert'}, title ? element('h2', {}, title) : [], element('p', {}, line))
}

const complaint = ({name}, {reason}) => say('trouble line', {name: name || text('the photo'), reason: words.say.reasons[reason]})

function guide(labels) {
    const rows = labels.map(label => [label, lookUp(words['look for'], label)]).filter(([, look]) => look)
    if (!rows.length) return element('p', {className: 'ac-note'}, say('empty'))
    return [element('h2', {}, say('guide')), element('dl', {className: 'ac-guide'}, rows.map(([label, look]) => [element('dt', {}, nameOf(label)), element('dd', {}, look)]))]
}

// ---- The page

let space, info, classifier, gallery  // space.json, model.json, the network, and the photos that may be shown if there are any
let turn = 0  // counts what was asked, so that a late answer does not replace a newer one
let addresses = []  // of the photos on the page, to be given back

function place(said, ...rest) {
    $('#ac-answer [role=status]').replaceChildren(said)
    $('#ac-answer .ac-rest').replaceChildren(...rest.flat(Infinity))
}

function show({address, error, answer}) {
    $('.ac-shown').hidden = !address
    if (address) $('.ac-shown').src = address
    $('#ac-remove').hidden = false
    if (error) place('', error)
    else place(verdict(answer), bars(answer, info.threshold), cards(answer), apart(answer), similar(answer))
}

function clear() {
    turn++
    addresses.splice(0).forEach(URL.revokeObjectURL)
    $('#ac-many').replaceChildren()
    $('.ac-shown').hidden = $('#ac-remove').hidden = true
    place('', guide(info.labels))
}

async function examine(photo) {  // {answer, address} or {error}
    try {
        const answer = await classifier.classify(photo)
        return {answer, address: addresses[addresses.push(URL.createObjectURL(photo)) - 1]}
    } catch (error) {
        return {error: error instanceof PhotoError ? trouble(complaint(photo, error), say('trouble')) : trouble(say('cannot start', {reason: error.message}))}
    }
}

function addToList(photo, result) {
    const {answer, address} = result, names = answer && listed(candidates(answer).slice(0, 2).map(([label]) => nameOf(label)), 'or')
    const said = !answer ? [photo.name, ': ', say('trouble')] : answer.sure ? names : [say('not sure'), ': ', names]
    const button = element('button', {type: 'button', title: photo.name}, address ? element('img', {src: address, alt: ''}) : [], element('span', {}, said))
    button.addEventListener('click', () => choose(button, result))
    $('#ac-many').append(element('li', {}, button))
    if (!$('#ac-many [aria-pressed=true]')) choose(button, result)
}

function choose(button, result) {
    document.querySelectorAll('#ac-many button').forEach(other => { other.ariaPressed = other === button })
    show(result)
}

async function look(photos) {
    if (!photos.length) return
    if (!await starting) return
    clear()
    const mine = turn
    place(element('p', {className: 'ac-note'}, say('thinking')))
    for (const photo of photos) {
        const result = await examine(photo)
        if (mine !== turn) return
        if (photos.length > 1) addToList(photo, result)
        else show(result)
    }
}

function receivePhotos() {
    const input = $('.ac-drop input'), frame = $('.ac-frame')
    input.addEventListener('change', () => { look([...input.files]); input.value = '' })  // the same photo may be chosen again
    addEventListener('paste', event => look([...event.clipboardData.files]))
    addEventListener('dragover', event => { event.preventDefault(); frame.classList.add('ac-over') })
    addEventListener('dragleave', () => frame.classList.remove('ac-over'))
    addEventListener('drop', event => { event.preventDefault(); frame.classList.remove('ac-over'); look([...event.dataTransfer.files]) })
    $('#ac-remove').addEventListener('click', () => { clear(); input.focus() })
}

function receiveShots() {
    const dialog = $('#ac-shoot'), video = $('#ac-shoot video'), [shoot, cancel] = dialog.querySelectorAll('button')
    $('#ac-camera').hidden = !navigator.mediaDevices  // over plain http
    $('#ac-camera').addEventListener('click', async () => {
        shoot.disabled = true
        try { video.srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment', width: {ideal: 1280}}}) }
        catch (error) { clear(); return place('', trouble(say('no camera', {reason: error.message}))) }
        dialog.showModal()
    })
    dialog.addEventListener('close', () => video.srcObject.getTracks().forEach(track => track.stop()))
    video.addEventListener('loadeddata', () => { shoot.disabled = false })
    cancel.addEventListener('click', () => dialog.close())
    shoot.addEventListener('click', () => {
        const canvas = element('canvas', {width: video.videoWidth, height: video.videoHeight})
        canvas.getContext('2d').drawImage(video, 0, 0)
        dialog.close()
        canvas.toBlob(photo => look([photo]))
    })
}

function showExamples() {
    $('#ac-examples').hidden = !space.examples.length
    $('#ac-examples .gallery').append(...space.examples.map(({file, label}) => {
        const button = element('button', {type: 'button'}, element('img', {src: `examples/${encodeURIComponent(file)}`, alt: text('example', {label: nameOf(label)})}))
        button.addEventListener('click', async () => look([await (await fetch(button.firstChild.src)).blob()]))
        return button
    }))
}

function showHead({name, labels}, most = 12) {
    const names = labels.map(nameOf)
    if (names.length > most + 1) names.splice(most, Infinity, text('others', {count: names.length - most}))
    document.title = name
    $('#ac-head h1').textContent = name
    $('#ac-head p').replaceChildren(...say('question', {classes: listed(names, 'or')}).flat(Infinity))
}

function showHonesty({metrics, data}) {
    const {accuracy, interval: [low, high], sure, expected_calibration_error: error, how} = metrics
    const numbers = {accuracy: element('strong', {}, percent(accuracy, 1)), low: percent(low, 1), high: percent(high, 1), coverage: percent(sure.coverage, 0),
        right: percent(sure.accuracy, 1), points: number(100 * error, 1)}
    $('#ac-honesty').replaceChildren(element('h2', {}, say('honest')), element('p', {}, say('accuracy', numbers), ' ', say('measured', {how})),
        element('details', {}, element('summary', {}, say('weak')), element('ul', {}, data.notes.map(note => element('li', {}, note)))),
        element('p', {id: 'ac-offline'}))
}

async function loadGallery() {
    const {photos} = await json('model/gallery/gallery.json')
    const content = await (await fetch('model/gallery/embeddings.safetensors')).arrayBuffer()
    return {photos, vectors: readTensors(content).embeddings.values}
}

async function keepOffline() {  // the second visit needs no network, and several threads are allowed
    if (!navigator.serviceWorker) return  // not over plain http
    await navigator.serviceWorker.register('service-worker.js')
    await navigator.serviceWorker.ready
    $('#ac-offline').textContent = text('offline')
}

async function start() {
    space = await json('space.json')
    const opening = openClassifier(space, loaded => { $('#ac-loading progress').value = loaded }), language = languageOf(space)
    opening.catch(() => {})  // awaited below
    ;[words, info] = await Promise.all([json(`languages/${language}.json`), json('model/model.json')])
    document.documentElement.lang = language
    document.querySelectorAll('[data-say]').forEach(node => { node.textContent = text(node.dataset.say) })
    $('.ac-shown').alt = text('your photo')
    showHead(info)
    showHonesty(info)
    showExamples()
    clear()
    $('#ac-main').hidden = false
    receivePhotos()
    receiveShots()
    classifier = await opening
    if (space.gallery) gallery = await loadGallery()
    keepOffline().catch(error => console.info(`Not kept for a visit without a network: ${error.message}`))
}

const starting = start().then(() => true, error => {
    place('', trouble(!words ? error.message : error.address ? say('cannot load', {address: error.address}) : say('cannot start', {reason: error.message})))
    $('#ac-main').hidden = false
    return false
}).finally(() => { $('#ac-loading').hidden = true })

// For scripts: `await archclf.classify(blob)`, where a photo that cannot be read throws an error with its `reason`.
window.archclf = {
    async classify(photo) {
        await starting
        const {label, confidence, sure, ranked} = await classifier.classify(photo)
        return {label, confidence, sure, probabilities: Object.fromEntries(ranked)}
    },
}
