// The page of the service. All texts of answers are set as text, never as HTML.

const TOP_LABELS = 10;
const PAIRS_SHOWN = 5;
const MOST_PAIRS = 50;
const RESULTS_PER_PAGE = 24;
const LANES = 3;
const MOST_RETRIES = 5;
const MOST_STARTING = 60;
const MOST_WAIT_S = 60;
const MOST_THUMBNAILS = 600;
const KEY = "asif-key";

const state = {
  view: "classify",
  sets: [], // as GET /v1/anchors lists them
  galleries: [],
  photos: [], // {name, file, preview, card, pairs, isOpen}, once classified also {answer, before, set, labels}
  classified: null, // the last task: {labels, templates}
  parts: [], // of the query: {name, file, preview} or {id}
  search: null, // {query, options, results, answer}
  pairPhoto: null, // {file, preview}
  removal: null, // {id, name}: the pair that is about to be taken out, and its set
};

// ---- elements

const find = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "role" || name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** Make an element with a text. */
const write = (tag, textContent, properties = {}) => element(tag, { ...properties, textContent });

/** Make an element with a text of somebody else's, in whatever direction that is written. */
const quote = (tag, textContent, properties = {}) => write(tag, textContent, { dir: "auto", ...properties });

function makeButton(text, action, properties = {}) {
  const made = write("button", text, { type: "button", className: "quiet", ...properties });
  made.addEventListener("click", action);
  return made;
}

/** Replace the children of a place; what has the focus keeps it, known by its data-key, or else `fallback` gets it. */
function replaceChildren(place, children, fallback = null) {
  const active = document.activeElement;
  const key = active !== place && place.contains(active) ? (active.dataset.key ?? "") : null;
  place.replaceChildren(...children);
  if (key === null) return;
  const again = [...place.querySelectorAll("[data-key]")].find((each) => each.dataset.key === key);
  (again ?? fallback ?? place.querySelector("summary") ?? place.querySelector("button"))?.focus();
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

// ---- figures

/** Choose the decimal places with which the largest value has two significant digits; at least four. */
function chooseDigits(values) {
  const largest = Math.max(0, ...values.map(Math.abs));
  return Math.min(Math.max(largest ? 1 - Math.floor(Math.log10(largest)) : 0, 4), 9);
}

/** Round values to units of 10^-digits that add up to the rounded total (method of largest remainders). */
function roundToSum(values, total, digits) {
  const scaled = values.map((value) => value * 10 ** digits);
  const units = scaled.map(Math.floor);
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const missing = Math.round(total * 10 ** digits) - sum(units);
  if (Math.abs(sum(scaled) - total * 10 ** digits) >= 1 || missing < 0 || missing > units.length)
    return scaled.map(Math.round); // a fault of the service shows
  const order = [...units.keys()].sort((a, b) => units[a] - scaled[a] - (units[b] - scaled[b]));
  for (const at of order.slice(0, missing)) units[at] += 1;
  return units;
}

const formatUnits = (units, digits) => `${units < 0 ? "−" : ""}${(Math.abs(units) / 10 ** digits).toFixed(digits)}`;
const formatScore = (score, digits) => formatUnits(Math.round(score * 10 ** digits), digits);

function formatChance(chance) {
  return chance < 1e-6 ? "less than 0.0001 %" : `${Number((100 * chance).toPrecision(2))} %`;
}

function formatExpected(items) {
  if (items < 0.01) return "less than 0.01";
  if (items < 1) return (Math.floor(items * 100) / 100).toFixed(2);
  return items < 10 ? items.toFixed(1) : Math.round(items).toLocaleString("en");
}

function makeBar(value, widest) {
  const bar = element("i", { className: value < 0 ? "bar negative" : "bar" });
  bar.style.width = `${widest ? (100 * Math.abs(value)) / widest : 0}%`;
  return element("span", { className: "track", "aria-hidden": "true" }, bar);
}

// ---- calls

/** An answer that is an error, in the words of the service. */
class Problem extends Error {
  constructor(status, fields, requestId) {
    super(fields.detail ?? fields.title ?? `the answer ${status}`);
    Object.assign(this, { status, fields, requestId });
  }

  static async of(response) {
    const fields = await response.json().catch(() => ({}));
    return new Problem(response.status, fields, fields.request_id ?? response.headers.get("x-request-id"));
  }

  static changed() {
    return new Problem(0, {
      title: "the results have changed",
      detail: "the gallery or the anchors were changed meanwhile",
      to_do: "search again",
    });
  }

  static unreachable() {
    return new Problem(0, {
      title: "no answer",
      detail: "the service cannot be reached",
      expected: "a service that runs at this address",
      to_do: "check that asif serve runs, and try again",
    });
  }
}

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

async function send(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const isForm = body instanceof FormData;
  if (body && !isForm) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, signal, body: !body || isForm ? body : JSON.stringify(body) });
  } catch (error) {
    throw error.name === "AbortError" ? error : Problem.unreachable();
  }
}

