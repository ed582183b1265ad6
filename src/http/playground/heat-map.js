import { element, short } from './element.js';
import { number, say } from './i18n.js';

/** Larger ones say nothing to the eye, and are a quarter of a million cells soon. */
const SHOWN_MAX = 40;

/** From here on the numbers do not fit; colour alone is shown. */
const DENSE_FROM = 13;

/** From here on the page's own ink cannot be read on the colour. */
const HOT_FROM = 0.55;

/** Draws the similarity of each text to each. `rows` have length one. */
export function drawHeatMap(place, texts, rows) {
  if (rows.length < 2) {
    place.replaceChildren(element('p', { className: 'hint' }, say('matrixOne')));
    return;
  }
  const shown = rows.slice(0, SHOWN_MAX);
  const scores = shown.map((a) => shown.map((b) => dot(a, b)));
  const lowest = Math.min(...scores.flat());
  const detail = element('p', { className: 'detail' });
  const table = element('table', {
    className: shown.length >= DENSE_FROM ? 'heat is-dense' : 'heat',
    'aria-labelledby': 'matrix-title',
  });
  table.append(headOf(shown.length), bodyOf({ scores, texts, lowest }));
  const cells = [...table.querySelectorAll('td')];
  cells[0].tabIndex = 0;
  const tell = ({ target }) => {
    const cell = target.closest('td');
    if (cell !== null) detail.textContent = cell.getAttribute('aria-label');
  };
  table.addEventListener('pointerover', tell);
  table.addEventListener('focusin', tell);
  table.addEventListener('keydown', (event) => move(event, cells, shown.length));
  const hints = [say('matrixHint')];
  if (rows.length > shown.length) hints.push(say('matrixMany', { count: shown.length }));
  place.replaceChildren(
    element('div', { className: 'scroll' }, table),
    detail,
    element('p', { className: 'hint' }, hints.join(' ')),
  );
}

function headOf(count) {
  const numbers = Array.from({ length: count }, (_, index) =>
    element('th', { scope: 'col' }, String(index + 1)),
  );
  return element(
    'thead',
    {},
    element(
      'tr',
      {},
      element('th', { scope: 'col' }, element('span', { className: 'unseen' }, say('text'))),
      ...numbers,
    ),
  );
}

function bodyOf({ scores, texts, lowest }) {
  const span = Math.max(1 - lowest, 1e-6);
  return element(
    'tbody',
    {},
    ...scores.map((row, at) =>
      element(
        'tr',
        {},
        element(
          'th',
          { scope: 'row' },
          element(
            'span',
            { className: 'name', title: short(texts[at], 300) },
            `${at + 1}. ${short(texts[at])}`,
          ),
        ),
        ...row.map((score, index) => {
          const heat = Math.max(0, Math.min(1, (score - lowest) / span));
          const shown = number(score, 3);
          const [a, b] = [short(texts[at], 60), short(texts[index], 60)];
          return element(
            'td',
            {
              className: heat >= HOT_FROM ? 'is-hot' : '',
              tabIndex: -1,
              '--heat': heat.toFixed(3),
              'aria-label': say('cell', { score: shown, a, b }),
            },
            shown,
          );
        }),
      ),
    ),
  );
}

/** One cell is reached by Tab, the others from it by arrows. */
function move(event, cells, width) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: width, ArrowUp: -width };
  const step = steps[event.key];
  const at = cells.indexOf(event.target);
  if (step === undefined || at < 0 || cells[at + step] === undefined) return;
  event.preventDefault();
  cells[at].tabIndex = -1;
  cells[at + step].tabIndex = 0;
  cells[at + step].focus();
}

function dot(a, b) {
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += a[at] * b[at];
  return sum;
}
