import { seededRandom } from './seeded-random.ts';

const WORDS = (
  'договор аренды помещения прекращается вследствие существенного нарушения обязательств арендатором который ' +
  'более двух раз подряд не вносит арендную плату арендодатель вправе потребовать досрочного расторжения суд ' +
  'установил что ответчик надлежащим образом извещён о времени и месте рассмотрения дела истец просит взыскать ' +
  'неустойку в размере 12,5 процентов годовых согласно пункту 3 статьи 619 Гражданского кодекса Российской Федерации ' +
  'the lessee shall pay rent on the first day of each month unless otherwise agreed in writing by both parties'
).split(' ');

/**
 * Prose of the kind that this server is for: mostly Russian, some English, numbers and punctuation.
 * Nothing in it is a borderline case of a tokenizer.
 *
 * @param wordCounts the length of each text; the same seed gives the same texts.
 */
export function legalTexts(wordCounts: readonly number[], seed: number): string[] {
  const random = seededRandom(seed);
  return wordCounts.map((count) => {
    const words = Array.from({ length: count }, () => random.pick(WORDS));
    return `${words.join(' ')}.`;
  });
}