/** Call the service; while it is busy or starts, wait as long as it says and try again. */
async function call(path, options = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await send(path, options);
    if (response.ok) return response;
    const most = response.status === 503 ? MOST_STARTING : response.status === 429 ? MOST_RETRIES : 0;
    const seconds = Number(response.headers.get("retry-after") ?? 1) || 1;
    if (attempt > most || seconds > MOST_WAIT_S) throw await Problem.of(response);
    const why = response.status === 503 ? "The service is not ready" : "The service is busy";
    options.say?.(`${why}; trying again in ${count(seconds, "second")}.`);
    await pause(seconds, options.signal);
  }
}

/** Return the JSON of an answer, and remember which anchors gave it. */
async function ask(path, options = {}) {
  const response = await call(path, options);
  const identity = /^(.*?)@(.*); digest=(\w+)$/.exec(response.headers.get("x-asif-anchors") ?? "");
  if (identity) showServed({ name: options.anchors ?? identity[1], version: identity[2], digest: identity[3] });
  return response.json();
}

// ---- work: progress, cancelling, problems; a place for each view and for changes

class Desk {
  constructor(place, owner) {
    this.owner = owner;
    this.progress = element("progress", { "aria-label": "Progress", hidden: true });
    this.cancel = makeButton("Cancel", () => this.controller?.abort(), { hidden: true });
    this.status = element("p", { className: "status", role: "status" });
    this.alert = element("div", { role: "alert" });
    const running = element("div", { className: "row" }, this.progress, this.cancel);
    place.append(running, this.status, this.alert);
  }

  say(text) {
    this.status.textContent = text;
  }

  /** Do some work; what ran here before is cancelled. Returns whether it was done. */
  async work(text, steps, job) {
    this.controller?.abort();
    const controller = (this.controller = new AbortController());
    this.alert.replaceChildren();
    this.say(text);
    this.progress.removeAttribute("value");
    if (steps > 1) Object.assign(this.progress, { max: steps, value: 0 });
    this.show(true);
    const step = () => controller === this.controller && steps > 1 && (this.progress.value += 1);
    const options = { signal: controller.signal, say: (words) => this.say(words) };
    try {
      const said = await job(options, step);
      if (controller === this.controller) this.say(said ?? "");
      return true;
    } catch (error) {
      if (controller !== this.controller) return false;
      this.say(controller.signal.aborted ? "Cancelled." : "");
      if (!controller.signal.aborted) this.showProblem(error);
      return false;
    } finally {
      controller.abort();
      if (controller === this.controller) this.show(false);
    }
  }

  show(isBusy) {
    this.isBusy = isBusy;
    const hadFocus = document.activeElement === this.cancel;
    this.progress.hidden = this.cancel.hidden = !isBusy;
    this.owner.setAttribute("aria-busy", String(isBusy));
    if (hadFocus && !isBusy) focusSubmit();
  }

  showProblem(error) {
    if (!(error instanceof Problem)) console.error(error);
    const needsKey = error.status === 401 || error.status === 403;
    const dismiss = () => (this.alert.replaceChildren(), focusSubmit());
    if (needsKey) showKey();
    const buttons = [makeButton("Dismiss", dismiss)];
    if (needsKey) buttons.unshift(makeButton("Enter a key", () => find("key").focus()));
    this.alert.replaceChildren(describeProblem(error, buttons));
  }
}

