import { type SeededRandom, seededRandom } from './seeded-random.ts';

/**
 * Russian and English legal prose, written for this project: whole sentences with names, sums,
 * dates and articles filled in, so that words repeat as they do in files of a court, and no two
 * pages are alike.
 */
export interface ProseOptions {
  readonly language: 'russian' | 'english';
  /** UTF-16 units that each text has at least; it ends with its sentence. */
  readonly lengthMin: number;
  readonly count: number;
  readonly seed: number;
}

/** Texts of a seed. */
export function legalProse(options: ProseOptions): string[] {
  const random = seededRandom(options.seed);
  const sentences = options.language === 'russian' ? RUSSIAN : ENGLISH;
  return Array.from({ length: options.count }, () => {
    let text = fill(random.pick(sentences), random);
    while (text.length < options.lengthMin) text += ` ${fill(random.pick(sentences), random)}`;
    return text;
  });
}

/** Search queries of a seed: a few words in a row from a sentence, as people type them. */
export function legalQueries(options: { count: number; seed: number }): string[] {
  const random = seededRandom(options.seed);
  return Array.from({ length: options.count }, () => {
    const sentence = fill(random.pick(RUSSIAN), random);
    const words = sentence
      .toLowerCase()
      .replace(/[.,;:«»()]/g, '')
      .split(' ');
    const length = random.between(2, 8);
    const start = random.below(Math.max(1, words.length - length));
    return words.slice(start, start + length).join(' ');
  });
}

function fill(sentence: string, random: SeededRandom): string {
  return sentence.replace(/\{(\w+)\}/g, (_, slot: string) => {
    if (slot === 'sum') return sumOf(random);
    if (slot === 'date') return `${random.between(1, 28)} ${random.pick(MONTHS)} ${yearOf(random)}`;
    if (slot === 'day')
      return `${random.between(10, 28)}.0${random.between(1, 9)}.${yearOf(random)}`;
    if (slot === 'article') return String(random.between(1, 1500));
    if (slot === 'case')
      return `А${random.between(10, 90)}-${random.between(100, 99999)}/20${random.between(10, 24)}`;
    if (slot === 'name')
      return `${random.pick(SURNAMES)} ${random.pick(INITIALS)}.${random.pick(INITIALS)}.`;
    if (slot === 'firm') return `«${random.pick(FIRMS)}»`;
    return random.pick(CITIES);
  });
}

function sumOf(random: SeededRandom): string {
  return `${random.between(1, 999)} ${random.between(100, 999)}`;
}

function yearOf(random: SeededRandom): number {
  return random.between(2009, 2025);
}

const MONTHS =
  'января февраля марта апреля мая июня июля августа сентября октября ноября декабря'.split(' ');
const INITIALS = [...'АБВГДЕЖИКЛМНОПРСТЮЯ'];
const SURNAMES =
  'Кузнецов Соколова Лебедев Козлова Новиков Морозова Петренко Волкова Зайцев Павлова Семёнов Голубева Виноградов Богданова Воробьёв Фёдорова Михайлов Беляева Тарасов Белова Комаров Орлова Киселёв Макарова Андреев Ковалёва Ильин Гусева Титов Кузьмина'.split(
    ' ',
  );
const FIRMS = [
  ...['Ромашка', 'СтройИнвест', 'Северный ветер', 'Горизонт-Плюс', 'ТехноСервис', 'Меридиан'],
  ...['Балтийская верфь', 'АгроПромСнаб', 'Новые технологии', 'Домострой', 'Транзит', 'Луч'],
];
const CITIES =
  'Москвы Казани Самары Тулы Омска Перми Уфы Рязани Томска Твери Калуги Пскова Ижевска'.split(' ');

