import { element } from './element.js';
import { drawHeatMap } from './heat-map.js';
import { number, SAMPLES, say, setLanguage } from './i18n.js';
import { drawHits } from './search.js';
import { call, encodeTexts, SERVER_URL, setApiKey } from './server.js';
import { curlOf, typescriptOf } from './snippets.js';
import { drawTokens, textsOfTokens } from './tokens.js';

const at = (id) => document.getElementById(id);

/** What the server says of itself; the last result, kept to be drawn in the other language. */
let info;
let last;
let readiness;
let retryTimer;

function start() {
  const stored = read('language') ?? navigator.languages.find((tag) => /^(ru|en)/.test(tag));
  at('language').value = stored?.slice(0, 2) ?? 'en';
  at('theme').value = read('theme') ?? 'auto';
  applyTheme();
  applyLanguage();
  at('language').addEventListener('change', applyLanguage);
  at('theme').addEventListener('change', applyTheme);
  at('texts').addEventListener('input', drawCount);
  at('split').addEventListener('change', drawCount);
  at('sample-law').addEventListener('click', () => fill(SAMPLES.law));
  at('sample-long').addEventListener('click', () => fill(SAMPLES.long));
  at('again').addEventListener('click', run);
  at('copy').addEventListener('click', copy);
  for (const radio of document.getElementsByName('call')) {
    radio.addEventListener('change', drawCall);
  }
  at('form').addEventListener('submit', (event) => {
    event.preventDefault();
    run();
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) run();
  });
  ask();
}

/** Storage may be forbidden; then nothing is kept. */
function read(name) {
  try {
    return localStorage.getItem(`encoder-${name}`);
  } catch {
    return null;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(`encoder-${name}`, value);
  } catch {
    // Then it is not kept.
  }
}

function applyTheme() {
  document.documentElement.dataset.theme = at('theme').value;
  keep('theme', at('theme').value);
}

function applyLanguage() {
  setLanguage(at('language').value);
  keep('language', at('language').value);
  drawModel();
  drawCount();
  if (last !== undefined) drawResult(last);
}

function fill({ texts, query }) {
  at('texts').value = texts;
  at('query').value = query;
  at('split').value = 'line';
  drawCount();
  at('texts').focus();
}

/** Who serves here, and whether it is ready. */
async function ask() {
  try {
    [info, readiness] = await Promise.all([call('/info'), call('/ready')]);
    drawModel();
    drawCount();
  } catch (error) {
    drawError(error);
  }
}

function drawModel() {
  if (info === undefined) return;
  const { model, backend } = info.json;
  const { ready, reason } = readiness.json;
  const words = say('model', {
    title: model.title,
    dim: model.dim,
    tokens: number(model.max_tokens, 0),
    backend: backend.name,
  });
  at('model').textContent = ready ? words : `${words}; ${say('modelDown', { reason })}`;
  at('dot').className = ready ? 'dot is-up' : 'dot is-down';
}

function textsTyped() {
  const separator = { line: /\n/, paragraph: /\n\s*\n/, none: /(?!)/ }[at('split').value];
  return at('texts')
    .value.split(separator)
    .map((text) => text.trim())
    .filter((text) => text !== '');
}

function textCountMax() {
  return info?.json.settings.requestTextsMax ?? 2048;
}

function drawCount() {
  const values = { count: number(textsTyped().length, 0), max: number(textCountMax(), 0) };
  at('texts-hint').textContent = say('textsCount', values);
}

/** The one place that asks the server for vectors. */
async function run() {
  if (at('run').disabled) return;
  const [texts, query] = [textsTyped(), at('query').value.trim()];
  const max = textCountMax();
  if (texts.length === 0) return refuse(say('nothing'));
  if (texts.length > max) return refuse(say('tooMany', { count: texts.length, max }));
  setApiKey(at('key').value.trim());
  setBusy(true);
  try {
    if (info === undefined) await ask();
    last = await result(texts, query);
    clearNotice();
    drawResult(last);
    const values = { count: texts.length, ms: number(last.encoded.totalMs, 0) };
    at('status').textContent = say('done', values);
  } catch (error) {
    drawError(error);
  } finally {
    setBusy(false);
  }
}

async function result(texts, query) {
  const known = info?.json.model.heads ?? ['dense'];
  const heads = ['dense', 'sparse'].filter((head) => known.includes(head));
  const truncate = at('truncate').checked;
  const encoded = await encodeTexts({ texts, heads, inputType: at('input-type').value, truncate });
  const calls = [{ path: '/encode', body: encoded.body }];
  let scored;
  if (query !== '') {
    const body = { query, texts, truncate };
    scored = await call('/score', body);
    calls.push({ path: '/score', body });
  }
  const inputs = textsOfTokens(texts);
  if (inputs.length === 0) return { texts, encoded, scored, tokens: [], calls };
  const tokenized = await call('/tokenize', { inputs }).catch((error) => {
    if (error.code !== 'EMB_TOKENIZER_UNSUPPORTED') throw error;
    return { json: null };
  });
  return { texts, encoded, scored, tokens: tokenized.json, calls };
}