const focusSubmit = () => find(`ask-${state.view}`).querySelector("[type=submit]").focus();
const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}` : "");

function describeProblem(error, buttons) {
  const { title, expected, to_do: toDo } = error.fields ?? { title: "an error of this page" };
  const lines = [write("strong", sentence(title)), write("p", sentence(error.message))];
  if (expected) lines.push(write("p", `Expected: ${expected}.`));
  if (toDo) lines.push(write("p", `What to do: ${toDo}.`));
  if (error.requestId) lines.push(element("p", { className: "soft" }, "Request ", write("code", error.requestId)));
  return element("div", { className: "problem" }, lines, element("div", { className: "row" }, buttons));
}

// ---- thumbnails

const thumbnails = new Map();
const added = new Map(); // the photos of pairs that were added here, by path: the service keeps none

const placeThumbnail = (kind, name, id) =>
  `v1/${kind}/${encodeURIComponent(name)}/thumbnail?id=${encodeURIComponent(id)}`;

/** Return a frame in which the thumbnail of a pair or an item appears if there is one. */
function makeThumbnail(kind, name, digest, id, alt, className = "frame") {
  const path = placeThumbnail(kind, name, id);
  if (added.has(path)) return element("span", { className }, element("img", { src: added.get(path), alt }));
  const frame = element("span", { className });
  const known = `${digest} ${path}`;
  if (!thumbnails.has(known)) {
    thumbnails.set(known, fetchThumbnail(path));
    if (thumbnails.size > MOST_THUMBNAILS) {
      const [oldest, url] = thumbnails.entries().next().value;
      thumbnails.delete(oldest);
      url.then((each) => each && URL.revokeObjectURL(each));
    }
  }
  thumbnails.get(known).then((url) => {
    if (url) frame.append(element("img", { src: url, alt }));
    else frame.classList.add("missing");
  });
  return frame;
}

async function fetchThumbnail(path) {
  try {
    return URL.createObjectURL(await (await call(path)).blob());
  } catch {
    return null;
  }
}

function makePreview(file, alt) {
  const url = URL.createObjectURL(file);
  const image = element("img", { src: url, alt });
  const frame = element("span", { className: "frame" }, image);
  image.addEventListener("error", () => (image.remove(), frame.classList.add("missing")));
  return { url, frame };
}

// ---- files: chosen, dropped, pasted

const IMAGE_NAME = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|hei[cf])$/i;
const SOUND_NAME = /\.(wav|flac|ogg|oga|opus|mp3)$/i;
const isSound = (file) => file.type.startsWith("audio/") || SOUND_NAME.test(file.name);
const isImage = (file) => file.type.startsWith("image/") || IMAGE_NAME.test(file.name);
/** Tell whether the chosen anchors pair sounds, not images, with texts. */
const holdsSounds = () => chosenSet()?.modalities?.image === "audio";
const nameKind = () => (holdsSounds() ? "sound" : "photo");
const nameFile = (file) => file.name || `pasted ${nameKind()}`;

/** Let the page ask for the files that the chosen anchors pair with texts. */
function showKind() {
  for (const id of ["photos", "similar", "pair-photo"]) {
    find(id).accept = holdsSounds() ? "audio/*" : "image/*";
    document.querySelector(`label[for="${id}"]`).textContent = id === "pair-photo" ? `Choose a ${nameKind()}` : `Choose ${nameKind()}s`;
  }
  find("clear").textContent = `Clear ${nameKind()}s`;
}

function take(files, place) {
  const images = [...files].filter(holdsSounds() ? isSound : isImage);
  const desk = place === "pair" ? desks.edit : desks[state.view];
  if (!images.length) return desk.say(files.length ? `These files are no ${holdsSounds() ? "sounds" : "images"}.` : "");
  if (place === "pair") takePairPhoto(images[0]);
  else if (state.view === "classify") addPhotos(images);
  else addParts(images.map((file) => ({ name: nameFile(file), file })));
  desk.say(`${count(images.length, nameKind())} added.`);
}

/** Return where files go that are dropped or pasted at an element. */
const findPlace = (target) => (target?.closest?.("#add-form") ? "pair" : "view");

function watchFiles() {
  for (const [id, place] of [["photos", "view"], ["similar", "view"], ["pair-photo", "pair"]])
    find(id).addEventListener("change", (event) => {
      take(event.target.files, place);
      event.target.value = "";
    });
  const mark = (event, isOver) => {
    const hasFiles = event.dataTransfer.types.includes("Files"); // and no words that are moved into a field
    if (hasFiles) event.preventDefault();
    document.body.classList.toggle("dropping", isOver && hasFiles);
    return hasFiles;
  };
  addEventListener("dragover", (event) => mark(event, true));
  addEventListener("dragleave", (event) => event.relatedTarget || mark(event, false));
  addEventListener("drop", (event) => mark(event, false) && take(event.dataTransfer.files, findPlace(event.target)));
  addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    if (!files.length || (types.includes("text/plain") && event.target.matches?.("input, textarea"))) return;
    event.preventDefault();
    take(files, findPlace(document.activeElement));
  });
}

// ---- classification

function addPhotos(files) {
  for (const file of files) {
    const name = nameFile(file);
    state.photos.push({ name, file, preview: makePreview(file, name), pairs: PAIRS_SHOWN });
  }
  showPhotos();
}

function removePhoto(photo) {
  URL.revokeObjectURL(photo.preview.url);
  state.photos = state.photos.filter((each) => each !== photo);
  showPhotos();
  find("photos").focus();
}

function clearPhotos() {
  for (const photo of state.photos) URL.revokeObjectURL(photo.preview.url);
  state.photos = [];
  showPhotos();
  find("photos").focus();
}

/** Split labels at commas and lines; those in double quotes may contain commas. */
function parseLabels(text) {
  const cells = text.match(/"(?:[^"]|"")*"|[^,\n"]+/g) ?? [];
  const unquote = (_, inner) => inner.replaceAll('""', '"');
  const labels = cells.map((cell) => cell.trim().replace(/^"(.*)"$/s, unquote).trim());
  return [...new Set(labels.filter(Boolean))];
}

const split = (text, mark) => text.split(mark).map((part) => part.trim()).filter(Boolean);

function startClassifying() {
  const labels = parseLabels(find("labels").value);
  if (!state.photos.length) return demand("photos", `Choose a ${nameKind()} first.`);
  if (!labels.length) return demand("labels", "Type a label first.");
  return classify({ labels, templates: split(find("templates").value, "\n") });
}

function demand(id, text, desk = desks[state.view]) {
  desk.say(text);
  find(id).focus();
}

/** Classify all photos; `because` says what has changed, if answers are to be compared with those before. */
async function classify(task, because = "") {
  state.classified = task;
  const photos = [...state.photos];
  const waiting = [...photos];
  const doing = `Classifying ${count(photos.length, nameKind())} …`;
  await desks.classify.work(doing, photos.length, async (options, step) => {
    const lane = async () => {
      for (let photo = waiting.shift(); photo; photo = waiting.shift()) {
        await classifyPhoto(photo, options, Boolean(because));
        step();
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    const by = photos.find((photo) => photo.answer?.anchors)?.answer.anchors;
    return `${because}${count(photos.length, nameKind())} classified${by ? ` by ${nameIdentity(by)}` : ""}.`;
  });
}

async function classifyPhoto(photo, options = {}, compares = false) {
  const { labels, templates } = state.classified;
  const request = { labels, top: TOP_LABELS, explain: photo.pairs, anchors: chosenAnchors() };
  if (templates.length) request.templates = templates;
  const body = makeForm(request, [photo.file]);
  const before = compares ? photo.answer?.predictions : undefined;
  try {
    const { results } = await ask("v1/classify", { ...options, method: "POST", body, anchors: request.anchors });
    Object.assign(photo, { answer: results[0], before, set: request.anchors, labels: labels.length });
  } catch (error) {
    if (error.status !== 413) throw error; // this photo is too large, others may not be
    photo.answer = { error: `${error.message}; ${error.fields.to_do}` };
  }
  showPhoto(photo);
}

/** Make the body of a call: its fields as JSON, and files, whose names stay here. */
function makeForm(request, files) {
  const form = new FormData();
  form.set("request", JSON.stringify(request));
  for (const file of files) form.append("images", file, "photo");
  return form;
}

function showPhotos() {
  find("answers-classify").querySelector(".empty").hidden = state.photos.length > 0;
  find("clear").disabled = !state.photos.length;
  for (const photo of state.photos)
    if (!photo.card) {
      photo.card = element("li", { className: "card" });
      showPhoto(photo);
    }
  replaceChildren(find("cards"), state.photos.map((photo) => photo.card));
}

function showPhoto(photo) {
  const remove = makeRemove(photo.name, () => removePhoto(photo));
  const head = element("div", { className: "head" }, quote("h3", photo.name), remove);
  const about = element("div", { className: "about" }, head, describeAnswer(photo));
  const reasons = makeReasonsPart(photo);
  replaceChildren(photo.card, [photo.preview.frame, about, ...(reasons ? [reasons] : [])]);
}

function makeRemove(name, action) {
  const made = makeButton("×", action, { className: "quiet remove", "aria-label": `Remove ${name}` });
  made.dataset.key = `remove ${name}`;
  return made;
}

function describeAnswer({ answer, before, labels }) {
  if (!answer) return [write("p", "not classified yet", { className: "soft" })];
  if (answer.error) return [write("p", `This ${nameKind()} cannot be classified: ${answer.error}.`, { className: "problem" })];
  const source = `${nameIdentity(answer.anchors)} · ${sumTimings(answer.timings_ms)} ms`;
  const left = labels - answer.predictions.length;
  const note = write("p", left > 0 ? `${count(left, "further label")} · ${source}` : source, { className: "soft" });
  note.title = answer.anchors.digest;
  return [makeRanking(answer.predictions, before), note];
}

const sumTimings = (timings) => Math.max(1, Math.round(Object.values(timings).reduce((a, b) => a + b, 0)));

function makeRanking(predictions, before) {
  const scores = predictions.map((each) => each.score);
  const [widest, digits] = [Math.max(...scores.map(Math.abs)), chooseDigits(scores)];
  const rows = predictions.map(({ label, score }) => {
    const old = before?.find((each) => each.label === label);
    const shown = formatScore(score, digits);
    const was = old && formatScore(old.score, digits);
    const figure = write("span", shown, { className: "figure" });
    if (was && was !== shown) figure.append(write("small", `was ${was}`));
    return element("li", {}, quote("span", label, { className: "label" }), makeBar(score, widest), figure);
  });
  return element("ol", { className: "ranking" }, rows);
}

/** Make the part of a card that opens to the pairs behind the first label; it is filled when it is opened. */
function makeReasonsPart(photo) {
  const explanation = photo.answer?.explanation;
  if (!explanation) return null;
  const summary = element("summary", {}, "Why ", write("bdi", explanation.label));
  summary.dataset.key = "reasons";
  const place = element("div");
  const part = element("details", { open: Boolean(photo.isOpen), className: "reasons" }, summary, place);
  const fill = () => {
    photo.isOpen = part.open;
    if (part.open && !place.firstChild) place.append(...describeReasons(photo));
  };
  part.addEventListener("toggle", fill);
  fill();
  return part;
}

function describeReasons(photo) {
  const { answer } = photo;
  const credits = new Map((answer.credits?.pairs ?? []).map((pair) => [pair.id, pair]));
  const pairs = answer.explanation.contributions.map((each) => ({ ...credits.get(each.id), ...each }));
  const set = { name: photo.set, digest: answer.anchors.digest };
  const shown = [makeSum({ ...answer.explanation, pairs }, answer.predictions[0].score, set)];
  if (answer.explanation.others && photo.pairs < MOST_PAIRS) {
    const more = makeButton("Show more pairs", () => showMorePairs(photo));
    more.dataset.key = "more-pairs";
    shown.push(more);
  }
  return shown;
}

function showMorePairs(photo) {
  photo.pairs = Math.min(MOST_PAIRS, 4 * photo.pairs);
  desks.classify.work("Looking for more pairs …", 1, (options) => classifyPhoto(photo, options));
}

// ---- reasons: pairs with figures that add up to the score

function makeSum(explanation, score, set) {
  const { pairs, remainder, others, hubness = 0 } = explanation;
  const digits = chooseDigits(pairs.map((pair) => pair.contribution));
  const rounded = roundToSum([...pairs.map((pair) => pair.contribution), remainder, hubness], score, digits);
  const [rest, taken] = rounded.splice(-2);
  const widest = Math.max(...rounded.map(Math.abs));
  const total = rounded.reduce((a, b) => a + b, rest);
  const rows = pairs.map((pair, at) => makePairRow(pair, rounded[at], widest, digits, set));
  if (others) rows.push(makeSumRow(count(others, "further pair"), formatUnits(rest, digits)));
  if (taken) {
    rows.push(makeSumRow("all pairs", formatUnits(total, digits), "total"));
    rows.push(makeSumRow("correction for hubness", formatUnits(taken, digits)));
  }
  rows.push(makeSumRow("score: the sum", formatUnits(total + taken, digits), "total"));
  const caption = write("caption", "Anchor pairs and what each contributes to the score", { className: "spoken" });
  return element("table", { className: "sum" }, caption, element("tbody", {}, rows));
}

function makeSumRow(text, figure, className = "") {
  return element("tr", { className }, write("th", text, { scope: "row" }), write("td", figure));
}

function makePairRow(pair, units, widest, digits, set) {
  const [first = pair.id, ...rest] = pair.captions;
  const captions = [write("bdi", first, { className: "caption" }), ...rest.map((each) => quote("small", each))];
  const about = element("span", { className: "about" }, captions, makeCredits(pair), makeBar(units, widest));
  const thumbnail = makeThumbnail("anchors", set.name, set.digest, pair.id, first);
  const head = element("th", { scope: "row" }, element("span", { className: "pair" }, thumbnail, about));
  const action = () => confirmRemoval(pair.id, set.name, pair.captions[0]);
  const remove = makeButton("Take out", action, { "aria-label": `Take out ${pair.id}` });
  remove.dataset.key = `take-out ${pair.id}`;
  return element("tr", {}, head, element("td", {}, formatUnits(units, digits), remove));
}

function makeCredits({ id, source, licence, url }) {
  const shown = element("small", {}, write("code", id));
  for (const text of [source, licence]) if (text) shown.append(" · ", write("bdi", text));
  if (url) shown.append(" · ", makeLink(url));
  return shown;
}

/** Return a link to an address of the web; any other text stays text. */
function makeLink(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isSafe = ["http:", "https:"].includes(url?.protocol) && !url.username && !url.password;
  if (!isSafe) return write("code", text);
  return write("a", text, { href: url.href, target: "_blank", rel: "noopener noreferrer" });
}

// ---- search

function addParts(parts) {
  for (const part of parts) if (part.file) part.preview = makePreview(part.file, "");
  state.parts.push(...parts);
  showParts();
}

function clearParts() {
  for (const part of state.parts) if (part.preview) URL.revokeObjectURL(part.preview.url);
  state.parts = [];
}

function showParts() {
  const rows = state.parts.map((part) => {
    const name = part.name ?? part.id;
    const remove = makeRemove(`${name} from the query`, () => {
      state.parts = state.parts.filter((each) => each !== part);
      showParts();
      find("similar").focus();
    });
    return element("li", {}, part.preview?.frame, quote("span", part.file ? name : `like ${name}`), remove);
  });
  find("parts").replaceChildren(...rows);
}

function readQuery() {
  const words = find("words").value.trim();
  return {
    texts: words ? [words] : [],
    ids: state.parts.filter((part) => part.id !== undefined).map((part) => part.id),
    minus: split(find("minus").value, ","),
    photos: state.parts.filter((part) => part.file).map((part) => part.file),
  };
}

async function askSearch(search, more, options) {
  const { photos, ...query } = search.query;
  const request = { ...search.options, ...more, queries: [query] };
  const body = makeForm(request, photos);
  const { results } = await ask("v1/search", { ...options, method: "POST", body, anchors: request.anchors });
  if (results[0].error) throw new Problem(422, { title: "the query cannot be used", detail: results[0].error });
  return results[0];
}

function startSearching() {
  const query = readQuery();
  if (!query.texts.length && !query.ids.length && !query.photos.length)
    return demand("words", "Type words or choose a photo first.");
  return searchGallery(query);
}

async function searchGallery(query, because = "") {
  const options = { gallery: find("gallery").value, anchors: chosenAnchors(), only_relevant: find("relevant").checked };
  await desks.search.work("Searching …", 1, async (during) => {
    const search = { query, options, results: [] };
    const answer = await askSearch(search, { k: RESULTS_PER_PAGE }, during);
    state.search = search;
    replaceChildren(find("results"), [], find("found"));
    addResults(answer);
    return because + describeFound();
  });
}

async function searchMore() {
  const { search } = state;
  await desks.search.work("Searching …", 1, async (during) => {
    const answer = await askSearch(search, { k: RESULTS_PER_PAGE, offset: search.results.length }, during);
    const first = addResults(answer);
    if (find("more").hidden) (first ?? find("found")).focus();
    return `${count(answer.results.length, "more result")}.`;
  });
}

function describeFound() {
  const { answer, results } = state.search;
  const { searched, relevant, space, gallery, anchors } = answer;
  const most = relevant === results.length && results.length < searched ? " or more" : "";
  const above = `${relevant.toLocaleString("en")}${most} of ${searched.toLocaleString("en")} above chance`;
  const how = space === "shared" ? `through the anchors ${nameIdentity(anchors)}` : `directly in the ${space} space`;
  return `${above}, in ${nameIdentity(gallery)}, compared ${how}.`;
}

/** Add cards for the results of an answer; returns the button of the first one. */
function addResults(answer) {
  const { search } = state;
  const { results } = answer;
  search.answer = answer;
  const cards = results.map((result, at) => makeResult(search, result, search.results.length + at));
  search.results.push(...results);
  find("results").append(...cards);
  find("found").textContent = describeFound();
  find("more").hidden = results.length < RESULTS_PER_PAGE || search.results.length >= answer.searched;
  return cards[0]?.querySelector("button");
}

function makeResult(search, result, rank) {
  const standing = rank < search.answer.relevant ? "above chance" : "within chance";
  const place = element("div", { className: "reasons", id: `reasons-${rank}`, hidden: true });
  const card = element("li", { className: `result ${standing.split(" ")[0]}` });
  const why = makeButton("Why", () => toggleReasons(search, result, rank, card), { "aria-label": `Why ${result.id}` });
  why.setAttribute("aria-expanded", "false");
  why.setAttribute("aria-controls", place.id);
  const like = makeButton("More like this", () => searchLike(result.id), { "aria-label": `More like ${result.id}` });
  const figures = [write("strong", formatScore(result.score, 4)), write("span", standing, { className: "soft" })];
  const name = write("code", result.id, { title: result.uri ?? result.id });
  const lines = [element("p", { className: "line" }, figures), name];
  const about = element("div", { className: "about" }, ...lines, element("div", { className: "row" }, why, like));
  card.append(element("div", { className: "front" }, makePicture(search, result), about), place);
  return card;
}

/** Show an item: its photo, or itself if it is a text. */
function makePicture(search, result) {
  const name = search.options.gallery;
  const alt = result.captions[0] ?? result.id;
  const { kind } = state.galleries.find((each) => each.name === name);
  if (kind !== "image") return quote("p", alt, { className: "words" });
  return makeThumbnail("galleries", name, search.answer.gallery.digest, result.id, alt, "picture");
}

async function toggleReasons(search, result, rank, card) {
  const [why, place] = [card.querySelector("[aria-expanded]"), card.querySelector(".reasons")];
  const isOpen = place.hidden;
  place.hidden = !isOpen;
  why.setAttribute("aria-expanded", String(isOpen));
  card.classList.toggle("open", isOpen);
  if (!isOpen || place.firstChild) return;
  place.append(write("p", "Looking for the reasons …", { className: "soft" }));
  const isDone = await desks.search.work("Looking for the reasons …", 1, async (during) => {
    const answer = await askSearch(search, { k: 1, offset: rank, explain: PAIRS_SHOWN }, during);
    const again = answer.results[0];
    if (again?.id !== result.id) throw Problem.changed();
    place.replaceChildren(...describeResult(search, again, answer));
    return "Reasons shown.";
  });
  if (!isDone) place.replaceChildren();
}

function describeResult(search, result, answer) {
  const { explanation, chance, captions, uri } = result;
  const expected = `${formatExpected(chance * answer.searched)} of ${count(answer.searched, "item")}`;
  const shown = [];
  if (explanation) {
    const set = { name: search.options.anchors, digest: answer.anchors.digest };
    shown.push(write("h3", "Pairs behind the score"));
    shown.push(makeSum({ ...explanation, pairs: explanation.contributions }, result.score, set));
    if (explanation.parts.length > 1) shown.push(write("h3", "By part of the query"), makeParts(explanation.parts));
  } else shown.push(write("p", "Like was compared with like directly: anchors have no part in this score."));
  shown.push(write("h3", "Could it be chance?"));
  shown.push(write("p", `${formatChance(chance)} of the anchors of other pairs score as high for this query.`));
  shown.push(write("p", `Chance alone would bring ${expected} up to this score.`));
  shown.push(...captions.map((caption) => quote("p", caption, { className: "soft" })));
  if (uri) shown.push(element("p", {}, makeLink(uri)));
  return shown;
}

function makeParts(parts) {
  const values = parts.map((part) => part.contribution);
  const [widest, digits] = [Math.max(...values.map(Math.abs)), chooseDigits(values)];
  const rows = parts.map(({ part, weight, contribution }) => {
    const times = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} × `;
    const name = `${weight < 0 ? "without " : ""}${times}${part === "bytes" ? "photo" : part}`;
    const head = element("th", { scope: "row" }, write("bdi", name), makeBar(contribution, widest));
    return element("tr", {}, head, write("td", formatScore(contribution, digits)));
  });
  return element("table", { className: "sum" }, element("tbody", {}, rows));
}

