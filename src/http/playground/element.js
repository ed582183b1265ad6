/**
 * An element with its properties and children. Texts become text nodes: nothing that was typed is
 * ever read as HTML.
 */
export function element(name, properties = {}, ...children) {
  const created = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (key.startsWith('--')) created.style.setProperty(key, String(value));
    else if (key in created) created[key] = value;
    else created.setAttribute(key, value);
  }
  created.append(...children);
  return created;
}

/** The first characters of a text. */
export function short(text, length = 80) {
  const [...characters] = text.slice(0, length * 2);
  return characters.length <= length
    ? characters.join('')
    : `${characters.slice(0, length).join('')}…`;
}
