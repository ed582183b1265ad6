import { element, short } from './element.js';
import { number, say } from './i18n.js';

/** Hits shown. */
const SHOWN_MAX = 20;

/**
 * Draws the texts in the order of their score by one head.
 *
 * @param scores of `/score`: a list for each head that the model has, and `weighted`.
 */
export function drawHits(place, { texts, scores, heads }) {
  const columns = heads.length > 1 ? [...heads, 'weighted'] : heads;
  draw(columns.at(-1));

  function draw(sortedBy) {
    const order = texts
      .map((_, index) => index)
      .sort((a, b) => scores[sortedBy][b] - scores[sortedBy][a])
      .slice(0, SHOWN_MAX);
    const table = element(
      'table',
      { className: 'hits', 'aria-labelledby': 'search-title' },
      element('thead', {}, element('tr', {}, ...headers(sortedBy))),
      element('tbody', {}, ...order.map(hit)),
    );
    place.replaceChildren(element('div', { className: 'scroll' }, table));
  }

  function headers(sortedBy) {
    const sorters = columns.map((head) => {
      const isSorted = head === sortedBy;
      const button = element(
        'button',
        {
          type: 'button',
          'aria-label': say('sortBy', { head: say(head) }),
          onclick() {
            draw(head);
            place.querySelector('[aria-sort="descending"] button').focus();
          },
        },
        `${say(head)}${isSorted ? ' ↓' : ''}`,
      );
      const sort = isSorted ? 'descending' : 'none';
      return element('th', { scope: 'col', 'aria-sort': sort }, button);
    });
    return [element('th', { scope: 'col' }, say('text')), ...sorters];
  }

  function hit(index) {
    return element(
      'tr',
      {},
      element('td', { className: 'text' }, short(texts[index], 200)),
      ...columns.map((head) => {
        const score = scores[head][index];
        return element(
          'td',
          { className: 'score', 'data-head': say(head) },
          number(score, 3),
          element('span', { className: 'meter', '--heat': heatOf(scores[head], score) }),
        );
      }),
    );
  }
}

/** Where a score lies between nothing and the best one. */
function heatOf(all, score) {
  return Math.max(0, Math.min(1, score / Math.max(1e-9, ...all))).toFixed(3);
}
