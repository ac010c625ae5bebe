// A model folder in the browser: the steps of archclf's image.py and classifier.py, with the same numbers.

// ---- From any photo to the square that the network sees

const MEGAPIXELS = 64  // the largest photo decoded, as in Python
const KINDS = /^(\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF[^]{4}WEBP|[^]{4}ftyp(avi[fs]|m[is]f1)|BM|II\*\0|MM\0\*)/  // how a file begins that Python reads
const TIFF = /^(II\*\0|MM\0\*)/

export class PhotoError extends Error {
    constructor(reason) {  // a key of `reasons` in the language files
        super(reason)
        this.reason = reason
    }
}

async function naturalSize(blob) {  // read from the header: nothing is decoded for it
    const image = new Image(), address = URL.createObjectURL(blob)
    try {
        await new Promise((loaded, failed) => Object.assign(image, {onload: loaded, onerror: failed, src: address}))
        return [image.naturalWidth, image.naturalHeight]
    } finally { URL.revokeObjectURL(address) }
}

export async function readPhoto(blob) {
    const begin = String.fromCharCode(...new Uint8Array(await blob.slice(0, 16).arrayBuffer()))
    if (!blob.size) throw new PhotoError('empty')
    if (!KINDS.test(begin)) throw new PhotoError('not an image')
    const [width, height] = await naturalSize(blob).catch(() => { throw new PhotoError(TIFF.test(begin) ? 'unsupported' : 'not an image') })
    if (width * height > MEGAPIXELS * 1e6) throw new PhotoError('too large')
    try { return await createImageBitmap(blob, {imageOrientation: 'from-image', colorSpaceConversion: 'none', premultiplyAlpha: 'none'}) }
    catch { throw new PhotoError('damaged') }
}

function bicubic(x) {
    x = Math.abs(x)
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -.5 : 0
}

// Which of `length` values between `start` and `end` make each of `size` new ones, and with what weights. Pillow computes the
// ends in single precision, the weights in double.
export function weightsOf(length, start, end, size) {
    const from = Math.fround(start), scale = Math.fround(Math.fround(end) - from) / size, stretch = Math.max(scale, 1)
    return Array.from({length: size}, (_, i) => {
        const centre = from + (i + .5) * scale
        const first = Math.max(0, Math.trunc(centre - 2 * stretch + .5)), last = Math.min(length, Math.trunc(centre + 2 * stretch + .5))
        const raw = Array.from({length: last - first}, (_, j) => bicubic((j + first - centre + .5) * (1 / stretch)))
        const total = raw.reduce((sum, weight) => sum + weight, 0)
        return {first, last, weights: raw.map(weight => weight / total)}
    })
}

const BITS = 22  // Pillow's fixed point: 32 bits, less 8 for the colour, less 2 for the sum
const fixed = rows => rows.map(({first, last, weights}) => ({first, last, weights: Int32Array.from(weights, weight => weight * (1 << BITS) + (weight < 0 ? -.5 : .5))}))

// One new value of each colour: `weights` times pixels that begin at `offset` and are `step` apart.
function blend(pixels, offset, step, weights, out, at) {
    let red = 1 << BITS - 1, green = red, blue = red
    for (let i = 0; i < weights.length; i++, offset += step) {
        const weight = weights[i]
        red = red + pixels[offset] * weight | 0
        green = green + pixels[offset + 1] * weight | 0
        blue = blue + pixels[offset + 2] * weight | 0
    }
    out[at] = red >> BITS
    out[at + 1] = green >> BITS
    out[at + 2] = blue >> BITS
}

// Pillow's `resize`, byte for byte: across, then down, each rounded to whole colours. The photo is read in strips, so that
// a large one needs little memory and fits the canvas of a phone.
export function toSquare(bitmap, size, crop, strip = 128) {
    const {width, height} = bitmap, side = Math.min(width, height) * crop, left = (width - side) / 2, top = (height - side) / 2
    const across = fixed(weightsOf(width, left, left + side, size)), down = fixed(weightsOf(height, top, top + side, size))
    const [x, y, bottom] = [across[0].first, down[0].first, down.at(-1).last]
    const canvas = new OffscreenCanvas(across.at(-1).last - x, Math.min(strip, bottom - y))
    const context = canvas.getContext('2d', {willReadFrequently: true})
    const narrow = new Uint8ClampedArray((bottom - y) * size * 3), square = new Uint8ClampedArray(size * size * 3)
    context.fillStyle = 'white'  // what is transparent becomes white
    for (let begin = y; begin < bottom; begin += canvas.height) {
        context.fillRect(0, 0, canvas.width, canvas.height)
        context.drawImage(bitmap, -x, -begin)
        const {data} = context.getImageData(0, 0, canvas.width, canvas.height), rows = Math.min(canvas.height, bottom - begin)
        for (let row = 0; row < rows; row++) across.forEach(({first, weights}, i) =>
            blend(data, 4 * (row * canvas.width + first - x), 4, weights, narrow, 3 * ((begin - y + row) * size + i)))
    }
    down.forEach(({first, weights}, row) => {
        for (let i = 0; i < size; i++) blend(narrow, 3 * ((first - y) * size + i), 3 * size, weights, square, 3 * (row * size + i))
    })
    return new Uint8Array(square.buffer)  // [size, size, 3]
}

// ---- Files, with progress and with their fingerprints checked