function setBusy(isBusy) {
  at('run').disabled = isBusy;
  at('again').disabled = isBusy;
  at('run').querySelector('[data-word]').textContent = say(isBusy ? 'running' : 'run');
  at('form').setAttribute('aria-busy', String(isBusy));
}

function drawResult({ texts, encoded, scored, tokens }) {
  at('empty').hidden = true;
  at('results').hidden = false;
  drawTime(encoded);
  at('search-card').hidden = scored === undefined;
  if (scored !== undefined) {
    const { scores } = scored.json;
    const heads = ['dense', 'sparse', 'multi_vector'].filter((head) => head in scores);
    drawHits(at('search'), { texts, scores, heads });
  }
  drawHeatMap(at('matrix'), texts, encoded.json.embeddings);
  const tokenCountMax = info.json.model.max_tokens;
  drawTokens(at('tokens'), { texts, reply: encoded.json, tokens, tokenCountMax });
  drawCall();
}

function drawTime({ stages, totalMs }) {
  const known = stages.reduce((sum, { ms }) => sum + ms, 0);
  const parts = [...stages, { name: 'network', ms: Math.max(0, totalMs - known) }];
  const bar = element('div', { className: 'stages', 'aria-hidden': 'true' });
  bar.append(...parts.map(({ name, ms }) => element('span', { className: name, '--part': ms })));
  const legend = parts.map(({ name, ms }) =>
    element(
      'li',
      {},
      element('span', { className: `swatch ${name}` }),
      `${say(name)} `,
      element('b', {}, say('ms', { ms: number(ms, 1) })),
    ),
  );
  const total = element('b', {}, say('ms', { ms: number(totalMs, 1) }));
  legend.push(element('li', {}, `${say('total')} `, total));
  at('time').replaceChildren(bar, element('ul', { className: 'legend' }, ...legend));
}

function drawCall() {
  if (last === undefined) return;
  const isCurl = document.querySelector('[name="call"]:checked').value === 'curl';
  at('code').textContent = (isCurl ? curlOf : typescriptOf)(SERVER_URL, last.calls);
}

async function copy() {
  const range = document.createRange();
  range.selectNodeContents(at('code'));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  // Without TLS a browser gives pages of other machines no clipboard; then the selection has to do.
  await navigator.clipboard?.writeText(at('code').textContent).then(
    () => {
      at('copy').textContent = say('copied');
      setTimeout(() => {
        at('copy').textContent = say('copy');
      }, 1500);
    },
    () => undefined,
  );
}

function clearNotice() {
  clearInterval(retryTimer);
  at('notice').hidden = true;
}

function refuse(message) {
  clearNotice();
  showNotice({ title: message, detail: '', canRepeat: false, isBusy: false });
  at('texts').focus();
}

function showNotice({ title, detail, canRepeat, isBusy }) {
  at('notice').hidden = false;
  at('notice').className = isBusy ? 'notice is-busy' : 'notice';
  at('notice-text').textContent = title;
  at('notice-detail').textContent = detail;
  at('again').hidden = !canRepeat;
  at('again').textContent = say('again');
}

function drawError(error) {
  clearNotice();
  const { status, code, requestId, retryAfterMs, message } = error;
  if (code === undefined) throw error;
  const isBusy = status === 429 || status === 503;
  const title = { 0: 'offline', 401: 'keyNeeded', 429: 'busy', 503: 'busy' }[status] ?? 'failed';
  const about = requestId === undefined ? '' : ` ${say('errorDetail', { code, id: requestId })}.`;
  showNotice({
    title: say(title),
    detail: `${message}${about}`,
    canRepeat: status !== 422,
    isBusy,
  });
  if (status === 401) {
    at('key-field').hidden = false;
    at('key').focus();
  }
  if (isBusy && retryAfterMs > 0) countDown(Math.ceil(retryAfterMs / 1000));
}

/** Until the server has said that a call is welcome again. */
function countDown(seconds) {
  let left = seconds;
  const tick = () => {
    at('again').disabled = left > 0;
    at('again').textContent = left > 0 ? say('againIn', { seconds: left }) : say('again');
    if (left-- <= 0) clearInterval(retryTimer);
  };
  tick();
  retryTimer = setInterval(tick, 1000);
}

start();
