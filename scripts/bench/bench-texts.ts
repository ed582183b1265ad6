import { type SeededRandom, seededRandom } from '../../src/testing/seeded-random.ts';

/**
 * How long a text is: `short` a search query (3 to 30 tokens), `middle` a paragraph (about 128),
 * `long` a page (about 500, below the 512 of small models), `document` a contract (about 8,000).
 */
export type TextLength = 'short' | 'middle' | 'long' | 'document';

/** Words of a Russian text, both ends included: XLM-R's tokenizer makes 1.78 tokens of each. */
const WORDS: Readonly<Record<TextLength, readonly [number, number]>> = {
  short: [2, 11],
  middle: [66, 74],
  long: [264, 276],
  document: [4420, 4520],
};

/** It makes 1.51 tokens of an English word, so that an English text needs as many more of them. */
const ENGLISH_WORDS = 1.18;

/** Share of texts in English; the rest is Russian, as with those who use this server. */
const ENGLISH_OF_TEN = 3;

const RUSSIAN =
  `договор аренды нежилого помещения взыскание неустойки исковая давность срок обжалования решения суда
  арбитражный процесс кассационная жалоба возмещение убытков ответственность поставщика расторжение
  контракта одностороннем порядке государственная регистрация права собственности недвижимое имущество
  банкротство гражданина конкурсный управляющий недействительность сделки крупная сделка согласие
  супруга обеспечительные меры исполнительное производство судебный пристав пределы осуществления
  гражданских прав злоупотребление правом добросовестность сторон статья кодекса Российской Федерации
  постановление Пленума Верховного Суда определение порядок уплаты государственной пошлины и в при о
  по не для от на с трудовой спор увольнение работника компенсация морального вреда налоговая проверка
  доначисление налога вычет персональные данные согласие субъекта обработки закупка подряд гарантия`.split(
    /\s+/,
  );

const ENGLISH =
  `breach of contract limitation period for claims liability of the supplier termination clause governing
  law arbitration agreement force majeure indemnity and damages confidentiality obligations of the parties
  data protection processing consent employment dispute unfair dismissal appeal against judgment lease of
  commercial premises insolvency administrator security interest registered trademark due diligence under
  section shall not be construed as a waiver any right remedy hereunder`.split(/\s+/);

/**
 * Texts that look like what teams search: Russian and English legal words, with numbers of articles
 * and dates in between. The same seed gives the same texts.
 */
export function benchTexts(options: {
  length: TextLength;
  count: number;
  seed: number;
}): readonly string[] {
  const random = seededRandom(options.seed);
  return Array.from({ length: options.count }, () => benchText(options.length, random));
}

function benchText(length: TextLength, random: SeededRandom): string {
  const isEnglish = random.below(10) < ENGLISH_OF_TEN;
  const vocabulary = isEnglish ? ENGLISH : RUSSIAN;
  const words: string[] = [];
  const wordCount = random.between(...WORDS[length]) * (isEnglish ? ENGLISH_WORDS : 1);
  for (let left = Math.round(wordCount); left > 0; left--) {
    const word = random.pick(vocabulary);
    const isNumber = random.below(20) === 0;
    words.push(isNumber ? `${random.between(1, 1500)}` : word);
    // A sentence ends about every fifteen words; a query has no end.
    if (length !== 'short' && random.below(15) === 0) words.push(`${words.pop()}.`);
  }
  return words.join(' ');
}
