import { element, short } from './element.js';
import { number, say } from './i18n.js';

/** Texts whose tokens are shown; each is some hundred elements. */
const TOKEN_TEXTS_MAX = 12;

/** UTF-16 units that `/tokenize` takes in one request. */
const TOKEN_UNITS_MAX = 262_144;

/** The first texts, as many as tokens are asked for. */
export function textsOfTokens(texts) {
  let unitCount = 0;
  const end = texts.slice(0, TOKEN_TEXTS_MAX).findIndex((text) => {
    unitCount += text.length;
    return unitCount > TOKEN_UNITS_MAX;
  });
  return texts.slice(0, end < 0 ? TOKEN_TEXTS_MAX : end);
}

/** Tokens shown at the head of a long text, and around the place where it was cut. */
const HEAD_COUNT = 160;
const AROUND_COUNT = 24;

/** From here on the page's own ink cannot be read on the colour. */
const HOT_FROM = 0.55;

/**
 * Draws the tokens of each text, shaded by their sparse weight, what was cut off struck out.
 *
 * @param reply of `/encode`; `tokens` a list for each text, of `/tokenize`; null when it cannot.
 */
export function drawTokens(place, { texts, reply, tokens, tokenCountMax }) {
  if (tokens === null || tokens.length === 0) {
    const words = say(tokens === null ? 'tokensNone' : 'tokensLong');
    place.replaceChildren(element('p', { className: 'hint' }, words));
    return;
  }
  const { sparse } = reply;
  const parts = tokens.map((list, index) => {
    const count = reply.tokens[index];
    // The model's prefix and the closing token take their places too.
    const kept = reply.truncated[index] ? tokenCountMax - 1 - (count - list.length) : list.length;
    const weights = sparse === undefined ? undefined : weightsOf(sparse[index]);
    return textPart({ index, list, kept, count, weights, text: texts[index] });
  });
  const hints = [say(sparse === undefined ? 'tokensPlain' : 'tokensWeights')];
  if (texts.length > tokens.length) hints.push(say('tokensShown', { count: tokens.length }));
  place.replaceChildren(...parts, element('p', { className: 'hint' }, hints.join(' ')));
}

function textPart({ index, list, kept, count, weights, text }) {
  const title = element('h3', {}, `${say('tokensOf', { index: index + 1, count })} `);
  const cutCount = list.slice(kept).filter(({ special }) => !special).length;
  if (cutCount > 0) {
    title.append(element('span', { className: 'badge' }, say('cut', { count: cutCount })));
  }
  const chips = [];
  let skipped = 0;
  const flush = () => {
    if (skipped === 0) return;
    chips.push(element('li', { className: 'chip is-more' }, say('more', { count: skipped })));
    skipped = 0;
  };
  list.forEach((token, at) => {
    const isNearCut = cutCount > 0 && Math.abs(at - kept) < AROUND_COUNT;
    if (at >= HEAD_COUNT && !isNearCut && at < list.length - 1) {
      skipped++;
      return;
    }
    flush();
    chips.push(chip(token, { isCut: at >= kept && !token.special, weights }));
  });
  const label = `${index + 1}. ${short(text)}`;
  return element(
    'div',
    { className: 'text-tokens' },
    title,
    element('ul', { className: 'chips', 'aria-label': label }, ...chips),
  );
}

function chip({ id, text, special }, { isCut, weights }) {
  const weight = isCut || special ? undefined : weights?.byId.get(id);
  const heat = weight === undefined ? 0 : weight / weights.largest;
  const classes = ['chip'];
  if (special) classes.push('is-special');
  if (isCut) classes.push('is-cut');
  if (heat >= HOT_FROM) classes.push('is-hot');
  const told = weight === undefined ? '' : `, ${say('weight', { weight: number(weight, 3) })}`;
  return element(
    'li',
    { className: classes.join(' '), '--heat': heat.toFixed(3), title: `${id}${told}` },
    text.replace(/^ /, '␣'),
  );
}

function weightsOf({ indices, values }) {
  const byId = new Map(indices.map((id, at) => [id, values[at]]));
  return { byId, largest: Math.max(1e-9, ...values) };
}
