// What a person does and sees on the two pages.

export const NARROW = { width: 360, height: 720 };
export const WIDE = { width: 1280, height: 800 };

/** Waits until `look` returns something true; says what it was waiting for if that does not happen. */
export const until = async (what, look, ms = 10_000) => {
  const deadline = Date.now() + ms;
  let last;
  for (;;) {
    try {
      const found = await look();
      if (found) return found;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms in vain: ${what}${last ? ` (${last.message})` : ''}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
};

export const write = async (page, text) => {
  await page.fill('textarea', text);
  await page.press('textarea', 'Enter');
};

/** Writes many messages without waiting in between, as fast as the page takes them. */
export const burst = (page, texts) =>
  page.evaluate((all) => {
    const field = document.querySelector('textarea');
    for (const text of all) {
      field.value = text;
      field.dispatchEvent(new Event('input', { bubbles: true }));
      field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }));
    }
  }, texts);

/** So many new visitors say something, from sockets of the visitor's page, and leave. */
export const crowd = (page, size) =>
  page.evaluate(async (size) => {
    const inbox = location.pathname.split('/').findLast((part) => part !== '');
    const id = (n) => String(n).padStart(32, '0');
    const one = (n) =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`ws://${location.host}/ws/v1/visitor?inbox=${inbox}`, 'ringdesk.v1.json');
        socket.onerror = () => reject(new Error(`visitor ${n} cannot connect`));
        socket.onmessage = ({ data }) => {
          for (const envelope of data.split('\n').map((line) => JSON.parse(line))) {
            if (envelope.err) reject(new Error(JSON.stringify(envelope.err)));
            if (envelope.re === 2) resolve(socket.close());
            if (envelope.op !== 'hello') continue;
            const first = { cid: id(2), type: 'text', body: `one of many: ${n}` };
            const auth = { id: 1, op: 'auth', d: { device: id(n) } };
            const start = { id: 2, op: 'start', d: { cid: id(1), name: `Many ${n}`, first } };
            socket.send(`${JSON.stringify(auth)}\n${JSON.stringify(start)}`);
          }
        };
      });
    await Promise.all(Array.from({ length: size }, (_, n) => one(n)));
  }, size);

/** Every row of the transcript, from the top. */
export const transcript = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll('.log-rows > li')]
      .filter((li) => li.matches('.row-text, .row-line'))
      .map((li) => ({
        kind: li.matches('.row-line') ? 'line' : li.matches('.note') ? 'note' : 'message',
        s: li.dataset.s === undefined ? undefined : Number(li.dataset.s),
        cid: li.dataset.cid,
        tick: li.dataset.tick,
        ours: li.matches('.ours'),
        body: (li.querySelector('.bubble') ?? li).textContent,
      })),
  );

export const bodies = async (page) => (await transcript(page)).filter((r) => r.kind !== 'line').map((r) => r.body);

/** Rows that the server has not confirmed. */
export const unconfirmed = async (page) =>
  (await transcript(page)).filter((r) => r.s === undefined || r.tick === 'sending' || r.tick === 'waiting');

/** Shows the whole history, however many pages it has. */
export const showAll = async (page) => {
  for (let n = 0; n < 50; n += 1) {
    const older = page.locator('.row-older button');
    if ((await older.count()) === 0) return;
    const first = (await transcript(page))[0]?.s;
    await older.click();
    await until('older messages', async () => (await transcript(page))[0]?.s !== first);
  }
  throw new Error('the history has no beginning');
};

/** The numbers of a transcript are 1, 2, 3, … and no `cid` stands twice. Returns what is wrong, or nothing. */
export const flaw = (rows) => {
  const numbers = rows.map((r) => r.s);
  const gap = numbers.findIndex((s, i) => s !== i + 1);
  if (gap >= 0) return `number ${numbers[gap]} at place ${gap + 1} of ${numbers.length}`;
  const cids = rows.map((r) => r.cid).filter((cid) => cid !== undefined);
  return new Set(cids).size === cids.length ? undefined : 'a cid stands twice';
};

export const ready = (page) =>
  until('the page is connected', () => page.evaluate(() => document.querySelector('.banner')?.hidden === true));

export const logIn = async (page, { email, password }) => {
  await page.fill('#email', email);
  await page.fill('#password', password);
  await page.click('.login-form button[type=submit]');
  await page.waitForSelector('.desk:not([hidden])');
};

/** The rows of a list of the agent's page: what is written in each. */
export const listed = (page, which) =>
  page.evaluate(
    (section) =>
      [...document.querySelectorAll(`section.${section} li.row`)].map((li) => ({
        c: li.dataset.c,
        preview: li.querySelector('.row-preview').textContent,
        offered: li.matches('.offered'),
        unread: li.querySelector('.badge:not([hidden])')?.textContent,
      })),
    which,
  );

export const acceptRow = (page, c) => page.click(`section.waiting li[data-c="${c}"] .accept`);
export const openRow = (page, c) => page.click(`li[data-c="${c}"] .row-open`);