async function searchLike(id) {
  clearParts();
  find("words").value = find("minus").value = "";
  addParts([{ id }]);
  await searchGallery(readQuery());
  find("found").focus();
}

// ---- anchors: which are served, and changes

const chosenAnchors = () => find("anchors").value;
const chosenSet = () => state.sets.find((set) => set.name === chosenAnchors());

/** Name a version by its number: 000003-4f2a… is version 3. */
const numberVersion = (version) => version.split("+").map((each) => each.replace(/^0*(\d+)-\w+$/, "$1")).join("+");
const nameVersion = ({ version, digest }) => `version ${numberVersion(version)} (${digest.slice(0, 12)})`;
const nameIdentity = (identity) => `${identity.name} ${nameVersion(identity)}`;

/** Show the version and digest of an answer. */
function showServed({ name, version, digest }) {
  const set = state.sets.find((each) => each.name === name);
  if (!set) return;
  Object.assign(set, { version, digest });
  if (name === chosenAnchors()) showIdentity();
}

function showIdentity() {
  const set = chosenSet();
  find("copy").hidden = !set;
  showKind();
  if (!set) return;
  const version = write("b", numberVersion(set.version), { id: "version", title: set.version });
  const digest = write("code", set.digest.slice(0, 12), { id: "digest", title: set.digest });
  const shown = ["version ", version, " · digest ", digest];
  if (set.ref !== set.name) shown.push(" · served as ", write("bdi", set.ref));
  if (set.up_to_date === false) shown.push(" · ", write("strong", "a newer version cannot be served"));
  find("identity").replaceChildren(...shown);
  const { encoders, pairs, aligner } = set;
  find("identity").title = `${count(pairs, "pair")}; ${encoders.image}, ${encoders.text}; aligner ${aligner}`;
  const examples = `${set.name}@1, an alias such as ${set.name}@best, or ${set.name} for the current version`;
  find("ref-hint").textContent = `Such as ${examples}.`;
}