const RUSSIAN = [
  'Арбитражный суд города {city} рассмотрел в открытом судебном заседании дело № {case} по иску общества с ограниченной ответственностью {firm} к акционерному обществу {firm} о взыскании {sum} рублей задолженности по договору поставки.',
  'Истец указал, что ответчик не исполнил обязательство по оплате товара в срок, установленный пунктом {article} договора, в связи с чем на сумму долга подлежат начислению проценты за пользование чужими денежными средствами.',
  'Ответчик возражал против удовлетворения исковых требований, ссылаясь на ненадлежащее качество поставленного оборудования и пропуск срока исковой давности.',
  'Оценив представленные доказательства в их совокупности и взаимной связи, суд приходит к выводу об обоснованности заявленных требований.',
  'В соответствии со статьёй {article} Гражданского кодекса Российской Федерации обязательства должны исполняться надлежащим образом, а односторонний отказ от их исполнения не допускается.',
  'Стороны заключили договор аренды нежилого помещения от {date} года, согласно которому арендодатель передал, а арендатор принял во временное владение и пользование склад площадью {article} кв. м.',
  'Размер неустойки составляет 0,1 процента от суммы просроченного платежа за каждый день просрочки, но не более десяти процентов цены договора.',
  'Представитель по доверенности {name} поддержал доводы апелляционной жалобы и просил отменить решение суда первой инстанции полностью.',
  'Суд апелляционной инстанции не находит оснований для отмены обжалуемого судебного акта, поскольку выводы суда соответствуют фактическим обстоятельствам и материалам дела.',
  'Руководствуясь статьями 110, 167–171 Арбитражного процессуального кодекса, суд решил: взыскать с {firm} в пользу {firm} {sum} рублей основного долга и расходы по уплате государственной пошлины.',
  'Решение может быть обжаловано в Четырнадцатый арбитражный апелляционный суд в течение месяца со дня его принятия.',
  'Гражданка {name} обратилась к мировому судье с заявлением о расторжении брака и разделе совместно нажитого имущества.',
  'Брачный договор, заключённый супругами {day}, удостоверен нотариусом города {city} и зарегистрирован в реестре за № {article}.',
  'Опекун обязан заботиться о содержании подопечного, обеспечивать его уходом и лечением, защищать его права и интересы.',
  'Трудовой договор может быть расторгнут по инициативе работодателя в случае однократного грубого нарушения работником трудовых обязанностей, в том числе прогула.',
  'Работник {name} восстановлен на работе в прежней должности с выплатой среднего заработка за время вынужденного прогула и компенсации морального вреда в размере {sum} рублей.',
  'Приказ об увольнении издан с нарушением порядка, поскольку от работника не было затребовано письменное объяснение до применения дисциплинарного взыскания.',
  'Инспекцией Федеральной налоговой службы по результатам выездной проверки доначислены налог на прибыль и налог на добавленную стоимость, соответствующие пени и штраф.',
  'Налогоплательщик представил уточнённую декларацию {day}, однако налоговый орган отказал в вычете, указав на отсутствие реальности хозяйственных операций с контрагентом {firm}.',
  'Судебный пристав-исполнитель возбудил исполнительное производство и вынес постановление об аресте денежных средств, находящихся на счетах должника.',
  'Конкурсный управляющий {name} оспорил сделку должника как совершённую с целью причинения вреда имущественным правам кредиторов.',
  'Требования кредиторов третьей очереди в размере {sum} рублей включены в реестр определением суда от {date} года.',
  'Собственник земельного участка с кадастровым номером 50:20:0040{article} просил признать право постоянного бессрочного пользования отсутствующим.',
  'Регистрирующий орган приостановил государственную регистрацию перехода права собственности, потому что к заявлению не приложено нотариально удостоверенное согласие супруги продавца.',
  'Наследник, принявший наследство, отвечает по долгам наследодателя в пределах стоимости перешедшего к нему имущества.',
  'Завещание, составленное в простой письменной форме при чрезвычайных обстоятельствах, подлежит исполнению только при условии подтверждения судом этого факта.',
  'Застройщик обязан передать участнику долевого строительства квартиру не позднее {date} года, а при нарушении срока уплатить неустойку в двойном размере.',
  'Потребитель вправе отказаться от исполнения договора купли-продажи и потребовать возврата уплаченной за товар суммы, если недостатки не были оговорены продавцом.',
  'Перевозчик несёт ответственность за утрату, недостачу и повреждение груза, если не докажет, что они произошли вследствие обстоятельств, которые он не мог предотвратить.',
  'Страховщик отказал в выплате возмещения, сославшись на то, что транспортным средством в момент аварии управляло лицо, не указанное в полисе.',
  'Экспертным заключением № {article} установлено, что причиной залива явилось разрушение фильтра тонкой очистки на стояке горячего водоснабжения.',
  'Муниципальный контракт на ремонт дорожного покрытия заключён по результатам электронного аукциона с участником, предложившим наименьшую цену, — {firm}.',
  'Антимонопольный орган признал действия заказчика ограничивающими конкуренцию и выдал предписание об устранении допущенных нарушений до {day}.',
  'Правообладатель товарного знака требует прекратить его использование в доменном имени и взыскать компенсацию в размере {sum} рублей.',
  'Обработка персональных данных допускается с согласия субъекта, которое должно быть конкретным, информированным, сознательным и однозначным.',
  'Подсудимый {name} вину признал частично, показав, что умысла на хищение не имел и намеревался возвратить полученные средства.',
  'Мера пресечения в виде подписки о невыезде оставлена без изменения до вступления приговора в законную силу.',
  'Прокурор района внёс представление об устранении нарушений жилищного законодательства в адрес управляющей компании {firm}.',
  'Общее собрание участников общества признано несостоявшимся из-за отсутствия кворума, поэтому принятые на нём решения ничтожны.',
  'Совет директоров одобрил крупную сделку с заинтересованностью на сумму {sum} рублей при особом мнении одного из членов.',
  'Учитывая изложенное и принимая во внимание баланс интересов сторон, суд снизил размер подлежащей взысканию неустойки на основании ходатайства ответчика.',
  'Ссылка заявителя на неизвещение о времени и месте судебного разбирательства опровергается почтовым уведомлением от {day}.',
];

const ENGLISH = [
  'The claimant seeks damages of {sum} euros for breach of the supply agreement dated {day}, together with interest and costs.',
  'Neither party shall be liable for any failure to perform its obligations where such failure results from circumstances beyond its reasonable control.',
  'The tenant covenants to keep the premises in good repair and to permit the landlord to enter upon reasonable notice.',
  'The court of appeal dismissed the application, holding that the judge had not erred in law when he construed clause {article} narrowly.',
  'Any dispute arising out of or in connection with this contract shall be finally settled by a sole arbitrator sitting in the city of his habitual residence.',
  'The employee was dismissed without notice after a disciplinary hearing at which she was not allowed to be accompanied by a colleague.',
  'Personal data must be processed lawfully, fairly and in a transparent manner in relation to the data subject.',
  'The trustee in bankruptcy applied to set aside the transfer as a transaction at an undervalue made within two years of the petition.',
  'Under section {article} of the Act, a director must avoid a situation in which he has an interest that conflicts with the interests of the company.',
  'The witness stated that the goods had been delivered, unpacked and inspected before the invoice for {sum} dollars was ever issued.',
  'Subject to the foregoing, the licensee may not assign, sublicense or otherwise encumber the licensed patents without prior written consent.',
  'The limitation period begins to run from the date on which the damage, and the identity of the person responsible for it, became known.',
];