export async function load({path, integrity}, received = () => {}) {
    const unreachable = () => { throw Object.assign(new Error(`${path} cannot be reached`), {address: new URL(path, location.href).host}) }
    const response = await fetch(path).catch(unreachable), chunks = []
    if (!response.ok) throw new Error(`${path}: ${response.status}`)
    for (const reader = response.body.getReader();;) {
        const {done, value} = await reader.read()
        if (done) break
        chunks.push(value)
        received(value.length)
    }
    const address = URL.createObjectURL(new Blob(chunks))
    try { return await (await fetch(address, {integrity})).arrayBuffer() }  // fetch checks the fingerprint, but shows no progress while it does
    catch { throw new Error(`${path}: changed`) }
    finally { URL.revokeObjectURL(address) }
}

export function readTensors(content) {  // a safetensors file: the length of its description, the description, the numbers
    const length = Number(new DataView(content).getBigUint64(0, true))
    const described = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 8, length)))
    const kinds = {F32: buffer => new Float32Array(buffer), F16: readHalves}
    return Object.fromEntries(Object.entries(described).filter(([name]) => name !== '__metadata__').map(([name, {dtype, shape, data_offsets: [begin, end]}]) =>
        [name, {shape, values: kinds[dtype](content.slice(8 + length + begin, 8 + length + end))}]))
}

function readHalves(buffer) {  // numbers of 16 bits, which only recent browsers read themselves
    return Float32Array.from(new Uint16Array(buffer), bits => {
        const exponent = bits >> 10 & 31, fraction = (bits & 1023) / 1024
        return (bits >> 15 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction)
    })
}

// ---- The network and what follows it

const SCALES = {  // transform -> the factor that each value of an embedding gets
    none: embedding => embedding.map(() => 1),
    sqrt_l2: embedding => {
        const norm = Math.sqrt(embedding.reduce((sum, value) => sum + Math.abs(value), 0))
        return embedding.map(value => 1 / Math.max(Math.sqrt(Math.abs(value)) * norm, 1e-12))
    },
}

function softmax(logits) {
    const most = Math.max(...logits), powers = logits.map(logit => Math.exp(logit - most)), total = powers.reduce((sum, power) => sum + power)
    return powers.map(power => power / total)
}

export class Classifier {
    constructor(ort, session, info, {weight, bias}) {
        Object.assign(this, {ort, session, info, weight: weight.values, bias: bias.values})
    }

    async run(square) {  // {features [D, places]} for a model with maps, and the embedding [D] either way
        const {size} = this.info.preprocessing, output = this.info.features === false ? 'embedding' : 'features'
        const feeds = {image: new this.ort.Tensor('uint8', square.slice(), [1, size, size, 3])}  // a copy, for the worker keeps it
        const {data, dims} = (await this.session.run(feeds, [output]))[output], places = data.length / dims[1]
        const mean = (_, d) => data.subarray(d * places, (d + 1) * places).reduce((sum, value) => sum + value, 0) / places
        return {embedding: Float64Array.from({length: dims[1]}, mean), features: places > 1 && data, width: dims[3]}
    }

    answer(seen) {  // what Python calls a Prediction, with `ranked` as pairs: the order of an object's keys is not always ours
        const scale = SCALES[this.info.transform](seen.embedding), embedding = seen.embedding.map((value, d) => value * scale[d])
        const logits = Array.from(this.bias, (bias, label) => embedding.reduce((sum, value, d) => sum + value * this.weight[label * embedding.length + d], bias))
        const ranked = softmax(logits).map((probability, i) => [this.info.labels[i], probability]).sort((a, b) => b[1] - a[1])
        const [label, confidence] = ranked[0]
        return {...seen, label, confidence, sure: confidence >= this.info.threshold, ranked, scale, embedding}
    }

    activationMap({features, scale}, label) {  // how much each place of the square speaks for `label`
        const places = features.length / scale.length, at = this.info.labels.indexOf(label) * scale.length
        const map = new Float64Array(places)
        scale.forEach((factor, d) => { for (let i = 0; i < places; i++) map[i] += this.weight[at + d] * factor * features[d * places + i] })
        return map
    }

    async classify(photo) {
        const {size, crop} = this.info.preprocessing, bitmap = await readPhoto(photo)
        const square = toSquare(bitmap, size, crop)
        bitmap.close()
        return {...this.answer(await this.run(square)), square}
    }
}

export async function openClassifier(
    space,  // what space.json says
    progress = () => {},  // called with the share loaded, from 0 to 1
) {
    const names = ['ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm', 'backbone.onnx', 'head.safetensors', 'model.json']
    const files = names.map(name => space.files.find(({path}) => path.endsWith('/' + name)))
    const total = files.reduce((sum, {size}) => sum + size, 0)
    let received = 0
    const [library, glue, binary, backbone, head, model] = await Promise.all(files.map(file => load(file, bytes => progress((received += bytes) / total))))
    const script = ({path}, content) => path.startsWith('https:')  // from elsewhere: what was checked is what runs
        ? URL.createObjectURL(new Blob([content], {type: 'text/javascript'})) : new URL(path, document.baseURI).href
    const ort = await import(script(files[0], library))
    Object.assign(ort.env.wasm, {wasmBinary: binary, wasmPaths: {mjs: script(files[1], glue)},
        proxy: true,  // in a worker, so that the page can be scrolled meanwhile
        numThreads: crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1})
    const idle = {session: {intra_op: {allow_spinning: '0'}}}  // threads that wait sleep: as fast, and easy on a battery
    const session = await ort.InferenceSession.create(backbone, {extra: idle})
    return new Classifier(ort, session, JSON.parse(new TextDecoder().decode(model)), readTensors(head))
}