async function copyDigest() {
  const { digest } = chosenSet();
  try {
    await navigator.clipboard.writeText(digest);
    desks[state.view].say("The digest is copied.");
  } catch {
    desks[state.view].say(`The digest is ${digest}.`);
  }
}

async function loadServed() {
  await desks[state.view].work("Looking at what is served …", 1, async (options) => {
    await readServed(options);
    return state.sets.length ? "Ready." : "No anchors are served to this key.";
  });
}

async function readServed(options) {
  const [{ anchors }, { galleries }] = await Promise.all([ask("v1/anchors", options), ask("v1/galleries", options)]);
  Object.assign(state, { sets: anchors, galleries });
  fillSelect(find("anchors"), anchors, ({ name }) => name);
  fillSelect(find("gallery"), galleries, ({ name, items, kind }) => `${name} (${count(items, kind)})`);
  showIdentity();
  showView();
}

function fillSelect(select, served, describe) {
  const before = select.value;
  select.replaceChildren(...served.map((each) => write("option", describe(each), { value: each.name })));
  if (served.some((each) => each.name === before)) select.value = before;
}

/** Answer again what is shown, because the anchors have changed. */
async function answerAgain(because) {
  if (state.view === "classify" && state.classified && state.photos.length) await classify(state.classified, because);
  if (state.view === "search" && state.search) await searchGallery(state.search.query, because);
}

/** Change the anchors; the change is listed, and what is shown is answered again. */
async function change(doing, path, options, describe) {
  if (desks.edit.isBusy) return false; // one after the other
  const name = chosenAnchors();
  const before = { ...chosenSet() };
  const isDone = await desks.edit.work(doing, 1, async (during) => {
    const url = `v1/anchors/${encodeURIComponent(name)}/${path}`;
    const answer = await ask(url, { ...during, ...options, anchors: name });
    Object.assign(state.sets.find((set) => set.name === name), answer.anchors);
    showIdentity();
    const isSame = before.version === answer.anchors.version;
    const became = isSame ? "stays as it is" : `is now ${nameVersion(answer.anchors)}`;
    const note = `${describe}: ${nameIdentity(before)} ${became}, of ${count(answer.anchors.pairs, "pair")}.`;
    listChange(note, answer.receipt, options.id);
    return note;
  });
  if (!isDone) await readServed().catch(() => {}); // what failed late may have been done
  if (isDone || chosenSet()?.version !== before.version) await answerAgain(`${describe}: `);
  return isDone;
}

function listChange(note, receipt, id) {
  const row = write("li", note);
  if (receipt) {
    const href = URL.createObjectURL(new Blob([receipt], { type: "application/json" }));
    const download = `receipt-${id.replace(/[^\w.-]+/g, "_").slice(0, 100)}.json`;
    const name = { "aria-label": `Download the receipt for ${id}` };
    row.append(" ", write("a", "Download the receipt", { href, download, ...name }));
  }
  find("changes").prepend(row);
  find("changes-part").hidden = false;
}

function takePairPhoto(file) {
  if (state.pairPhoto) URL.revokeObjectURL(state.pairPhoto.preview.url);
  state.pairPhoto = file && { file, preview: makePreview(file, nameFile(file)) };
  find("pair-preview").replaceChildren(...(state.pairPhoto ? [state.pairPhoto.preview.frame] : []));
}

/** Make an id from the content, as sets do for pairs without one. */
async function makeId(file, captions) {
  if (!crypto.subtle) return `photo-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  const content = await new Blob([file, "\0", captions.join("\n")]).arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return [...hash.slice(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function addPair() {
  const captions = split(find("captions").value, "\n");
  if (!state.pairPhoto) return demand("pair-photo", "Choose a photo first.", desks.edit);
  if (!captions.length) return demand("captions", "Type a caption first.", desks.edit);
  const { file } = state.pairPhoto;
  const pair = { captions, id: find("pair-id").value.trim() || (await makeId(file, captions)) };
  for (const name of ["licence", "source", "url"]) if (find(name).value.trim()) pair[name] = find(name).value.trim();
  const place = placeThumbnail("anchors", chosenAnchors(), pair.id);
  added.set(place, URL.createObjectURL(file));
  const options = { method: "POST", body: makeForm({ pairs: [pair] }, [file]) };
  if (await change("Adding the pair …", "pairs", options, `Added ${pair.id}`)) {
    find("add-form").reset();
    takePairPhoto(null);
  } else added.delete(place);
}

function confirmRemoval(id, name, caption = "") {
  state.removal = { id, name };
  find("confirm-what").replaceChildren(write("code", id), " ", write("bdi", caption), ` from ${name}`);
  find("confirm").showModal();
}

async function removePair() {
  const { id, name } = state.removal;
  find("confirm").close();
  find("anchors").value = name;
  const options = { method: "DELETE", id };
  if (await change("Taking the pair out …", `pairs?id=${encodeURIComponent(id)}`, options, `Took out ${id}`))
    find("remove-form").reset();
}

async function swap() {
  const ref = find("ref").value.trim();
  const options = { method: "POST", body: { ref } };
  if (await change(`Swapping to ${ref} …`, "swap", options, `Swapped to ${ref}`)) find("swap-form").reset();
}

function showKey() {
  find("key-part").hidden = false;
  find("key-part").open = true;
}

function useKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  find("key").value = "";
  for (const desk of Object.values(desks)) desk.alert.replaceChildren();
  return loadServed();
}

// ---- views

function showView() {
  state.view = location.hash === "#search" ? "search" : "classify";
  const hasGallery = state.galleries.length > 0;
  for (const each of document.querySelectorAll("[data-view]")) each.hidden = each.dataset.view !== state.view;
  if (state.view === "search") find("ask-search").hidden = state.sets.length > 0 && !hasGallery;
  find("no-gallery").hidden = hasGallery || !state.sets.length;
  find("title").textContent = state.view === "search" ? "Search a gallery" : "Classify photos";
  document.title = `asif: ${state.view}`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${state.view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function onSubmit(id, action) {
  find(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

const makeDesk = (form, owner) => new Desk(find(form).querySelector(".task"), find(owner));
const desks = {
  classify: makeDesk("ask-classify", "answers-classify"),
  search: makeDesk("ask-search", "answers-search"),
  edit: makeDesk("edit", "edit"),
};

onSubmit("ask-classify", startClassifying);
onSubmit("ask-search", startSearching);
onSubmit("add-form", addPair);
onSubmit("remove-form", () => confirmRemoval(find("remove-id").value.trim(), chosenAnchors()));
onSubmit("swap-form", swap);
onSubmit("key-form", () => useKey(find("key").value.trim()));
find("forget").addEventListener("click", () => useKey(""));
find("copy").addEventListener("click", copyDigest);
find("more").addEventListener("click", searchMore);
find("confirm-yes").addEventListener("click", removePair);
find("confirm-no").addEventListener("click", () => find("confirm").close());
find("clear").addEventListener("click", clearPhotos);
find("labels").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) startClassifying();
});
find("anchors").addEventListener("change", () => {
  showIdentity();
  answerAgain("");
});
addEventListener("hashchange", showView);
watchFiles();
showPhotos();
showView();
find("key-part").hidden = !sessionStorage.getItem(KEY);
loadServed();
